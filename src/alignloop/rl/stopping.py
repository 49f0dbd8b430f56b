"""When to stop and which checkpoint to keep: by held-out score minus the price of KL, never gold.

A held-out reward model learnt from the same kind of labels and answers as the one RL optimises: far
from the SFT model both keep rising while true quality falls (Gao et al. 2022). So distance has a
price, independent of RL's KL coefficient, which may be 0.
"""

from dataclasses import dataclass

from alignloop.stats.overoptimisation import OUTSIDE

NOT_FINITE = "a value was not finite"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Results of the validation answers at a step.

    `held_out` is the mean score of the held-out reward model, `climbed` of the one RL optimises;
    `kl` in nats per answer, None without a reference; `outside` is the share of answers that the
    SFT model finds more surprising (in nats per token) than 95 % of its own.
    """

    step: int
    held_out: float
    climbed: float
    kl: float | None
    outside: float | None
    eos_rate: float


@dataclass(frozen=True, kw_only=True)
class Watch:
    """The evaluations so far; `.evaluated(...)` returns the next state. Saved in checkpoints.

    value = held_out - price * max(kl, 0), in units of the held-out score; the best one is kept, but
    never if more than half of the policy's answers are unlike the SFT model's: the held-out model
    does not know such answers. `bounded` is False if a function gives the score: it is defined
    for all answers.
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
        """After an evaluation: remember the best, or count towards patience."""
        # strictly greater below: of equal values the earlier, closer policy wins
        value = seen.held_out - self.price * max(seen.kl or 0.0, 0.0)  # an estimate may be below 0
        if value > self.best_value and not self.too_far(seen):
            return self._with(best_value=value, best=seen, evaluations_since_best=0)
        waited = self.evaluations_since_best + 1
        if waited < self.patience:
            return self._with(evaluations_since_best=waited)
        return self._with(evaluations_since_best=waited, reason=self._why(waited, seen))

    def too_far(self, seen: Evaluation) -> bool:
        """Whether the policy is so far out that its held-out score means nothing."""
        return self.bounded and seen.outside is not None and seen.outside > OUTSIDE

    def stepped(self, step: int, kl: float | None, finite: bool) -> "Watch":
        """After an update: stop if a value is not finite or the KL budget is spent.

        `kl` is None if it was not computed; then there is no budget.
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
        """The reason to stop, with its cause as far as the figures show it."""
        assert self.best is not None
        what = "the held-out score minus the price of KL" if self.price else "the held-out score"
        reason = (
            f"{what} has not risen for {waited} evaluations"
            f" (best {self.best_value:.3f} at step {self.best.step})"
        )
        if self.too_far(seen):
            return (
                f"{reason}; {seen.outside:.0%} of the answers are now unlike the SFT model's, which"
                " are all that the held-out model knows: over-optimisation"
            )
        if seen.eos_rate < 0.5:
            return f"{reason}; {1 - seen.eos_rate:.0%} of the answers are cut off"
        if seen.climbed > self.best.climbed:
            return f"{reason} while the climbed score has: over-optimisation"
        return reason

    def _with(self, **changes: object) -> "Watch":
        return Watch(**{**vars(self), **changes})  # type: ignore[arg-type]
