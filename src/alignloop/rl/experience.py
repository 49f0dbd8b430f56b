"""From sampled responses to what an update reads. All per-token tensors are [batch, seq]."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from alignloop.losses import reduce_tokens
from alignloop.models import TokenStatistics, token_logprobs, token_values
from alignloop.rl.rewards import Answers, EndRewarder, cut_rows
from alignloop.rollout import Rollout
from alignloop.shapes import PerSequence, PerToken, TokenIds, TokenMask


@dataclass(frozen=True, kw_only=True)
class ScoredRollouts:
    """Rollouts with what every model says of them; None where nobody asks that model.

    `raw_scores` [batch] is the reward model's normalised number, `scores` the same with -1 (or the
    like) where the response was cut off; `final_values` is the critic after the last token.
    Logprobs in nats.
    """

    input_ids: TokenIds
    attention_mask: TokenMask
    response_mask: TokenMask
    rollout_logprobs: PerToken
    old_logprobs: PerToken | None
    entropy: PerToken | None
    ref_logprobs: PerToken | None
    values: PerToken | None
    final_values: PerSequence | None
    scores: PerSequence
    finished: Tensor
    raw_scores: PerSequence | None = None


@dataclass(frozen=True, kw_only=True)
class Experience:
    """What the update reads; `token_weights` corrects for the sampler's mismatch (1 = none).

    Without `old_logprobs` the update is a single pass, and takes its own for them.
    """

    input_ids: TokenIds
    attention_mask: TokenMask
    response_mask: TokenMask
    rollout_logprobs: PerToken
    old_logprobs: PerToken | None
    ref_logprobs: PerToken | None
    old_values: PerToken | None
    advantages: PerToken
    returns: PerToken | None
    token_weights: PerToken

    def take(self, rows: Sequence[int]) -> Self:
        """Some rows, cut to their longest sequence (all are padded on the right)."""
        index = torch.tensor(rows)
        length = int(self.attention_mask[index].sum(dim=1).max())
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(self, **{name: value[index, :length] for name, value in given.items()})

    def cuts(self, rows: Sequence[int], micro_batch_tokens: int) -> list[list[int]]:
        """The rows in micro-batches of similar length."""
        return cut_rows(
            self.input_ids, self.attention_mask, self.response_mask, rows, micro_batch_tokens
        )


def policy_metrics(
    logprobs: PerToken,
    entropy: PerToken,
    rollout_logprobs: PerToken,
    ref_logprobs: PerToken | None,
    mask: TokenMask,
    *,
    tokens: int,
    sequences: int,
) -> dict[str, float]:
    """Metrics of the sampling policy (docs/algorithms.md#ppo-31); `kl` only with a reference.

    `tokens` and `sequences` are those of the whole step: its parts add up. KL is in nats per
    sequence, the others are means over tokens.
    """
    gap = (logprobs.exp() - rollout_logprobs.exp()).abs()
    found = {
        "entropy": float(reduce_tokens(entropy, mask, count=tokens)),
        "sampler_mismatch": float(reduce_tokens(gap, mask, count=tokens)),
    }
    if ref_logprobs is not None:
        found["kl"] = float(reduce_tokens(logprobs - ref_logprobs, mask, count=sequences))
    return found


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Everything that looks at a rollout: policy, reference, reward model, critic.

    None for a model of which nobody needs to hear.
    """

    policy: Any | None
    reference: Any | None
    rewarder: EndRewarder
    critic: Any | None
    pad_id: int
    temperature: float
    micro_batch_tokens: int

    @torch.no_grad()
    def score(self, rollouts: Sequence[Rollout]) -> ScoredRollouts:
        """Recompute the policy's logprobs (docs/algorithms.md#ppo-22), ask the other models."""
        answers = Answers.of(rollouts, self.pad_id, self.micro_batch_tokens)
        policy = self._statistics(self.policy, answers)
        reference = self._statistics(self.reference, answers)
        values, final_values = self._values(answers)
        response, raw = answers.response_mask, self.rewarder.rewarder.scores(answers)
        return ScoredRollouts(
            input_ids=answers.input_ids,
            attention_mask=answers.attention_mask,
            response_mask=response,
            rollout_logprobs=_rollout_logprobs(rollouts, response),
            old_logprobs=policy and policy.logprobs,
            entropy=policy and policy.entropy,
            ref_logprobs=reference and reference.logprobs,
            values=values,
            final_values=final_values,
            scores=self.rewarder.ended(raw, answers.finished),
            finished=answers.finished,
            raw_scores=raw,
        )

    def _statistics(self, model: Any | None, answers: Answers) -> TokenStatistics | None:
        """What a policy says of every response token, where it is asked at all."""
        if model is None:
            return None
        logprobs, entropy = (torch.zeros(answers.input_ids.shape) for _ in range(2))
        for rows in answers.cuts:
            ids, attention, mask = answers.take(rows)
            found = token_logprobs(
                model,
                ids,
                attention,
                mask,
                temperature=self.temperature,
                entropy=model is self.policy,
            )
            logprobs[rows, : ids.shape[1]] = found.logprobs
            entropy[rows, : ids.shape[1]] = found.entropy
        return TokenStatistics(logprobs=logprobs, entropy=entropy)

    def _values(self, answers: Answers) -> tuple[PerToken, PerSequence] | tuple[None, None]:
        """The critic's values at response tokens, and after the last one."""
        if self.critic is None:
            return None, None
        shape = answers.input_ids.shape
        values, final_values = torch.zeros(shape), torch.zeros(shape[0])
        for rows in answers.cuts:
            ids, attention, mask = answers.take(rows)
            found, final_values[rows] = token_values(self.critic, ids, attention, mask)
            values[rows, : ids.shape[1]] = found
        return values, final_values


def _rollout_logprobs(rollouts: Sequence[Rollout], response_mask: TokenMask) -> PerToken:
    flat = torch.tensor([value for rollout in rollouts for value in rollout.rollout_logprobs])
    return torch.zeros(response_mask.shape).masked_scatter(response_mask, flat)
