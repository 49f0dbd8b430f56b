"""Pictures: the same bytes from the same labels, their words, and nothing that a policy forbids."""

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

from alignloop.label.labels.project_labels import Item, ProjectLabels
from alignloop.label.quality.plots import DARK, LIGHT, PLOTS, draw_plot

Make = Callable[..., Any]


@pytest.fixture
def some(item: Make, judged: Make) -> ProjectLabels:
    """Two people on ten items; ana always takes what is shown first."""
    items: list[Item] = [item(number, models=["x", "y"]) for number in range(10)]
    said = [
        judged(
            10 * number + row,
            one,
            name,
            "a" if row == 0 or number % 3 else "b",
            shown=("a", "b") if row == 0 or number % 2 else ("b", "a"),
            seconds=5.0 + number,
        )
        for number, one in enumerate(items)
        for row, name in enumerate(("ana", "陈"))
    ]
    return ProjectLabels.of(items, said)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("dark", [False, True])
def test_an_svg_is_whole_and_holds_no_styles(name: Any, dark: bool, some: ProjectLabels) -> None:
    svg = draw_plot(name, some, dark=dark)
    assert svg == draw_plot(name, some, dark=dark)
    text = svg.decode()
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert not re.search(r"style=|<style|<script|href=\"[^#]|<!--", text)
    own, other = (DARK, LIGHT) if dark else (LIGHT, DARK)
    assert own.ink in text and other.ink not in text


def test_words_are_those_of_the_language(some: ProjectLabels) -> None:
    english, chinese = (draw_plot("side", some, language=one).decode() for one in ("en", "zh"))
    assert "shown first" in english and "shown first" not in chinese
    assert "选择先显示的回答的比例" in chinese
    for text in (english, chinese):
        assert "ana (n = 10)" in text
        # ana's interval does not hold one half, 陈's does
        assert LIGHT.second in text and LIGHT.first in text


def test_a_png_is_the_same_every_time(some: ProjectLabels) -> None:
    png = draw_plot("speed", some, language="zh", format="png")
    assert png.startswith(b"\x89PNG")
    assert png == draw_plot("speed", some, language="zh", format="png")
    assert png != draw_plot("speed", some, language="zh", format="png", dark=True)


@pytest.mark.parametrize("name", PLOTS)
def test_nothing_to_show_is_said(name: Any) -> None:
    assert "nothing to show yet" in draw_plot(name, ProjectLabels.of([], [])).decode()


def test_progress_counts_days_without_work(item: Make, judged: Make) -> None:
    from datetime import UTC, datetime

    one = item(0)
    said = [
        judged(n, one, f"p{n}", "a", created_at=datetime(2026, 1, day, tzinfo=UTC))
        for n, day in enumerate((5, 5, 8))
    ]
    text = draw_plot("progress", ProjectLabels.of([one], said)).decode()
    assert all(f"01-{day:02d}" in text for day in (5, 6, 7, 8))
