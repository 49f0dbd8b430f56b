"""Words, variety and repetition by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignloop.stats.textstats import (
    corpus_distinct_n,
    distinct_n,
    repetition,
    words,
)


def test_words_of_two_languages() -> None:
    assert words("Don’t PANIC, 世界! x2 — ok_go") == [
        "don't",
        "panic",
        "世",
        "界",
        "x2",
        "ok",
        "go",
    ]
    assert words("用Python写") == ["用", "python", "写"]
    assert words("'quoted' 한국 カナ") == ["quoted", "한국", "カ", "ナ"]
    assert words(" ?! ") == []


def test_distinct_by_hand() -> None:
    # "a a b": 2 of 3 words, 2 of 2 pairs; "a b": 2 of 2 words; "a" has no pair
    assert distinct_n(["a a b", "a b"], 1) == pytest.approx((2 / 3 + 1) / 2)
    assert distinct_n(["a a a b", "a"], 2) == pytest.approx(2 / 3)
    assert math.isnan(distinct_n(["a", ""], 2))


def test_corpus_distinct_has_one_budget_and_spans_no_two_texts() -> None:
    # four words: a b | a b: 2 different of 4; the pairs are ab, ab and not ba
    assert corpus_distinct_n(["a b", "a b c d"], 1, max_tokens=4) == 0.5
    assert corpus_distinct_n(["a b", "a b c d"], 2, max_tokens=4) == 0.5
    assert corpus_distinct_n(["a b", "a b c d"], 1, max_tokens=100) == pytest.approx(4 / 6)
    assert math.isnan(corpus_distinct_n(["a"], 2, max_tokens=5))


def test_longer_answers_are_not_punished() -> None:
    short, long = ["a b c"] * 4, ["a b c d e f"] * 4
    assert corpus_distinct_n(short, 1, max_tokens=6) == 0.5
    assert corpus_distinct_n(long, 1, max_tokens=6) == 1.0


def test_repetition_by_hand() -> None:
    # abab a: aba bab aba, one of three came before
    assert repetition("a b a b a") == pytest.approx(1 / 3)
    assert repetition("好好好好", n=1) == 0.75
    assert repetition("a b c d") == 0.0
    assert repetition("a b") == 0.0


@given(text=st.text(alphabet="ab 你", max_size=30), n=st.integers(1, 4))
def test_repetition_is_what_distinct_leaves(text: str, n: int) -> None:
    share = distinct_n([text], n)
    assert repetition(text, n) == pytest.approx(0.0 if math.isnan(share) else 1 - share)
