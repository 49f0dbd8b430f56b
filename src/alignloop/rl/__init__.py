"""Stage 3: reinforcement learning of the policy against the reward model."""

from alignloop.rl.train import train_rl

__all__ = ["train_rl"]
