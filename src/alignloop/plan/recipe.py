"""From a recipe to its plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from alignloop.config import Recipe
from alignloop.plan.memory import Shape
from alignloop.plan.shape import read_shape
from alignloop.plan.speed import Speed, measure, seconds_in_all, seconds_per_step
from alignloop.plan.stages import Rows, StagePlan, stage_plans


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe's needs; `seconds` per step and `totals` by stage, if measured.

    Each time is a range. `threads` is that of the run, and of the measurement.
    """

    name: str
    model: str
    shape: Shape
    stages: tuple[StagePlan, ...]
    speed: Speed | None
    seconds: dict[str, tuple[float, float]]
    totals: dict[str, tuple[float, float]]
    threads: int | None


def plan_recipe(
    recipe: Recipe,
    base: Path,
    *,
    with_speed: bool,
    counted: Mapping[str, Rows] = MappingProxyType({}),
    threads: int | None = None,
) -> Plan:
    """The plan of a recipe whose model is a directory or a config.json; loads no weights."""
    shape = read_shape(base, recipe.lora)
    stages = stage_plans(recipe, shape, counted)
    speed = measure(recipe.model.dtype, threads) if with_speed else None
    seconds, totals = {}, {}
    if speed is not None:
        seconds = {stage.stage: seconds_per_step(stage, shape, speed) for stage in stages}
        found = {stage.stage: seconds_in_all(stage, shape, speed) for stage in stages}
        totals = {stage: total for stage, total in found.items() if total is not None}
    return Plan(
        name=recipe.name,
        model=recipe.model.path,
        shape=shape,
        stages=stages,
        speed=speed,
        seconds=seconds,
        totals=totals,
        threads=threads,
    )
