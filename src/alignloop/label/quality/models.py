"""Which model's answers people prefer: Bradley and Terry's ranking, for the lead alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alignloop.errors import UserError
from alignloop.label.quality.rows import Labels, Vote, votes_of
from alignloop.stats import Estimate, bradley_terry
from alignloop.stats.intervals import Floats, cluster_codes, cluster_draws, percentile_estimate

NUM_RESAMPLES = 200
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One model: `ability` in nats about the mean of all models, with its interval.

    P(i is preferred to j) = sigmoid(ability_i - ability_j). `ability` is None where the votes do
    not rank the models: some of them never lost, or never won, against the rest.
    """

    model: str
    wins: float
    comparisons: int
    ability: Estimate | None


def model_ranking(labels: Labels) -> list[Standing]:
    """The models whose answers were compared with each other's, the best first.

    A tie is half a win for either. Intervals are percentiles over resamples of the prompts.
    """
    duels = [duel for vote in votes_of(labels.about_answers) for duel in _duels(vote)]
    if not duels:
        return []
    names = sorted({name for first, second, _, _ in duels for name in (first, second)})
    place = {name: number for number, name in enumerate(names)}
    prompts, num_prompts = cluster_codes([prompt for _, _, _, prompt in duels])
    tables = np.zeros((num_prompts, len(names), len(names)))
    for (first, second, share, _), prompt in zip(duels, prompts, strict=True):
        tables[prompt, place[first], place[second]] += share
        tables[prompt, place[second], place[first]] += 1 - share
    abilities = _abilities(tables)
    wins = tables.sum(axis=0)
    found = [
        Standing(
            model=name,
            wins=float(wins[row].sum()),
            comparisons=round(float(wins[row].sum() + wins[:, row].sum())),
            ability=abilities[row] if abilities else None,
        )
        for row, name in enumerate(names)
    ]
    return sorted(found, key=_rank)


def _rank(one: Standing) -> tuple[float, str]:
    worth = one.ability.value if one.ability else one.wins / one.comparisons
    return -worth, one.model


def _duels(vote: Vote) -> list[tuple[str, str, float, str]]:
    """(model, model, share of the win, prompt) for each two answers that the vote compares."""
    item, order = vote.item, vote.item.in_content_order
    if vote.label == "both_bad":
        return []
    if vote.unit[1]:
        couples = [(vote.unit[1], vote.unit[2], {"0": 1.0, "1": 0.0}.get(vote.label, 0.5))]
    elif vote.label == "tie":
        couples = [(a, b, 0.5) for i, a in enumerate(order) for b in order[i + 1 :]]
    else:
        best = order[int(vote.label)]
        couples = [(best, other, 1.0) for other in order if other != best]
    named = [(item.model_of(a), item.model_of(b), share) for a, b, share in couples]
    prompt = item.prompt.prompt_id
    return [(a, b, share, prompt) for a, b, share in named if a and b and a != b]


def _abilities(tables: Floats) -> list[Estimate] | None:
    values = _centred(tables.sum(axis=0))
    if values is None:
        return None
    flat = tables.reshape(len(tables), -1)
    resampled = [
        _centred(row.reshape(tables.shape[1:]))
        for draw in cluster_draws(len(tables), NUM_RESAMPLES, SEED)
        for row in draw @ flat
    ]
    nothing = np.full(len(values), math.nan)  # a resample in which somebody never lost
    table = np.array([nothing if row is None else row for row in resampled])
    return [
        percentile_estimate(float(value), table[:, place], len(tables), 0.95)
        for place, value in enumerate(values)
    ]


def _centred(wins: Floats) -> Floats | None:
    try:
        found = bradley_terry(wins)
    except UserError:
        return None
    return found - found.mean()


def preference(standings: Sequence[Standing], first: str, second: str) -> float | None:
    """The probability that `first` is preferred to `second`, as the ranking tells it."""
    abilities = {one.model: one.ability for one in standings}
    one, other = abilities.get(first), abilities.get(second)
    if one is None or other is None:
        return None
    return 1 / (1 + math.exp(other.value - one.value))
