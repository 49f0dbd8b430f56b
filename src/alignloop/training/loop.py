"""The training loop, on one screen; SFT, reward models and DPO each bring an objective.

Reinforcement learning has its own loop (`alignloop.rl.train`), because it samples its data.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.autograd import backward

from alignloop.config.stages import LearningSection
from alignloop.models.shared_base import dropping, trainable
from alignloop.parallel import World
from alignloop.run import derive_seed
from alignloop.run.stage_run import StageRun
from alignloop.run.training_state import TrainingState
from alignloop.training.guard import Guard, Health
from alignloop.training.optimiser import cosine_schedule, descend, make_optimizer


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimiser step: its micro-batches, and the contribution of each to the step's means.

    `loss(micro_batch)` is its share of the step's mean loss, with gradient, and its share of each
    metric's mean; one metric is "loss". `tokens` counts the whole step, without padding.
    """

    micro_batches: list[list[Any]]
    loss: Callable[[list[Any]], tuple[Tensor, dict[str, float]]]
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a stage learns: the rows of each optimiser step, and their loss.

    `role` names the model in checkpoints, `section` its settings. `measure()` evaluates on held-out
    data every `eval_every` steps and at the end; with `measures_start` also before the first step.
    Training has diverged if the loss exceeds `limit(first loss)`, in nats.
    """

    role: str
    section: str
    model: Any
    batches: Sequence[Sequence[int]]
    step: Callable[[Sequence[int]], Step]
    limit: Callable[[float], float]
    shown: tuple[str, ...] = ("loss", "accuracy", "skipped_steps")
    measure: Callable[[], dict[str, float]] | None = None
    measures_start: bool = False
    eval_every: int = 0


@dataclass(kw_only=True)
class LearningMemory:
    """A stage's memory: its health, and the first and the latest measurements."""

    health: Health = field(default_factory=Health)
    before: dict[str, float] = field(default_factory=dict[str, float])
    held_out: dict[str, float] = field(default_factory=dict[str, float])


def fit(objective: Objective, config: LearningSection, run: StageRun) -> LearningMemory:
    """Take every step of the objective, resuming if interrupted; returns the memory.

    Raises UserError if training diverges or takes no step.
    """
    model, total, memory = objective.model, len(objective.batches), LearningMemory()
    optimizer = make_optimizer(model, config)
    schedule = cosine_schedule(total, config.warmup_share)
    state = TrainingState(
        modules={objective.role: trainable(model)},
        optimizers={objective.role: optimizer},
        memory=memory,
    )
    guard = Guard(stage=run.name, section=objective.section, limit=objective.limit)
    for number in run.steps(total, state, save_every=config.save_every):
        if number == 1 and objective.measure is not None and objective.measures_start:
            memory.before = objective.measure()
            run.log(0, memory.before)
            found = (
                f"{name.replace('_', ' ')} {value:.4g}" for name, value in memory.before.items()
            )
            run.say(f"{run.name}: {', '.join(found)} before the first step")
        # timed after the measurement, so that tokens per second count training only
        started, last = time.perf_counter(), number == total
        step = objective.step(objective.batches[number - 1])
        # a function of the step: a resumed run drops the same units (decision 0004)
        dropout = derive_seed(run.seed, "dropout", run.name, number, *run.world.draws)
        with dropping(model, dropout):
            metrics = accumulate(step, run.world)
        rate = config.learning_rate * schedule(number)
        norm = descend(
            optimizer, learning_rate=rate, max_grad_norm=config.max_grad_norm, world=run.world
        )
        metrics |= guard.seen(memory.health, number, loss=metrics["loss"], norm=norm, last=last)
        seconds = time.perf_counter() - started
        metrics |= {"gradient_norm": norm, "learning_rate": rate, "seconds_per_step": seconds}
        metrics["tokens_per_second"] = step.tokens / seconds
        due = last or (objective.eval_every and number % objective.eval_every == 0)
        if objective.measure is not None and due:
            memory.held_out = objective.measure()
            metrics |= memory.held_out
        run.log(number, metrics, show=objective.shown)
    return memory


def accumulate(step: Step, world: World) -> dict[str, float]:
    """Accumulate gradients of this process's share of a step; returns the whole step's metrics."""
    sums: dict[str, float] = {}
    for one in world.share(step.micro_batches):
        loss, metrics = step.loss(one.rows)
        backward(loss * one.weight)
        for name, value in metrics.items():
            sums[name] = sums.get(name, 0.0) + one.weight * value
    return world.totals(sums)
