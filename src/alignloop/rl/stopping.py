"""When to stop and which checkpoint to keep: by KL and a held-out score, never by gold."""

from dataclasses import dataclass

NOT_FINITE = "a value was not finite"


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What has been seen so far; `.seen(...)` gives the next one. Stored in the checkpoints.

    `best_score` is the held-out reward model's on validation prompts. The proxy that PPO climbs
    cannot see its own over-optimisation; a model trained on other labels can.
    """

    patience: int
    kl_budget: float | None
    best_score: float = float("-inf")
    best_step: int = 0
    evaluations_since_best: int = 0
    reason: str = ""

    def evaluated(self, step: int, held_out_score: float) -> "Watch":
        """After an evaluation: remember the best one, or count towards patience."""
        if held_out_score > self.best_score:
            return self._with(best_score=held_out_score, best_step=step, evaluations_since_best=0)
        waited = self.evaluations_since_best + 1
        if waited < self.patience:
            return self._with(evaluations_since_best=waited)
        return self._with(
            evaluations_since_best=waited,
            reason=f"the held-out score has not risen for {waited} evaluations"
            f" (best {self.best_score:.3f} at step {self.best_step}): over-optimisation",
        )

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

    def _with(self, **changes: object) -> "Watch":
        return Watch(**{**vars(self), **changes})  # type: ignore[arg-type]
