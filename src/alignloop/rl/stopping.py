"""When to stop and which checkpoint to keep: by a held-out score less the price of KL, never gold.

A held-out reward model shares the taste of the labels with the one that is climbed, and knows
answers like the labelled ones: far from the SFT model both go on rising while the true quality has
turned (Gao et al. 2022). So distance has a price. It need not be the one that RL pays, which may be
nothing.
"""

from dataclasses import dataclass

from alignloop.stats.overoptimisation import OUTSIDE

NOT_FINITE = "a value was not finite"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What validation answers came to at a step.

    `held_out` is the mean score of the reward model that RL does not climb, `climbed` of the one
    that it does; `kl` in nats per answer, None without a reference; `outside` is the share of
    answers that the SFT model finds more surprising than all but 5 % of its own (`nats per token`).
    """

    step: int
    held_out: float
    climbed: float
    kl: float | None
    outside: float | None
    eos_rate: float


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What has been seen so far; `.evaluated(...)` gives the next one. Stored in the checkpoints.

    value = held_out - price * max(kl, 0), in the held-out score's units; the best one is kept. Not
    of a policy more than half of whose answers are unlike the SFT model's: there the held-out
    model is asked about what it does not know. `bounded` is False where a person's function gives
    the score: it knows all answers.
    """

    patience: int
    kl_budget: float | None
    price: float
    bounded: bool = True
    best_value: float = float("-inf")
    best: Evaluation | None = None
    evaluations_since_best: int = 0
    reason: str = ""

    def evaluated(self, seen: Evaluation) -> "Watch":
        """After an evaluation: remember the best one, or count towards patience."""
        value = seen.held_out - self.price * max(seen.kl or 0.0, 0.0)  # an estimate may be below 0
        if value > self.best_value and not self.too_far(seen):
            return self._with(best_value=value, best=seen, evaluations_since_best=0)
        waited = self.evaluations_since_best + 1
        if waited < self.patience:
            return self._with(evaluations_since_best=waited)
        return self._with(evaluations_since_best=waited, reason=self._why(waited, seen))

    def too_far(self, seen: Evaluation) -> bool:
        """Whether a policy is where its held-out score means nothing."""
        return self.bounded and seen.outside is not None and seen.outside > OUTSIDE

    def stepped(self, step: int, kl: float | None, finite: bool) -> "Watch":
        """After an update: stop on a value that is not finite or when the KL budget is spent.

        `kl` is None where nobody asked for it: there is no budget then.
        """
        if not finite:
            return self._with(reason=f"{NOT_FINITE} at step {step}")
        if self.kl_budget is not None and kl is not None and kl > self.kl_budget:
            return self._with(
                reason=f"the KL budget is spent: {kl:.2f} of {self.kl_budget:g} nats at step {step}"
            )
        return self

    @property
    def not_finite(self) -> bool:
        """Whether it stopped because a value was not finite."""
        return self.reason.startswith(NOT_FINITE)

    def _why(self, waited: int, seen: Evaluation) -> str:
        """The reason to stop, with what the figures say of its cause and no more."""
        assert self.best is not None
        what = "the held-out score less the price of KL" if self.price else "the held-out score"
        said = (
            f"{what} has not risen for {waited} evaluations"
            f" (best {self.best_value:.3f} at step {self.best.step})"
        )
        if self.too_far(seen):
            return (
                f"{said}; {seen.outside:.0%} of the answers are unlike the SFT model's by now, and"
                " the held-out model knows only answers like its own: over-optimisation"
            )
        if seen.eos_rate < 0.5:
            return f"{said}; {1 - seen.eos_rate:.0%} of the answers are cut off"
        if seen.climbed > self.best.climbed:
            return f"{said} while the climbed score has: over-optimisation"
        return said

    def _with(self, **changes: object) -> "Watch":
        return Watch(**{**vars(self), **changes})  # type: ignore[arg-type]
