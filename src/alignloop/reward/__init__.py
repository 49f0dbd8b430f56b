"""Stage 2: the reward model learns from preference pairs what people prefer."""

from alignloop.reward.train import train_reward

__all__ = ["train_reward"]
