"""Intervals and tests: worked by hand, and against the textbook's normal approximation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from alignloop.errors import UserError
from alignloop.stats.intervals import (
    cluster_bootstrap,
    cluster_draws,
    cluster_share,
    paired_sign_test,
    share_interval,
    wilson,
)


def test_five_clusters_by_hand() -> None:
    # values 0 0 0 0 1: mean 1/5, se = sqrt(4/25) / 2. A resample with k ones has
    # t = (k/5 - 1/5) / (sqrt(k/5 (1 - k/5)) / 2); k = 0 (chance .8^5 = .33) has no spread: -inf
    found = cluster_bootstrap([0, 0, 0, 0, 1], range(5), seed=0, level=0.3)
    assert (found.value, found.n) == (0.2, 5)
    assert found.low == pytest.approx(0.2)  # k = 1, t = 0: the quantile .65 lies within .33 .. .74
    wide = cluster_bootstrap([0, 0, 0, 0, 1], range(5), seed=0, level=0.6)
    # quantile .8 lies within k = 2 (.74 .. .94): t = (1/5) / (sqrt(6/25) / 2), times se
    assert wide.low == pytest.approx(0.2 - 0.2 * 2 / 6**0.5)
    assert wide.high == np.inf  # quantile .2 lies within k = 0


def test_large_clusters_weigh_more_in_the_mean() -> None:
    found = cluster_bootstrap([0, 1, 1, 1, 4, 5, 6], ["p", "q", "q", "q", "r", "s", "t"], seed=0)
    assert (found.value, found.n) == (18 / 7, 5)
    assert found.low < 18 / 7 < found.high


@pytest.mark.parametrize("values", [[1.0, 5.0, 2.0, 8.0], [3.0] * 9])
def test_a_spread_that_is_not_known_makes_no_interval(values: list[float]) -> None:
    found = cluster_bootstrap(values, range(len(values)), seed=0)
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert found.plain() == {
        "value": found.value,
        "low": None,
        "high": None,
        "n": len(values),
    }


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


def test_a_share_has_the_wider_ends_of_two_intervals() -> None:
    # all of 10: Wilson's 10 / (10 + z^2); all of 3: the mid-p's p^3 = .05
    assert share_interval(10, 10).low == wilson(10, 10).low == pytest.approx(10 / 13.841459)
    assert share_interval(3, 3).low == pytest.approx(0.05 ** (1 / 3), rel=1e-9)
    # 9 of 10, upper end: P(X > 9) + P(X = 9) / 2 = p^10 + 5 p^9 (1 - p) = .975
    high = share_interval(9, 10).high
    assert high**10 + 5 * high**9 * (1 - high) == pytest.approx(0.975, rel=1e-9)
    assert high > wilson(9, 10).high


@pytest.mark.parametrize("n", [*range(2, 13), 20, 30, 50, 100, 300])
def test_every_share_is_covered_in_nine_samples_of_ten(n: int) -> None:
    """Exactly, by the binomial distribution; Wilson's alone falls to .836 at n = 10."""
    found = [share_interval(k, n) for k in range(n + 1)]
    shares = np.linspace(0.0005, 0.9995, 1999)
    chances = binom.pmf(np.arange(n + 1)[:, None], n, shares)
    held = [(one.low <= shares) & (shares <= one.high) for one in found]
    assert (chances * np.array(held)).sum(axis=0).min() > 0.9


def test_a_share_of_clusters_by_hand() -> None:
    # one answer to each prompt, half won: deff 1, so n = 8
    plain = cluster_share([0, 1] * 4, range(8))
    assert (plain.low, plain.high) == (share_interval(4, 8).low, share_interval(4, 8).high)
    # all tied: of 8 + 4 cases the gaps are 4 * (1/2)^2 = 1, the binomial's 12 / 4: deff 1/3, n = 24
    tied, expected = cluster_share([0.5] * 8, range(8)), share_interval(12, 24)
    assert (tied.low, tied.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    # pairs that go together: gaps 12 * (2 / 2)^2, the binomial's 24 / 4: deff 2, n = 8 of 16
    twice = cluster_share(np.repeat([0, 1] * 4, 2), np.repeat(range(8), 2))
    assert (twice.low, twice.high) == pytest.approx((plain.low, plain.high), rel=1e-12)
    # all won: the prompts count, not their answers
    assert cluster_share(np.ones(40), np.repeat(range(10), 4)).low == pytest.approx(10 / 13.841459)


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
