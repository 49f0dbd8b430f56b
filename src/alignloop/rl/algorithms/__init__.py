"""One small file per algorithm; the loop does not know which one it runs."""

from importlib import import_module
from typing import Any

from alignloop.config import Algorithm as AlgorithmConfig
from alignloop.rl.algorithms.base import Algorithm

__all__ = ["Algorithm", "make_algorithm"]


def make_algorithm(config: AlgorithmConfig) -> Algorithm[Any, Any]:
    """The algorithm of a config: the function of its name in the file of its name."""
    module = import_module(f"alignloop.rl.algorithms.{config.name}")
    return getattr(module, config.name)(config)
