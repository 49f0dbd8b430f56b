"""The one training loop; stages differ in their objective."""

from alignloop.training.loop import LearningMemory, Objective, Step, fit

__all__ = ["LearningMemory", "Objective", "Step", "fit"]
