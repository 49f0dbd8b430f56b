"""Every setting of every stage: frozen pydantic models, unknown keys refused. No torch."""

from alignloop.config.algorithms import AdaptiveKlConfig, Algorithm, GrpoConfig, PpoConfig
from alignloop.config.load import load_recipe, to_toml
from alignloop.config.lora import ALL_WEIGHTS, LoraConfig
from alignloop.config.objectives import DpoObjective, Objective
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
    "LoraConfig",
    "ModelConfig",
    "Objective",
    "PlaygroundConfig",
    "PpoConfig",
    "Recipe",
    "RewardConfig",
    "RlConfig",
    "SamplingConfig",
    "SftConfig",
    "load_recipe",
    "to_toml",
]
