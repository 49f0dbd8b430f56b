"""True classes and annotators' error rates from labels alone: Dawid and Skene 1979."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri, stdtrit

from alignloop.errors import UserError
from alignloop.stats.intervals import Estimate, Floats, Ints, cluster_codes, share_interval

Response = tuple[Hashable, Hashable, int]  # annotator, item, label
NUM_GROUPS = 20  # of the jackknife
_FEWEST = 5  # groups, or items that two people share: fewer say nothing


@dataclass(frozen=True, kw_only=True, eq=False)
class DawidSkene:
    """Estimates of the items' true classes and the annotators' error rates.

    `posteriors` [items, classes]: probability of each true class; `class_shares` [classes];
    `error_rates` [annotators, classes, classes]: probability that an annotator reports the last
    index when the truth is the middle one, and `reported` the expected numbers behind them. Rows
    follow `items` and `annotators`.
    """

    items: tuple[Hashable, ...]
    annotators: tuple[Hashable, ...]
    posteriors: Floats
    class_shares: Floats
    error_rates: Floats
    reported: Floats
    log_likelihood: float
    iterations: int

    def accuracy(self) -> dict[Hashable, float]:
        """Each annotator's probability of the true class: sum_k share_k error_rates[a, k, k]."""
        right = np.diagonal(self.error_rates, axis1=1, axis2=2) @ self.class_shares
        return dict(zip(self.annotators, right.tolist(), strict=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Labels:
    """The labels as columns: item, annotator and class of each, and how many there are of each."""

    items: tuple[Hashable, ...]
    annotators: tuple[Hashable, ...]
    item: Ints
    annotator: Ints
    label: Ints
    num_classes: int
    exchangeable: int

    def table(self) -> Any:
        """How often each annotator gave each label, in the rows, to each item: sparse."""
        rows = self.annotator * self.num_classes + self.label
        shape = len(self.annotators) * self.num_classes, len(self.items)
        return cast(Any, csr_array)((np.ones(len(rows)), (rows, self.item)), shape=shape)


def dawid_skene(
    responses: Iterable[Response],
    num_classes: int,
    *,
    exchangeable: int = 0,
    max_iterations: int = 100,
    tolerance: float = 1e-5,
) -> DawidSkene:
    """True classes and annotators' error rates together, by expectation maximisation.

    p(labels of i) = sum_k share_k prod_{a, l} error_rates[a, k, l]^{n_ial}

    Starts from each item's label shares; ends when the class shares and the error rates both moved
    by less than `tolerance` in sum of absolute changes. The error rates for a class that an
    annotator certainly never saw are uniform.

    The first `exchangeable` classes differ in name alone, as "answer 1" and "answer 2" do: their
    shares are equal, and so are an annotator's rates that renaming them would exchange (of the true
    one, of another one, of and from each further class). The result then does not depend on which
    of them an item's label was called.

    Input: (annotator, item, label) triples, labels in 0..num_classes-1, repeats allowed.
    Raises UserError if there are none or if a label is out of range.
    Source: Dawid and Skene 1979, eq. 2.3 to 2.5.
    """
    labels = _labels(responses, num_classes, exchangeable)
    everything = np.ones((1, len(labels.items)))
    fit = _fit(labels, everything, max_iterations, tolerance)
    return DawidSkene(
        items=labels.items,
        annotators=labels.annotators,
        posteriors=fit.posteriors[0],
        class_shares=fit.shares[0],
        error_rates=fit.rates[0],
        reported=fit.reported[0],
        log_likelihood=fit.likelihood,
        iterations=fit.iterations,
    )


def accuracy_intervals(
    responses: Iterable[Response],
    fitted: DawidSkene,
    clusters: Iterable[Hashable],
    *,
    exchangeable: int = 0,
) -> dict[Hashable, Estimate]:
    """`fitted.accuracy()` with intervals that know that the truth is itself estimated.

    var = (G - 1) / G sum_g (accuracy without group g - their mean)^2

    over G = 20 groups of clusters, or one for each cluster if there are fewer: a jackknife of the
    whole fit. The ends are those of a share p (`share_interval`) of p (1 - p) / var cases, at most
    n, with two right and two wrong labels added to p, which else is 1 for who agreed with everybody
    by luck, and with Student's quantile of G - 1. In simulations 94 to 97 % of the intervals hold
    the true accuracy (three or four people of .74 to .90 on 40 to 150 items).

    An interval is 0 to 1 if labels do not determine the accuracy: if no two others share five items
    with the annotator and with each other, disagreement can be explained by either's errors.

    `responses` are those that were fitted, `clusters` the cluster (the prompt) of each of
    `fitted.items`; `n` of the result counts the clusters that the annotator labelled.
    Source: Kott 2001 on the delete-a-group jackknife.
    """
    labels = _labels(responses, fitted.posteriors.shape[1], exchangeable)
    codes, num_clusters = cluster_codes([repr(one) for one in clusters])
    groups = min(NUM_GROUPS, num_clusters)
    accuracy = _without_each(labels, codes, groups) if groups >= _FEWEST else None
    triangles, found = _triangles(labels), dict[Hashable, Estimate]()
    for row, (name, share) in enumerate(fitted.accuracy().items()):
        size = len(np.unique(codes[labels.item[labels.annotator == row]]))
        found[name] = _unknown(share, size)
        if accuracy is not None and triangles[row] > 0:
            found[name] = _interval(share, accuracy[:, row], size)
    return found


def determined(responses: Iterable[Response], num_classes: int) -> set[Hashable]:
    """The annotators whose accuracy the labels determine: see `accuracy_intervals`."""
    labels = _labels(responses, num_classes, 0)
    counts = zip(labels.annotators, _triangles(labels).tolist(), strict=True)
    return {name for name, triangles in counts if triangles}


def _without_each(labels: _Labels, codes: Ints, groups: int) -> Floats:
    """Each annotator's accuracy without each group of clusters, [groups, annotators]."""
    # neighbours are in different groups: a file may be sorted by topic
    is_kept = (codes % groups)[None, :] != np.arange(groups)[:, None]
    fit = _fit(labels, is_kept.astype(float), 100, 1e-5)
    return np.einsum("gakk,gk->ga", fit.rates, fit.shares)


def _unknown(share: float, size: int) -> Estimate:
    return Estimate(value=share, low=0.0, high=1.0, n=size)


def _interval(share: float, without: Floats, size: int) -> Estimate:
    groups = len(without)
    quantile = float(stdtrit(groups - 1, 0.975) / ndtri(0.975))
    variance = quantile**2 * (groups - 1) / groups * float(((without - without.mean()) ** 2).sum())
    middle = (share * size + 2) / (size + 4)
    cases = min(float(size), middle * (1 - middle) / max(variance, 1e-12))
    doubt = share_interval(middle * cases, cases)
    return Estimate(value=share, low=min(share, doubt.low), high=max(share, doubt.high), n=size)


def _triangles(labels: _Labels) -> Ints:
    """[annotators]: in how many triangles of people of whom each two share enough items."""
    judged = np.zeros((len(labels.annotators), len(labels.items)))
    judged[labels.annotator, labels.item] = 1
    links = ((judged @ judged.T >= _FEWEST) & ~np.eye(len(judged), dtype=bool)).astype(np.int64)
    return ((links @ links) * links).sum(axis=1)


def _labels(responses: Iterable[Response], num_classes: int, exchangeable: int) -> _Labels:
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
    return _Labels(
        items=items,
        annotators=annotators,
        item=np.array([rows[item] for _, item, _ in triples], dtype=np.int64),
        annotator=np.array([columns[name] for name, _, _ in triples], dtype=np.int64),
        label=np.array([label for _, _, label in triples], dtype=np.int64),
        num_classes=num_classes,
        exchangeable=exchangeable,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fit:
    """Estimates [fits, ...] of several fits at once; `likelihood` is the first one's."""

    posteriors: Floats
    shares: Floats
    rates: Floats
    reported: Floats
    likelihood: float
    iterations: int


def _fit(labels: _Labels, weights: Floats, max_iterations: int, tolerance: float) -> _Fit:
    """Fits with the items weighted by each row of `weights` [fits, items]."""
    # majority shares as a start keep the classes in their order
    counts = np.zeros((len(labels.items), labels.num_classes))
    np.add.at(counts, (labels.item, labels.label), 1.0)
    start = counts / counts.sum(axis=1, keepdims=True)
    posteriors = np.broadcast_to(start, (len(weights), *start.shape))
    table = labels.table()
    shares, rates, reported = _maximise(labels, table, posteriors * weights[:, :, None])
    evidence, iterations = np.zeros((len(weights), len(labels.items))), 0
    for iterations in range(1, max_iterations + 1):  # noqa: B007 (read after the loop)
        posteriors, evidence = _expect(labels, table, shares, rates)
        before = shares, rates
        shares, rates, reported = _maximise(labels, table, posteriors * weights[:, :, None])
        moves = (np.abs(new - old) for new, old in zip((shares, rates), before, strict=True))
        if max(moved.sum(axis=tuple(range(1, moved.ndim))).max() for moved in moves) < tolerance:
            break
    return _Fit(
        posteriors=posteriors,
        shares=shares,
        rates=rates,
        reported=reported,
        likelihood=float(evidence[0].sum()),
        iterations=iterations,
    )


def _maximise(labels: _Labels, table: Any, weighted: Floats) -> tuple[Floats, Floats, Floats]:
    fits, items, count = weighted.shape
    columns = weighted.transpose(1, 0, 2).reshape(items, fits * count)
    cells = (table @ columns).reshape(-1, count, fits, count)  # annotator, reported, fit, true
    reported = _alike(cells.transpose(2, 0, 3, 1), labels.exchangeable)
    totals = reported.sum(axis=-1, keepdims=True)
    uniform = np.full_like(reported, 1 / count)
    rates = np.divide(reported, totals, out=uniform, where=totals > 0)
    shares = weighted.sum(axis=1) / weighted.sum(axis=(1, 2))[:, None]
    return _alike_shares(shares, labels.exchangeable), rates, reported


def _expect(labels: _Labels, table: Any, shares: Floats, rates: Floats) -> tuple[Floats, Floats]:
    """Posteriors [fits, items, classes] and each item's log likelihood [fits, items]."""
    fits, _, count, _ = rates.shape
    # a class of share zero, or a label of rate zero, rules the class out
    with np.errstate(divide="ignore"):
        log_shares, log_rates = np.log(shares), np.log(rates)
    columns = log_rates.transpose(1, 3, 0, 2).reshape(-1, fits * count)
    joint = (table.T @ columns).reshape(-1, fits, count).transpose(1, 0, 2) + log_shares[:, None]
    top = joint.max(axis=2, keepdims=True)
    top[~np.isfinite(top)] = 0  # an item outside a fit may have labels that the fit rules out
    likely = np.exp(joint - top)
    total = likely.sum(axis=2, keepdims=True)
    posteriors = np.divide(likely, total, out=np.zeros_like(likely), where=total > 0)
    with np.errstate(divide="ignore"):
        return posteriors, (np.log(total) + top)[:, :, 0]


def _alike(cells: Floats, exchangeable: int) -> Floats:
    """The mean of those cells [..., classes, classes] that renaming the classes exchanges."""
    if exchangeable < 2:
        return cells
    alike, count = cells.copy(), exchangeable
    block = cells[..., :count, :count]
    same = np.trace(block, axis1=-2, axis2=-1) / count
    other = (block.sum(axis=(-2, -1)) - same * count) / (count * (count - 1))
    is_same = np.eye(count, dtype=bool)
    alike[..., :count, :count] = np.where(is_same, same[..., None, None], other[..., None, None])
    alike[..., :count, count:] = cells[..., :count, count:].mean(axis=-2, keepdims=True)
    alike[..., count:, :count] = cells[..., count:, :count].mean(axis=-1, keepdims=True)
    return alike


def _alike_shares(shares: Floats, exchangeable: int) -> Floats:
    alike = shares.copy()
    if exchangeable:
        alike[..., :exchangeable] = shares[..., :exchangeable].mean(axis=-1, keepdims=True)
    return alike
