"""What every training stage needs: an optimiser, a schedule and a clipped step."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from alignloop.config.stages import OptimizerSection
from alignloop.models.shared_base import trainable
from alignloop.parallel import SINGLE, World
from alignloop.training.mixed_precision import MasterAdamW

Schedule = Callable[[int], float]


def make_optimizer(
    module: nn.Module, config: OptimizerSection, *, learning_rate: float | None = None
) -> torch.optim.AdamW:
    """AdamW with the section's learning rate, weight decay and eps (1e-5 in RL: line 20).

    Only the role's trainable parameters. Matrices decay; norms and biases do not: they are few,
    cannot memorise, and a decaying norm scales its layer down. Weights in bfloat16 are trained
    through float32 copies, and so are all weights if the optimiser lives in host memory.
    """
    parameters = [p for p in trainable(module).parameters() if p.requires_grad]
    low = any(parameter.dtype != torch.float32 for parameter in parameters)
    options: dict[str, Any] = {
        "lr": config.learning_rate if learning_rate is None else learning_rate,
        "eps": config.adam_eps,
    }
    groups = _decay_groups(parameters, config.weight_decay)
    # moments in bfloat16 would lose most updates
    if low or config.offload_optimizer:
        return MasterAdamW(groups, on_host=config.offload_optimizer, **options)
    return torch.optim.AdamW(groups, **options)


def _decay_groups(parameters: list[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Matrices with decay, vectors (norms, biases) without; a single group if nothing decays.

    A single one because the gradient norm is summed group by group, in float32.
    """
    if not decay:
        return [{"params": parameters, "weight_decay": 0.0}]
    matrices, vectors = ([p for p in parameters if (p.ndim > 1) == many] for many in (True, False))
    kinds = ((matrices, decay), (vectors, 0.0))
    return [{"params": part, "weight_decay": share} for part, share in kinds if part]


def cosine_schedule(total: int, warmup_share: float) -> Schedule:
    """Linear warm-up over the first share of steps, then a cosine to 0; steps count from 1."""
    warmup = max(1, round(total * warmup_share))

    def factor(step: int) -> float:
        if step <= warmup:
            return step / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup + 1)))

    return factor


def linear_schedule(total: int) -> Schedule:
    """From 1 at the first step towards 0 after the last (line 21); steps count from 1."""
    # the last step still learns: 1 / total, not 0
    return lambda step: 1 - (step - 1) / total


def descend(
    optimizer: torch.optim.Optimizer,
    *,
    learning_rate: float,
    max_grad_norm: float,
    world: World = SINGLE,
) -> float:
    """One step along the gradients of all processes, clipped; returns the norm before clipping.

    Reads the optimiser's own parameters: float32 masters hold the gradients of their weights.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    world.add_gradients(parameters)
    norm = nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    if torch.isfinite(norm):  # a step along NaN would destroy the model for good
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(norm)
