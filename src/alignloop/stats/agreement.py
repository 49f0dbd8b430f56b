"""How far annotators agree, and how accurate each one is."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from alignloop.errors import UserError
from alignloop.stats.intervals import Estimate, Floats, Ints, share_estimate

Level = Literal["nominal", "ordinal", "interval"]
Triple = tuple[Hashable, Hashable, int | float | str]
# For each unit the equally likely namings of its values, as maps; see `krippendorff_alpha`.
Renamings = Mapping[Hashable, Sequence[Mapping[int | float | str, int | float | str]]]

_NO_PAIRS = "no item was judged twice, so agreement is not defined"
_OVERLAP = "give some items to two or more annotators"
_UNEQUAL = "Fleiss' kappa needs the same number of raters, two or more, on every item"


def raw_agreement(labels_by_item: Iterable[Sequence[Hashable]]) -> float:
    """Share of annotator pairs that gave the same label, pooled over all items.

    p_o = sum_i sum_k n_ik (n_ik - 1) / sum_i n_i (n_i - 1)

    With the same number of annotators on every item this is the mean of the items' shares.
    Input: the labels of each item; items with one label are ignored.
    Raises UserError if no item has two labels.
    """
    agreeing = pairs = 0
    for labels in labels_by_item:
        agreeing += sum(count * (count - 1) for count in Counter(labels).values())
        pairs += len(labels) * (len(labels) - 1)
    if pairs == 0:
        raise UserError(_NO_PAIRS, fix=_OVERLAP)
    return agreeing / pairs


def agreement_per_label(labels_by_item: Iterable[Sequence[Hashable]]) -> float:
    """The chance that another annotator gave an item the same label, averaged over labels.

    p = sum_i sum_k n_ik (n_ik - 1) / (n_i - 1) / sum_i n_i

    In `raw_agreement` an item counts by its pairs of labels; here it counts by its labels, as in an
    accuracy over labels. They differ if items have different numbers of labels. Input: the labels
    of each item; items with one label are ignored. Raises UserError if no item has two labels.
    Source: the diagonal of the coincidences in Krippendorff 2011.
    """
    agreeing, labels_in_all = 0.0, 0
    for labels in labels_by_item:
        if len(labels) > 1:
            same = sum(count * (count - 1) for count in Counter(labels).values())
            agreeing += same / (len(labels) - 1)
            labels_in_all += len(labels)
    if labels_in_all == 0:
        raise UserError(_NO_PAIRS, fix=_OVERLAP)
    return agreeing / labels_in_all


def accuracy_ceiling(agreement: float) -> float:
    """The accuracy of one annotator that explains the agreement of two: the most to ask of a model.

    Two annotators who are right with probability a, independently and on two choices, agree with
    probability p = a^2 + (1 - a)^2, so a = (1 + sqrt(2p - 1)) / 2; 0.5 if p <= 0.5.
    For comparison with an accuracy over labels, p is `agreement_per_label` of the same labels.
    """
    assert 0 <= agreement <= 1, agreement
    return (1 + max(0.0, 2 * agreement - 1) ** 0.5) / 2


def cohen_kappa(table: ArrayLike, weights: Literal["linear", "quadratic"] | None = None) -> float:
    """Agreement of two raters beyond chance: kappa = 1 - sum(w o) / sum(w e).

    o is the table as shares, e the product of its margins; w is 0 on the diagonal and elsewhere 1
    (no weights), |i - j| (linear) or (i - j)^2 (quadratic). NaN if chance alone agrees fully.

    Shapes: `table` [k, k] of counts, first rater in the rows. Raises UserError if it is empty.
    Source: Cohen 1960 and 1968.
    """
    shares = _shares_of(table)
    expected = np.outer(shares.sum(axis=1), shares.sum(axis=0))
    steps = np.abs(np.subtract.outer(np.arange(len(shares)), np.arange(len(shares))))
    power = {None: 0, "linear": 1, "quadratic": 2}[weights]
    costs = np.where(steps == 0, 0.0, steps.astype(float) ** power)
    return _beyond_chance(float((costs * shares).sum()), float((costs * expected).sum()))


def scott_pi(table: ArrayLike) -> float:
    """Agreement of two raters beyond chance, chance being one margin for both: (p_o - e) / (1 - e).

    e = sum_k ((row_k + column_k) / 2)^2, the margins as shares. NaN if only one label was used.

    Shapes: `table` [k, k] of counts, first rater in the rows. Raises UserError if it is empty.
    Source: Scott 1955. (Fleiss' kappa generalises it to many raters.)
    """
    shares = _shares_of(table)
    margins = (shares.sum(axis=1) + shares.sum(axis=0)) / 2
    return _beyond_chance(1 - float(np.trace(shares)), 1 - float(margins @ margins))


def bennett_s(table: ArrayLike) -> float:
    """Agreement of two raters beyond chance, chance being 1 / k: S = (k p_o - 1) / (k - 1).

    k counts the labels that could be given (the table's size), used or not. For two labels it is
    2 p_o - 1, which skewed labels do not lower as they do kappa. NaN for one label.

    Shapes: `table` [k, k] of counts. Raises UserError if it is empty.
    Source: Bennett, Alpert and Goldstein 1954.
    """
    shares = _shares_of(table)
    return _beyond_chance(1 - float(np.trace(shares)), 1 - 1 / len(shares))


def _shares_of(table: ArrayLike) -> Floats:
    counts = np.asarray(table, dtype=float)
    assert counts.ndim == 2 and counts.shape[0] == counts.shape[1], counts.shape
    if counts.sum() == 0:
        raise UserError(_NO_PAIRS, fix=_OVERLAP)
    return counts / counts.sum()


def fleiss_kappa(table: ArrayLike) -> float:
    """Agreement of many raters beyond chance: kappa = (P - P_e) / (1 - P_e).

    P is the raw agreement, P_e = sum_k p_k^2 with p_k the share of label k among all labels.
    NaN if only one label was ever used.

    Shapes: `table` [items, labels] of counts, the same number (two or more) in every row.
    Raises UserError if the rows differ in their number of raters: use Krippendorff's alpha.
    Source: Fleiss 1971.
    """
    counts = np.asarray(table, dtype=float)
    raters = counts.sum(axis=1)
    if len(counts) == 0 or raters[0] < 2 or np.any(raters != raters[0]):
        raise UserError(_UNEQUAL, fix="use krippendorff_alpha, which allows missing labels")
    agreement = float((counts * (counts - 1)).sum() / (raters * (raters - 1)).sum())
    shares = counts.sum(axis=0) / counts.sum()
    return _beyond_chance(1 - agreement, 1 - float((shares**2).sum()))


def fleiss_kappa_named(triples: Iterable[Triple], renamings: Renamings) -> float:
    """`fleiss_kappa` if the labels' names are arbitrary: P_e is its mean over the namings.

    P_e = E[sum_k n_k^2] / n^2; see `krippendorff_alpha` for `renamings` and the expectation.
    Input: (rater, unit, label) triples. Raises UserError if units differ in their number of labels.
    """
    listed = list(triples)
    if len({len(labels) for labels in _by_unit(listed).values()}) > 1:
        raise UserError(_UNEQUAL, fix="use krippendorff_alpha, which allows missing labels")
    sums = _pairable(listed, "nominal", renamings)[1].total()
    size = sums.margins.sum()
    chance = float(sums.margins @ sums.margins + np.trace(sums.excess)) / size**2
    return _beyond_chance(1 - float(np.trace(sums.coincidences)) / size, 1 - chance)


def cohen_kappa_named(
    labels: Mapping[Hashable, tuple[int | float | str, int | float | str]], renamings: Renamings
) -> float:
    """`cohen_kappa` if the labels' names are arbitrary: P_e is its mean over the namings.

    P_e = sum_k E[r_k c_k] / n^2 = (sum_k r_k c_k + sum_u (a_u - sum_k r_uk c_uk)) / n^2

    with r and c the expected margins of both raters, r_uk and c_uk their parts from unit u, and
    a_u = 1 if both gave u the same label. Input: both raters' labels of each unit. Raises UserError
    if there are none.
    """
    if not labels:
        raise UserError(_NO_PAIRS, fix=_OVERLAP)
    places = {name: place for place, name in enumerate(_all_names(labels, renamings))}
    firsts, seconds = (
        _expected_labels([pair[rater] for pair in labels.values()], list(labels), renamings, places)
        for rater in (0, 1)
    )
    same = np.array([float(first == second) for first, second in labels.values()])
    chance = (
        firsts.sum(axis=0) @ seconds.sum(axis=0) + (same - (firsts * seconds).sum(axis=1)).sum()
    )
    return _beyond_chance(1 - float(same.mean()), 1 - float(chance) / len(labels) ** 2)


def _all_names(
    labels: Mapping[Hashable, tuple[int | float | str, int | float | str]], renamings: Renamings
) -> list[int | float | str]:
    every = (
        names.get(label, label)
        for unit, pair in labels.items()
        for names in renamings.get(unit, ({},))
        for label in pair
    )
    return list(dict.fromkeys(every))


def _expected_labels(
    given: Sequence[int | float | str],
    units: Sequence[Hashable],
    renamings: Renamings,
    places: Mapping[int | float | str, int],
) -> Floats:
    """The probability of each name [u, v] of one rater's label of each unit."""
    found = np.zeros((len(units), len(places)))
    for row, (unit, label) in enumerate(zip(units, given, strict=True)):
        ways = renamings.get(unit, ({},))
        for names in ways:
            found[row, places[names.get(label, label)]] += 1 / len(ways)
    return found


def _beyond_chance(observed: float, expected: float) -> float:
    # 1 - sum p^2 of a single label may be 1e-16: a rounding error is not disagreement
    return 1 - observed / expected if expected > 1e-12 else float("nan")


def krippendorff_alpha(
    triples: Iterable[Triple], level: Level = "nominal", *, renamings: Renamings | None = None
) -> float:
    """Agreement beyond chance of any number of coders, missing labels allowed.

    alpha = 1 - (n - 1) sum_ck o_ck d_ck / sum_ck n_c n_k d_ck over the coincidences o of values
    within units, where n_c are its margins, n their sum, and d the squared distance: c != k
    (nominal), (c - k)^2 (interval), (sum_{g=c..k} n_g - (n_c + n_k) / 2)^2 (ordinal).
    NaN if only one value was ever paired.

    If the names of a unit's values are arbitrary ("the first answer" of two), alpha depends on how
    they fell. `renamings` lists, for each unit, equally likely namings as maps of values (values
    that a map lacks keep their names; units that it lacks have the one naming). Then

    alpha = 1 - (n - 1) sum_ck E[o_ck] d_ck / sum_ck E[n_c n_k] d_ck
    E[n_c n_k] = m_c m_k + sum_u (E[n_uc n_uk] - m_uc m_uk), m_uc = E[n_uc], m_c = sum_u m_uc

    with the namings of different units independent, and d by the expected margins m. This is the
    observed and the expected disagreement, each averaged over all namings; the mean of alpha itself
    over namings differs from it by terms of 1 / units^2. Averaging the coincidences of both orders
    alone (E[n_c n_k] = m_c m_k) would not do: two labels of one unit are renamed together.

    Input: (coder, unit, value) triples; units with one value are ignored. Raises UserError if no
    unit has two values. Source: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability.
    """
    values, units = _pairable(triples, level, renamings)
    return _alpha(units.total(), values, level)


def krippendorff_interval(
    triples: Iterable[Triple],
    level: Level = "nominal",
    *,
    clusters: Mapping[Hashable, Hashable] | None = None,
    renamings: Renamings | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Krippendorff's alpha with an interval over the units.

    alpha = 1 - (D_o / d_max) / (D_e / d_max): the observed disagreement, as a share of the largest
    that the values allow, has the interval of a share (`share_estimate`), and alpha's ends follow
    with D_e held fixed. The design effect comes from the jackknife of alpha, so it includes the
    uncertainty of D_e. If all agree, low = 1 - (1 - w) / D_e with w the low end of Wilson's
    interval of the raw agreement.

    Both ends are open if alpha depends on one unit (without it only one value was ever paired).

    `clusters` maps each unit to its cluster (its prompt), over which the interval is then taken;
    `n` of the result counts them. Input, `renamings` and errors: see `krippendorff_alpha`.
    """
    values, units = _pairable(triples, level, renamings)
    if clusters is not None:
        units = units.summed([clusters[unit] for unit in units.names])
    total, count = units.total(), len(units.names)
    distances = _squared_distances(values, total.margins, level)
    expected = _expected(total, distances)
    value = _alpha(total, values, level)
    alone = count < 2
    without = [_alpha(total.without(units, n), values, level) for n in range(0 if alone else count)]
    pseudo = count * value - (count - 1) * np.array(without)
    if alone or not np.all(np.isfinite(pseudo)):
        return Estimate(value=value, low=-np.inf, high=np.inf, n=count)
    share = expected / float(distances.max())  # expected disagreement relative to the largest
    seen = (1 - value) * share
    doubt = share_estimate(
        min(1.0, seen),
        min(1.0, seen) - share * (pseudo - pseudo.mean()),
        np.ones(count),
        level=confidence,
    )
    return Estimate(value=value, low=1 - doubt.high / share, high=1 - doubt.low / share, n=count)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sums:
    """Of some units together: expected coincidences [v, v], expected margins [v], and how much
    E[n n^T] exceeds the product of the margins, [v, v]."""

    coincidences: Floats
    margins: Floats
    excess: Floats

    def without(self, units: "_Units", place: int) -> "_Sums":
        """The sums over all but one of the units."""
        return _Sums(
            coincidences=self.coincidences - units.coincidences[place],
            margins=self.margins - units.margins[place],
            excess=self.excess - units.excess[place],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Units:
    """The arrays of `_Sums` for each pairable unit, or for each cluster of them."""

    names: list[Hashable]
    coincidences: Floats
    margins: Floats
    excess: Floats

    def total(self) -> _Sums:
        """The sums over all."""
        return _Sums(
            coincidences=self.coincidences.sum(axis=0),
            margins=self.margins.sum(axis=0),
            excess=self.excess.sum(axis=0),
        )

    def summed(self, clusters: Sequence[Hashable]) -> "_Units":
        """The sums of each cluster; `clusters` names that of each unit."""
        numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
        rows = [numbers[name] for name in clusters]

        def add(parts: Floats) -> Floats:
            sums = np.zeros((len(numbers), *parts.shape[1:]))
            np.add.at(sums, rows, parts)
            return sums

        arrays = add(self.coincidences), add(self.margins), add(self.excess)
        return _Units(
            names=list(numbers), coincidences=arrays[0], margins=arrays[1], excess=arrays[2]
        )


def _by_unit(triples: Iterable[Triple]) -> dict[Hashable, list[int | float | str]]:
    """The labels of each unit that has at least two."""
    found: dict[Hashable, list[int | float | str]] = {}
    for _, unit, value in triples:
        found.setdefault(unit, []).append(value)
    return {unit: labels for unit, labels in found.items() if len(labels) > 1}


def _pairable(
    triples: Iterable[Triple], level: Level, renamings: Renamings | None
) -> tuple[Floats, _Units]:
    """The sorted values [v] as numbers, and the units with at least two labels."""
    by_unit = _by_unit(triples)
    if not by_unit:
        raise UserError(_NO_PAIRS, fix=_OVERLAP)
    maps = [(renamings or {}).get(unit, ({},)) for unit in by_unit]
    named = [
        [[names.get(label, label) for label in labels] for names in ways]
        for labels, ways in zip(by_unit.values(), maps, strict=True)
    ]
    values = sorted({label for ways in named for labels in ways for label in labels})  # type: ignore[type-var]
    counts, weights, rows = _namings(named, {value: at for at, value in enumerate(values)})
    second = _mean(counts[:, :, None] * counts[:, None, :], weights, rows, len(named))
    margins = _mean(counts, weights, rows, len(named))
    sizes = margins.sum(axis=1)
    # no coder is paired with themselves
    pairs = second - margins[:, :, None] * np.eye(len(values))
    units = _Units(
        names=list(by_unit),
        coincidences=pairs / (sizes - 1)[:, None, None],
        margins=margins,
        excess=second - margins[:, :, None] * margins[:, None, :],
    )
    if level == "interval":
        return np.array(values, dtype=float), units
    return np.arange(len(values), dtype=float), units


def _namings(
    named: Sequence[Sequence[Sequence[int | float | str]]],
    places: Mapping[int | float | str, int],
) -> tuple[Floats, Floats, Ints]:
    """Of every naming of every unit: label counts [w, v], its probability [w], its unit [w]."""
    rows = [unit for unit, ways in enumerate(named) for _ in ways]
    weights = [1 / len(ways) for ways in named for _ in ways]
    counts = np.zeros((len(rows), len(places)))
    every = [labels for ways in named for labels in ways]
    way = [number for number, labels in enumerate(every) for _ in labels]
    np.add.at(counts, (way, [places[label] for labels in every for label in labels]), 1.0)
    return counts, np.array(weights), np.array(rows, dtype=np.int64)


def _mean(parts: Floats, weights: Floats, rows: Ints, count: int) -> Floats:
    """The mean over the namings of each unit, [count, ...]."""
    found = np.zeros((count, *parts.shape[1:]))
    np.add.at(found, rows, parts * weights.reshape(-1, *[1] * (parts.ndim - 1)))
    return found


def _alpha(sums: _Sums, values: Floats, level: Level) -> float:
    distances = _squared_distances(values, sums.margins, level)
    size = sums.margins.sum()
    observed = float((sums.coincidences * distances).sum() / size)
    return _beyond_chance(observed, _expected(sums, distances))


def _expected(sums: _Sums, distances: Floats) -> float:
    """The expected disagreement of two labels drawn from all."""
    size = sums.margins.sum()
    pairs = np.outer(sums.margins, sums.margins) + sums.excess
    return float((pairs * distances).sum() / (size * (size - 1)))


def _squared_distances(values: Floats, margins: Floats, level: Level) -> Floats:
    if level == "nominal":
        return 1 - np.eye(len(values))
    if level == "interval":
        return np.subtract.outer(values, values) ** 2
    # ordinal: the margins from c to k less half of both ends are a difference of mid-ranks
    middles = np.cumsum(margins) - margins / 2
    return np.subtract.outer(middles, middles) ** 2
