"""How many processes share a run's work. Nothing outside this room asks for a rank."""

from alignloop.parallel.world import PLACE_VARIABLE, SINGLE, Pass, World, place_on_machine

__all__ = ["PLACE_VARIABLE", "SINGLE", "Pass", "World", "place_on_machine"]
