"""Rewards by functions: a person's own, and those that can be checked. Judges are made of them."""

from alignloop.scoring.functions import RewardFunction, load_function

__all__ = ["RewardFunction", "load_function"]
