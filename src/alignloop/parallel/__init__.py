"""How several processes share a run's work. No other package uses ranks."""

from alignloop.parallel.world import PLACE_VARIABLE, SINGLE, Pass, World, place_on_machine

__all__ = ["PLACE_VARIABLE", "SINGLE", "Pass", "World", "place_on_machine"]
