"""Entrances of transformers and PEFT that their type hints leave open, with types."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification


class _Modules(Protocol):
    def named_modules(self) -> Iterator[tuple[str, nn.Module]]: ...


class _Models(Protocol):
    def from_config(self, config: object, /, **options: object) -> Any: ...


class _Configs(Protocol):
    def for_model(self, family: str, /, **settings: object) -> object: ...


class _Saved(Protocol):
    def save_pretrained(self, folder: Path, /) -> object: ...


class _Templated(Protocol):
    @property
    def chat_template(self) -> object: ...


_POLICIES: _Models = AutoModelForCausalLM
_SCORERS: _Models = AutoModelForSequenceClassification
_CONFIGS: _Configs = AutoConfig


def read(kind: Any, folder: Path | str, **options: object) -> Any:
    """The model, tokenizer or configuration in a directory, `kind` being the class."""
    return kind.from_pretrained(folder, **options)


def configuration(family: str, **settings: object) -> object:
    """transformers' configuration of a model family, such as "llama"."""
    return _CONFIGS.for_model(family, **settings)


def untrained_policy(config: object, **options: object) -> Any:
    """A causal language model with random weights."""
    return _POLICIES.from_config(config, **options)


def untrained_scorer(config: object) -> Any:
    """A sequence classification model with random weights."""
    return _SCORERS.from_config(config)


def save(made: _Saved, folder: Path) -> None:
    """Write a model, tokenizer or configuration into a folder."""
    made.save_pretrained(folder)


def named_modules(model: _Modules) -> Iterator[tuple[str, nn.Module]]:
    """All modules with their names, the model itself as ""."""
    return model.named_modules()


def template_of(tokenizer: _Templated) -> object:
    """A tokenizer's chat template, if it has one."""
    return tokenizer.chat_template
