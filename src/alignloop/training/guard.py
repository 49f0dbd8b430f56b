"""Stop a stage that no longer learns: steps without effect, losses that explode."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from alignloop.errors import UserError

IN_A_ROW = 3  # bad steps in a row before a stage stops; one or two may be a bad batch
COIN_TOSS = math.log(2)  # the ranking loss of uninformative scores, in nats


@dataclass(kw_only=True)
class Health:
    """The counts of `Guard`; part of a stage's memory, which checkpoints save."""

    first_loss: float | None = None
    steps_above_limit: int = 0
    skipped_steps: int = 0
    steps_without_effect: int = 0


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Stops a stage that no longer learns, before its model is saved and used.

    `limit(first)` is the loss in nats above which training has diverged, given the first step's
    loss.
    """

    stage: str
    section: str  # of the settings
    limit: Callable[[float], float] = lambda _: math.inf

    def seen(
        self, health: Health, step: int, *, loss: float, norm: float, last: bool
    ) -> dict[str, float]:
        """Check an optimiser step; returns the number of skipped steps as a metric, if any.

        `norm` is the gradient's; if it is not finite the step was skipped. Raises UserError if the
        loss is not finite, or if IN_A_ROW steps in a row (or all, at the last one) were skipped or
        had a loss above the limit.
        """
        if not math.isfinite(loss):
            raise self._error(f"the loss is not finite at step {step}")
        metrics = self.left_out(health, step, taken=int(math.isfinite(norm)), steps=1, last=last)
        first = health.first_loss = loss if health.first_loss is None else health.first_loss
        # relative to the first loss: an untrained model may start above a uniform guess
        high = health.steps_above_limit = (
            health.steps_above_limit + 1 if loss > self.limit(first) else 0
        )
        if high == IN_A_ROW or (last and high == step):
            problem = f"training has diverged: the loss at step {step} is {loss:.4g}; it was"
            raise self._error(f"{problem} {first:.4g} at the first step")
        return metrics

    def left_out(
        self, health: Health, step: int, *, taken: int, steps: int, last: bool
    ) -> dict[str, float]:
        """The same for `steps` optimiser steps at once, `taken` of them with a finite gradient."""
        total = health.skipped_steps = health.skipped_steps + steps - taken
        row = health.steps_without_effect = 0 if taken else health.steps_without_effect + 1
        if row == IN_A_ROW or (last and row == step):
            problem = f"the gradients were not finite at step {step} and all {row - 1} before it"
            problem = problem if row > 1 else f"the gradients were not finite at step {step}"
            raise self._error(f"{problem}: the weights did not change")
        return {"skipped_steps": float(total)} if total else {}

    def _error(self, problem: str) -> UserError:
        section = self.section
        fix = f"lower {section}.learning_rate, or check the data and the model's weights"
        beta = ", lower dpo.objective.beta" if section == "dpo" else ""
        return UserError(problem, where=self.stage, fix=fix + beta)


def above_uniform(vocabulary: int) -> Callable[[float], float]:
    """Limit for a loss per token: half a nat above a uniform guess, or above the first loss."""
    return lambda first: max(math.log(vocabulary), first) + 0.5


def above_coin_toss(first: float) -> float:
    """Limit for a loss per pair: ten times that of uninformative scores, or the first loss."""
    return 10 * max(COIN_TOSS, first)
