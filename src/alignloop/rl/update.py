"""The update: several passes over one batch; its gradient does not depend on the micro-batches."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import backward

from alignloop.config import RlConfig
from alignloop.losses import Over, TokenLosses, reduce_tokens
from alignloop.models import token_logprobs, token_values
from alignloop.parallel import World
from alignloop.rl.algorithms import Algorithm
from alignloop.rl.experience import (
    Credit,
    Experience,
    ScoredRollouts,
    WithOldLogprobs,
    policy_metrics,
)
from alignloop.shapes import TokenMask
from alignloop.training.optimiser import descend

Seen = Experience[ScoredRollouts, Credit]
GRADIENT_NORM = "gradient_norm"  # suffix of these metrics
Counts = dict[Over, int]  # divisors of losses and metrics, for a whole optimiser step


@dataclass(frozen=True, kw_only=True)
class Learner:
    """The policy and, if the algorithm has one, the critic, with their optimisers.

    Every process of the `world` has the whole batch; the passes of a step are shared.
    """

    policy: Any
    critic: Any | None
    policy_optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer | None
    algorithm: Algorithm[Any, Any]
    config: RlConfig
    world: World

    def update(self, experience: Seen, *, seed: int, step: int, rate: float) -> dict[str, float]:
        """All epochs over one batch; `rate` in 0..1 scales both learning rates.

        Returns means over all optimiser steps, and separately the first step's ratio: it must be 1.
        `finite_steps` counts those with finite gradients; others leave the weights unchanged.
        """
        settings = self.config.algorithm
        history: list[dict[str, float]] = []
        for epoch in range(settings.num_epochs):
            for rows in self._minibatches(len(experience), seed, step, epoch):
                history.append(self._step(experience, rows, step, rate))
            # by the last minibatch: the clipped loss bounds one step, not the sum of epochs
            if settings.target_kl and history[-1]["approx_kl"] > settings.target_kl:
                break
        means = {key: sum(h[key] for h in history) / len(history) for key in history[0]}
        return means | {
            "first_ratio": history[0]["ratio"],
            "optimizer_steps": float(len(history)),
            "finite_steps": float(sum(map(_has_finite_gradients, history))),
        }

    def _minibatches(self, size: int, seed: int, step: int, epoch: int) -> list[list[int]]:
        rows, count = list(range(size)), self.config.algorithm.num_minibatches
        # a single minibatch is never shuffled: order does not matter, and the numbers stay stable
        if count > 1:
            random.Random(f"minibatches/{seed}/{step}/{epoch}").shuffle(rows)
        # strided slices differ by at most one row; with few rows some are empty
        return [part for i in range(count) if (part := rows[i::count])]

    def _step(
        self, experience: Seen, rows: Sequence[int], step: int, rate: float
    ) -> dict[str, float]:
        """One optimiser step of policy and critic on some rows.

        Losses are divided by the response tokens, or the responses, of all these rows, so the
        split into micro-batches does not change the gradient (docs/algorithms.md#ppo-23).
        """
        counts = counts_of(experience.scored.response_mask[list(rows)])
        sums: dict[str, float] = {}
        for one in self.world.share(experience.micro_batches(rows, self.config.micro_batch_tokens)):
            part = experience.take(one.rows)
            for name, value in self._backward(part, counts, one.weight).items():
                sums[name] = sums.get(name, 0.0) + one.weight * value
        return self.world.totals(sums) | self._descend(step, rate)

    def _descend(self, step: int, rate: float) -> dict[str, float]:
        """Step critic and policy; during the warm-up only the critic."""
        config, plan, norms = self.config, self.algorithm.critic, dict[str, float]()
        if plan is not None:
            assert self.critic_optimizer is not None
            critic_rate = config.critic_learning_rate or config.learning_rate
            norms["critic_gradient_norm"] = descend(
                self.critic_optimizer,
                learning_rate=critic_rate * rate,
                max_grad_norm=config.max_grad_norm,
                world=self.world,
            )
            # advantages of an untrained critic would move the policy at random
            if step <= plan.warmup_steps:
                self.policy_optimizer.zero_grad(set_to_none=True)
                return norms | {"policy_gradient_norm": 0.0}
        norms["policy_gradient_norm"] = descend(
            self.policy_optimizer,
            learning_rate=config.learning_rate * rate,
            max_grad_norm=config.max_grad_norm,
            world=self.world,
        )
        return norms

    def _backward(self, part: Seen, counts: Counts, weight: float = 1.0) -> dict[str, float]:
        """Accumulate the gradients of one micro-batch; returns its share of every mean."""
        scored, mask = part.scored, part.scored.response_mask
        drew = not isinstance(scored, WithOldLogprobs)  # the policy is still the one that sampled
        statistics = token_logprobs(
            self.policy,
            scored.input_ids,
            scored.attention_mask,
            mask,
            temperature=self.config.sampling.temperature,
            entropy=drew,
        )
        logprobs, metrics = statistics.logprobs, dict[str, float]()
        if drew:
            metrics = policy_metrics(logprobs.detach(), statistics.entropy, scored, **counts)
        over = self.algorithm.loss_over
        losses = self.algorithm.policy_loss(logprobs, part)
        loss = reduce_tokens(losses.loss, mask, over=over, count=counts[over])
        backward(loss * weight)
        metrics |= _means(losses, mask, counts) | {"policy_loss": loss.item()}
        return metrics | self._critic_backward(part, counts, weight)

    def _critic_backward(self, part: Seen, counts: Counts, weight: float) -> dict[str, float]:
        """The same for the critic, if there is one; its loss is a mean over tokens."""
        plan, scored = self.algorithm.critic, part.scored
        if plan is None:
            return {}
        assert self.critic is not None
        mask = scored.response_mask
        values, _ = token_values(self.critic, scored.input_ids, scored.attention_mask, mask)
        losses = plan.loss(values, part)
        loss = reduce_tokens(losses.loss, mask, count=counts["tokens"])
        backward(loss * weight)
        return _means(losses, mask, counts) | {"value_loss": loss.item()}


def counts_of(response_mask: TokenMask) -> Counts:
    """Response tokens and responses of an optimiser step."""
    return {"tokens": int(response_mask.sum()), "sequences": len(response_mask)}


def _means(losses: TokenLosses, mask: TokenMask, counts: Counts) -> dict[str, float]:
    """A micro-batch's share of each metric's mean over tokens."""
    return {
        name: float(reduce_tokens(value, mask, count=counts["tokens"]))
        for name, value in losses.metrics.items()
    }


def is_finite(metrics: dict[str, float]) -> bool:
    """True if no metric is NaN or infinite; explained variance may be undefined.

    Gradient norms are ignored: a step with a non-finite gradient is skipped and counted.
    """
    return all(
        math.isfinite(value)
        for name, value in metrics.items()
        if name != "explained_variance" and not name.endswith(GRADIENT_NORM)
    )


def _has_finite_gradients(metrics: dict[str, float]) -> bool:
    norms = [value for name, value in metrics.items() if name.endswith(GRADIENT_NORM)]
    return all(map(math.isfinite, norms))
