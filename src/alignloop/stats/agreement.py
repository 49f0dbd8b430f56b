"""How far annotators agree, and how accurate each one is."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp, xlogy

from alignloop.errors import UserError
from alignloop.stats.intervals import Estimate, Floats, share_estimate

Level = Literal["nominal", "ordinal", "interval"]
Triple = tuple[Hashable, Hashable, int | float | str]

_NO_PAIRS = "no item was judged twice, so agreement is not defined"
_OVERLAP = "give some items to two or more annotators"


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
        raise UserError(
            "Fleiss' kappa needs the same number of raters, two or more, on every item",
            fix="use krippendorff_alpha, which allows missing labels",
        )
    agreement = float((counts * (counts - 1)).sum() / (raters * (raters - 1)).sum())
    shares = counts.sum(axis=0) / counts.sum()
    return _beyond_chance(1 - agreement, 1 - float((shares**2).sum()))


def _beyond_chance(observed: float, expected: float) -> float:
    # 1 - sum p^2 of a single label may be 1e-16: a rounding error is not disagreement
    return 1 - observed / expected if expected > 1e-12 else float("nan")


def krippendorff_alpha(triples: Iterable[Triple], level: Level = "nominal") -> float:
    """Agreement beyond chance of any number of coders, missing labels allowed.

    alpha = 1 - (n - 1) sum_ck o_ck d_ck / sum_ck n_c n_k d_ck over the coincidences o of values
    within units, where n_c are its margins, n their sum, and d the squared distance: c != k
    (nominal), (c - k)^2 (interval), (sum_{g=c..k} n_g - (n_c + n_k) / 2)^2 (ordinal).
    NaN if only one value was ever paired.

    Input: (coder, unit, value) triples; units with one value are ignored. Raises UserError if no
    unit has two values. Source: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability.
    """
    values, coincidences = _coincidences(triples, level)
    return _alpha(coincidences.sum(axis=0), values, level)


def krippendorff_interval(
    triples: Iterable[Triple],
    level: Level = "nominal",
    *,
    clusters: Mapping[Hashable, Hashable] | None = None,
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
    `n` of the result counts them. Input and errors: see `krippendorff_alpha`.
    """
    listed = list(triples)
    values, coincidences = _coincidences(listed, level)
    if clusters is not None:
        named = [clusters[unit] for unit in _by_unit(listed)]
        coincidences = _summed(coincidences, named)
    total, count = coincidences.sum(axis=0), len(coincidences)
    margins = total.sum(axis=1)
    distances = _squared_distances(values, margins, level)
    expected = float(margins @ distances @ margins / (margins.sum() * (margins.sum() - 1)))
    value = _alpha(total, values, level)
    without = [_alpha(total - one, values, level) for one in coincidences]
    pseudo = count * value - (count - 1) * np.array(without)
    if count < 2 or not np.all(np.isfinite(pseudo)):
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


def _summed(coincidences: Floats, clusters: Sequence[Hashable]) -> Floats:
    """The coincidences of each cluster's units, summed: [clusters, v, v]."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((len(numbers), *coincidences.shape[1:]))
    np.add.at(sums, [numbers[name] for name in clusters], coincidences)
    return sums


def _by_unit(triples: Iterable[Triple]) -> dict[Hashable, list[int | float | str]]:
    """The labels of each unit that has at least two."""
    found: dict[Hashable, list[int | float | str]] = {}
    for _, unit, value in triples:
        found.setdefault(unit, []).append(value)
    return {unit: labels for unit, labels in found.items() if len(labels) > 1}


def _coincidences(triples: Iterable[Triple], level: Level) -> tuple[Floats, Floats]:
    """The sorted values [v] as numbers, and each pairable unit's coincidences [u, v, v]."""
    units = list(_by_unit(triples).values())
    if not units:
        raise UserError(_NO_PAIRS, fix=_OVERLAP)
    names = np.unique(np.array([label for labels in units for label in labels]))
    counts = np.array([[labels.count(name) for name in names.tolist()] for labels in units], float)
    pairs = counts[:, :, None] * counts[:, None, :]
    pairs -= counts[:, :, None] * np.eye(len(names))  # no coder is paired with themselves
    numbers = names.astype(float) if level == "interval" else np.arange(len(names), dtype=float)
    return numbers, pairs / (counts.sum(axis=1) - 1)[:, None, None]


def _alpha(coincidences: Floats, values: Floats, level: Level) -> float:
    margins = coincidences.sum(axis=1)
    distances = _squared_distances(values, margins, level)
    expected = float(margins @ distances @ margins / (margins.sum() - 1))
    return _beyond_chance(float((coincidences * distances).sum()), expected)


def _squared_distances(values: Floats, margins: Floats, level: Level) -> Floats:
    if level == "nominal":
        return 1 - np.eye(len(values))
    if level == "interval":
        return np.subtract.outer(values, values) ** 2
    # ordinal: the margins from c to k less half of both ends are a difference of mid-ranks
    middles = np.cumsum(margins) - margins / 2
    return np.subtract.outer(middles, middles) ** 2


@dataclass(frozen=True, kw_only=True, eq=False)
class DawidSkene:
    """Estimates of the items' true classes and the annotators' error rates.

    `posteriors` [items, classes]: probability of each true class; `class_shares` [classes];
    `error_rates` [annotators, classes, classes]: probability that an annotator reports the last
    index when the truth is the middle one. Rows follow `items` and `annotators`.
    """

    items: tuple[Hashable, ...]
    annotators: tuple[Hashable, ...]
    posteriors: Floats
    class_shares: Floats
    error_rates: Floats
    log_likelihood: float
    iterations: int

    def accuracy(self) -> dict[Hashable, float]:
        """Each annotator's probability of the true class: sum_k share_k error_rates[a, k, k]."""
        right = np.diagonal(self.error_rates, axis1=1, axis2=2) @ self.class_shares
        return dict(zip(self.annotators, right.tolist(), strict=True))


def dawid_skene(
    responses: Iterable[tuple[Hashable, Hashable, int]],
    num_classes: int,
    *,
    max_iterations: int = 100,
    tolerance: float = 1e-5,
) -> DawidSkene:
    """True classes and annotators' error rates together, by expectation maximisation.

    p(labels of i) = sum_k share_k prod_{a, l} error_rates[a, k, l]^{n_ial}

    Starts from each item's label shares; ends when the class shares and the error rates both moved
    by less than `tolerance` in sum of absolute changes. The error rates for a class that an
    annotator certainly never saw are uniform.

    Input: (annotator, item, label) triples, labels in 0..num_classes-1, repeats allowed.
    Raises UserError if there are none or if a label is out of range.
    Source: Dawid and Skene 1979, eq. 2.3 to 2.5.
    """
    annotators, items, counts = _label_counts(responses, num_classes)
    # majority shares as a start keep the classes in their order
    posteriors = counts.sum(axis=1) / counts.sum(axis=(1, 2))[:, None]
    shares, rates = _maximise(counts, posteriors)
    likelihood, iterations = -np.inf, 0
    for iterations in range(1, max_iterations + 1):  # noqa: B007 (read after the loop)
        posteriors, likelihood = _expect(counts, shares, rates)
        before = shares, rates
        shares, rates = _maximise(counts, posteriors)
        moved = [np.abs(new - old).sum() for new, old in zip((shares, rates), before, strict=True)]
        if max(moved) < tolerance:
            break
    return DawidSkene(
        items=items,
        annotators=annotators,
        posteriors=posteriors,
        class_shares=shares,
        error_rates=rates,
        log_likelihood=likelihood,
        iterations=iterations,
    )


def _label_counts(
    responses: Iterable[tuple[Hashable, Hashable, int]], num_classes: int
) -> tuple[tuple[Hashable, ...], tuple[Hashable, ...], Floats]:
    """Annotators, items, and counts [i, a, k]: how often annotator a gave item i the label k."""
    triples = list(responses)
    if not triples:
        raise UserError("no labels", fix="give at least one (annotator, item, label)")
    wrong = next((t for t in triples if not 0 <= t[2] < num_classes), None)
    if wrong is not None:
        raise UserError(
            f"{wrong[2]!r} is not a class number",
            where=f"annotator {wrong[0]!r}, item {wrong[1]!r}",
            fix=f"number the classes 0 to {num_classes - 1}",
        )
    annotators = tuple(dict.fromkeys(annotator for annotator, _, _ in triples))
    items = tuple(dict.fromkeys(item for _, item, _ in triples))
    rows = {item: index for index, item in enumerate(items)}
    columns = {annotator: index for index, annotator in enumerate(annotators)}
    counts = np.zeros((len(items), len(annotators), num_classes))
    for annotator, item, label in triples:
        counts[rows[item], columns[annotator], label] += 1
    return annotators, items, counts


def _maximise(counts: Floats, posteriors: Floats) -> tuple[Floats, Floats]:
    reported = np.einsum("it,iar->atr", posteriors, counts)
    totals = reported.sum(axis=2, keepdims=True)
    uniform = np.full_like(reported, 1 / counts.shape[2])
    rates = np.divide(reported, totals, out=uniform, where=totals > 0)
    return posteriors.mean(axis=0), rates


def _expect(counts: Floats, shares: Floats, rates: Floats) -> tuple[Floats, float]:
    # xlogy: a label that never occurs adds nothing, even if its rate is zero
    joint = xlogy(1.0, shares) + np.stack(
        [xlogy(counts, rates[:, true]).sum(axis=(1, 2)) for true in range(len(shares))], axis=1
    )
    evidence = logsumexp(joint, axis=1, keepdims=True)
    return np.exp(joint - evidence), float(evidence.sum())
