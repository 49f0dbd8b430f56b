"""The state of reinforcement learning from step to step."""

from dataclasses import dataclass, field

from alignloop.rl.stopping import Watch
from alignloop.training.guard import Health


@dataclass(kw_only=True)
class RlMemory:
    """Saved with the run: the algorithm's state, the evaluations so far, and the last step.

    `usual_surprise` is the reference's, in nats per token, at step 0; `missing_eos_penalty`
    replaces the setting if that would reward being cut off.
    """

    algorithm: dict[str, float]
    health: Health = field(default_factory=Health)
    watch: Watch | None = None
    missing_eos_penalty: float | None = None
    usual_surprise: float | None = None
    last_step: int = 0
    last_kl: float | None = None
