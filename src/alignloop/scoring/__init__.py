"""What says how good a text is: reward models from anywhere, and functions of a person's own."""

from alignloop.scoring.functions import RewardFunction, load_function
from alignloop.scoring.reward_models import RewardModel, TextScorer

__all__ = ["RewardFunction", "RewardModel", "TextScorer", "load_function"]
