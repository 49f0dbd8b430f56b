"""What a judge is: it rates answers and compares them, in batches, and says who it is. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from alignloop.measures import Measure, score_by
from alignloop.records import Preference, Prompt, Verdict

if TYPE_CHECKING:
    from alignloop.rollout import Rollout


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer to be judged: its text, and whether it ended by itself or was cut off.

    `drawn` are the tokens of an answer that our own sampler has drawn: a reward model with the same
    tokenizer reads those and not the text, which may be tokenised otherwise.
    """

    text: str
    finished: bool = True
    drawn: "Rollout | None" = None


@dataclass(frozen=True, kw_only=True)
class JudgeFacts:
    """Who a judge is and what it measures; for a report also what it is worth and what else it did.

    `name` as in "by the NAME"; `kind` is "reward_model", "function", "gold" (knows what is true),
    or another that its maker gives; `source` is where it comes from: a directory, a function, an
    address. `pairwise`: it sees both answers at once, so that `compare` is more than two ratings.
    `cost_unit` is the unit of the costs of verdicts, "" if they are free. `card` is the report card
    of a reward model that our reward stage has trained.
    """

    name: str
    kind: str
    source: str = ""
    measures: tuple[Measure, ...] = ()
    pairwise: bool = False
    cost_unit: str = ""
    climbed: bool = False
    chose_checkpoint: bool = False
    card: dict[str, Any] | None = None


def facts_of_model(name: str, source: str) -> JudgeFacts:
    """The facts of any reward model."""
    return JudgeFacts(name=name, kind="reward_model", source=source, measures=(score_by(name),))


class Judge(Protocol):
    """Anything that can say how good answers are; lists of one length in, in the same order out."""

    @property
    def facts(self) -> JudgeFacts:
        """Who it is and what it measures."""
        ...

    def rate(self, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[Verdict]:
        """One verdict per answer, each by itself."""
        ...

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[Answer], second: Sequence[Answer]
    ) -> list[Preference]:
        """Which of two answers to each prompt is better."""
        ...


class Rater:
    """A judge that rates answers one by one: its comparisons follow from its verdicts."""

    def rate(self, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[Verdict]:
        """One verdict per answer."""
        raise NotImplementedError

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[Answer], second: Sequence[Answer]
    ) -> list[Preference]:
        """The better verdict wins; equal ones are a tie."""
        both = (self.rate(prompts, answers) for answers in (first, second))
        return [
            preference(a, b).model_copy(update={"cost": a.cost + b.cost})
            for a, b in zip(*both, strict=True)
        ]


def preference(first: Verdict, second: Verdict) -> Preference:
    """Which of two rated answers is better, by their scores, or by rewards if one has no score.

    It costs nothing more than the two verdicts did.
    """
    a, b = first.score, second.score
    if a is None or b is None:
        a, b = first.reward, second.reward
    return Preference(first=0.5 if a == b else float(a > b))


def in_both_orders(
    judge: Judge, prompts: Sequence[Prompt], first: Sequence[Answer], second: Sequence[Answer]
) -> list[Preference]:
    """The mean of both orders: who sees two answers at once may favour the one shown first."""
    there = judge.compare(prompts, first, second)
    back = judge.compare(prompts, second, first)
    return [
        Preference(
            first=(a.first + 1 - b.first) / 2,
            reasons=(*a.reasons, *b.reasons),
            cost=a.cost + b.cost,
        )
        for a, b in zip(there, back, strict=True)
    ]
