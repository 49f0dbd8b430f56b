"""What statistics and exports read: items, and the judgements that stand. Plain frozen rows.

`load` in the file beside it reads them from the database; everything after it is pure.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from alignloop.records import Prompt

Verdict = Literal["choice", "tie", "both_bad", "skip"]

GOLD, REPEAT = "gold", "repeat"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer of an item, by the `response_id` of its Comparison record, and who gave it."""

    response_id: str
    text: str
    model: str = ""


@dataclass(frozen=True, kw_only=True)
class Item:
    """What people are asked: a prompt with K answers.

    `gold` is the right answer of a gold question (a response_id, "tie" or "both_bad");
    `repeat_of` the item that this one asks again; `wanted` how many people are to judge it.
    """

    item_id: int
    comparison_id: str
    prompt: Prompt
    answers: tuple[Answer, ...]
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
        """Gold questions and repeats say something about people, and nothing about answers."""
        return self.why in (GOLD, REPEAT) or self.gold is not None or self.repeat_of is not None

    @cached_property
    def in_content_order(self) -> tuple[str, ...]:
        """The response_ids in an order that only the texts decide.

        Labels such as "the first answer" need sides that mean nothing: neither the position on
        anybody's screen, nor which model was filed first.
        """
        return tuple(a.response_id for a in sorted(self.answers, key=_content_key))

    def model_of(self, response_id: str) -> str:
        """Who gave this answer; "" where nobody knows."""
        return next(a.model for a in self.answers if a.response_id == response_id)


def _content_key(answer: Answer) -> tuple[str, str]:
    return hashlib.blake2b(answer.text.encode(), digest_size=8).hexdigest(), answer.response_id


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One person's judgement of one item; `choice` and all other ids are response_ids.

    `ranking` lists the answers best first, equal ones together; `shown` is their order on the
    screen; `strength` is None where the project does not ask for it.
    """

    judgement_id: int
    item_id: int
    annotator: str
    verdict: Verdict
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


@dataclass(frozen=True, kw_only=True)
class Adjudicated:
    """What a lead decided where people disagreed."""

    item_id: int
    by: str
    verdict: str
    created_at: datetime
    choice: str | None = None
    comment: str = ""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A project's items and the judgements that stand."""

    items: Mapping[int, Item]
    judgements: tuple[Judged, ...]
    adjudications: tuple[Adjudicated, ...] = ()

    @classmethod
    def of(
        cls,
        items: Iterable[Item],
        judgements: Iterable[Judged],
        adjudications: Iterable[Adjudicated] = (),
    ) -> "Labels":
        """From everything that was ever said: what was superseded or withdrawn does not count."""
        return cls(
            items={item.item_id: item for item in items},
            judgements=standing(judgements),
            adjudications=tuple(adjudications),
        )

    @cached_property
    def about_answers(self) -> "Labels":
        """The same without gold questions and repeats: what exports and agreement are made of."""
        items = {key: item for key, item in self.items.items() if not item.measures_people}
        return Labels(
            items=items,
            judgements=tuple(j for j in self.judgements if j.item_id in items),
            adjudications=tuple(a for a in self.adjudications if a.item_id in items),
        )


def standing(judgements: Iterable[Judged]) -> tuple[Judged, ...]:
    """The judgements that nobody took back, oldest first.

    A judgement that supersedes another replaces it; one that is withdrawn replaces it by nothing.
    """
    said = list(judgements)
    replaced = {one.supersedes for one in said if one.supersedes is not None}
    kept = [one for one in said if one.judgement_id not in replaced and not one.withdrawn]
    return tuple(sorted(kept, key=lambda one: (one.created_at, one.judgement_id)))


@dataclass(frozen=True, kw_only=True)
class Vote:
    """What one person says of one thing that others say something of too.

    `unit` is the item, of a ranking each pair of its answers. `label` is a place in the item's
    content order ("0", "1"), "tie" or "both_bad". `signed` is -4..4: how much better the second
    of two answers is (strength + 1), 0 for a tie, None where no strength was asked.
    """

    unit: tuple[int, str, str]
    annotator: str
    label: str
    signed: int | None
    item: Item


def votes_of(labels: Labels) -> list[Vote]:
    """Every vote of every judgement that stands; skips are none."""
    return [
        vote
        for judged in labels.judgements
        if judged.verdict != "skip"
        for vote in _votes(labels.items[judged.item_id], judged)
    ]


def _votes(item: Item, judged: Judged) -> Iterator[Vote]:
    if judged.ranking:
        yield from _ranking_votes(item, judged)
        return
    order = item.in_content_order
    signed = None
    if judged.verdict == "choice":
        assert judged.choice is not None
        place = order.index(judged.choice)
        label = str(place)
        if judged.strength is not None:
            signed = (judged.strength + 1) * (1 if place else -1)
    else:
        label = judged.verdict
        signed = 0 if judged.verdict == "tie" else None
    yield Vote(
        unit=(item.item_id, "", ""),
        annotator=judged.annotator,
        label=label,
        signed=signed if len(order) == 2 else None,
        item=item,
    )


def _ranking_votes(item: Item, judged: Judged) -> Iterator[Vote]:
    for first, second, better in ranked_pairs(item, judged.ranking):
        label = "tie" if better is None else str(int(better == second))
        yield Vote(
            unit=(item.item_id, first, second),
            annotator=judged.annotator,
            label=label,
            signed=None,
            item=item,
        )


def ranked_pairs(
    item: Item, ranking: Iterable[Iterable[str]]
) -> Iterator[tuple[str, str, str | None]]:
    """Each two answers of a ranking in content order, and the better one (None: equal)."""
    rank = {name: place for place, equal in enumerate(ranking) for name in equal}
    order = [name for name in item.in_content_order if name in rank]
    for place, first in enumerate(order):
        for second in order[place + 1 :]:
            better = None
            if rank[first] != rank[second]:
                better = first if rank[first] < rank[second] else second
            yield first, second, better
