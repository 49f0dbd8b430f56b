"""How many processes share a run's work. Nothing outside this room asks for a rank."""

from alignloop.parallel.world import SINGLE, Pass, World

__all__ = ["SINGLE", "Pass", "World"]
