"""When a stage can learn nothing any more: steps without effect, losses that explode."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from alignloop.errors import UserError

IN_A_ROW = 3  # steps that went wrong, after which a stage stops
COIN_TOSS = math.log(2)  # the ranking loss of scores that say nothing, in nats


@dataclass(kw_only=True)
class Health:
    """What `Guard` counts; part of a stage's memory, which checkpoints keep."""

    first_loss: float | None = None
    steps_above_limit: int = 0
    skipped_steps: int = 0
    steps_without_effect: int = 0


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Ends a stage that can learn nothing any more, before its model is saved and used.

    `limit(first)` is the loss in nats above which training has diverged, by the loss of the first
    step.
    """

    stage: str
    section: str  # of the settings
    limit: Callable[[float], float] = lambda _: math.inf

    def seen(
        self, health: Health, step: int, *, loss: float, norm: float, last: bool
    ) -> dict[str, float]:
        """After an optimiser step: how many were left out so far, as a metric where any was.

        `norm` is the gradient's; a step is left out where that is not finite. Raises UserError
        where the loss is not finite, and where IN_A_ROW steps in a row (or all, at the last one)
        were left out or had a loss above the limit.
        """
        if not math.isfinite(loss):
            raise self._error(f"the loss is not finite at step {step}")
        metrics = self.left_out(health, step, taken=int(math.isfinite(norm)), steps=1, last=last)
        first = health.first_loss = loss if health.first_loss is None else health.first_loss
        high = health.steps_above_limit = (
            health.steps_above_limit + 1 if loss > self.limit(first) else 0
        )
        if high == IN_A_ROW or (last and high == step):
            problem = f"training has diverged: the loss at step {step} is {loss:.4g}, and was"
            raise self._error(f"{problem} {first:.4g} at the first step")
        return metrics

    def left_out(
        self, health: Health, step: int, *, taken: int, steps: int, last: bool
    ) -> dict[str, float]:
        """The same of `steps` optimiser steps at once, of which `taken` had a finite gradient."""
        total = health.skipped_steps = health.skipped_steps + steps - taken
        row = health.steps_without_effect = 0 if taken else health.steps_without_effect + 1
        if row == IN_A_ROW or (last and row == step):
            problem = f"the gradients were not finite at step {step} and all {row - 1} before it"
            problem = problem if row > 1 else f"the gradients were not finite at step {step}"
            raise self._error(f"{problem}: nothing is learnt")
        return {"skipped_steps": float(total)} if total else {}

    def _error(self, problem: str) -> UserError:
        section = self.section
        fix = f"lower {section}.learning_rate, or check the data and the model's weights"
        beta = ", lower dpo.objective.beta" if section == "dpo" else ""
        return UserError(problem, where=self.stage, fix=fix + beta)


def above_uniform(vocabulary: int) -> Callable[[float], float]:
    """The limit of a loss per token: half a nat above a uniform guess, or above the first loss."""
    return lambda first: max(math.log(vocabulary), first) + 0.5


def above_coin_toss(first: float) -> float:
    """The limit of a loss per pair: ten times that of scores that say nothing, or the first."""
    return 10 * max(COIN_TOSS, first)
