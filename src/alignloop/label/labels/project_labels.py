"""A project's items and judgements, as quality pages, exports and training read them."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from alignloop.records import Prompt

VerdictName = Literal["choice", "tie", "both_bad", "skip"]

GOLD, REPEAT = "gold", "repeat"


@dataclass(frozen=True, kw_only=True)
class ItemAnswer:
    """One answer of an item, by the `response_id` of its Comparison record, with its model."""

    response_id: str
    text: str
    model: str = ""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question for annotators: a prompt with K answers.

    `gold` is the right answer of a gold question (a response_id, "tie" or "both_bad");
    `repeat_of` the item that this one repeats; `wanted` the number of judgements wanted.
    """

    item_id: int
    comparison_id: str
    prompt: Prompt
    answers: tuple[ItemAnswer, ...]
    kind: str = "comparison"
    why: str = "import"
    why_detail: Mapping[str, Any] = field(default_factory=dict[str, Any])
    batch: str = ""
    gold: str | None = None
    repeat_of: int | None = None
    wanted: int = 1
    is_open: bool = True

    @property
    def measures_people(self) -> bool:
        """True for gold questions and repeats, which measure annotators, not answers."""
        return self.why in (GOLD, REPEAT) or self.gold is not None or self.repeat_of is not None

    @cached_property
    def in_content_order(self) -> tuple[str, ...]:
        """The response_ids in an order determined by the texts alone.

        Labels such as "the first answer" need neutral sides, independent of screen position and
        of the order of import.
        """
        return tuple(a.response_id for a in sorted(self.answers, key=_content_key))

    def model_of(self, response_id: str) -> str:
        """The model of this answer; "" if unknown."""
        return next(a.model for a in self.answers if a.response_id == response_id)


def _content_key(answer: ItemAnswer) -> tuple[str, str]:
    return hashlib.blake2b(answer.text.encode(), digest_size=8).hexdigest(), answer.response_id


@dataclass(frozen=True, kw_only=True)
class StoredJudgement:
    """One annotator's stored judgement of one item; all answer ids are response_ids.

    `ranking` lists the answers best first, equal ones together; `shown` is their order on the
    screen; `strength` is None if the project does not ask for it.
    """

    judgement_id: int
    item_id: int
    annotator: str
    verdict: VerdictName
    created_at: datetime
    choice: str | None = None
    strength: int | None = None
    ratings: Mapping[str, float] = field(default_factory=dict[str, float])
    ranking: tuple[tuple[str, ...], ...] = ()
    harmful: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    seconds: float = 0.0
    skip_reason: str = ""
    comment: str = ""
    guideline: int = 0
    key: str = ""
    supersedes: int | None = None
    withdrawn: bool = False

    @property
    def answer(self) -> str:
        """The judgement in one word: a response_id, "tie", "both_bad" or "skip".

        For a ranking its best answer, or "tie" if there are several.
        """
        if self.ranking:
            best = self.ranking[0]
            return best[0] if len(best) == 1 else "tie"
        return self.choice if self.choice is not None else self.verdict


@dataclass(frozen=True, kw_only=True)
class Adjudicated:
    """A lead's decision on a disagreement."""

    item_id: int
    by: str
    verdict: str
    created_at: datetime
    choice: str | None = None
    comment: str = ""


@dataclass(frozen=True, kw_only=True)
class ProjectLabels:
    """A project's items and valid judgements."""

    items: Mapping[int, Item]
    judgements: tuple[StoredJudgement, ...]
    adjudications: tuple[Adjudicated, ...] = ()

    @classmethod
    def of(
        cls,
        items: Iterable[Item],
        judgements: Iterable[StoredJudgement],
        adjudications: Iterable[Adjudicated] = (),
    ) -> "ProjectLabels":
        """From all judgements ever made; superseded and withdrawn ones are dropped."""
        return cls(
            items={item.item_id: item for item in items},
            judgements=standing(judgements),
            adjudications=tuple(adjudications),
        )

    @cached_property
    def about_answers(self) -> "ProjectLabels":
        """The same without gold questions and repeats: the basis of exports and agreement."""
        items = {key: item for key, item in self.items.items() if not item.measures_people}
        return ProjectLabels(
            items=items,
            judgements=tuple(j for j in self.judgements if j.item_id in items),
            adjudications=tuple(a for a in self.adjudications if a.item_id in items),
        )


def standing(judgements: Iterable[StoredJudgement]) -> tuple[StoredJudgement, ...]:
    """The valid judgements, oldest first.

    A judgement that supersedes another replaces it; a withdrawal also removes itself.
    """
    everything = list(judgements)
    replaced = {one.supersedes for one in everything if one.supersedes is not None}
    valid = [one for one in everything if one.judgement_id not in replaced and not one.withdrawn]
    return tuple(sorted(valid, key=lambda one: (one.created_at, one.judgement_id)))
