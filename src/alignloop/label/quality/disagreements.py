"""What people disagree on, the weightiest first, and what a lead has decided about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from alignloop.label.labels.project_labels import Adjudicated, Item, ProjectLabels, StoredJudgement
from alignloop.label.labels.votes import UnitVote, votes_of

State = Literal["open", "settled"]
# What a different verdict weighs where no strength tells: a tie against "both bad", a ranking
# that puts two answers the other way round.
PLAIN = 1.0
# Whether an answer does harm goes before any shade of better and worse, of which the widest
# (significantly better against significantly worse) is 8.
HARM = 10.0


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """An item whose judges do not agree.

    `stake` is the mean over pairs of people of the distance between their judgements: the
    difference of signed strengths (-4..4), 1 where no strength tells, and 10 more where one calls
    an answer harmful and the other does not.
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
    """Open ones first, then by what is at stake, then as the items came."""
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
    said: Sequence[StoredJudgement],
    votes: Sequence[UnitVote],
    decision: Adjudicated | None,
) -> Disagreement:
    serious = [one for one in said if one.verdict != "skip"]
    pairs = list(combinations(serious, 2))
    by_person: dict[str, dict[tuple[int, str, str], UnitVote]] = {}
    for vote in votes:
        by_person.setdefault(vote.annotator, {})[vote.unit] = vote
    apart = [_distance(by_person[a.annotator], by_person[b.annotator]) for a, b in pairs]
    harm = [set(a.harmful) != set(b.harmful) for a, b in pairs]
    total = sum(apart) + HARM * sum(harm)
    return Disagreement(
        item=item,
        judgements=tuple(said),
        stake=total / len(pairs) if pairs else 0.0,
        harm=any(harm),
        adjudication=decision,
    )


def _distance(
    one: dict[tuple[int, str, str], UnitVote], other: dict[tuple[int, str, str], UnitVote]
) -> float:
    """Mean over what both said something of."""
    common = [unit for unit in one if unit in other]
    return sum(_between(one[u], other[u]) for u in common) / len(common) if common else PLAIN


def _between(one: UnitVote, other: UnitVote) -> float:
    if one.signed is not None and other.signed is not None:
        return float(abs(one.signed - other.signed))
    return 0.0 if one.label == other.label else PLAIN
