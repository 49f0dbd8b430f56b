"""Build the parts of a reinforcement learning run; all checks happen before the first step."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, make_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

from alignloop.config import ALL_WEIGHTS, LoraConfig, ModelConfig, RlConfig
from alignloop.config.stages import HELD_OUT, REWARD_MODEL, RewardPart
from alignloop.data.tokenise import LengthLimit, check_tokenizer, encode_fitting, encode_prompt
from alignloop.data.truncation import prompt_cutter
from alignloop.errors import UserError
from alignloop.judging.judges import FunctionJudge
from alignloop.judging.registry import Making, kind_of, make_judge
from alignloop.models import load_tokenizer
from alignloop.models.initialise import (
    LoadedModel,
    init_critic_from_policy,
    init_critic_from_reward_model,
    init_policy,
    load_reference,
)
from alignloop.models.shared_base import trainable
from alignloop.parallel import SINGLE, World
from alignloop.records import Prompt
from alignloop.rl.algorithms import make_algorithm
from alignloop.rl.algorithms.base import Algorithm, CriticPlan
from alignloop.rl.experience import ScoredRollouts, Scorer, WithBoth, WithReference
from alignloop.rl.memory import RlMemory
from alignloop.rl.rewards import EndRewarder, Rewards
from alignloop.rl.update import Learner
from alignloop.rl.validation import Observer, Validation
from alignloop.rollout import Sampler, make_sampler
from alignloop.run import derive_seed, row_seeds
from alignloop.run.training_state import TrainingState
from alignloop.training.optimiser import make_optimizer


@dataclass(frozen=True, kw_only=True)
class RlInputs:
    """The stage's inputs: model directories and prompts."""

    policy_dir: str | Path
    reward_dir: str | Path | None  # None if the settings name other rewards
    held_out_dir: str | Path | None
    prompts: Sequence[Prompt]
    validation_prompts: Sequence[Prompt]
    lora: LoraConfig = ALL_WEIGHTS


class PromptTokens(NamedTuple):
    """A tokenised prompt, as samplers take it."""

    prompt_id: str
    token_ids: list[int]


@dataclass(frozen=True, kw_only=True)
class PromptStream:
    """An endless shuffle of prompts; the prompts of step k depend on the seed alone."""

    prompts: Sequence[PromptTokens]
    batch_size: int
    seed: int
    repeats: int = 1

    def at(self, step: int) -> list[PromptTokens]:
        """The prompts of one step; every epoch shows every prompt once.

        Each prompt is repeated `repeats` times in a row: the group of its responses.
        """
        positions = range((step - 1) * self.batch_size, step * self.batch_size)
        return [self._nth(position) for position in positions for _ in range(self.repeats)]

    def seeds(self, step: int) -> list[int]:
        """The seed of each response of one step; row k has the same in every process."""
        return row_seeds(self.batch_size * self.repeats, self.seed, "rollout", step)

    def _nth(self, position: int) -> PromptTokens:
        epoch, index = divmod(position, len(self.prompts))
        return self.prompts[epoch_order(len(self.prompts), self.seed, epoch)[index]]


@lru_cache(maxsize=4)  # called for every prompt of a batch, mostly with one epoch
def epoch_order(count: int, seed: int, epoch: int) -> tuple[int, ...]:
    """The order in which one epoch shows `count` prompts."""
    order = list(range(count))
    random.Random(f"prompts/{seed}/{epoch}").shuffle(order)
    return tuple(order)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts that the loop runs."""

    tokenizer: Any
    stream: PromptStream
    sampler: Sampler
    scorer: Scorer
    learner: Learner
    validation: Validation
    state: TrainingState[RlMemory]

    def with_penalty(self, penalty: float | None) -> Self:
        """The same parts with another penalty for cut-off responses; None changes nothing."""
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
    world: World = SINGLE,
) -> Parts:
    """Load and check the models, tokenise the prompts, and assemble the parts."""
    tokenizer = load_tokenizer(inputs.policy_dir, model_config)
    check_tokenizer(tokenizer, str(inputs.policy_dir))
    lora = inputs.lora.model_copy(update={"dropout": 0.0})  # docs/algorithms.md#ppo-19
    adapter_seed = derive_seed(seed, "adapter", "rl")
    policy = init_policy(inputs.policy_dir, tokenizer, model_config, lora, adapter_seed)
    start = LoadedModel(
        model=policy,
        tokenizer=tokenizer,
        folder=Path(inputs.policy_dir),
        config=model_config,
        lora=lora,
    )
    _check_context(policy, config)
    algorithm = make_algorithm(config.algorithm)
    train = _encode(inputs.prompts, tokenizer, config)
    validation = _encode(_shuffled(inputs.validation_prompts, seed), tokenizer, config)
    making = _making(config, inputs, start)
    prompts = {prompt.prompt_id: prompt for prompt, _ in (*train, *validation)}
    rewarder = _rewards(config.rewards, making, prompts)
    critic = None
    if algorithm.critic is not None:
        critic = _critic(algorithm.critic, start, rewarder, derive_seed(seed, "critic"))
    learner = _learner(config, algorithm, policy, critic, world)
    reads, reference = _reads(algorithm.reads, config), None
    if issubclass(reads, WithReference):
        reference = load_reference(start)
    sampler = make_sampler(policy, tokenizer, config.sampling)
    scorer = Scorer(
        reads=reads,
        policy=policy,
        reference=reference,
        rewarder=EndRewarder(
            rewarder=rewarder,
            missing_eos=config.missing_eos,
            penalty=config.missing_eos_penalty,
        ),
        critic=critic,
        pad_id=tokenizer.pad_token_id,
        temperature=config.sampling.temperature,
        micro_batch_tokens=config.micro_batch_tokens,
        world=world,
    )
    # validation needs the KL if there is a reference, and no values
    observed = replace(scorer, reads=ScoredRollouts if reference is None else WithBoth)
    return Parts(
        tokenizer=tokenizer,
        stream=PromptStream(
            prompts=[PromptTokens(p.prompt_id, ids) for p, ids in train],
            batch_size=config.batch_size,
            seed=seed,
            repeats=config.algorithm.needs.rollouts_per_prompt,
        ),
        sampler=sampler,
        scorer=scorer,
        learner=learner,
        validation=Validation(
            prompts=[prompt for prompt, _ in validation[: config.validation_size]],
            token_ids=[ids for _, ids in validation[: config.validation_size]],
            sampler=sampler,
            tokenizer=tokenizer,
            scorer=observed,
            held_out=_rewards((HELD_OUT,), making, prompts) if inputs.held_out_dir else None,
            observer=observer,
            seed=seed,
            num_printed=config.num_printed_samples,
            learnt=inputs.held_out_dir is not None
            or any(kind_of(source).learnt for source in config.reward_sources),
        ),
        state=_state(learner, RlMemory(algorithm=dict(algorithm.start))),
    )


def _making(config: RlConfig, inputs: RlInputs, policy: LoadedModel) -> Making:
    """The context in which the rewards' judges are made."""
    own = {REWARD_MODEL: inputs.reward_dir, HELD_OUT: inputs.held_out_dir}
    return Making(
        model_config=policy.config,
        own={name: Path(folder) for name, folder in own.items() if folder is not None},
        micro_batch_tokens=config.micro_batch_tokens,
        time_limit=config.reward_time_limit,
        policy=policy.model,
        tokenizer=policy.tokenizer,
    )


def _reads(reads: type[ScoredRollouts], config: RlConfig) -> type[ScoredRollouts]:
    """What the algorithm reads, plus the reference if a KL budget needs it."""
    if config.kl_budget is None or issubclass(reads, WithReference):
        return reads
    bases = (WithReference,) if reads is ScoredRollouts else (reads, WithReference)
    return make_dataclass(reads.__name__, (), bases=bases, frozen=True, kw_only=True)


def _learner(
    config: RlConfig, algorithm: Algorithm[Any, Any], policy: Any, critic: Any | None, world: World
) -> Learner:
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
        world=world,
    )


def _state(learner: Learner, memory: RlMemory) -> TrainingState[RlMemory]:
    modules = {"policy": trainable(learner.policy)}
    optimizers = {"policy": learner.policy_optimizer}
    if learner.critic is not None and learner.critic_optimizer is not None:
        modules["critic"] = trainable(learner.critic)
        optimizers["critic"] = learner.critic_optimizer
    return TrainingState(modules=modules, optimizers=optimizers, memory=memory)


def _critic(plan: CriticPlan[Any, Any], policy: LoadedModel, rewarder: Rewards, seed: int) -> Any:
    """A critic from the reward model if it is the only reward and reads the policy's tokens."""
    start = rewarder.critic_start() if plan.starts_from == "reward" else None
    if start is None:
        return init_critic_from_policy(policy, seed)
    model, scale = start
    return init_critic_from_reward_model(
        model, policy.lora, seed, scale=scale.scale, bias=scale.bias
    )


def _rewards(names: Sequence[str], making: Making, prompts: Mapping[str, Prompt]) -> Rewards:
    """The judges of these names as rewards, without the penalty for cut-off responses."""
    parts = [RewardPart.parse(name) for name in names]
    judges = [(part.weight, make_judge(part.source, making)) for part in parts]
    for _, judge in judges:
        if isinstance(judge, FunctionJudge):  # missing columns fail before the first step
            judge.function.check(prompts.values())
    return Rewards(parts=judges, tokenizer=making.tokenizer, prompts=prompts)


def _shuffled(prompts: Sequence[Prompt], seed: int) -> list[Prompt]:
    """Validation prompts in random order; the first few are used."""
    # sorted first, so that the choice does not depend on the file's order
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
    needed = config.max_prompt_tokens + config.sampling.max_new_tokens
    if context is not None and needed > context:
        raise UserError(
            f"prompt and response may take {needed} tokens, but the model's context is {context}",
            where="rl.max_prompt_tokens + rl.sampling.max_new_tokens",
            fix="lower one of them",
        )
