"""Every setting of every stage: frozen pydantic models, unknown keys refused. No torch."""

from alignloop.config.algorithms import (
    AdaptiveKlConfig,
    Algorithm,
    GrpoConfig,
    Needs,
    PpoConfig,
    RlooConfig,
)
from alignloop.config.load import load_recipe, to_toml
from alignloop.config.lora import ALL_WEIGHTS, LoraConfig
from alignloop.config.objectives import DpoObjective, IpoObjective, Objective
from alignloop.config.recipe import Recipe
from alignloop.config.stages import (
    DpoConfig,
    EvaluateConfig,
    ModelConfig,
    PlaygroundConfig,
    RewardConfig,
    RlConfig,
    SamplingConfig,
    SftConfig,
)

__all__ = [
    "ALL_WEIGHTS",
    "AdaptiveKlConfig",
    "Algorithm",
    "DpoConfig",
    "DpoObjective",
    "EvaluateConfig",
    "GrpoConfig",
    "IpoObjective",
    "LoraConfig",
    "ModelConfig",
    "Needs",
    "Objective",
    "PlaygroundConfig",
    "PpoConfig",
    "Recipe",
    "RewardConfig",
    "RlConfig",
    "RlooConfig",
    "SamplingConfig",
    "SftConfig",
    "load_recipe",
    "to_toml",
]
