"""One base model for several roles: each reads the same weights through an adapter of its own.

A role is a transformers model as any other, whose layers are shared. Whoever computes with a model
calls `activate` first: to a model with weights of its own that is nothing, for a role the shared
layers switch to its adapter.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from alignloop.models.adapters import (
    HEAD,
    POLICY,
    SCORER,
    adapter_parameters,
    fill,
    write_adapter,
)
from alignloop.models.loading import scalar_head


class SharedBase:
    """The layers that are shared, and the adapters in them by name.

    `shell` is the transformers model that PEFT put the adapters into, `base` the directory that its
    weights come from. Nothing of it but adapters is ever trained.
    """

    def __init__(self, shell: Any, base: Path) -> None:
        self.shell, self.base = shell.requires_grad_(False), base
        self.shapes: dict[str, Any] = {}  # the peft.LoraConfig of each adapter
        self._trains: dict[str, bool] = {}
        self._tuner: Any = None
        self._layers: list[Any] = []
        self._active: str | None = None

    def add(self, kind: str, shape: Any, *, trains: bool) -> str:
        """Put another adapter into the layers; returns its name. It holds no numbers of use yet."""
        from peft.tuners.lora import LoraLayer, LoraModel

        name = f"{kind}_{len(self.shapes)}"
        if self._tuner is None:
            self._tuner = LoraModel(self.shell, {name: shape}, name)
        else:
            self._tuner.peft_config[name] = shape
            self._tuner.inject_adapter(self.shell, name)
        self.shapes[name], self._trains[name] = shape, trains
        self._layers = [layer for layer in self.shell.modules() if isinstance(layer, LoraLayer)]
        self.shell.eval()
        for parameter in self.parameters(name).values():
            parameter.data = parameter.data.float()  # PEFT makes it as its layer is
        for other, learns in self._trains.items():  # PEFT has just chosen one of them to train
            for parameter in self.parameters(other).values():
                parameter.requires_grad_(learns)
        self._switch(None)
        return name

    def parameters(self, adapter: str) -> dict[str, nn.Parameter]:
        """An adapter's parameters by their names on disk."""
        return adapter_parameters(self.shell, adapter)

    def activate(self, adapter: str | None) -> None:
        """From now on the layers compute with this adapter, or with none.

        PEFT's own switch would take `requires_grad` from all others, so that a backward pass which
        comes after another role's forward pass would lose its gradients without a word.
        """
        if adapter != self._active:
            self._switch(adapter)

    def dropouts(self, adapter: str) -> list[nn.Dropout]:
        """The dropout layers of an adapter; none where its rate is 0."""
        found = [layer.lora_dropout[adapter] for layer in self._layers if adapter in layer.lora_A]
        return [module for module in found if isinstance(module, nn.Dropout)]

    def _switch(self, adapter: str | None) -> None:
        for layer in self._layers:
            layer._disable_adapters = adapter is None
            if adapter is not None:
                layer._active_adapter = [adapter]
        self._active = adapter


@dataclass(frozen=True, kw_only=True)
class Role:
    """How a model reads the shared base: through an adapter, or (None) as it was loaded."""

    shared: SharedBase
    adapter: str | None


def role_of(model: object) -> Role | None:
    """The role that a model plays; None where its weights are its own."""
    return getattr(model, "role", None)


def activate(model: object) -> None:
    """Let the shared layers compute as this model's role wants, until another is activated."""
    role = role_of(model)
    if role is not None:
        role.shared.activate(role.adapter)


def policy_role(shared: SharedBase, adapter: str | None) -> Any:
    """A causal language model on the shared base, whose shell has to be one."""
    model = copy.copy(shared.shell)  # shallow: the same parts, and attributes of its own
    model.role = Role(shared=shared, adapter=adapter)
    return model


def scorer_role(shared: SharedBase, adapter: str | None, *, bias: bool = False) -> Any:
    """A sequence classification model on the shared base; its scalar head is new, and empty."""
    config = copy.deepcopy(shared.shell.config)
    config.num_labels = 1
    with torch.device("meta"):  # all of it is replaced: nothing is made
        model: Any = AutoModelForSequenceClassification.from_config(config)
    size, kind = scalar_head(model, shared.base).in_features, shared.shell.dtype
    setattr(model, model.base_model_prefix, shared.shell.base_model)
    head = nn.Linear(size, 1, bias=bias, dtype=kind, device="meta")
    model.score = head.to_empty(device=shared.shell.device)
    model.role = Role(shared=shared, adapter=adapter)
    return model.eval()


def trainable(model: Any) -> nn.Module:
    """What of a model is trained and kept in checkpoints: all, or a role's adapter and head."""
    role = role_of(model)
    if role is None:
        return model
    own = {} if role.adapter is None else role.shared.parameters(role.adapter)
    if isinstance(head := getattr(model, "score", None), nn.Linear):
        own |= {f"score.{name}": parameter for name, parameter in head.named_parameters()}
    # a parameter's name in a module has no dots
    return nn.ParameterDict({name.replace(".", "/"): value for name, value in own.items()})


def save_role(folder: Path, model: Any, role: Role) -> None:
    """Write a role's adapter, and its head where it has one, as a PEFT directory."""
    assert role.adapter is not None, "without an adapter it is the base itself"
    tensors: dict[str, Tensor] = dict(role.shared.parameters(role.adapter))
    scores = isinstance(getattr(model, "score", None), nn.Linear)
    if scores:
        tensors[HEAD] = model.score.weight
    shape, base = role.shared.shapes[role.adapter], role.shared.base
    write_adapter(folder, shape, tensors, base=base, task=SCORER if scores else POLICY)


@torch.no_grad()
def draw(parameters: Mapping[str, Tensor], generator: torch.Generator) -> None:
    """A fresh adapter: A ~ U(-1/sqrt(d), 1/sqrt(d)) for d inputs, as PEFT draws it, and B = 0.

    So that it changes nothing yet (Hu et al. 2021, arXiv:2106.09685).
    """
    for name, parameter in parameters.items():
        if ".lora_A." in name:
            noise = torch.rand(parameter.shape, generator=generator)
            parameter.copy_((2 * noise - 1) / math.sqrt(parameter.shape[1]))
        else:
            parameter.zero_()


def copy_adapter(shared: SharedBase, source: str | None, target: str) -> None:
    """Let one adapter begin as another one of the same shape."""
    if source is not None:
        fill(shared.parameters(target), shared.parameters(source), shared.base)


@contextmanager
def dropping(model: Any, seed: int) -> Iterator[None]:
    """Within it the dropout of a role's adapter works, by random numbers of this seed alone."""
    role = role_of(model)
    layers = role.shared.dropouts(role.adapter) if role and role.adapter else []
    if not layers:
        yield
        return
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed % 2**63)
        for layer in layers:
            layer.train()
        try:
            yield
        finally:
            for layer in layers:
                layer.eval()
