"""Reward functions: custom ones and built-in verifiable ones. Judges are built on them."""

from alignloop.scoring.functions import RewardFunction, load_function

__all__ = ["RewardFunction", "load_function"]
