"""Every setting of every stage: frozen pydantic models, unknown keys refused. No torch."""

from alignloop.config.algorithms import AdaptiveKlConfig, Algorithm, GrpoConfig, PpoConfig
from alignloop.config.load import load_recipe, to_toml
from alignloop.config.lora import ALL_WEIGHTS, LoraConfig
from alignloop.config.objectives import DpoObjective, Objective
from alignloop.config.recipe import Recipe
from alignloop.config.stages import (
    ComparisonsConfig,
    DpoConfig,
    EvaluateConfig,
    ModelConfig,
    RewardConfig,
    RlConfig,
    SamplingConfig,
    SftConfig,
)

__all__ = [
    "ALL_WEIGHTS",
    "AdaptiveKlConfig",
    "Algorithm",
    "ComparisonsConfig",
    "DpoConfig",
    "DpoObjective",
    "EvaluateConfig",
    "GrpoConfig",
    "LoraConfig",
    "ModelConfig",
    "Objective",
    "PpoConfig",
    "Recipe",
    "RewardConfig",
    "RlConfig",
    "SamplingConfig",
    "SftConfig",
    "load_recipe",
    "to_toml",
]
