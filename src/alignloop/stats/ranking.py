"""Abilities from pairs (Bradley, Terry) and rankings (Plackett, Luce)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import connected_components

from alignloop.errors import UserError
from alignloop.stats.intervals import Floats, Ints

MOST_TIED = 10  # a group of ten equal answers has 1,023 subsets
_MAX_STEPS = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class Choices:
    """Choices of the best out of several: [m, n] over n contestants, one row per choice.

    `offered` counts how often each contestant was on offer, `chosen` is each one's share of the
    choice (rows sum to 1), `weights` [m] how much a row counts; `clusters` [m] the number of the
    row's cluster (its prompt).
    """

    chosen: Floats
    offered: Floats
    weights: Floats
    clusters: Ints

    @property
    def beats(self) -> Floats:
        """[n, n]: the weight of the choices in which the row was chosen and the column was not."""
        return (self.chosen * self.weights[:, None]).T @ np.sign(self.offered)


def choices_of(
    rankings: Iterable[Sequence[Sequence[int]]],
    num_contestants: int,
    clusters: Iterable[int] | None = None,
    *,
    top_only: Iterable[bool] | None = None,
) -> Choices:
    """Rankings, each of tiers of contestants best first, as choices of the best of what is left.

    Contestants in one tier are tied: all orders of the tier count equally, as a tie of two counts
    half a win each way. Each subset S of a tier of t is therefore what is left of it with
    probability 1 / C(t, |S|). If `top_only` is true the order of the tiers after the first is
    unknown (one of several was chosen), and only the first choice counts.

    Raises UserError for a tier of more than ten.
    """
    listed = [[list(tier) for tier in tiers if tier] for tiers in rankings]
    owners = range(len(listed)) if clusters is None else list(clusters)
    first = [False] * len(listed) if top_only is None else list(top_only)
    rows: list[tuple[Floats, Floats, float, int]] = []
    for tiers, owner, top in zip(listed, owners, first, strict=True):
        for place, tier in enumerate(tiers[:1] if top else tiers):
            below = _counts([one for lower in tiers[place + 1 :] for one in lower], num_contestants)
            rows += [(a, b + below, w, owner) for a, b, w in _orders(tier, num_contestants)]
    informative = [row for row in rows if np.count_nonzero(row[1]) > 1]
    shape = (len(informative), num_contestants)
    return Choices(
        chosen=np.array([row[0] for row in informative]).reshape(shape),
        offered=np.array([row[1] for row in informative]).reshape(shape),
        weights=np.array([row[2] for row in informative]),
        clusters=np.array([row[3] for row in informative], dtype=np.int64),
    )


def _counts(members: Sequence[int], num_contestants: int) -> Floats:
    return np.bincount(np.array(members, dtype=np.int64), minlength=num_contestants).astype(float)


def _orders(tier: Sequence[int], num_contestants: int) -> list[tuple[Floats, Floats, float]]:
    """(chosen, offered within the tier, weight) of each subset that may be left of a tier."""
    if len(tier) > MOST_TIED:
        raise UserError(
            f"{len(tier)} contestants are tied in one ranking; more than {MOST_TIED} cannot be"
            " counted in all their orders",
            fix="leave the ranking out, or break some of its ties",
        )
    left = [part for size in range(len(tier), 0, -1) for part in combinations(tier, size)]
    counted = [(_counts(part, num_contestants), len(part)) for part in left]
    return [(count / size, count, 1 / comb(len(tier), size)) for count, size in counted]


def likelihood(choices: Choices, scores: Floats) -> tuple[float, Floats, Floats]:
    """The log likelihood [nats], its gradient [n] and minus its second derivative [n, n].

    sum_rows w (sum_i chosen_i s_i - log sum_i offered_i exp(s_i))
    """
    evidence, gaps, chances = _rows(choices, scores)
    weighted = chances * choices.weights[:, None]
    curvature = np.diag(weighted.sum(axis=0)) - weighted.T @ chances
    return float(choices.weights @ evidence), choices.weights @ gaps, curvature


def _rows(choices: Choices, scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Log likelihood [m], gradient [m, n] and choice probabilities [m, n] of each row."""
    top = float(scores.max())
    worth = choices.offered * np.exp(scores - top)
    total = worth.sum(axis=1)
    chances = worth / total[:, None]
    return choices.chosen @ scores - np.log(total) - top, choices.chosen - chances, chances


def scores_of_rows(choices: Choices, scores: Floats) -> Floats:
    """The weighted gradient of each row's log likelihood, [m, n], for a sandwich estimator."""
    return _rows(choices, scores)[1] * choices.weights[:, None]


def curvatures_of_rows(choices: Choices, scores: Floats) -> Floats:
    """Minus the second derivative of each row's weighted log likelihood, [m, n, n]."""
    chances = _rows(choices, scores)[2]
    table = -chances[:, :, None] * chances[:, None, :]
    places = np.arange(len(scores))
    table[:, places, places] += chances
    return table * choices.weights[:, None, None]


def merged(choices: Choices) -> Choices:
    """Equal rows as one, with summed weights; their clusters are lost."""
    if not len(choices.weights):
        return choices
    both = np.concatenate([choices.chosen, choices.offered], axis=1)
    rows, places = np.unique(both, axis=0, return_inverse=True)
    half = choices.chosen.shape[1]
    return Choices(
        chosen=rows[:, :half],
        offered=rows[:, half:],
        weights=np.bincount(places.reshape(-1), choices.weights).astype(np.float64),
        clusters=np.zeros(len(rows), dtype=np.int64),
    )


def climb(
    choices: Choices,
    start: Floats,
    directions: Floats,
    *,
    guess: Floats | None = None,
    ridge: float = 0.0,
) -> tuple[Floats, float]:
    """The most likely scores of the form start + directions @ z, by damped Newton steps.

    Shapes: `start` and `guess` (the starting point) [n], `directions` [n, k] orthonormal; result:
    scores [n] and their log likelihood less ridge |z|^2 / 2. If no finite maximum exists, a ridge
    is needed.
    """
    z = directions.T @ ((np.zeros_like(start) if guess is None else guess) - start)
    scores = start + directions @ z
    for _ in range(_MAX_STEPS if directions.shape[1] else 0):
        _, gradient, curvature = likelihood(choices, scores)
        slope = directions.T @ gradient - ridge * z
        bend = directions.T @ curvature @ directions + ridge * np.eye(len(z))
        step = np.linalg.solve(bend, slope)
        z = z + step * newton_damping(np.ptp(directions @ step))
        scores = start + directions @ z
        if np.abs(step).max() < 1e-8:  # Newton converges quadratically: the error is its square
            break
    return scores, likelihood(choices, scores)[0] - ridge * float(z @ z) / 2


def differences(num: int) -> Floats:
    """An orthonormal basis [num, num - 1] of the vectors of sum 0 (Helmert's)."""
    table = np.zeros((num, max(0, num - 1)))
    for column in range(num - 1):
        table[: column + 1, column], table[column + 1, column] = 1.0, -(column + 1.0)
    return table / np.linalg.norm(table, axis=0) if num > 1 else table


def bradley_terry(wins: ArrayLike, ties: ArrayLike | None = None) -> Floats:
    """Log abilities by maximum likelihood, the first one 0: P(i beats j) = sigmoid(s_i - s_j).

    Newton's method with a step that always descends. Ties count half for either side.

    Shapes: `wins` [n, n], row beats column (the diagonal is ignored); `ties` [n, n] symmetric, how
    often the two were tied; result [n] in nats. Raises UserError if no maximum exists: some group
    never lost (or never won) against the rest. Source: Bradley and Terry 1952; Ford 1957 on
    existence.
    """
    counts = np.array(wins, dtype=float)
    counts += 0 if ties is None else np.asarray(ties, dtype=float) / 2
    np.fill_diagonal(counts, 0)
    winners, losers = np.nonzero(counts)
    one_hot = np.eye(len(counts))
    choices = Choices(
        chosen=one_hot[winners],
        offered=one_hot[winners] + one_hot[losers],
        weights=counts[winners, losers],
        clusters=np.zeros(len(winners), dtype=np.int64),
    )
    scores = _most_likely(choices)
    return scores - scores[0]


def plackett_luce(rankings: Iterable[Sequence[Sequence[int]]], num_contestants: int) -> Floats:
    """Log abilities of mean 0 by maximum likelihood, from rankings of any length.

    P(i_1 > i_2 > ... > i_k) = prod_j exp(s_{i_j}) / sum_{l >= j} exp(s_{i_l})

    Each ranking is a sequence of tiers, best first: [[2], [0, 1]] puts 2 before 0 and 1, which are
    tied (see `choices_of`). With two contestants this is Bradley and Terry's model.

    Result [n] in nats. Raises UserError if no maximum exists: some group was always ranked above,
    or always below, the rest. Source: Plackett 1975; Luce 1959; Hunter 2004 on existence.
    """
    scores = _most_likely(merged(choices_of(rankings, num_contestants)))
    return scores - scores.mean()


def _most_likely(choices: Choices) -> Floats:
    num: int = choices.chosen.shape[1]
    if not exists(choices):
        raise UserError(
            "some contestants won all or none of their comparisons against the others",
            fix="collect more comparisons between them, or leave those contestants out",
        )
    return climb(choices, np.zeros(num), differences(num))[0]


def exists(choices: Choices) -> bool:
    """Whether the maximum likelihood is finite: everyone beats everyone, possibly by a chain."""
    return connected_components(choices.beats > 0, connection="strong")[0] == 1


def newton_damping(reach: ArrayLike) -> Floats:
    """The share of a Newton step of a logistic likelihood to take: log(1 + r) / r.

    r is the largest change of any logit difference under the full step. The likelihood's third
    derivative is at most r times its second, so this share always descends, and it tends to 1 at
    the end. Shapes: any. Source: Bach 2010 (arXiv:0910.4627), proposition 1.
    """
    size = np.asarray(reach, dtype=float)
    return np.divide(np.log1p(size), size, out=np.ones_like(size), where=size > 0)
