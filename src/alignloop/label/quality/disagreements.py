"""Disagreements between annotators, the most serious first, and the lead's decisions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from alignloop.label.labels.project_labels import Adjudicated, Item, ProjectLabels, StoredJudgement
from alignloop.label.labels.votes import UnitVote, votes_of

State = Literal["open", "settled"]
# Distance of different verdicts without strength: a tie against "both bad", or two answers ranked
# in opposite order.
PLAIN = 1.0
# Harm outranks any difference in preference, whose maximum (significantly better against
# significantly worse) is 8.
HARM = 10.0


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """An item whose annotators do not agree.

    `stake` is the mean distance over pairs of annotators: the difference of signed strengths
    (-4..4), or 1 without strength, plus 10 if only one of them marks an answer as harmful.
    """

    item: Item
    judgements: tuple[StoredJudgement, ...]
    stake: float
    harm: bool
    adjudication: Adjudicated | None

    @property
    def state(self) -> State:
        """Whether a lead has decided it."""
        return "open" if self.adjudication is None else "settled"


def disagreements(labels: ProjectLabels) -> list[Disagreement]:
    """Open ones first, then by stake, then by item id."""
    votes: dict[int, list[UnitVote]] = {}
    for vote in votes_of(labels.about_answers):
        votes.setdefault(vote.item.item_id, []).append(vote)
    judged: dict[int, list[StoredJudgement]] = {}
    for one in labels.about_answers.judgements:
        judged.setdefault(one.item_id, []).append(one)
    # the latest decision counts
    decided = {a.item_id: a for a in sorted(labels.adjudications, key=lambda a: a.created_at)}
    found = [
        _disagreement(labels.items[key], judged[key], votes.get(key, []), decided.get(key))
        for key in sorted(judged)
    ]
    split = [one for one in found if one.stake > 0]
    return sorted(split, key=lambda one: (one.state != "open", -one.stake, one.item.item_id))


def _disagreement(
    item: Item,
    judgements: Sequence[StoredJudgement],
    votes: Sequence[UnitVote],
    decision: Adjudicated | None,
) -> Disagreement:
    serious = [one for one in judgements if one.verdict != "skip"]
    pairs = list(combinations(serious, 2))
    by_person: dict[str, dict[tuple[int, str, str], UnitVote]] = {}
    for vote in votes:
        by_person.setdefault(vote.annotator, {})[vote.unit] = vote
    apart = [_distance(by_person[a.annotator], by_person[b.annotator]) for a, b in pairs]
    harm = [set(a.harmful) != set(b.harmful) for a, b in pairs]
    total = sum(apart) + HARM * sum(harm)
    return Disagreement(
        item=item,
        judgements=tuple(judgements),
        stake=total / len(pairs) if pairs else 0.0,
        harm=any(harm),
        adjudication=decision,
    )


def _distance(
    one: dict[tuple[int, str, str], UnitVote], other: dict[tuple[int, str, str], UnitVote]
) -> float:
    """Mean over the units that both judged."""
    common = [unit for unit in one if unit in other]
    return sum(_between(one[u], other[u]) for u in common) / len(common) if common else PLAIN


def _between(one: UnitVote, other: UnitVote) -> float:
    if one.signed is not None and other.signed is not None:
        return float(abs(one.signed - other.signed))
    return 0.0 if one.label == other.label else PLAIN
