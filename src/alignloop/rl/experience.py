"""From sampled responses to what an update reads. All per-token tensors are [batch, seq]."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from alignloop.data.batching import pad_batch, token_budget_batches
from alignloop.losses import missing_eos
from alignloop.models import RewardScale, sequence_scores, token_logprobs, token_values
from alignloop.rollout import Rollout
from alignloop.shapes import PerSequence, PerToken, TokenIds, TokenMask


@dataclass(frozen=True, kw_only=True)
class ScoredRollouts:
    """Rollouts with what every model says of them.

    `scores` [batch] is the reward model's normalised number, already -1 (or the like) where the
    response was cut off; `final_values` is the critic after the last token. Logprobs in nats.
    """

    input_ids: TokenIds
    attention_mask: TokenMask
    response_mask: TokenMask
    rollout_logprobs: PerToken
    old_logprobs: PerToken
    ref_logprobs: PerToken
    entropy: PerToken
    values: PerToken
    final_values: PerSequence
    scores: PerSequence
    finished: Tensor


@dataclass(frozen=True, kw_only=True)
class Experience:
    """What the update reads; `token_weights` corrects for the sampler's mismatch (1 = none)."""

    input_ids: TokenIds
    attention_mask: TokenMask
    response_mask: TokenMask
    old_logprobs: PerToken
    old_values: PerToken
    advantages: PerToken
    returns: PerToken
    token_weights: PerToken

    def take(self, rows: Sequence[int]) -> Self:
        """Some rows, cut to their longest sequence (all are padded on the right)."""
        index = torch.tensor(rows)
        length = int(self.attention_mask[index].sum(dim=1).max())
        parts = {f.name: getattr(self, f.name)[index, :length] for f in fields(self)}
        return type(self)(**parts)

    def cuts(self, rows: Sequence[int], micro_batch_tokens: int) -> list[list[int]]:
        """The rows in micro-batches of similar length."""
        return cut_rows(self.attention_mask, rows, micro_batch_tokens)


def cut_rows(
    attention_mask: TokenMask, rows: Sequence[int], micro_batch_tokens: int
) -> list[list[int]]:
    """Micro-batches of similar length within a budget of padded tokens."""
    lengths = attention_mask.sum(dim=1)[list(rows)].tolist()
    return [[rows[i] for i in cut] for cut in token_budget_batches(lengths, micro_batch_tokens)]


@dataclass(frozen=True, kw_only=True)
class Rewarder:
    """A reward model with its scale, and what it makes of responses that were cut off (line 2)."""

    model: Any
    scale: RewardScale
    missing_eos: str
    missing_eos_penalty: float

    @torch.no_grad()
    def scores(
        self,
        input_ids: TokenIds,
        attention_mask: TokenMask,
        finished: Tensor,
        cuts: list[list[int]],
    ) -> PerSequence:
        """Normalised scores [batch], read micro-batch by micro-batch."""
        raw = torch.zeros(len(input_ids))
        for rows in cuts:
            length = int(attention_mask[rows].sum(dim=1).max())
            raw[rows] = sequence_scores(
                self.model, input_ids[rows, :length], attention_mask[rows, :length]
            )
        scores = (raw - self.scale.bias) / self.scale.scale
        if self.missing_eos == "replace":
            return missing_eos(scores, finished, penalty=self.missing_eos_penalty)
        if self.missing_eos == "subtract":
            amount = abs(self.missing_eos_penalty)
            return missing_eos(scores, finished, penalty=amount, mode="subtract")
        return scores


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Everything that looks at a rollout: policy, reference, reward model, critic."""

    policy: Any
    reference: Any
    rewarder: Rewarder
    critic: Any | None
    pad_id: int
    temperature: float
    micro_batch_tokens: int

    @torch.no_grad()
    def score(self, rollouts: Sequence[Rollout]) -> ScoredRollouts:
        """Recompute the policy's logprobs (line 22) and ask the other models."""
        batch = pad_batch(rollouts, self.pad_id)
        ids, attention, response = (
            batch["input_ids"],
            batch["attention_mask"],
            batch["response_mask"],
        )
        cuts = cut_rows(attention, range(len(ids)), self.micro_batch_tokens)
        names = ("old_logprobs", "ref_logprobs", "entropy", "values")
        per_token = {name: torch.zeros(ids.shape) for name in names}
        final_values = torch.zeros(len(ids))
        for rows in cuts:
            length = int(attention[rows].sum(dim=1).max())
            part = ids[rows, :length], attention[rows, :length]
            mask = response[rows, :length]
            policy = token_logprobs(self.policy, *part, mask, temperature=self.temperature)
            reference = token_logprobs(self.reference, *part, mask, temperature=self.temperature)
            per_token["old_logprobs"][rows, :length] = policy.logprobs
            per_token["entropy"][rows, :length] = policy.entropy
            per_token["ref_logprobs"][rows, :length] = reference.logprobs
            if self.critic is not None:
                values, final_values[rows] = token_values(self.critic, *part)
                per_token["values"][rows, :length] = torch.where(mask, values, 0.0)
        finished = torch.tensor([rollout.finish_reason == "eos" for rollout in rollouts])
        return ScoredRollouts(
            input_ids=ids,
            attention_mask=attention,
            response_mask=response,
            rollout_logprobs=_rollout_logprobs(rollouts, response),
            final_values=final_values,
            scores=self.rewarder.scores(ids, attention, finished, cuts),
            finished=finished,
            **per_token,
        )


def _rollout_logprobs(rollouts: Sequence[Rollout], response_mask: TokenMask) -> PerToken:
    flat = torch.tensor([value for rollout in rollouts for value in rollout.rollout_logprobs])
    return torch.zeros(response_mask.shape).masked_scatter(response_mask, flat)
