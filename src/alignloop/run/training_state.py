"""Modules, optimisers and a memory, as tensors and JSON for a checkpoint and back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Generic, TypeVar

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from alignloop.run.checkpoints import load_optimizer, optimizer_tensors

Memory = TypeVar("Memory")


@dataclass(frozen=True, kw_only=True)
class TrainingState(Generic[Memory]):
    """What a stage trains, and a dataclass of what it remembers from step to step.

    `TrainingState(modules={"policy": model}, optimizers={"policy": adam}, memory=LearningMemory())`

    Schedules, data order and random numbers are functions of the step and need no state.
    """

    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    memory: Memory

    def tensors(self) -> dict[str, Tensor]:
        """All parameters, buffers and optimiser states, by name."""
        found: dict[str, Tensor] = {}
        for name, module in self.modules.items():
            found |= {f"{name}:{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            found |= optimizer_tensors(optimizer, f"optimizer:{name}")
        return found

    def remembered(self) -> dict[str, Any]:
        """The memory as JSON."""
        return asdict(self.memory)  # pyright: ignore[reportArgumentType]

    def load(self, tensors: Mapping[str, Tensor], memory: Mapping[str, Any]) -> None:
        """Restore everything in place; raises ValueError for a memory of another shape."""
        kind = type(self.memory)
        names = {field.name for field in fields(kind)}  # pyright: ignore[reportArgumentType]
        if names != set(memory):
            raise ValueError(f"not the memory of this stage: {sorted(names ^ set(memory))}")
        found = TypeAdapter(kind).validate_python(dict(memory))
        for name in names:
            setattr(self.memory, name, getattr(found, name))
        for name, module in self.modules.items():
            prefix = f"{name}:"
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
        for name, optimizer in self.optimizers.items():
            load_optimizer(optimizer, tensors, f"optimizer:{name}")
