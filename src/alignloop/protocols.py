"""What the package requires of a model; any transformers model with the right head will do."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Backbone(Protocol):
    """A transformers model whose last hidden states are used."""

    @property
    def config(self) -> Any:
        """Its `PretrainedConfig`."""
        ...

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        ...

    @property
    def base_model(self) -> Any:
        """The layers without the head."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """All modules, including itself."""
        ...


class Policy(Backbone, Protocol):
    """A causal language model."""

    def get_output_embeddings(self) -> Any:
        """The linear layer from hidden states to logits."""
        ...

    def __call__(self, **inputs: Any) -> Any:
        """The whole forward pass: an output with `logits`."""
        ...


class ScoreModel(Backbone, Protocol):
    """A reward model or critic: a scalar head on the last hidden states."""

    def score(self, hidden: Tensor, /) -> Tensor:
        """[..., hidden] to [..., 1]."""
        ...
