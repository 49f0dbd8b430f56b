"""Who says how good an answer is: a Protocol, and a reward model or a function behind it."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from alignloop.config import ModelConfig
from alignloop.errors import UserError
from alignloop.records import Prompt, Verdict
from alignloop.scoring import RewardFunction, RewardModel

EMPTY = Verdict(score=0.0, rating=1, refused=None, reasons=("it is empty",))
CUT_OFF = "it was cut off"


class Judge(Protocol):
    """Rates one answer by itself; a comparison of two follows from their scores."""

    @property
    def name(self) -> str:
        """Who the judge is, for the report."""
        ...

    def judge(self, prompt: Prompt, answer: str, *, finished: bool) -> Verdict:
        """The verdict on one answer."""
        ...


@dataclass(frozen=True, kw_only=True)
class JudgeFacts:
    """What a report says of its judge: who it is, what it is worth, what else it did in the run.

    `card` is the report card of a reward model that our reward stage trained.
    """

    name: str
    kind: Literal["gold", "reward_model", "function"]
    climbed: bool = False
    chose_checkpoint: bool = False
    card: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class RewardModelJudge:
    """A reward model as judge: its calibrated score, the chance of beating a demonstration.

    The rating is that chance in fifths. It judges what is there: that an answer was cut off is
    counted by itself (`eos_rate`), else "better" would come to mean "shorter than the limit".
    """

    folder: Path
    config: ModelConfig

    @property
    def name(self) -> str:
        """Which model it is."""
        return f"reward model {self.folder}"

    @cached_property
    def model(self) -> RewardModel:
        """Loaded when it is asked first, so that it need not fit beside the policies."""
        return RewardModel.load(self.folder, self.config, micro_batch_tokens=1)  # one at a time

    def judge(self, prompt: Prompt, answer: str, *, finished: bool) -> Verdict:
        """sigmoid((raw - bias) / scale / temperature); an empty answer gets 0."""
        if not answer:
            return EMPTY
        logit = self.model.scores([prompt], [answer])[0] / self.model.scale.temperature
        return _verdict(1 / (1 + math.exp(-max(-60.0, min(60.0, logit)))), finished)


@dataclass(frozen=True, kw_only=True)
class FunctionJudge:
    """A person's reward function as judge, where there is no reward model; it gives 0 to 1."""

    function: RewardFunction

    @property
    def name(self) -> str:
        """The function, and that it is no independent judge."""
        return f"reward function {self.function.name}, which RL climbed"

    def judge(self, prompt: Prompt, answer: str, *, finished: bool) -> Verdict:
        """The function's number; an empty answer gets 0.

        Raises UserError where the number is not within 0 and 1.
        """
        if not answer:
            return EMPTY
        score = self.function.scores([prompt], [answer])[0]
        if not 0 <= score <= 1:
            raise UserError(
                f"the reward function gave {score:g}, but a judge's scores are within 0 and 1",
                where=f'{self.function.name}, prompt_id "{prompt.prompt_id}"',
                fix="name a reward model to judge instead: rl.held_out_reward_model",
            )
        return _verdict(score, finished)


def _verdict(score: float, finished: bool) -> Verdict:
    """A number alone says nothing of refusals: unknown, not none."""
    reasons = () if finished else (CUT_OFF,)
    return Verdict(score=score, rating=min(5, 1 + int(score * 5)), refused=None, reasons=reasons)
