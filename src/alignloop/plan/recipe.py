"""From a recipe to its plan."""

from dataclasses import dataclass
from pathlib import Path

from alignloop.config import Recipe
from alignloop.config.stages import PLAYGROUND
from alignloop.plan.memory import Shape
from alignloop.plan.shape import read_shape
from alignloop.plan.speed import Speed, measure, seconds_per_step
from alignloop.plan.stages import StagePlan, stage_plans


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a recipe needs; `seconds` per step by stage, between two numbers, where measured."""

    name: str
    model: str
    shape: Shape
    stages: tuple[StagePlan, ...]
    speed: Speed | None
    seconds: dict[str, tuple[float, float]]


def plan_recipe(recipe: Recipe, base: Path, *, with_speed: bool) -> Plan:
    """The plan of a recipe whose model is a directory or a config.json; loads no weights."""
    shape = read_shape(base, recipe.lora)
    stages = stage_plans(recipe, shape)
    speed = measure(recipe.model.dtype) if with_speed else None
    seconds = {}
    if speed is not None:
        seconds = {stage.stage: seconds_per_step(stage, shape, speed) for stage in stages}
    name = recipe.model.path if recipe.model.path == PLAYGROUND else str(base)
    return Plan(
        name=recipe.name, model=name, shape=shape, stages=stages, speed=speed, seconds=seconds
    )
