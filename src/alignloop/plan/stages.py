"""What each stage of a recipe needs: its roles, its largest micro-batch, its work per step."""

import math
from dataclasses import dataclass, replace

from alignloop.config import DpoConfig, PpoConfig, Recipe, RewardConfig, SftConfig
from alignloop.config.stages import RewardPart, names_function
from alignloop.plan.memory import (
    Numbers,
    RoleMemory,
    Shape,
    activation_bytes,
    adapter_role,
    cache_bytes,
    full_role,
    logits_bytes,
    side_by_side_bytes,
    trunk_role,
)

Wanted = list[tuple[str, bool, bool]]  # role, whether it is trained, whether it scores
HELD_OUT = "held-out reward model"  # asked at evaluations alone


@dataclass(frozen=True, kw_only=True)
class _Texts:
    """How many texts a step reads, how long they may be, in micro-batches of how many tokens."""

    count: int
    length: int
    micro: int
    steps: int | None
    on_host: bool


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One stage: bytes by role and by purpose, and the work of one step.

    `tokens` are those of a step at most, prompts included; `passes` counts how often a token goes
    forwards through a model's layers, a backward pass as two; `drawn` are the tokens of answers
    that are decoded one after the other, in `rounds` of as many rows as fit the sampler.
    """

    stage: str
    roles: tuple[RoleMemory, ...]
    activations: int
    logits: int
    cache: int
    copies: int
    tokens: int
    passes: float
    drawn: int
    rounds: int
    steps: int | None

    @property
    def update(self) -> int:
        """Bytes at the height of an update."""
        return sum(role.total for role in self.roles) + self.activations + self.logits

    @property
    def rollout(self) -> int:
        """Bytes while answers are drawn: no gradients, but what the sampler keeps."""
        held = sum(role.held for role in self.roles)
        return held + self.cache + self.copies if self.drawn else 0

    @property
    def host(self) -> int:
        """Bytes in the host's memory, where optimisers live there."""
        return sum(role.host for role in self.roles)

    @property
    def peak(self) -> int:
        """The larger of the two."""
        return max(self.update, self.rollout)


def stage_plans(recipe: Recipe, shape: Shape) -> tuple[StagePlan, ...]:
    """Every stage that learns, and the evaluation."""
    numbers = numbers_of(recipe)
    policy: Wanted = [("policy", True, False)]
    scorer: Wanted = [("reward model", True, True)]
    return (
        _learns("sft", policy, shape, numbers, _texts(recipe.sft, 1)),
        _learns("reward", scorer, shape, numbers, _texts(recipe.reward, 2)),
        _rl(recipe, shape, numbers),
        _learns("dpo", policy, shape, numbers, _texts(recipe.dpo, 2)),
        _evaluate(recipe, shape, numbers),
    )


def numbers_of(recipe: Recipe) -> Numbers:
    """A recipe in bfloat16 is taken to be for a GPU, unless it says otherwise."""
    model = recipe.model
    low = model.dtype == "bfloat16"
    gpu = model.device == "cuda" or (model.device == "auto" and low)
    return Numbers(
        weight_bytes=2 if low else 4,
        device="cuda" if gpu else "cpu",
        checkpointing=model.gradient_checkpointing,
        rank=recipe.lora.rank,
        four_bit=recipe.lora.load_in_4bit,
    )


def _roles(
    wanted: Wanted, shape: Shape, numbers: Numbers, *, on_host: bool
) -> tuple[RoleMemory, ...]:
    """Models of their own, or one trunk with an adapter for each role."""
    if numbers.rank is None:
        return tuple(
            full_role(
                role,
                shape.trunk if scores else shape.parameters,
                numbers,
                trained=trained,
                on_host=on_host and trained,
            )
            for role, trained, scores in wanted
        )
    trunk = trunk_role(shape, numbers, scores=all(scores for *_, scores in wanted))
    adapters = (adapter_role(role, shape, numbers, trained=trained) for role, trained, _ in wanted)
    return (trunk, *adapters)


def _passes(numbers: Numbers) -> float:
    """One forward and one backward pass, in forward passes.

    A backward pass is two, of which one is the weights' own; with checkpointing the forward pass
    comes twice.
    """
    backward = 2.0 if numbers.rank is None else 1.0
    return 1.0 + backward + float(numbers.checkpointing)


def _learns(stage: str, wanted: Wanted, shape: Shape, numbers: Numbers, text: _Texts) -> StagePlan:
    """A stage that learns from texts, and draws none of them."""
    batch = max(text.micro, text.length)  # a text longer than a micro-batch is one by itself
    scores = all(role_scores for *_, role_scores in wanted)
    return StagePlan(
        stage=stage,
        roles=_roles(wanted, shape, numbers, on_host=text.on_host),
        activations=activation_bytes(shape, numbers, batch, text.length),
        logits=0 if scores else logits_bytes(shape, numbers, batch),
        cache=0,
        copies=0,
        tokens=text.count * text.length,
        passes=_passes(numbers),
        drawn=0,
        rounds=0,
        steps=text.steps,
    )


def _texts(config: SftConfig | RewardConfig | DpoConfig, per_row: int) -> _Texts:
    return _Texts(
        count=per_row * config.batch_size,
        length=config.max_tokens,
        micro=config.micro_batch_tokens,
        steps=config.max_steps,
        on_host=config.offload_optimizer,
    )


def _rl(recipe: Recipe, shape: Shape, numbers: Numbers) -> StagePlan:
    config, sampling, wanted = recipe.rl, recipe.rl.sampling, rl_roles(recipe)
    answers = config.batch_size * getattr(config.algorithm, "group_size", 1)
    length = config.max_prompt_tokens + sampling.max_new_tokens
    texts = _Texts(
        count=answers,
        length=length,
        micro=config.micro_batch_tokens,
        steps=config.num_steps,
        on_host=config.offload_optimizer,
    )
    learning = sum(trained for _, trained, _ in wanted)
    asked = sum(role != HELD_OUT for role, *_ in wanted)
    return replace(
        _learns("rl", wanted, shape, numbers, texts),
        cache=cache_bytes(shape, numbers, min(answers, sampling.batch_size), length),
        copies=side_by_side_bytes(shape, numbers),
        passes=asked + config.algorithm.num_epochs * learning * _passes(numbers),
        drawn=answers * sampling.max_new_tokens,
        rounds=math.ceil(answers / sampling.batch_size) * sampling.max_new_tokens,
    )


def rl_roles(recipe: Recipe) -> Wanted:
    """Who takes part in reinforcement learning: role, whether it is trained, whether it scores."""
    config = recipe.rl
    ppo = isinstance(config.algorithm, PpoConfig)
    wanted: Wanted = [("policy", True, False)]
    if ppo or config.algorithm.kl_coef > 0 or config.kl_budget is not None:
        wanted.append(("reference", False, False))
    sources = [RewardPart.parse(text).source for text in config.rewards]
    models = sum(not names_function(source) for source in sources) if sources else 1
    if config.reward_function is not None:
        models = 0
    wanted += [("reward model", False, True)] * models
    second = recipe.reward.held_out_model and config.uses_reward_stage
    if config.held_out_reward_model is not None or second:
        wanted.append((HELD_OUT, False, True))
    if ppo:
        wanted.append(("critic", True, True))
    return wanted


def _evaluate(recipe: Recipe, shape: Shape, numbers: Numbers) -> StagePlan:
    """One policy after the other and then the judge: each is alone. Adapters are left apart."""
    config, sampling = recipe.evaluate, recipe.evaluate.sampling
    alone = replace(numbers, checkpointing=False, rank=None, four_bit=False)
    policy = full_role("policy", shape.parameters, alone, trained=False)
    adapted = (
        () if numbers.rank is None else (adapter_role("adapter", shape, numbers, trained=False),)
    )
    rows, length = min(config.max_prompts, sampling.batch_size), 2 * sampling.max_new_tokens
    return StagePlan(
        stage="evaluate",
        roles=(policy, *adapted),
        activations=0,
        logits=0,
        cache=cache_bytes(shape, alone, rows, length),
        copies=side_by_side_bytes(shape, numbers),
        tokens=2 * config.max_prompts * length,
        passes=2.0,
        drawn=2 * config.max_prompts * sampling.max_new_tokens,
        rounds=2 * math.ceil(config.max_prompts / sampling.batch_size) * sampling.max_new_tokens,
        steps=1,
    )
