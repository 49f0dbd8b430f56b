"""The update: several passes over one batch of experience, in micro-batches that change nothing."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from alignloop.config import RlConfig
from alignloop.losses import Over, TokenLosses, reduce_tokens
from alignloop.models import TokenStatistics, token_logprobs, token_values
from alignloop.models.training import descend
from alignloop.rl.algorithms import Algorithm
from alignloop.rl.experience import Experience, policy_metrics
from alignloop.shapes import TokenMask

GRADIENT_NORM = "gradient_norm"  # how the names of such metrics end
Counts = dict[Over, int]  # of a whole optimiser step: what its losses and metrics are divided by


@dataclass(frozen=True, kw_only=True)
class Learner:
    """The policy and, where the algorithm has one, the critic, with their optimisers."""

    policy: Any
    critic: Any | None
    policy_optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer | None
    algorithm: Algorithm
    config: RlConfig

    def update(
        self, experience: Experience, *, seed: int, step: int, rate: float
    ) -> dict[str, float]:
        """All epochs over one batch; `rate` in 0..1 scales both learning rates.

        Returns the means over all optimiser steps, and the first step's ratio apart: it must be 1.
        `finite_steps` are those whose gradients were finite; others leave the weights as they are.
        """
        settings = self.config.algorithm
        history: list[dict[str, float]] = []
        for epoch in range(settings.num_epochs):
            for rows in self._minibatches(len(experience.input_ids), seed, step, epoch):
                history.append(self._step(experience, rows, step, rate))
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
        if count > 1:
            random.Random(f"minibatches/{seed}/{step}/{epoch}").shuffle(rows)
        return [part for i in range(count) if (part := rows[i::count])]

    def _step(
        self, experience: Experience, rows: Sequence[int], step: int, rate: float
    ) -> dict[str, float]:
        """One optimiser step of policy and critic on some rows.

        The losses are divided by the response tokens, or the responses, of all these rows, so that
        cutting them into micro-batches cannot change the gradient (docs/algorithms.md#ppo-23).
        """
        counts = counts_of(experience.response_mask[list(rows)])
        sums: dict[str, float] = {}
        for cut in experience.cuts(rows, self.config.micro_batch_tokens):
            part = experience.take(cut)
            for name, value in self._backward(part, counts).items():
                sums[name] = sums.get(name, 0.0) + value
        return sums | self._descend(step, rate)

    def _descend(self, step: int, rate: float) -> dict[str, float]:
        """Critic and policy go down their gradients; during the warm-up only the critic does."""
        config, plan, norms = self.config, self.algorithm.critic, {}
        if plan is not None:
            assert self.critic_optimizer is not None
            critic_rate = config.critic_learning_rate or config.learning_rate
            norms["critic_gradient_norm"] = descend(
                self.critic_optimizer,
                learning_rate=critic_rate * rate,
                max_grad_norm=config.max_grad_norm,
            )
            if step <= plan.warmup_steps:
                self.policy_optimizer.zero_grad(set_to_none=True)
                return norms | {"policy_gradient_norm": 0.0}
        norms["policy_gradient_norm"] = descend(
            self.policy_optimizer,
            learning_rate=config.learning_rate * rate,
            max_grad_norm=config.max_grad_norm,
        )
        return norms

    def _backward(self, part: Experience, counts: Counts) -> dict[str, float]:
        """Add the gradients of one micro-batch; returns its share of every mean."""
        mask = part.response_mask
        statistics = token_logprobs(
            self.policy,
            part.input_ids,
            part.attention_mask,
            mask,
            temperature=self.config.sampling.temperature,
            entropy=part.old_logprobs is None,
        )
        metrics: dict[str, float] = {}
        if part.old_logprobs is None:  # this is the policy that drew the responses
            part = replace(part, old_logprobs=statistics.logprobs.detach())
            metrics = _of_the_old_policy(statistics, part, counts)
        over = self.algorithm.loss_over
        losses = self.algorithm.policy_loss(statistics.logprobs, part)
        loss = reduce_tokens(losses.loss, mask, over=over, count=counts[over])
        loss.backward()
        metrics |= _means(losses, mask, counts) | {"policy_loss": loss.item()}
        return metrics | self._critic_backward(part, counts)

    def _critic_backward(self, part: Experience, counts: Counts) -> dict[str, float]:
        """The same for the critic, where there is one; its loss is a mean over tokens."""
        plan, mask = self.algorithm.critic, part.response_mask
        if plan is None:
            return {}
        values, _ = token_values(self.critic, part.input_ids, part.attention_mask, mask)
        losses = plan.loss(values, part)
        loss = reduce_tokens(losses.loss, mask, count=counts["tokens"])
        loss.backward()
        return _means(losses, mask, counts) | {"value_loss": loss.item()}


def counts_of(response_mask: TokenMask) -> Counts:
    """The response tokens and the responses of an optimiser step."""
    return {"tokens": int(response_mask.sum()), "sequences": len(response_mask)}


def _of_the_old_policy(
    statistics: TokenStatistics, part: Experience, counts: Counts
) -> dict[str, float]:
    return policy_metrics(
        statistics.logprobs.detach(),
        statistics.entropy,
        part.rollout_logprobs,
        part.ref_logprobs,
        part.response_mask,
        **counts,
    )


def _means(losses: TokenLosses, mask: TokenMask, counts: Counts) -> dict[str, float]:
    """A micro-batch's share of each metric's mean over tokens."""
    return {
        name: float(reduce_tokens(value, mask, count=counts["tokens"]))
        for name, value in losses.metrics.items()
    }


def is_finite(metrics: dict[str, float]) -> bool:
    """True where no metric is NaN or infinite; explained variance may be undefined.

    Gradients are not asked: a step along one that is not finite is left out and counted.
    """
    return all(
        math.isfinite(value)
        for name, value in metrics.items()
        if name != "explained_variance" and not name.endswith(GRADIENT_NORM)
    )


def _has_finite_gradients(metrics: dict[str, float]) -> bool:
    norms = [value for name, value in metrics.items() if name.endswith(GRADIENT_NORM)]
    return all(map(math.isfinite, norms))
