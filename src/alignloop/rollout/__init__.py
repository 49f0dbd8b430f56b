"""Rollouts: sampling responses from a policy, behind one Protocol."""

from alignloop.rollout.choose import new_sampler
from alignloop.rollout.compiled import take_compile_seconds
from alignloop.rollout.decode import Rollout, Sampler, TransformersSampler
from alignloop.rollout.slots import LlamaSampler

__all__ = [
    "LlamaSampler",
    "Rollout",
    "Sampler",
    "TransformersSampler",
    "new_sampler",
    "take_compile_seconds",
]
