"""The votes on two answers, counted or weighted by how far each annotator can be relied on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from alignloop.label.labels.project_labels import Item, StoredJudgement
from alignloop.label.labels.votes import ranked_pairs
from alignloop.label.quality.reliability import Method, Reliability


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What votes weigh: the method, and each annotator's reliability by it."""

    method: Method
    people: Mapping[str, Reliability]

    def stated(self, names: Sequence[str]) -> dict[str, Any]:
        """For provenance: the method, and per annotator the weight and what it comes from."""
        return {"method": self.method, "annotators": {name: self._of(name) for name in names}}

    def _of(self, name: str) -> dict[str, float]:
        one = self.people[name]
        cases = "gold" if self.method == "gold" else "cases"
        return {
            "log_odds": round(one.log_odds(), 6),
            "share": round(one.share, 6),
            "right": round(one.right, 3),
            cases: round(one.cases, 3),
        }


@dataclass(frozen=True, kw_only=True)
class Tally:
    """The votes on two answers of an item.

    `share` is the probability that the first is better, `lead` the mean strength in favour of the
    preferred one, at least 0. `weights` states what the votes counted, None if all count alike.
    """

    first: str
    second: str
    share: float
    lead: float
    judgements: tuple[StoredJudgement, ...]
    weights: Mapping[str, Any] | None = None

    @property
    def is_decided(self) -> bool:
        """Whether this is a lead's verdict, not annotators' votes."""
        return any(judged.decision for judged in self.judgements)


@dataclass(frozen=True, kw_only=True)
class _Vote:
    """`side` is 1 for the first answer, -1 for the second, 0 for a tie; `log_odds` for a choice."""

    side: int
    log_odds: float
    judged: StoredJudgement


def tallies(
    item: Item, judgements: Sequence[StoredJudgement], weights: Weights | None = None
) -> list[Tally]:
    """Each pair of answers that was compared, in content order.

    Without weights: share = mean of 1 (first), 0 (second) and 1/2 (tie); margin = mean strength,
    in favour of the first counted positive. With weights w (log-odds, see `Reliability`) and sides
    s in -1, 0, 1: share = sigmoid(sum s w), the posterior probability that the first is better if
    both were equally likely before and annotators err independently; margin = sum s w strength /
    sum |w|, in which ties count with their annotator's |w|. A lead's verdict has no weight.
    """
    votes_by_pair: dict[tuple[str, str], list[_Vote]] = {}
    for judged in judgements:
        for first, second, better in _compared(item, judged):
            side = 0 if better is None else 1 if better == first else -1
            vote = _Vote(side=side, log_odds=_log_odds(item, judged, weights), judged=judged)
            votes_by_pair.setdefault((first, second), []).append(vote)
    return [
        _tally(first, second, votes, weights)
        for (first, second), votes in sorted(votes_by_pair.items())
    ]


def _log_odds(item: Item, judged: StoredJudgement, weights: Weights | None) -> float:
    if weights is None or judged.decision:
        return 1.0
    # a ranking compares two answers at a time; a choice is one among all
    return weights.people[judged.annotator].log_odds(2 if judged.ranking else len(item.answers))


def _tally(first: str, second: str, votes: Sequence[_Vote], weights: Weights | None) -> Tally:
    strengths = [vote.side * vote.log_odds * (vote.judged.strength or 0) for vote in votes]
    margin = sum(strengths) / (sum(abs(vote.log_odds) for vote in votes) or 1.0)
    judgements = tuple(vote.judged for vote in votes)
    is_weighted = weights is not None and not any(judged.decision for judged in judgements)
    if is_weighted:
        share = _sigmoid(sum(vote.side * vote.log_odds for vote in votes))
    else:
        share = sum((vote.side + 1) / 2 for vote in votes) / len(votes)
    names = sorted({judged.annotator for judged in judgements})
    return Tally(
        first=first,
        second=second,
        share=share,
        lead=max(0.0, margin if share > 0.5 else -margin),
        judgements=judgements,
        weights=weights.stated(names) if weights is not None and is_weighted else None,
    )


def _sigmoid(log_odds: float) -> float:
    return 0.5 * (1 + math.tanh(log_odds / 2))  # exp would overflow


def _compared(item: Item, judged: StoredJudgement) -> list[tuple[str, str, str | None]]:
    """Every pair of answers that a judgement compares: both in content order, and the better."""
    if judged.ranking:
        return list(ranked_pairs(item, judged.ranking))
    couples = list(combinations(item.in_content_order, 2))
    if judged.verdict == "tie":
        return [(first, second, None) for first, second in couples]
    if judged.verdict == "choice":
        return [(a, b, judged.choice) for a, b in couples if judged.choice in (a, b)]
    return []
