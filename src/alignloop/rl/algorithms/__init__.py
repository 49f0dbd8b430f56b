"""One small file per algorithm; the loop does not know which one it runs."""

from alignloop.config import Algorithm as AlgorithmConfig
from alignloop.config import GrpoConfig, PpoConfig
from alignloop.rl.algorithms.base import Algorithm
from alignloop.rl.algorithms.grpo import grpo
from alignloop.rl.algorithms.ppo import ppo

__all__ = ["Algorithm", "make_algorithm"]


def make_algorithm(config: AlgorithmConfig) -> Algorithm:
    """The algorithm that a config describes."""
    match config:
        case PpoConfig():
            return ppo(config)
        case GrpoConfig():
            return grpo(config)
