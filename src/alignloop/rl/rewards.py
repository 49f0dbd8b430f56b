"""Rewards of rollouts: what judges say of them, added up, and the penalty for cut-off answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch

from alignloop.data.tokenise import decode
from alignloop.judging.judges import TokenJudge
from alignloop.judging.protocol import Answer, Judge
from alignloop.judging.reward_models import RewardModel
from alignloop.losses import missing_eos
from alignloop.models import RewardScale
from alignloop.records import Prompt
from alignloop.rollout.batch import RolloutBatch
from alignloop.shapes import PerSequence


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """The sum of weight * reward over `parts`; judges are asked about a whole batch at once.

    `tokenizer` is the policy's; `prompts` are those that may be asked, by their id.
    """

    parts: Sequence[tuple[float, Judge]]
    tokenizer: Any
    prompts: Mapping[str, Prompt]

    def scores(self, answers: RolloutBatch) -> PerSequence:
        """The weighted sum [batch]."""
        prompts = [self.prompts[rollout.prompt_id] for rollout in answers.rollouts]
        given = [
            Answer(
                text=decode(self.tokenizer, rollout.response_ids),
                finished=rollout.finish_reason == "eos",
                drawn=rollout,
            )
            for rollout in answers.rollouts
        ]
        found = [
            weight * torch.tensor([verdict.reward for verdict in judge.rate(prompts, given)])
            for weight, judge in self.parts
        ]
        return torch.stack(found).sum(dim=0)

    def critic_start(self) -> tuple[Any, RewardScale] | None:
        """The model that a critic begins as, with its scale, if one alone reads our tokens."""
        (weight, judge), *others = self.parts
        if others or weight != 1:
            return None  # no model says what a sum is
        if isinstance(judge, RewardModel) and not judge.reads_ids_of(self.tokenizer):
            return None
        if isinstance(judge, TokenJudge | RewardModel):
            return judge.model, judge.scale
        return None


@dataclass(frozen=True, kw_only=True)
class EndRewarder:
    """Another rewarder's scores, with truncated responses handled (docs/algorithms.md#ppo-2)."""

    rewarder: Rewards
    missing_eos: Literal["replace", "subtract", "off"]
    penalty: float

    def scores(self, answers: RolloutBatch) -> PerSequence:
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
