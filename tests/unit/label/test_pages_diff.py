"""Where two answers differ, by words and by characters."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignloop.label.pages.diff import Segment, pieces
from alignloop.label.pages.diff import compare as compare_bounded
from alignloop.label.pages.invisible import show_invisible


def compare(first: str, second: str) -> tuple[list[Segment], list[Segment]]:
    """The comparison, where there has to be one."""
    found = compare_bounded(first, second)
    assert found is not None
    return found


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


def longest(first: str, second: str) -> int:
    """The length of a longest common subsequence, by the textbook's table."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for a, left in enumerate(first):
        for b, right in enumerate(second):
            step = table[a][b] + 1 if left == right else max(table[a][b + 1], table[a + 1][b])
            table[a + 1][b + 1] = step
    return table[-1][-1]


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="甲乙丙", max_size=70), st.text(alphabet="甲乙丁", max_size=70))
def test_as_little_as_possible_is_marked(first: str, second: str) -> None:
    same = [one.text for one in compare(first, second)[0] if not one.differs]
    assert len("".join(same)) == longest(first, second)


def words(count: int, other: str = "w") -> str:
    """Words of which every second is the same for every `other`."""
    return " ".join(f"{other if n % 2 else 'w'}{n}" for n in range(count))


@pytest.mark.alone
@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        (words(8_000), words(8_000, "x"), True),
        (words(16_000), words(16_000, "x"), False),
        ("a" * 200_000, "b" * 200_000, True),
        ("甲" * 200_000, "乙" * 200_000, False),
        ("甲" * 200_000, "甲" * 200_000 + "乙", False),
        ("甲" * 199_000, "甲" * 100_000 + "乙" + "甲" * 98_999, True),
        ("甲乙" * 2000, "乙甲甲" * 1400, True),
        ("a b " * 4000, "b a " * 4000, True),
        ("a b " * 40_000, "b a " * 40_000, False),
        ("a " * 390 + "c", "b " + "a b " * 49_000, True),
        (words(400), words(99_000, "x")[1:], True),
        (" " * 200_000, "\n" * 200_000, True),
        ("\u202e" * 20_000, "\u202d" * 20_000, False),
    ],
)
def test_the_work_is_bounded_whatever_the_texts(first: str, second: str, shown: bool) -> None:
    began = time.process_time()
    assert (compare_bounded(first, second) is not None) is shown
    # A pair of 8,000 words takes some 0.1 s of processor; without the bound, minutes.
    assert time.process_time() - began < 1.5
