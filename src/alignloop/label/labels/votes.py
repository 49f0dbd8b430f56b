"""Votes: the units from which agreement is computed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from alignloop.label.labels.project_labels import Item, ProjectLabels, StoredJudgement


@dataclass(frozen=True, kw_only=True)
class UnitVote:
    """One annotator's label of one unit.

    `unit` is the item, or for a ranking each pair of its answers. `label` is an index in the item's
    content order ("0", "1"), "tie" or "both_bad". `signed` is -4..4: how much better the second of
    two answers is (strength + 1), 0 for a tie, None if strength was not asked for.
    """

    unit: tuple[int, str, str]
    annotator: str
    label: str
    signed: int | None
    item: Item


def votes_of(labels: ProjectLabels) -> list[UnitVote]:
    """All votes of the valid judgements, without skips."""
    return [
        vote
        for judged in labels.judgements
        if judged.verdict != "skip"
        for vote in _votes(labels.items[judged.item_id], judged)
    ]


def _votes(item: Item, judged: StoredJudgement) -> Iterator[UnitVote]:
    if judged.ranking:
        yield from _ranking_votes(item, judged)
        return
    order = item.in_content_order
    signed = None
    if judged.verdict == "choice":
        assert judged.choice is not None
        index = order.index(judged.choice)
        label = str(index)
        if judged.strength is not None:
            signed = (judged.strength + 1) * (1 if index else -1)
    else:
        label = judged.verdict
        signed = 0 if judged.verdict == "tie" else None
    yield UnitVote(
        unit=(item.item_id, "", ""),
        annotator=judged.annotator,
        label=label,
        signed=signed if len(order) == 2 else None,
        item=item,
    )


def _ranking_votes(item: Item, judged: StoredJudgement) -> Iterator[UnitVote]:
    for first, second, better in ranked_pairs(item, judged.ranking):
        label = "tie" if better is None else str(int(better == second))
        yield UnitVote(
            unit=(item.item_id, first, second),
            annotator=judged.annotator,
            label=label,
            signed=None,
            item=item,
        )


def ranked_pairs(
    item: Item, ranking: Iterable[Iterable[str]]
) -> Iterator[tuple[str, str, str | None]]:
    """Each pair of answers of a ranking in content order, and the better one (None: equal)."""
    rank = {name: tier for tier, equal in enumerate(ranking) for name in equal}
    order = [name for name in item.in_content_order if name in rank]
    for index, first in enumerate(order):
        for second in order[index + 1 :]:
            better = None
            if rank[first] != rank[second]:
                better = first if rank[first] < rank[second] else second
            yield first, second, better
