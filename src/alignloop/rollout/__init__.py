"""Rollouts: sampling responses from a policy, behind one Protocol."""

from alignloop.rollout.choose import new_sampler
from alignloop.rollout.decode import Rollout, Sampler, TransformersSampler
from alignloop.rollout.slots import LlamaSampler

__all__ = ["LlamaSampler", "Rollout", "Sampler", "TransformersSampler", "new_sampler"]
