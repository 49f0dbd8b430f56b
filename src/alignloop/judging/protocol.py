"""The protocol of judges: they rate and compare answers in batches. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from alignloop.measures import Measure, score_by
from alignloop.records import Preference, Prompt, Verdict

if TYPE_CHECKING:
    from alignloop.rollout import Rollout


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer to judge: its text, and whether it ended with EOS or was cut off.

    `drawn` has the tokens if our own sampler drew the answer: a reward model with the same
    tokenizer reads them instead of the text, which may be tokenised differently.
    """

    text: str
    finished: bool = True
    drawn: "Rollout | None" = None


@dataclass(frozen=True, kw_only=True)
class JudgeFacts:
    """A judge's identity and measures; for reports also its quality and its other roles.

    `name` as in "by the NAME"; `kind` is "reward_model", "function", "gold" (ground truth) or a
    custom one; `source` is a directory, a function or an address. `pairwise`: it sees both answers
    at once, so `compare` is more than two ratings. `cost_unit` is the unit of verdicts' costs, ""
    if they are free. `card` is the report card of a reward model that our reward stage trained.
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
    """Anything that rates answers; takes lists of equal length and returns the same order."""

    @property
    def facts(self) -> JudgeFacts:
        """Its identity and measures."""
        ...

    def rate(self, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[Verdict]:
        """One verdict per answer, each independent of the others."""
        ...

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[Answer], second: Sequence[Answer]
    ) -> list[Preference]:
        """Which of two answers to each prompt is better."""
        ...


class Rater:
    """A judge that rates answers individually; comparisons follow from its verdicts."""

    def rate(self, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[Verdict]:
        """One verdict per answer."""
        raise NotImplementedError

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[Answer], second: Sequence[Answer]
    ) -> list[Preference]:
        """The better verdict wins; equal ones tie."""
        both = (self.rate(prompts, answers) for answers in (first, second))
        return [
            preference(a, b).model_copy(update={"cost": a.cost + b.cost})
            for a, b in zip(*both, strict=True)
        ]


def preference(first: Verdict, second: Verdict) -> Preference:
    """Which of two rated answers is better, by score, or by reward if one has no score.

    It costs no more than the two verdicts.
    """
    a, b = first.score, second.score
    if a is None or b is None:
        a, b = first.reward, second.reward
    return Preference(first=0.5 if a == b else float(a > b))


def in_both_orders(
    judge: Judge, prompts: Sequence[Prompt], first: Sequence[Answer], second: Sequence[Answer]
) -> list[Preference]:
    """The mean over both orders, because a pairwise judge may favour the first answer shown."""
    forward = judge.compare(prompts, first, second)
    swapped = judge.compare(prompts, second, first)
    return [
        Preference(
            first=(a.first + 1 - b.first) / 2,
            reasons=(*a.reasons, *b.reasons),
            cost=a.cost + b.cost,
        )
        for a, b in zip(forward, swapped, strict=True)
    ]
