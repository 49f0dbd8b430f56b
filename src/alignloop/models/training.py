"""What every training stage needs: an optimiser, a schedule, and one step down."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from alignloop.config.stages import OptimizerSection
from alignloop.errors import UserError
from alignloop.models.masters import MasterAdamW
from alignloop.models.roles import learnt

Schedule = Callable[[int], float]
Metrics = TypeVar("Metrics")

IN_A_ROW = 3  # steps that went wrong, after which a stage stops
COIN_TOSS = math.log(2)  # the ranking loss of scores that say nothing, in nats


def make_optimizer(
    module: nn.Module, config: OptimizerSection, *, learning_rate: float | None = None
) -> torch.optim.AdamW:
    """AdamW with the section's learning rate, weight decay and eps.

    In RL eps is 1e-5 (docs/algorithms.md#ppo-20).

    Of a role it is what that learns. Matrices decay; norms and biases do not: they are few, they
    fit nothing by heart, and a norm that decays scales its layer down. Weights in bfloat16 are
    trained through float32 copies, and so are all where the optimiser lives in the host's memory.
    """
    parameters = [p for p in learnt(module).parameters() if p.requires_grad]
    low = any(parameter.dtype != torch.float32 for parameter in parameters)
    options: dict[str, Any] = {
        "lr": config.learning_rate if learning_rate is None else learning_rate,
        "eps": config.adam_eps,
    }
    groups = _decay_groups(parameters, config.weight_decay)
    if low or config.offload_optimizer:
        return MasterAdamW(groups, on_host=config.offload_optimizer, **options)
    return torch.optim.AdamW(groups, **options)


def _decay_groups(parameters: list[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Matrices with the decay, vectors (norms, biases) without; one group where nothing decays.

    One, because the norm of all gradients is added up group by group, in float32.
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
    """From 1 at step 1 towards 0 after the last step (docs/algorithms.md#ppo-21)."""
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


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Ends a stage that can learn nothing any more, before its model is saved and used.

    `limit(first)` is the loss in nats above which training has diverged, by the loss of the first
    step. What is counted stands in the stage's memory, which checkpoints keep.
    """

    stage: str
    section: str  # of the settings
    limit: Callable[[float], float] = lambda _: math.inf

    def seen(
        self, memory: dict[str, Any], step: int, *, loss: float, norm: float, last: bool
    ) -> dict[str, float]:
        """After an optimiser step: how many were left out so far, as a metric where any was.

        `norm` is the gradient's; a step is left out where that is not finite. Raises UserError
        where the loss is not finite, and where IN_A_ROW steps in a row (or all, at the last one)
        were left out or had a loss above the limit.
        """
        if not math.isfinite(loss):
            raise self._error(f"the loss is not finite at step {step}")
        metrics = self.left_out(memory, step, taken=int(math.isfinite(norm)), steps=1, last=last)
        limit = self.limit(memory.setdefault("first_loss", loss))
        high = memory["steps_above_limit"] = (
            memory.get("steps_above_limit", 0) + 1 if loss > limit else 0
        )
        if high == IN_A_ROW or (last and high == step):
            problem = f"training has diverged: the loss at step {step} is {loss:.4g}, and was"
            raise self._error(f"{problem} {memory['first_loss']:.4g} at the first step")
        return metrics

    def left_out(
        self, memory: dict[str, Any], step: int, *, taken: int, steps: int, last: bool
    ) -> dict[str, float]:
        """The same of `steps` optimiser steps at once, of which `taken` had a finite gradient."""
        total = memory["skipped_steps"] = memory.get("skipped_steps", 0) + steps - taken
        row = memory["steps_without_effect"] = (
            0 if taken else memory.get("steps_without_effect", 0) + 1
        )
        if row == IN_A_ROW or (last and row == step):
            problem = f"the gradients were not finite at step {step} and all {row - 1} before it"
            problem = problem if row > 1 else f"the gradients were not finite at step {step}"
            raise self._error(f"{problem}: nothing is learnt")
        return {"skipped_steps": float(total)} if total else {}

    def _error(self, problem: str) -> UserError:
        section = self.section
        fix = f"lower {section}.learning_rate, or check the data and the model's weights"
        beta = ", lower dpo.beta" if section == "dpo" else ""
        return UserError(problem, where=self.stage, fix=fix + beta)


def above_uniform(vocabulary: int) -> Callable[[float], float]:
    """The limit of a loss per token: half a nat above a uniform guess, or above the first loss."""
    return lambda first: max(math.log(vocabulary), first) + 0.5


def above_coin_toss(first: float) -> float:
    """The limit of a loss per pair: ten times that of scores that say nothing, or the first."""
    return 10 * max(COIN_TOSS, first)


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
