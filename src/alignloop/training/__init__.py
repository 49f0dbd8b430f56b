"""The one training loop: what differs between stages is an objective."""

from alignloop.training.loop import LearningMemory, Objective, Step, fit

__all__ = ["LearningMemory", "Objective", "Step", "fit"]
