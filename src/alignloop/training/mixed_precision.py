"""AdamW for low-precision weights: it steps float32 master copies."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class MasterAdamW(torch.optim.AdamW):
    """AdamW on float32 master weights; the model's weights are rounded from them after each step.

    A step of 1e-6 is lost in bfloat16, whose neighbours are 0.4 % apart. Gradients of micro-batches
    accumulate in float32 too: each moves to its master as soon as it exists, so processes reduce
    the masters' gradients (`descend`). The masters are part of the state, so checkpoints keep them.
    With `on_host` masters, gradients and AdamW's moments live in CPU memory and are stepped there.
    """

    def __init__(
        self, groups: Sequence[dict[str, Any]], *, on_host: bool = False, **options: Any
    ) -> None:
        self._low = [parameter for group in groups for parameter in group["params"]]
        self._masters = [
            nn.Parameter(p.detach().to("cpu" if on_host else p.device, torch.float32, copy=True))
            for p in self._low
        ]
        masters = iter(self._masters)
        of_masters = [{**g, "params": [next(masters) for _ in g["params"]]} for g in groups]
        super().__init__(of_masters, **options)
        for low, master in zip(self._low, self._masters, strict=True):
            low.register_post_accumulate_grad_hook(_mover(master))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Step the masters, then round them into the weights."""
        assert closure is None, "gradients are there before the step"
        super().step()  # pyright: ignore[reportUnknownMemberType] -- torch leaves `closure` open
        for low, master in zip(self._low, self._masters, strict=True):
            if master.grad is not None:
                low.copy_(master)
                self.state[master]["master"] = master.detach()

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load AdamW's state and the masters."""
        super().load_state_dict(state_dict)
        for low, master in zip(self._low, self._masters, strict=True):
            saved = self.state[master].get("master") if master in self.state else None
            master.copy_(low if saved is None else saved)
            if saved is not None:
                self.state[master]["master"] = master.detach()


def _mover(master: nn.Parameter) -> Any:
    """A hook that moves a parameter's gradient to its master, adding to what is there."""

    def move(low: Tensor) -> None:
        assert low.grad is not None
        gradient = low.grad.to(master.device, torch.float32)
        master.grad = gradient if master.grad is None else master.grad.add_(gradient)
        low.grad = None

    return move
