"""Where two answers differ, by words and by characters."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignloop.label.pages.diff import Segment, compare, pieces
from alignloop.label.pages.render import show_invisible


def marked(segments: list[Segment]) -> str:
    return "".join(f"[{one.text}]" if one.differs else one.text for one in segments)


@pytest.mark.parametrize(
    ("first", "second", "left", "right"),
    [
        ("a red car", "a blue car", "a [red] car", "a [blue] car"),
        ("same", "same", "same", "same"),
        ("", "new", "", "[new]"),
        ("今天天气很好", "今天天气不好", "今天天气[很]好", "今天天气[不]好"),
        ("我们去公园吧。", "我们别去公园。", "我们去公园[吧。]", "我们[别]去公园[。]"),
        ("用 pip 安装", "用 conda 安装", "用 [pip] 安装", "用 [conda] 安装"),
        ("colour", "color", "[colour]", "[color]"),  # words, not letters
        ("one, two", "three, four", "[one, two]", "[three, four]"),  # a comma is no common ground
    ],
)
def test_what_differs_is_marked(first: str, second: str, left: str, right: str) -> None:
    found = compare(first, second)
    assert (marked(found[0]), marked(found[1])) == (left, right)


def test_pieces_are_words_chinese_characters_blanks_and_signs() -> None:
    assert pieces("It's 下雨 x_1") == ["It", "'", "s", " ", "下", "雨", " ", "x_1"]


TEXTS = st.text(alphabet="ab 甲乙，.\n\u202e", max_size=40)


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS)
def test_nothing_is_lost_and_sides_swap(first: str, second: str) -> None:
    left, right = compare(first, second)
    assert "".join(one.text for one in left) == show_invisible(first)
    assert "".join(one.text for one in right) == show_invisible(second)
    common = ["".join(one.text for one in side if not one.differs) for side in (left, right)]
    assert common[0] == common[1]


@settings(max_examples=50, deadline=None)
@given(TEXTS)
def test_a_text_does_not_differ_from_itself_in_any_letter(text: str) -> None:
    for side in compare(text, text):
        assert not any(one.differs and any(map(str.isalnum, one.text)) for one in side)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("甲乙" * 2000, "乙甲甲" * 1400),
        ("a\n" * 20000, "a\nb\n" * 10001),
        ("a b " * 4000, "b a " * 4000),
    ],
)
def test_texts_made_to_be_slow_are_not(first: str, second: str) -> None:
    began = time.perf_counter()
    compare(first, second)
    assert time.perf_counter() - began < 10  # compared piece by piece, the first takes minutes
