"""DPO: the policy learns from preference pairs, without a reward model or rollouts."""

from alignloop.dpo.train import train_dpo

__all__ = ["train_dpo"]
