"""Makes the parts of a reinforcement learning run; all checks happen before the first step."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from alignloop.config import ALL_WEIGHTS, LoraConfig, ModelConfig, RlConfig
from alignloop.data.tokenise import LengthLimit, check_tokenizer, encode_fitting, encode_prompt
from alignloop.data.truncation import prompt_cutter
from alignloop.errors import UserError
from alignloop.models import load_tokenizer
from alignloop.models.roles import learnt
from alignloop.models.starting import fresh_critic, reference_of, start_critic, start_policy
from alignloop.models.training import make_optimizer
from alignloop.records import Prompt
from alignloop.rl.algorithms import make_algorithm
from alignloop.rl.algorithms.base import Algorithm, CriticPlan
from alignloop.rl.experience import Scorer
from alignloop.rl.rewards import Rewarder
from alignloop.rl.sources import RewardSources
from alignloop.rl.update import Learner
from alignloop.rl.validation import Observer, Validation
from alignloop.rollout import Sampler, new_sampler
from alignloop.run import derive_seed
from alignloop.run.training_state import TrainingState


@dataclass(frozen=True, kw_only=True)
class RlInputs:
    """What the stage starts from: model directories and prompts."""

    policy_dir: str | Path
    reward_dir: str | Path | None  # none where the settings name other rewards
    held_out_dir: str | Path | None
    prompts: Sequence[Prompt]
    validation_prompts: Sequence[Prompt]
    lora: LoraConfig = ALL_WEIGHTS


@dataclass(frozen=True, kw_only=True)
class PromptStream:
    """An endless shuffle of prompts; which ones step k gets is a function of the seed alone."""

    prompts: Sequence[tuple[str, list[int]]]
    batch_size: int
    seed: int
    repeats: int = 1

    def at(self, step: int) -> list[tuple[str, list[int]]]:
        """The (prompt_id, token ids) of one step; every epoch shows every prompt once.

        Each prompt stands there `repeats` times in a row: the group of its responses.
        """
        places = range((step - 1) * self.batch_size, step * self.batch_size)
        return [self._nth(place) for place in places for _ in range(self.repeats)]

    def _nth(self, place: int) -> tuple[str, list[int]]:
        epoch, index = divmod(place, len(self.prompts))
        return self.prompts[epoch_order(len(self.prompts), self.seed, epoch)[index]]


@lru_cache(maxsize=4)  # a batch asks for the same epoch's order again and again
def epoch_order(count: int, seed: int, epoch: int) -> tuple[int, ...]:
    """The order in which one epoch shows `count` prompts."""
    order = list(range(count))
    random.Random(f"prompts/{seed}/{epoch}").shuffle(order)
    return tuple(order)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything that the loop moves."""

    tokenizer: Any
    stream: PromptStream
    sampler: Sampler
    scorer: Scorer
    learner: Learner
    validation: Validation
    state: TrainingState

    def with_penalty(self, penalty: float | None) -> Self:
        """The same, with another score for responses that were cut off; None changes nothing."""
        if penalty is None or penalty == self.scorer.rewarder.penalty:
            return self
        rewarder = replace(self.scorer.rewarder, penalty=penalty)
        observed = replace(self.validation.scorer, rewarder=rewarder)
        return replace(
            self,
            scorer=replace(self.scorer, rewarder=rewarder),
            validation=replace(self.validation, scorer=observed),
        )


def build(
    config: RlConfig,
    model_config: ModelConfig,
    inputs: RlInputs,
    *,
    seed: int,
    observer: Observer | None,
) -> Parts:
    """Load and check the models, tokenise the prompts, and put the parts together."""
    tokenizer = load_tokenizer(inputs.policy_dir, model_config)
    check_tokenizer(tokenizer, str(inputs.policy_dir))
    lora = inputs.lora.model_copy(update={"dropout": 0.0})  # docs/algorithms.md#ppo-19
    adapter_seed = derive_seed(seed, "adapter", "rl")
    policy = start_policy(inputs.policy_dir, tokenizer, model_config, lora, adapter_seed)
    _check_context(policy, config)
    algorithm = make_algorithm(config.algorithm)
    train = _encode(inputs.prompts, tokenizer, config)
    asked = _encode(_shuffled(inputs.validation_prompts, seed), tokenizer, config)
    sources = RewardSources(
        config=config,
        model_config=model_config,
        policy=policy,
        tokenizer=tokenizer,
        prompts={prompt.prompt_id: prompt for prompt, _ in (*train, *asked)},
    )
    rewarder = sources.wanted(inputs.reward_dir)
    critic = None
    if algorithm.critic is not None:
        beside = (policy, inputs.policy_dir, tokenizer, model_config, lora)
        critic = _critic(algorithm.critic, beside, rewarder, derive_seed(seed, "critic"))
    learner = _learner(config, algorithm, policy, critic)
    reference = None
    if algorithm.needs_reference or config.kl_budget is not None:
        reference = reference_of(policy, inputs.policy_dir, tokenizer, model_config)
    sampler = new_sampler(policy, tokenizer, config.sampling)
    scorer = Scorer(
        policy=policy if algorithm.needs_old_logprobs else None,
        reference=reference,
        rewarder=sources.ended(rewarder),
        critic=critic,
        pad_id=tokenizer.pad_token_id,
        temperature=config.sampling.temperature,
        micro_batch_tokens=config.micro_batch_tokens,
    )
    # the curves want the KL where there is a reference, and no values
    observed = replace(scorer, policy=None if reference is None else policy, critic=None)
    return Parts(
        tokenizer=tokenizer,
        stream=PromptStream(
            prompts=[(p.prompt_id, ids) for p, ids in train],
            batch_size=config.batch_size,
            seed=seed,
            repeats=algorithm.rollouts_per_prompt,
        ),
        sampler=sampler,
        scorer=scorer,
        learner=learner,
        validation=Validation(
            prompts=[prompt for prompt, _ in asked[: config.validation_size]],
            token_ids=[ids for _, ids in asked[: config.validation_size]],
            sampler=sampler,
            tokenizer=tokenizer,
            scorer=observed,
            held_out=_held_out(sources, inputs.held_out_dir),
            observer=observer,
            seed=seed,
            num_printed=config.num_printed_samples,
            learnt=inputs.held_out_dir is not None or config.reward_function is None,
        ),
        state=_state(learner),
    )


def _learner(config: RlConfig, algorithm: Algorithm, policy: Any, critic: Any | None) -> Learner:
    rate, critic_optimizer = config.critic_learning_rate or config.learning_rate, None
    if critic is not None:
        critic_optimizer = make_optimizer(critic, config, learning_rate=rate)
    return Learner(
        policy=policy,
        critic=critic,
        policy_optimizer=make_optimizer(policy, config),
        critic_optimizer=critic_optimizer,
        algorithm=algorithm,
        config=config,
    )


def _state(learner: Learner) -> TrainingState:
    modules, optimizers = {"policy": learnt(learner.policy)}, {"policy": learner.policy_optimizer}
    if learner.critic is not None and learner.critic_optimizer is not None:
        modules["critic"] = learnt(learner.critic)
        optimizers["critic"] = learner.critic_optimizer
    return TrainingState(modules=modules, optimizers=optimizers)


def _critic(
    plan: CriticPlan,
    beside: tuple[Any, str | Path, Any, ModelConfig, LoraConfig],
    rewarder: Rewarder,
    seed: int,
) -> Any:
    """From the reward model, where one alone gives the reward and reads the policy's tokens.

    `beside` is the policy with its directory, tokenizer and settings.
    """
    start = rewarder.critic_start() if plan.starts_from == "reward" else None
    if start is not None:
        model, scale = start
        return start_critic(model, beside[-1], seed, scale=scale.scale, bias=scale.bias)
    return fresh_critic(*beside, seed)


def _held_out(sources: RewardSources, folder: str | Path | None) -> Rewarder | None:
    """Without the penalty for cut off responses: what chooses a checkpoint is what it says."""
    return None if folder is None else sources.model(folder)


def _shuffled(prompts: Sequence[Prompt], seed: int) -> list[Prompt]:
    """Validation prompts in the order of which the first few are asked."""
    found = sorted(prompts, key=lambda p: p.prompt_id)
    random.Random(f"validation/{seed}").shuffle(found)
    return found


def _encode(
    prompts: Sequence[Prompt], tokenizer: Any, config: RlConfig
) -> list[tuple[Prompt, list[int]]]:
    limit = LengthLimit.of("rl.max_prompt_tokens", config.max_prompt_tokens, None, config.too_long)
    kept, codes = encode_fitting(
        prompts,
        lambda prompt: encode_prompt(tokenizer, prompt, limit.tokens),
        limit,
        prompt_cutter(tokenizer, limit),
    )
    return list(zip(kept, codes, strict=True))


def _check_context(policy: Any, config: RlConfig) -> None:
    context = getattr(policy.config, "max_position_embeddings", None)
    wanted = config.max_prompt_tokens + config.sampling.max_new_tokens
    if context is not None and wanted > context:
        raise UserError(
            f"prompt and response may take {wanted} tokens, but the model's context is {context}",
            where="rl.max_prompt_tokens + rl.sampling.max_new_tokens",
            fix="lower one of them",
        )
