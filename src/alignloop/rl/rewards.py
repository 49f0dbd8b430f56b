"""Rewards of rollouts: a weighted sum of judges, and the penalty for cut-off answers."""

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
    """The sum of weight * reward over `parts`; judges rate a whole batch at once.

    `tokenizer` is the policy's; `prompts` are all possible ones by id.
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
        """The model to initialise a critic from, with its scale; None if there is no single one."""
        (weight, judge), *others = self.parts
        if others or weight != 1:
            return None  # no single model predicts a sum
        if isinstance(judge, RewardModel) and not judge.reads_ids_of(self.tokenizer):
            return None
        if isinstance(judge, TokenJudge | RewardModel):
            return judge.model, judge.scale
        return None


@dataclass(frozen=True, kw_only=True)
class EndRewarder:
    """Rewards with a penalty for responses that were cut off (line 2)."""

    rewarder: Rewards
    missing_eos: Literal["replace", "subtract", "off"]
    penalty: float

    def scores(self, answers: RolloutBatch) -> PerSequence:
        """Scores [batch], including the penalty."""
        return self.ended(self.rewarder.scores(answers), answers.finished)

    def ended(self, raw: PerSequence, finished: torch.Tensor) -> PerSequence:
        """Apply the penalty to existing scores, [batch]."""
        if self.missing_eos == "replace":
            return missing_eos(raw, finished, penalty=self.penalty)
        if self.missing_eos == "subtract":
            return missing_eos(raw, finished, penalty=abs(self.penalty), mode="subtract")
        return raw

    def checked(self, raw: PerSequence, finished: torch.Tensor) -> Self:
        """The same, with a penalty that does not pay given the initial policy's `raw` scores."""
        if self.missing_eos != "replace":
            return self  # subtracting always lowers the score
        ended = raw[finished] if bool(finished.any()) else raw
        return replace(self, penalty=sound_penalty(self.penalty, ended))

    def critic_start(self) -> tuple[Any, RewardScale] | None:
        """That of the inner rewarder."""
        return self.rewarder.critic_start()


def sound_penalty(penalty: float, scores: PerSequence) -> float:
    """A score for cut-off responses such that never ending does not pay.

    penalty              if penalty <= mean - std / 2 (and below the mean)
    mean - std           otherwise; mean - 1 if all scores are equal

    `scores` [n] are those of finished responses of the initial policy; std divides by n. A fixed
    penalty means nothing without them: if answers score -3, a -1 is a reward.
    """
    mean, std = float(scores.mean()), float(scores.std(unbiased=False))
    # half a deviation: closer to the mean, being cut off would pay for many prompts
    if penalty < mean and penalty <= mean - std / 2:
        return penalty
    return mean - (std or 1.0)
