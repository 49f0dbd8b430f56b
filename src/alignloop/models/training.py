"""What every training stage needs: an optimiser, a schedule, and one step down."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from alignloop.config.stages import OptimizerSection
from alignloop.errors import UserError
from alignloop.models.masters import MasterAdamW
from alignloop.models.roles import learnt

Schedule = Callable[[int], float]
Metrics = TypeVar("Metrics")


def make_optimizer(
    module: nn.Module, config: OptimizerSection, *, learning_rate: float | None = None
) -> torch.optim.AdamW:
    """AdamW with the section's learning rate, weight decay and eps (1e-5 in RL: line 20).

    Of a role it is what that learns. Weights in bfloat16 are trained through float32 copies, and so
    are all where the optimiser lives in the host's memory.
    """
    parameters = [p for p in learnt(module).parameters() if p.requires_grad]
    low = any(parameter.dtype != torch.float32 for parameter in parameters)
    options: dict[str, Any] = {
        "lr": config.learning_rate if learning_rate is None else learning_rate,
        "eps": config.adam_eps,
        "weight_decay": config.weight_decay,
    }
    if low or config.offload_optimizer:
        return MasterAdamW(parameters, on_host=config.offload_optimizer, **options)
    return torch.optim.AdamW(parameters, **options)


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
    return lambda step: 1 - (step - 1) / total


def descend(
    optimizer: torch.optim.Optimizer, *, learning_rate: float, max_grad_norm: float
) -> float:
    """One step along the gradients, clipped to a norm; returns the norm before clipping."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    norm = nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    if torch.isfinite(norm):  # a step along NaN would destroy the model for good
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(norm)


def refuse_nan(loss: float, step: int, stage: str, section: str) -> None:
    """Raise UserError where a stage's loss is NaN or infinite; its settings stand in `section`."""
    if not math.isfinite(loss):
        raise UserError(
            f"the loss is not finite at step {step}",
            where=stage,
            fix=f"lower {section}.learning_rate, or check the model's weights",
        )


def backward_through_scores(
    score: Callable[[list[int]], Tensor],
    cuts: Sequence[list[int]],
    loss_of: Callable[[Tensor], tuple[Tensor, Metrics]],
) -> tuple[float, Metrics]:
    """Gradients of a loss over the scores of all texts, however many micro-batches those need.

    `score(indices)` gives one number for each of some texts, `loss_of(scores)` the loss and its
    metrics, which are returned. Texts of one pair may fall into different micro-batches: then
    scores are computed without gradient, the loss is differentiated by them, and each micro-batch
    is run again with its share.
    """
    texts = list(range(sum(map(len, cuts))))
    drawn: list[list[Tensor]] = []
    if len(cuts) == 1:
        scores = score(texts)
    else:
        with torch.no_grad():
            scores = torch.zeros(len(texts))
            for cut in cuts:
                drawn.append(_random_state())
                scores[cut] = score(cut)
        scores.requires_grad_()
    loss, metrics = loss_of(scores)
    loss.backward()
    if len(cuts) > 1:
        assert scores.grad is not None
        for cut, state in zip(cuts, drawn, strict=True):
            _go_back_to(state)  # the dropout of an adapter leaves out the same again
            score(cut).backward(scores.grad[cut])
    return loss.item(), metrics


def _random_state() -> list[Tensor]:
    """Where torch's global generators stand: the CPU's, then the GPU's where there is one."""
    on_gpu = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *on_gpu]


def _go_back_to(state: list[Tensor]) -> None:
    torch.set_rng_state(state[0])
    for on_gpu in state[1:]:
        torch.cuda.set_rng_state(on_gpu)
