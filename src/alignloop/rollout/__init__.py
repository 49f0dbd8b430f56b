"""Rollouts: sampling responses from a policy, behind one Protocol."""

from alignloop.rollout.decode import Rollout, Sampler, TransformersSampler

__all__ = ["Rollout", "Sampler", "TransformersSampler"]
