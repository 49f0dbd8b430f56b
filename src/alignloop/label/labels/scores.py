"""Scores on criteria: margins of pairs, and each answer's means over the people who scored it."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from alignloop.label.labels.project_labels import StoredJudgement

LARGEST_MARGIN = 3.0  # as strength: significantly better


def margin_of(judged: StoredJudgement, chosen: str, rejected: str) -> float:
    """How much better `chosen` is, in 0..3: the strength, or else by the criteria's scores.

    Without a strength it is 3 times the mean difference of the scores, each in units of its scale,
    over the criteria that both answers have; at least 0, and 0 without scores.
    """
    if judged.strength is not None:
        return float(judged.strength)
    high, low = judged.scores.get(chosen, {}), judged.scores.get(rejected, {})
    gaps = [
        (high[name] - low[name]) / (levels - 1)
        for name, levels in judged.levels.items()
        if name in high and name in low
    ]
    return LARGEST_MARGIN * max(0.0, statistics.fmean(gaps)) if gaps else 0.0


@dataclass(frozen=True, kw_only=True)
class CriterionScores:
    """One answer's scores on one criterion, one for each person: the mean of what they gave."""

    by_annotator: Mapping[str, float]

    @property
    def mean(self) -> float:
        """The mean over people."""
        return statistics.fmean(self.by_annotator.values())

    @property
    def spread(self) -> float | None:
        """The standard deviation over people (n - 1); None of one person."""
        values = list(self.by_annotator.values())
        return statistics.stdev(values) if len(values) > 1 else None


def scores_of(judgements: Iterable[StoredJudgement], answer: str) -> dict[str, CriterionScores]:
    """An answer's scores by criterion, in the project's order."""
    given: dict[str, dict[str, list[float]]] = {}
    for judged in judgements:
        for name in judged.levels:
            if name in judged.scores.get(answer, {}):
                own = given.setdefault(name, {}).setdefault(judged.annotator, [])
                own.append(judged.scores[answer][name])
    return {
        name: CriterionScores(
            by_annotator={who: statistics.fmean(own) for who, own in sorted(people.items())}
        )
        for name, people in given.items()
    }
