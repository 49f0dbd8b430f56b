"""Modules and optimisers by name, as tensors for a checkpoint and back."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alignloop.run.checkpoints import load_optimizer, optimizer_tensors


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """What a stage trains: `TrainingState(modules={"policy": model}, optimizers={"policy": adam})`.

    Schedules, data order and random numbers are functions of the step, so they need no state.
    """

    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]

    def tensors(self) -> dict[str, Tensor]:
        """All parameters, buffers and optimiser states, by name."""
        found: dict[str, Tensor] = {}
        for name, module in self.modules.items():
            found |= {f"{name}:{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            found |= optimizer_tensors(optimizer, f"optimizer:{name}")
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put everything back, in place."""
        for name, module in self.modules.items():
            prefix = f"{name}:"
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
        for name, optimizer in self.optimizers.items():
            load_optimizer(optimizer, tensors, f"optimizer:{name}")
