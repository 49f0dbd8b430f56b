"""Stage 2: the reward model learns human preferences from pairs."""

from alignloop.reward.train import train_reward

__all__ = ["train_reward"]
