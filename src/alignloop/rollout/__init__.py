"""Rollouts: sampling responses from a policy, behind one Protocol."""

from alignloop.rollout.decode import LlamaSampler, Rollout, Sampler, TransformersSampler
from alignloop.rollout.make_sampler import make_sampler

__all__ = ["LlamaSampler", "Rollout", "Sampler", "TransformersSampler", "make_sampler"]
