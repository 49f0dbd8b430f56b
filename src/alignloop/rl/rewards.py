"""Where rewards come from: one Protocol, and the loop does not know what stands behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self

import torch

from alignloop.data.batching import pad_batch, token_budget_batches
from alignloop.data.tokenise import decode
from alignloop.errors import UserError
from alignloop.losses import missing_eos
from alignloop.models import RewardScale, sequence_scores
from alignloop.records import Prompt
from alignloop.rollout import Rollout
from alignloop.scoring import TextScorer
from alignloop.shapes import PerSequence, TokenIds, TokenMask


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A batch of rollouts as everybody who scores reads it, with its cut into micro-batches."""

    rollouts: Sequence[Rollout]
    input_ids: TokenIds
    attention_mask: TokenMask
    response_mask: TokenMask
    cuts: list[list[int]]

    @classmethod
    def of(cls, rollouts: Sequence[Rollout], pad_id: int, micro_batch_tokens: int) -> Self:
        """Padded on the right, and cut."""
        batch = pad_batch(rollouts, pad_id)
        rows = range(len(rollouts))
        return cls(
            rollouts=rollouts,
            cuts=cut_rows(**batch, rows=rows, micro_batch_tokens=micro_batch_tokens),
            **batch,
        )

    @property
    def finished(self) -> torch.Tensor:
        """Which responses ended by themselves, [batch]."""
        return torch.tensor([rollout.finish_reason == "eos" for rollout in self.rollouts])

    def take(self, rows: list[int]) -> tuple[TokenIds, TokenMask, TokenMask]:
        """Ids, attention mask and response mask of some rows, cut to their longest sequence."""
        length = int(self.attention_mask[rows].sum(dim=1).max())
        masks = (self.input_ids, self.attention_mask, self.response_mask)
        ids, attention, response = (x[rows, :length] for x in masks)
        return ids, attention, response


def cut_rows(
    input_ids: TokenIds,
    attention_mask: TokenMask,
    response_mask: TokenMask,
    rows: Sequence[int],
    micro_batch_tokens: int,
) -> list[list[int]]:
    """Micro-batches of similar length within a budget of padded tokens, equal prompts together."""
    lengths = attention_mask.sum(dim=1).tolist()
    starts = response_mask.int().argmax(dim=1).tolist()
    prompts = [tuple(input_ids[row, : starts[row]].tolist()) for row in rows]
    cuts = token_budget_batches([lengths[row] for row in rows], micro_batch_tokens, prompts)
    return [[rows[i] for i in cut] for cut in cuts]


class Rewarder(Protocol):
    """Anything that gives each answer a number."""

    def scores(self, answers: Answers) -> PerSequence:
        """Normalised scores [batch]."""
        ...

    def critic_start(self) -> tuple[Any, RewardScale] | None:
        """The reward model that a critic may begin as, with its scale; None = the policy."""
        ...


@dataclass(frozen=True, kw_only=True)
class ModelRewarder:
    """A reward model with the policy's own tokenizer: it reads the very tokens that were drawn."""

    model: Any
    scale: RewardScale

    @torch.no_grad()
    def scores(self, answers: Answers) -> PerSequence:
        """(raw - bias) / scale [batch], read micro-batch by micro-batch.

        Raises UserError, naming the prompt, for a score that is no finite number.
        """
        raw = torch.zeros(len(answers.rollouts))
        for rows in answers.cuts:
            ids, attention, _ = answers.take(rows)
            raw[rows] = sequence_scores(self.model, ids, attention)
        if bad := (~raw.isfinite()).nonzero().flatten().tolist():
            raise UserError(
                f"the reward model's score is {float(raw[bad[0]])}, which is no finite number",
                where=f'prompt_id "{answers.rollouts[bad[0]].prompt_id}"',
                fix="its weights are damaged, or too large for model.dtype",
            )
        return (raw - self.scale.bias) / self.scale.scale

    def critic_start(self) -> tuple[Any, RewardScale] | None:
        """The model that a critic begins as, with its scale."""
        return self.model, self.scale


@dataclass(frozen=True, kw_only=True)
class TextRewarder:
    """Answers as texts: a person's function, or a reward model that is not ours.

    `tokenizer` is the policy's; `prompts` are looked up by their id. `same_words` is that reward
    model where its token ids are the policy's: a critic may begin as it.
    """

    scorer: TextScorer
    tokenizer: Any
    prompts: Mapping[str, Prompt]
    same_words: ModelRewarder | None = None

    def scores(self, answers: Answers) -> PerSequence:
        """What the scorer says of prompt and decoded response, [batch]."""
        prompts = [self.prompts[rollout.prompt_id] for rollout in answers.rollouts]
        texts = [decode(self.tokenizer, rollout.response_ids) for rollout in answers.rollouts]
        return torch.tensor(self.scorer.scores(prompts, texts))

    def critic_start(self) -> tuple[Any, RewardScale] | None:
        """The model that a critic begins as where one reads the policy's tokens, with its scale."""
        return None if self.same_words is None else self.same_words.critic_start()


@dataclass(frozen=True, kw_only=True)
class WeightedRewarder:
    """Several at once: the sum of weight * score."""

    parts: Sequence[tuple[float, Rewarder]]

    def scores(self, answers: Answers) -> PerSequence:
        """The weighted sum [batch]."""
        found = [weight * rewarder.scores(answers) for weight, rewarder in self.parts]
        return torch.stack(found).sum(dim=0)

    def critic_start(self) -> tuple[Any, RewardScale] | None:
        """None: no model says what a sum is."""
        return None


@dataclass(frozen=True, kw_only=True)
class EndRewarder:
    """Another rewarder's scores, with truncated responses handled (docs/algorithms.md#ppo-2)."""

    rewarder: Rewarder
    missing_eos: Literal["replace", "subtract", "off"]
    penalty: float

    def scores(self, answers: Answers) -> PerSequence:
        """Scores [batch] with the penalty in them."""
        return self.ended(self.rewarder.scores(answers), answers.finished)

    def ended(self, raw: PerSequence, finished: torch.Tensor) -> PerSequence:
        """The penalty in scores that are there already, [batch]."""
        if self.missing_eos == "replace":
            return missing_eos(raw, finished, penalty=self.penalty)
        if self.missing_eos == "subtract":
            return missing_eos(raw, finished, penalty=abs(self.penalty), mode="subtract")
        return raw

    def checked(self, raw: PerSequence, finished: torch.Tensor) -> Self:
        """The same, with a penalty that does not pay beside the first policy's `raw` scores."""
        if self.missing_eos != "replace":
            return self  # what is taken from a score is always less than it
        ended = raw[finished] if bool(finished.any()) else raw
        return replace(self, penalty=sound_penalty(self.penalty, ended))

    def critic_start(self) -> tuple[Any, RewardScale] | None:
        """That of the rewarder inside."""
        return self.rewarder.critic_start()


def sound_penalty(penalty: float, scores: PerSequence) -> float:
    """The score of a response that was cut off, such that never ending does not pay.

    penalty              where penalty <= mean - std / 2 (and below the mean)
    mean - std           elsewhere; mean - 1 where all scores are equal

    `scores` [n] are those of responses that ended, of the policy that training starts from; std
    divides by n. A fixed penalty says nothing by itself: where answers score -3, a -1 is a prize.
    """
    mean, std = float(scores.mean()), float(scores.std(unbiased=False))
    if penalty < mean and penalty <= mean - std / 2:
        return penalty
    return mean - (std or 1.0)
