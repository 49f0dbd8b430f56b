"""Judges of answers: a function, and a reward model that reads the sampled tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from alignloop.errors import UserError
from alignloop.judging.protocol import Answer, JudgeFacts, Rater, facts_of_model
from alignloop.measures import score_by
from alignloop.models import RewardScale, sequence_scores
from alignloop.records import Prompt, Verdict
from alignloop.rollout.batch import RolloutBatch
from alignloop.scoring.functions import RewardFunction
from alignloop.tensors import floats, integers

EMPTY, CUT_OFF = "it is empty", "it was cut off"


@dataclass(frozen=True, kw_only=True)
class FunctionJudge(Rater):
    """A user's reward function; its number is also a score if it lies in 0..1."""

    function: RewardFunction

    @property
    def facts(self) -> JudgeFacts:
        """The function, by name."""
        name = f"function {self.function.name}"
        return JudgeFacts(
            name=name, kind="function", source=self.function.name, measures=(score_by(name),)
        )

    def rate(self, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[Verdict]:
        """The function's numbers. Raises UserError if it fails."""
        found = self.function.scores(prompts, [answer.text for answer in answers])
        return [
            verdict(value, value if 0 <= value <= 1 else None, answer)
            for value, answer in zip(found, answers, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class TokenJudge(Rater):
    """A reward model with the policy's tokenizer: it reads the sampled tokens."""

    model: Any
    scale: RewardScale
    name: str
    pad_id: int
    micro_batch_tokens: int

    @property
    def facts(self) -> JudgeFacts:
        """The reward model, by name."""
        return facts_of_model(self.name, self.name)

    @torch.no_grad()
    def rate(self, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[Verdict]:
        """(raw - bias) / scale as reward, in the same micro-batches as RL's other models.

        Raises UserError, naming the prompt, if a score is not finite.
        """
        drawn = [answer.drawn for answer in answers if answer.drawn is not None]
        assert len(drawn) == len(answers), "these answers were not drawn by our sampler"
        batch = RolloutBatch.of(drawn, self.pad_id, self.micro_batch_tokens)
        raw = torch.zeros(len(drawn))
        # the same micro-batches as policy and reference: batching changes the last digits
        for rows in batch.micro_batches:
            ids, attention, _ = batch.take(rows)
            raw[rows] = sequence_scores(self.model, ids, attention)
        if bad := integers((~raw.isfinite()).nonzero().flatten()):
            raise UserError(
                f"the reward model's score is {float(raw[bad[0]])}, which is not finite",
                where=f'prompt_id "{prompts[bad[0]].prompt_id}"',
                fix="its weights are damaged, or too large for model.dtype",
            )
        rewards = floats((raw - self.scale.bias) / self.scale.scale)
        return [
            verdict(reward, chance(reward, self.scale), answer)
            for reward, answer in zip(rewards, answers, strict=True)
        ]


def chance(reward: float, scale: RewardScale) -> float:
    """The calibrated chance of beating a demonstration, sigmoid(reward / temperature)."""
    logit = reward / scale.temperature
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))  # bounded: exp would overflow


def verdict(reward: float, score: float | None, answer: Answer) -> Verdict:
    """A number as a verdict; an empty answer scores 0.

    Being cut off is only noted, and measured separately (`eos_rate`): otherwise "better" would
    come to mean "shorter than the limit".
    """
    reasons = tuple(why for why, true in ((CUT_OFF, not answer.finished),) if true)
    if not answer.text:
        return Verdict(reward=reward, score=0.0, reasons=(EMPTY, *reasons))
    return Verdict(reward=reward, score=score, reasons=reasons)
