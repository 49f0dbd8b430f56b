"""One base model for several roles, each reading the same weights through its own adapter.

A role is an ordinary transformers model whose layers are shared. Call `activate` before computing
with a model: for a role it switches the shared layers to its adapter, otherwise it does nothing.
"""

import copy
import math
from collections.abc import Generator, Mapping
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
from alignloop.models.library import untyped
from alignloop.models.loading import scalar_head
from alignloop.tensors import RANDOM


class SharedBase:
    """The shared layers and the adapters in them, by name.

    `shell` is the transformers model into which PEFT put the adapters, `base` the directory of its
    weights. Only adapters are trained.
    """

    def __init__(self, shell: Any, base: Path) -> None:
        self.shell, self.base = shell.requires_grad_(False), base
        self.shapes: dict[str, Any] = {}  # the peft.LoraConfig of each adapter
        self._trains: dict[str, bool] = {}
        self._tuner: Any = None
        self._layers: list[Any] = []
        self._active: str | None = None

    def add(self, kind: str, shape: Any, *, trains: bool) -> str:
        """Add an adapter to the layers; returns its name. Its weights are still uninitialised."""
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
            # adapters train in float32: a step of 1e-5 is lost in bfloat16
            parameter.data = parameter.data.float()  # PEFT creates it in its layer's dtype
        for other, learns in self._trains.items():  # PEFT has just frozen all but the new one
            for parameter in self.parameters(other).values():
                parameter.requires_grad_(learns)
        # a known state, whatever PEFT has activated
        self._switch(None)
        return name

    def parameters(self, adapter: str) -> dict[str, nn.Parameter]:
        """An adapter's parameters by their names on disk."""
        return adapter_parameters(self.shell, adapter)

    def activate(self, adapter: str | None) -> None:
        """Switch the layers to this adapter, or to none.

        PEFT's own switch clears `requires_grad` on all others: a backward pass after another role's
        forward pass would silently lose its gradients.
        """
        if adapter != self._active:
            self._switch(adapter)

    def dropouts(self, adapter: str) -> list[nn.Dropout]:
        """The dropout layers of an adapter; empty if its rate is 0."""
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
    """How a model reads the shared base: through an adapter, or unchanged (None)."""

    shared: SharedBase
    adapter: str | None


def role_of(model: object) -> Role | None:
    """A model's role; None if its weights are not shared."""
    return getattr(model, "role", None)


def activate(model: object) -> None:
    """Switch the shared layers to this model's role, until another is activated."""
    role = role_of(model)
    if role is not None:
        role.shared.activate(role.adapter)


def policy_role(shared: SharedBase, adapter: str | None) -> Any:
    """A causal language model on the shared base, whose shell must be one."""
    model = copy.copy(shared.shell)  # shallow: the same submodules, separate attributes
    model.role = Role(shared=shared, adapter=adapter)
    return model


def scorer_role(shared: SharedBase, adapter: str | None, *, bias: bool = False) -> Any:
    """A sequence classification model on the shared base, with an uninitialised scalar head."""
    config = copy.deepcopy(shared.shell.config)
    config.num_labels = 1
    with torch.device("meta"):  # every part is replaced below: allocate nothing
        model = untyped(AutoModelForSequenceClassification).from_config(config)
    size, kind = scalar_head(model, shared.base).in_features, shared.shell.dtype
    setattr(model, model.base_model_prefix, shared.shell.base_model)
    head = nn.Linear(size, 1, bias=bias, dtype=kind, device="meta")
    model.score = head.to_empty(device=shared.shell.device)
    model.role = Role(shared=shared, adapter=adapter)
    return model.eval()


def trainable(model: Any) -> nn.Module:
    """The part of a model that is trained and saved: all, or a role's adapter and head."""
    role = role_of(model)
    if role is None:
        return model
    own = {} if role.adapter is None else role.shared.parameters(role.adapter)
    if isinstance(head := getattr(model, "score", None), nn.Linear):
        own |= {f"score.{name}": parameter for name, parameter in head.named_parameters()}
    # torch forbids dots in a parameter's name
    return nn.ParameterDict({name.replace(".", "/"): value for name, value in own.items()})


def save_role(folder: Path, model: Any, role: Role) -> None:
    """Write a role's adapter, and its head if it has one, as a PEFT directory."""
    assert role.adapter is not None, "a role without an adapter is the base itself"
    tensors: dict[str, Tensor] = dict(role.shared.parameters(role.adapter))
    scores = isinstance(getattr(model, "score", None), nn.Linear)
    if scores:
        tensors[HEAD] = model.score.weight
    shape, base = role.shared.shapes[role.adapter], role.shared.base
    write_adapter(folder, shape, tensors, base=base, task=SCORER if scores else POLICY)


@torch.no_grad()
def draw(parameters: Mapping[str, Tensor], generator: torch.Generator) -> None:
    """Initialise an adapter: A ~ U(-1/sqrt(d), 1/sqrt(d)) for d inputs, as in PEFT, and B = 0.

    So it changes nothing at first (Hu et al. 2021, arXiv:2106.09685).
    """
    for name, parameter in parameters.items():
        if ".lora_A." in name:
            noise = torch.rand(parameter.shape, generator=generator)
            parameter.copy_((2 * noise - 1) / math.sqrt(parameter.shape[1]))
        else:
            parameter.zero_()


def copy_adapter(shared: SharedBase, source: str | None, target: str) -> None:
    """Copy an adapter's weights into another one of the same shape."""
    if source is not None:
        fill(shared.parameters(target), shared.parameters(source), shared.base)


@contextmanager
def dropping(model: Any, seed: int) -> Generator[None]:
    """Enable the dropout of a role's adapter within the context, seeded with `seed`."""
    role = role_of(model)
    layers = role.shared.dropouts(role.adapter) if role and role.adapter else []
    if not layers:
        yield
        return
    devices = [model.device] if model.device.type == "cuda" else []
    # forked, so that dropout does not advance the global random numbers
    with RANDOM.fork_rng(devices):
        RANDOM.manual_seed(seed % 2**63)
        for layer in layers:
            layer.train()
        try:
            yield
        finally:
            for layer in layers:
                layer.eval()
