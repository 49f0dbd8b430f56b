"""Which model's answers people prefer: a Plackett-Luce ranking, for leads only."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product

import numpy as np

from alignloop.label.labels.project_labels import ProjectLabels, StoredJudgement
from alignloop.stats import Estimate, abilities, choices_of
from alignloop.stats.intervals import Floats, cluster_codes


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One model: `ability` in nats relative to the mean of all models, with its interval.

    P(i is preferred to j) = sigmoid(ability_i - ability_j). An end of the interval is open (-inf,
    inf) if the votes do not bound it: a model that never lost may be better by any amount.
    `ability` is None if two groups of models were never compared with each other.
    """

    model: str
    wins: float
    comparisons: int
    ability: Estimate | None


def model_ranking(labels: ProjectLabels) -> list[Standing]:
    """The models whose answers were compared, the best first.

    Plackett-Luce: for two answers it is Bradley-Terry; a choice of the best of several counts once,
    and so does each rank of a ranking. A tie is half a win for each. The intervals are those of
    `stats.abilities`, clustered by prompt.
    """
    all_tiers = [
        one for judged in labels.about_answers.judgements for one in _model_tiers(labels, judged)
    ]
    if not all_tiers:
        return []
    names = sorted({name for one in all_tiers for tier in one.tiers for name in tier})
    index = {name: number for number, name in enumerate(names)}
    rankings = [[[index[name] for name in tier] for tier in one.tiers] for one in all_tiers]
    prompts, _ = cluster_codes([one.prompt for one in all_tiers])
    choices = choices_of(
        rankings, len(names), prompts, top_only=[one.top_only for one in all_tiers]
    )
    sure = abilities(choices)
    wins = _wins(rankings, [one.top_only for one in all_tiers], len(names))
    found = [
        Standing(
            model=name,
            wins=float(wins[row].sum()),
            comparisons=round(float(wins[row].sum() + wins[:, row].sum())),
            ability=sure[row] if sure else None,
        )
        for row, name in enumerate(names)
    ]
    return sorted(found, key=_rank)


def _rank(one: Standing) -> tuple[float, str]:
    worth = one.ability.value if one.ability else one.wins / one.comparisons
    return -worth, one.model


@dataclass(frozen=True, kw_only=True)
class _ModelTiers:
    """One judgement as tiers of models, best first; only the first counts if one was chosen."""

    tiers: Sequence[Sequence[str]]
    top_only: bool
    prompt: str


def _model_tiers(labels: ProjectLabels, judged: StoredJudgement) -> Iterator[_ModelTiers]:
    """Empty if fewer than two models are compared."""
    item = labels.items[judged.item_id]
    if judged.ranking:
        tiers = judged.ranking
    elif judged.verdict == "tie":
        tiers = (item.in_content_order,)
    elif judged.choice is not None:
        rest = tuple(one for one in item.in_content_order if one != judged.choice)
        tiers = ((judged.choice,), rest)
    else:
        return
    named = [[name for one in tier if (name := item.model_of(one))] for tier in tiers]
    top_only = not judged.ranking and len(named) > 1
    winner_unknown = top_only and not named[0]
    if not winner_unknown and len({name for tier in named for name in tier}) > 1:
        yield _ModelTiers(
            tiers=[tier for tier in named if tier],
            top_only=top_only,
            prompt=item.prompt.prompt_id,
        )


def _wins(
    rankings: Sequence[Sequence[Sequence[int]]], top_only: Sequence[bool], num: int
) -> Floats:
    """[num, num]: how often the row's answer was preferred to the column's; a tie is half."""
    wins = np.zeros((num, num))
    for tiers, top in zip(rankings, top_only, strict=True):
        for rank, tier in enumerate(tiers[:1] if top else tiers):
            for one, other in combinations(tier, 2):
                wins[one, other] += 0.5
                wins[other, one] += 0.5
            for one, other in product(tier, chain.from_iterable(tiers[rank + 1 :])):
                wins[one, other] += 1
    np.fill_diagonal(wins, 0)
    return wins


def preference(standings: Sequence[Standing], first: str, second: str) -> float | None:
    """The probability that `first` is preferred to `second`, according to the ranking."""
    abilities = {one.model: one.ability for one in standings}
    one, other = abilities.get(first), abilities.get(second)
    if one is None or other is None:
        return None
    return 1 / (1 + math.exp(other.value - one.value))
