"""Muon for the base model's pre-training: about half the steps of AdamW for the same loss here.

torch.optim.Muon has the same update but orthogonalises in bfloat16, which most CPUs only emulate
(twenty times slower here); this one uses float32.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from alignloop.tensors import LINALG

# The quintic Newton-Schulz polynomial with the coefficients of Jordan 2024.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Approximately U V^T for the singular value decomposition U S V^T of `matrix` [rows, columns].

    X <- a X + (b X X^T + c (X X^T)^2) X, starting at X = matrix / |matrix|; singular values end
    between 0.7 and 1.2. Source: Jordan 2024, "Muon: an optimizer for hidden layers".
    """
    a, b, c = COEFFICIENTS
    # iterate on the orientation with the smaller Gram matrix
    wide = matrix.size(0) <= matrix.size(1)
    x = matrix if wide else matrix.T
    x = x / LINALG.vector_norm(x).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum, for the weight matrices of hidden layers only.

    m <- mu m + (1 - mu) g, then w <- w - lr (weight_decay w + 0.2 sqrt(max(rows, columns)) O) with
    O = orthogonalise((1 - mu) g + mu m): steps as large as AdamW's (Liu et al. 2025, eq. 4).
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- no closure, no loss
        """One update of every matrix that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)

    def _update(self, weight: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        momentum = state.setdefault("momentum", torch.zeros_like(weight))
        momentum.lerp_(grad, 1 - group["momentum"])
        direction = orthogonalise(grad.lerp(momentum, group["momentum"]))
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(direction, alpha=-0.2 * group["lr"] * max(weight.shape) ** 0.5)
