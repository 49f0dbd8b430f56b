"""The update: several passes over one batch of experience, in micro-batches that change nothing."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from alignloop.config import PpoConfig, RlConfig
from alignloop.losses import reduce_tokens
from alignloop.models import token_logprobs, token_values
from alignloop.models.training import descend
from alignloop.rl.algorithms import Algorithm
from alignloop.rl.experience import Experience


@dataclass(frozen=True, kw_only=True)
class Learner:
    """The two models that learn, with their optimisers."""

    policy: Any
    critic: Any
    policy_optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer
    algorithm: Algorithm
    config: RlConfig

    @property
    def ppo(self) -> PpoConfig:
        """The algorithm's settings."""
        return self.config.algorithm

    def update(
        self, experience: Experience, *, seed: int, step: int, rate: float
    ) -> dict[str, float]:
        """All epochs over one batch; `rate` in 0..1 scales both learning rates.

        Returns the means over all optimiser steps, and the first step's ratio apart: it must be 1.
        """
        history: list[dict[str, float]] = []
        for epoch in range(self.ppo.num_epochs):
            for rows in self._minibatches(len(experience.input_ids), seed, step, epoch):
                history.append(self._step(experience, rows, step, rate))
            if self.ppo.target_kl and history[-1]["approx_kl"] > self.ppo.target_kl:
                break
        means = {key: sum(h[key] for h in history) / len(history) for key in history[0]}
        return means | {"first_ratio": history[0]["ratio"], "optimizer_steps": float(len(history))}

    def _minibatches(self, size: int, seed: int, step: int, epoch: int) -> list[list[int]]:
        rows = list(range(size))
        if self.ppo.num_minibatches > 1:
            random.Random(f"minibatches/{seed}/{step}/{epoch}").shuffle(rows)
        count = self.ppo.num_minibatches
        return [part for i in range(count) if (part := rows[i::count])]

    def _step(
        self, experience: Experience, rows: Sequence[int], step: int, rate: float
    ) -> dict[str, float]:
        """One optimiser step of policy and critic on some rows.

        The losses are divided by the response tokens of all these rows, so that cutting them into
        micro-batches cannot change the gradient (line 23).
        """
        count = int(experience.response_mask[list(rows)].sum())
        sums: dict[str, float] = {}
        for cut in experience.cuts(rows, self.config.micro_batch_tokens):
            part = experience.take(cut)
            for name, value in self._backward(part, count).items():
                sums[name] = sums.get(name, 0.0) + value
        config = self.config
        critic_rate = config.critic_learning_rate or config.learning_rate
        sums["critic_gradient_norm"] = descend(
            self.critic_optimizer,
            learning_rate=critic_rate * rate,
            max_grad_norm=config.max_grad_norm,
        )
        if step <= self.ppo.critic_warmup_steps:
            self.policy_optimizer.zero_grad(set_to_none=True)
            return sums | {"policy_gradient_norm": 0.0}
        sums["policy_gradient_norm"] = descend(
            self.policy_optimizer,
            learning_rate=config.learning_rate * rate,
            max_grad_norm=config.max_grad_norm,
        )
        return sums

    def _backward(self, part: Experience, count: int) -> dict[str, float]:
        """Add the gradients of one micro-batch; returns its share of every mean over tokens."""
        mask, sequences = part.response_mask, (part.input_ids, part.attention_mask)
        statistics = token_logprobs(
            self.policy, *sequences, mask, temperature=self.config.sampling.temperature
        )
        policy = self.algorithm.policy_loss(statistics.logprobs, part)
        policy_loss = reduce_tokens(policy.loss, mask, count=count)
        policy_loss.backward()
        values, _ = token_values(self.critic, *sequences)
        critic = self.algorithm.value_loss(torch.where(mask, values, 0.0), part)
        critic_loss = reduce_tokens(critic.loss, mask, count=count)
        critic_loss.backward()
        metrics = {
            name: float(reduce_tokens(value, mask, count=count))
            for name, value in {**policy.metrics, **critic.metrics}.items()
        }
        return metrics | {"policy_loss": policy_loss.item(), "value_loss": critic_loss.item()}


def is_finite(metrics: dict[str, float]) -> bool:
    """True where no metric is NaN or infinite; explained variance may be undefined."""
    return all(math.isfinite(v) for k, v in metrics.items() if k != "explained_variance")
