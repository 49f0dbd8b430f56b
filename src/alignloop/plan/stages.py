"""What each stage of a recipe needs: its roles, its largest micro-batch, its work per step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from alignloop.config import DpoConfig, Recipe, RewardConfig, SftConfig
from alignloop.config.stages import names_function
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

Roles = list[tuple[str, bool, bool]]  # role, whether it is trained, whether it scores
HELD_OUT = "held-out reward model"  # used in evaluations only


@dataclass(frozen=True, kw_only=True)
class _Texts:
    """How many texts a step reads, their longest length, and tokens per micro-batch."""

    count: int
    length: int
    together: int  # texts that must share a micro-batch
    micro: int
    steps: int | None
    on_host: bool


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The count of a stage's files: rows, steps, and mean tokens of a text.

    `count` is the rows trained on or answered, over all models of the stage; `tokens` None = not
    counted; `answer` the mean tokens of an answer, if the stage draws them; `read` are tokens read
    once, outside the steps (report cards, perplexity, a reference); `validation` the prompts of
    RL's curves; `models` those that the evaluation compares.
    """

    count: int
    steps: int | None = None
    tokens: float | None = None
    answer: float | None = None
    read: float = 0.0
    validation: int | None = None
    models: int = 2


@dataclass(frozen=True, kw_only=True)
class Work:
    """What takes time: tokens times passes through a model, and tokens that are decoded."""

    tokens: float
    passes: float
    drawn: float = 0.0
    rounds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One stage: bytes by role and by purpose, and the work of one step.

    `tokens` is the most per step, prompts included; `passes` counts forward passes through a
    model's layers, a backward pass as two; `drawn` is the number of answer tokens decoded one after
    another, in `rounds` of as many rows as the sampler decodes together.

    `rows` is what was counted in the stage's files; `typical` is the work of a step with texts of
    mean length, with short and with the longest answers; `beside` is the work outside the steps.
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
    rows: Rows | None = None
    typical: tuple[Work, Work] | None = None
    beside: Work | None = None

    @property
    def update(self) -> int:
        """Bytes at the peak of an update."""
        return sum(role.total for role in self.roles) + self.activations + self.logits

    @property
    def rollout(self) -> int:
        """Bytes while answers are drawn: no gradients, but the sampler's cache and copies."""
        held = sum(role.held for role in self.roles)
        return held + self.cache + self.copies if self.drawn else 0

    @property
    def host(self) -> int:
        """Bytes in host memory, if optimisers are offloaded."""
        return sum(role.host for role in self.roles)

    @property
    def peak(self) -> int:
        """The larger of the two."""
        return max(self.update, self.rollout)


def stage_plans(
    recipe: Recipe, shape: Shape, counted: Mapping[str, Rows] = MappingProxyType({})
) -> tuple[StagePlan, ...]:
    """Every training stage, and the evaluation; `counted` is what was found in their files."""
    plans = _upper_bounds(recipe, shape)
    return tuple(
        with_rows(plan, recipe, counted[plan.stage]) if plan.stage in counted else plan
        for plan in plans
    )


def _upper_bounds(recipe: Recipe, shape: Shape) -> tuple[StagePlan, ...]:
    numbers = numbers_of(recipe)
    policy: Roles = [("policy", True, False)]
    scorer: Roles = [("reward model", True, True)]
    return (
        _training_plan("sft", policy, shape, numbers, _texts(recipe.sft, 1)),
        _training_plan("reward", scorer, shape, numbers, _texts(recipe.reward, 2)),
        _rl(recipe, shape, numbers),
        _training_plan("dpo", policy, shape, numbers, _texts(recipe.dpo, 2)),
        _evaluate(recipe, shape, numbers),
    )


def numbers_of(recipe: Recipe) -> Numbers:
    """A bfloat16 recipe is assumed to be for a GPU, unless it sets another device."""
    model = recipe.model
    low = model.dtype == "bfloat16"
    gpu = model.device.startswith("cuda") or (model.device == "auto" and low)
    return Numbers(
        weight_bytes=2 if low else 4,
        device="cuda" if gpu else "cpu",
        checkpointing=model.gradient_checkpointing,
        rank=recipe.lora.rank,
        four_bit=recipe.lora.load_in_4bit,
    )


def _role_memories(
    roles: Roles, shape: Shape, numbers: Numbers, *, on_host: bool
) -> tuple[RoleMemory, ...]:
    """Separate models, or one trunk with an adapter for each role."""
    if numbers.rank is None:
        return tuple(
            full_role(
                role,
                shape.trunk if scores else shape.parameters,
                numbers,
                trained=trained,
                on_host=on_host and trained,
            )
            for role, trained, scores in roles
        )
    trunk = trunk_role(shape, numbers, scores=all(scores for *_, scores in roles))
    adapters = (adapter_role(role, shape, numbers, trained=trained) for role, trained, _ in roles)
    return (trunk, *adapters)


def _passes(numbers: Numbers) -> float:
    """One forward and one backward pass, in units of a forward pass.

    A backward pass counts two, one of them for the weights' own gradients (skipped with adapters);
    with checkpointing the forward pass runs twice.
    """
    backward = 2.0 if numbers.rank is None else 1.0
    return 1.0 + backward + float(numbers.checkpointing)


def _training_plan(
    stage: str, roles: Roles, shape: Shape, numbers: Numbers, text: _Texts
) -> StagePlan:
    """A stage that trains on texts and draws none."""
    batch = max(text.micro, text.together * text.length)  # a longer text gets its own micro-batch
    scores = all(role_scores for *_, role_scores in roles)
    return StagePlan(
        stage=stage,
        roles=_role_memories(roles, shape, numbers, on_host=text.on_host),
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
        together=per_row,
        micro=config.micro_batch_tokens,
        steps=config.max_steps,
        on_host=config.offload_optimizer,
    )


def _rl(recipe: Recipe, shape: Shape, numbers: Numbers) -> StagePlan:
    config, sampling, roles = recipe.rl, recipe.rl.sampling, rl_roles(recipe)
    answers = config.batch_size * config.algorithm.needs.rollouts_per_prompt
    length = config.max_prompt_tokens + sampling.max_new_tokens
    texts = _Texts(
        count=answers,
        length=length,
        together=1,
        micro=config.micro_batch_tokens,
        steps=config.num_steps,
        on_host=config.offload_optimizer,
    )
    learning = sum(trained for _, trained, _ in roles)
    readers = sum(role != HELD_OUT for role, *_ in roles)
    return replace(
        _training_plan("rl", roles, shape, numbers, texts),
        cache=cache_bytes(shape, numbers, min(answers, sampling.batch_size), length),
        copies=side_by_side_bytes(shape, numbers),
        passes=readers + config.algorithm.num_epochs * learning * _passes(numbers),
        drawn=answers * sampling.max_new_tokens,
        rounds=math.ceil(answers / sampling.batch_size) * sampling.max_new_tokens,
    )


def rl_roles(recipe: Recipe) -> Roles:
    """The models of reinforcement learning: role, whether it is trained, whether it scores."""
    config = recipe.rl
    needs = config.algorithm.needs
    roles: Roles = [("policy", True, False)]
    if needs.reference or config.kl_budget is not None:
        roles.append(("reference", False, False))
    models = sum(not names_function(source) for source in config.reward_sources)
    roles += [("reward model", False, True)] * models
    second = recipe.reward.held_out_model and config.uses_reward_stage
    if config.held_out_reward_model is not None or second:
        roles.append((HELD_OUT, False, True))
    if needs.critic:
        roles.append(("critic", True, True))
    return roles


def _evaluate(recipe: Recipe, shape: Shape, numbers: Numbers) -> StagePlan:
    """One policy at a time and then the judge, each loaded alone. Adapters stay separate."""
    config, sampling = recipe.evaluate, recipe.evaluate.sampling
    # evaluation loads full weights and keeps no gradients
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


def with_rows(plan: StagePlan, recipe: Recipe, rows: Rows) -> StagePlan:
    """The plan with the counts: steps, and the work of texts of their actual length."""
    if plan.stage == "rl":
        return _rl_with_rows(plan, recipe, rows)
    if plan.stage == "evaluate":
        return _evaluation_with_rows(plan, recipe, rows)
    counted = replace(plan, rows=rows, steps=rows.steps if rows.steps is not None else plan.steps)
    if rows.tokens is None or not rows.steps:
        return counted
    config = {"sft": recipe.sft, "reward": recipe.reward, "dpo": recipe.dpo}[plan.stage]
    texts = config.batch_size * (1 if plan.stage == "sft" else 2)
    work = Work(tokens=texts * rows.tokens, passes=plan.passes)
    return replace(counted, typical=(work, work), beside=Work(tokens=rows.read, passes=1.0))


def _answers(asked: int, prompt: float, answer: float, batch: int, passes: float) -> Work:
    """`asked` prompts are answered, in batches, and the results are read `passes` times."""
    return Work(
        tokens=asked * (prompt + answer),
        passes=passes,
        drawn=asked * answer,
        rounds=math.ceil(asked / batch) * answer,
    )


def _rl_with_rows(plan: StagePlan, recipe: Recipe, rows: Rows) -> StagePlan:
    """Validation runs before the first step, every `eval_every` steps and at the end."""
    config, sampling = recipe.rl, recipe.rl.sampling
    if rows.tokens is None:
        return replace(plan, rows=rows)
    answers = config.batch_size * config.algorithm.needs.rollouts_per_prompt
    longest = float(sampling.max_new_tokens)
    lengths = (min(longest, rows.answer or longest), longest)
    prompt, batch = rows.tokens, sampling.batch_size
    short, long = (_answers(answers, prompt, length, batch, plan.passes) for length in lengths)
    times = math.ceil(config.num_steps / config.eval_every) + 1
    asked = min(config.validation_size, rows.validation or config.validation_size)
    one = _answers(asked, prompt, lengths[1], batch, 2.0)
    whole = Work(
        tokens=times * one.tokens, passes=2.0, drawn=times * one.drawn, rounds=times * one.rounds
    )
    return replace(plan, rows=rows, typical=(short, long), beside=whole)


def _evaluation_with_rows(plan: StagePlan, recipe: Recipe, rows: Rows) -> StagePlan:
    """One step: every model answers all prompts."""
    sampling, models = recipe.evaluate.sampling, rows.models
    if rows.tokens is None:
        return replace(plan, rows=rows)
    longest = float(sampling.max_new_tokens)
    lengths = (min(longest, rows.answer or longest), longest)
    short, long = (
        _answers(models * rows.count, rows.tokens, length, sampling.batch_size, 2.0)
        for length in lengths
    )
    return replace(plan, rows=rows, typical=(short, long), steps=1)
