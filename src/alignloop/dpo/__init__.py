"""DPO: the policy learns from preference pairs without reward model and rollouts."""

from alignloop.dpo.train import train_dpo

__all__ = ["train_dpo"]
