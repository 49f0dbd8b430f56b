"""From sampled responses to the data of an update. All per-token tensors are [batch, seq]."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor

from alignloop.losses import reduce_tokens
from alignloop.models import TokenStatistics, token_logprobs, token_values
from alignloop.parallel import World
from alignloop.rl.rewards import EndRewarder
from alignloop.rollout import Rollout
from alignloop.rollout.batch import RolloutBatch, split_rows
from alignloop.shapes import PerSequence, PerToken, TokenIds, TokenMask


@dataclass(frozen=True, kw_only=True)
class ScoredRollouts:
    """Rollouts with their scores, for every algorithm; the classes below add to them.

    `raw_scores` [batch] are the reward model's normalised scores, `scores` the same with the
    penalty for responses that were cut off. All others are [batch, seq]; logprobs in nats.
    """

    input_ids: TokenIds
    attention_mask: TokenMask
    response_mask: TokenMask
    rollout_logprobs: PerToken
    scores: PerSequence
    raw_scores: PerSequence
    finished: Tensor


@dataclass(frozen=True, kw_only=True)
class WithOldLogprobs(ScoredRollouts):
    """With the policy's logprobs before the update, for updates of several steps."""

    old_logprobs: PerToken
    entropy: PerToken


@dataclass(frozen=True, kw_only=True)
class WithReference(ScoredRollouts):
    """With the reference's logprobs, to charge or measure the KL."""

    ref_logprobs: PerToken


@dataclass(frozen=True, kw_only=True)
class WithBoth(WithOldLogprobs, WithReference):
    """With the logprobs of policy and reference."""


@dataclass(frozen=True, kw_only=True)
class WithValues(ScoredRollouts):
    """With the critic's values; `final_values` [batch] are those after the last token."""

    values: PerToken
    final_values: PerSequence


@dataclass(frozen=True, kw_only=True)
class Credit:
    """Rewards and advantages, each [batch, seq]; algorithms add what their losses need."""

    rewards: PerToken
    advantages: PerToken


Scored = TypeVar("Scored", bound=ScoredRollouts, covariant=True)
Credited = TypeVar("Credited", bound=Credit, covariant=True)
Record = TypeVar("Record", bound=ScoredRollouts | Credit)


@dataclass(frozen=True, kw_only=True)
class Experience(Generic[Scored, Credited]):
    """The data of an update: scored rollouts and their credit."""

    scored: Scored
    credit: Credited

    def __len__(self) -> int:
        return len(self.scored.input_ids)

    def take(self, rows: Sequence[int]) -> Self:
        """Some rows, cut to their longest sequence (all are padded on the right)."""
        index = torch.tensor(rows)
        length = int(self.scored.attention_mask[index].sum(dim=1).max())
        return replace(
            self,
            scored=_rows_of(self.scored, index, length),
            credit=_rows_of(self.credit, index, length),
        )

    def micro_batches(self, rows: Sequence[int], micro_batch_tokens: int) -> list[list[int]]:
        """The rows in micro-batches of similar length."""
        masks = (self.scored.attention_mask, self.scored.response_mask)
        return split_rows(self.scored.input_ids, *masks, rows, micro_batch_tokens)


def _rows_of(record: Record, index: Tensor, length: int) -> Record:
    fields = {
        name: value[index, :length] if value.ndim > 1 else value[index]
        for name, value in vars(record).items()
    }
    return replace(record, **fields)


def policy_metrics(
    logprobs: PerToken,
    entropy: PerToken,
    scored: ScoredRollouts,
    *,
    tokens: int,
    sequences: int,
) -> dict[str, float]:
    """Metrics of the policy that drew the responses (line 31); `kl` only with a reference.

    `tokens` and `sequences` are counts of the whole step, so micro-batches add up. KL is in nats
    per sequence, the others are means over tokens.
    """
    mask = scored.response_mask
    gap = (logprobs.exp() - scored.rollout_logprobs.exp()).abs()
    found = {
        "entropy": float(reduce_tokens(entropy, mask, count=tokens)),
        "sampler_mismatch": float(reduce_tokens(gap, mask, count=tokens)),
    }
    if isinstance(scored, WithReference):
        kl = logprobs - scored.ref_logprobs
        found["kl"] = float(reduce_tokens(kl, mask, count=sequences))
    return found


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """All models that read rollouts: policy, reference, reward model, critic.

    `reads` is the type of `ScoredRollouts` to return and decides which models run. The processes
    of the `world` share the passes, and each gets all results.
    """

    reads: type[ScoredRollouts]
    policy: Any
    reference: Any | None
    rewarder: EndRewarder
    critic: Any | None
    pad_id: int
    temperature: float
    micro_batch_tokens: int
    world: World

    @torch.no_grad()
    def score(self, rollouts: Sequence[Rollout]) -> ScoredRollouts:
        """Recompute the policy's logprobs (line 22) and run the other models."""
        answers = RolloutBatch.of(rollouts, self.pad_id, self.micro_batch_tokens)
        found: dict[str, Tensor] = {}
        if issubclass(self.reads, WithOldLogprobs):
            policy = self._statistics(self.policy, answers, entropy=True)
            found |= {"old_logprobs": policy.logprobs, "entropy": policy.entropy}
        if issubclass(self.reads, WithReference):
            reference = self._statistics(self.reference, answers, entropy=False)
            found["ref_logprobs"] = reference.logprobs
        if issubclass(self.reads, WithValues):
            found["values"], found["final_values"] = self._values(answers)
        response, raw = answers.response_mask, self._raw_scores(answers)
        return self.reads(
            input_ids=answers.input_ids,
            attention_mask=answers.attention_mask,
            response_mask=response,
            rollout_logprobs=_rollout_logprobs(rollouts, response),
            scores=self.rewarder.ended(raw, answers.finished),
            finished=answers.finished,
            raw_scores=raw,
            **found,
        )

    def _statistics(self, model: Any, answers: RolloutBatch, *, entropy: bool) -> TokenStatistics:
        """A policy's logprobs and entropies at response tokens."""
        logprobs, entropies = (torch.zeros(answers.input_ids.shape) for _ in range(2))
        for one in self.world.share(answers.micro_batches):
            ids, attention, mask = answers.take(one.rows)
            found = token_logprobs(
                model, ids, attention, mask, temperature=self.temperature, entropy=entropy
            )
            if one.weight:
                logprobs[one.rows, : ids.shape[1]] = found.logprobs
                entropies[one.rows, : ids.shape[1]] = found.entropy
        return TokenStatistics(logprobs=self.world.sum(logprobs), entropy=self.world.sum(entropies))

    def _values(self, answers: RolloutBatch) -> tuple[PerToken, PerSequence]:
        """The critic's values at response tokens, and after the last one."""
        shape = answers.input_ids.shape
        values, final_values = torch.zeros(shape), torch.zeros(shape[0])
        for one in self.world.share(answers.micro_batches):
            ids, attention, mask = answers.take(one.rows)
            found, final = token_values(self.critic, ids, attention, mask)
            if one.weight:
                values[one.rows, : ids.shape[1]], final_values[one.rows] = found, final
        return self.world.sum(values), self.world.sum(final_values)

    def _raw_scores(self, answers: RolloutBatch) -> PerSequence:
        """The rewarder's scores, [batch]; each process scores its own rows."""
        passes = self.world.share(answers.micro_batches)
        # weight 0 marks a repeated micro-batch, whose rows another process also scores
        weight = {row: one.weight for one in passes for row in one.rows}
        rows, scores = sorted(weight), torch.zeros(len(answers.rollouts))
        own = _part(answers, rows, [one.rows for one in passes])
        found = self.rewarder.rewarder.scores(own)
        scores[rows] = found * torch.tensor([weight[row] for row in rows])
        return self.world.sum(scores)


def _part(
    answers: RolloutBatch, rows: list[int], micro_batches: Sequence[list[int]]
) -> RolloutBatch:
    """Some of the answers, in order, with their micro-batches."""
    position = {row: number for number, row in enumerate(rows)}
    return RolloutBatch(
        rollouts=[answers.rollouts[row] for row in rows],
        input_ids=answers.input_ids[rows],
        attention_mask=answers.attention_mask[rows],
        response_mask=answers.response_mask[rows],
        micro_batches=[[position[row] for row in micro_batch] for micro_batch in micro_batches],
    )


def _rollout_logprobs(rollouts: Sequence[Rollout], response_mask: TokenMask) -> PerToken:
    flat = torch.tensor([value for rollout in rollouts for value in rollout.rollout_logprobs])
    return torch.zeros(response_mask.shape).masked_scatter(response_mask, flat)
