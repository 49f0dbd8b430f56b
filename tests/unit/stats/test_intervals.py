"""Intervals and tests: worked by hand, and against the textbook's normal approximation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignloop.errors import UserError
from alignloop.stats.intervals import (
    cluster_bootstrap,
    cluster_draws,
    paired_sign_test,
    wilson,
)


def test_two_clusters_can_only_be_drawn_in_three_ways() -> None:
    # clusters of mean 0 and 1: resampled means are 0, 1/2, 1 with chances 1/4, 1/2, 1/4
    estimate = cluster_bootstrap([0, 0, 1, 1], ["p", "p", "q", "q"], seed=0, level=0.4)
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (0.5, 0.5, 0.5, 2)
    wide = cluster_bootstrap([0, 0, 1, 1], ["p", "p", "q", "q"], seed=0, level=0.6)
    assert (wide.low, wide.high) == (0.0, 1.0)


def test_large_clusters_weigh_more_in_the_mean() -> None:
    # drawing p twice gives 0, q twice gives 1, one of each gives (0 + 1 + 1 + 1) / 4
    estimate = cluster_bootstrap([0, 1, 1, 1], ["p", "q", "q", "q"], seed=0, level=0.4)
    assert (estimate.value, estimate.low, estimate.high) == (0.75, 0.75, 0.75)


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide() -> None:
    values = np.tile([0.0, 1.0], 200)  # standard error sqrt(0.25 / 400) = 0.025
    estimate = cluster_bootstrap(values, np.arange(400), seed=1, num_resamples=4000)
    assert estimate.low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.005)
    assert estimate.high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.005)


def test_copies_of_an_answer_do_not_make_us_surer() -> None:
    values = np.tile([0.0, 1.0], 50)
    once = cluster_bootstrap(values, np.arange(100), seed=2)
    copied = cluster_bootstrap(np.repeat(values, 9), np.repeat(np.arange(100), 9), seed=2)
    assert (once.low, once.high, once.n) == (copied.low, copied.high, copied.n)


def test_the_fast_mean_and_the_general_way_agree() -> None:
    values, clusters = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0]), [1, 1, 2, 3, 3, 3]
    fast = cluster_bootstrap(values, clusters, seed=3, num_resamples=200)
    general = cluster_bootstrap(
        values, clusters, statistic=lambda x: float(x.mean()), seed=3, num_resamples=200
    )
    assert fast.low == pytest.approx(general.low, rel=1e-12)
    assert fast.high == pytest.approx(general.high, rel=1e-12)


def test_a_statistic_of_rows_sees_rows() -> None:
    rows = np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    ratio = cluster_bootstrap(
        rows, [0, 1, 2], statistic=lambda x: float(x[:, 1].sum() / x[:, 0].sum()), seed=0
    )
    assert (ratio.value, ratio.low, ratio.high) == (2.0, 2.0, 2.0)


def test_nothing_to_measure_is_said_in_words() -> None:
    with pytest.raises(UserError, match="nothing to measure"):
        cluster_bootstrap([], [], seed=0)
    with pytest.raises(UserError, match="share of nothing"):
        wilson(0, 0)


@given(clusters=st.integers(1, 40), resamples=st.integers(1, 30), seed=st.integers(0, 9))
def test_every_resample_draws_as_many_clusters_as_there_are(
    clusters: int, resamples: int, seed: int
) -> None:
    table = np.concatenate(list(cluster_draws(clusters, resamples, seed)))
    assert table.shape == (resamples, clusters)
    assert np.all(table.sum(axis=1) == clusters)


def test_chunks_hold_every_resample_once() -> None:
    chunks = list(cluster_draws(400_000, 5, seed=0))
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]


def test_wilson_of_published_and_hand_worked_cases() -> None:
    # Newcombe 1998, table I: 81 of 263 and 15 of 148
    assert wilson(81, 263).low == pytest.approx(0.2553, abs=5e-5)
    assert wilson(81, 263).high == pytest.approx(0.3662, abs=5e-5)
    assert wilson(15, 148).low == pytest.approx(0.0624, abs=5e-5)
    assert wilson(15, 148).high == pytest.approx(0.1605, abs=5e-5)
    # 0 of n: from 0 to z^2 / (n + z^2), with z^2 = 3.841459
    assert wilson(0, 20).low == 0
    assert wilson(0, 20).high == pytest.approx(3.841459 / 23.841459, abs=1e-7)


@given(n=st.integers(1, 500), data=st.data())
def test_wilson_holds_the_share_and_mirrors(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    one, other = wilson(successes, n), wilson(n - successes, n)
    assert 0 <= one.low <= successes / n + 1e-12
    assert successes / n - 1e-12 <= one.high <= 1
    assert one.low == pytest.approx(1 - other.high, abs=1e-12)


def test_sign_test_by_hand() -> None:
    # 5 of 5: 2 / 2^5; 4 of 5: 2 (1 + 5) / 2^5; the tie is dropped
    assert paired_sign_test([2, 2, 2, 2, 2, 7], [1, 1, 1, 1, 1, 7]) == pytest.approx(2 / 32)
    assert paired_sign_test([2, 2, 2, 2, 0], [1, 1, 1, 1, 1]) == pytest.approx(12 / 32)
    assert paired_sign_test([1, 2], [1, 2]) == 1.0


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_sign_test_does_not_care_which_side_is_which(pairs: list[tuple[int, int]]) -> None:
    a, b = [one for one, _ in pairs], [other for _, other in pairs]
    assert paired_sign_test(a, b) == pytest.approx(paired_sign_test(b, a), rel=1e-12)
