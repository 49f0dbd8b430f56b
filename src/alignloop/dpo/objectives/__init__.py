"""One small file per objective: a function of log probabilities, [pairs] in and [pairs] out."""

from importlib import import_module

from alignloop.config import Objective
from alignloop.dpo.objectives.base import PairLogprobs, PreferenceLoss

__all__ = ["PairLogprobs", "PreferenceLoss", "make_loss"]


def make_loss(config: Objective) -> PreferenceLoss:
    """The loss of a config: the function of its name in the file of its name."""
    module = import_module(f"alignloop.dpo.objectives.{config.name}")
    return getattr(module, config.name)(config)
