"""Stage 3: reinforcement learning moves the policy towards what the reward model prefers."""

from alignloop.rl.train import train_rl

__all__ = ["train_rl"]
