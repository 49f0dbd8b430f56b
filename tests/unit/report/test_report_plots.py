"""Pictures: the numbers they are drawn from, and files that are sound."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from alignloop.errors import UserError
from alignloop.report import plots, save_curves_png
from alignloop.report.frontier import draw_frontier, frontier_of
from alignloop.report.plots import draw_curves, draw_reliability, points_of, smooth


def validation(step: int, kl: float, proxy: float, gold: float | None) -> dict[str, Any]:
    line = {"stage": "rl", "step": step, "validation_kl": kl, "validation_score": proxy}
    return line | ({} if gold is None else {"validation_gold": gold})


def test_smooth_takes_the_mean_of_the_neighbours_there_are() -> None:
    values = smooth(np.array([1.0, 2.0, 6.0, 4.0]))
    assert values == pytest.approx([1.5, 3.0, 4.0, 5.0])


def test_points_leave_out_what_was_not_measured() -> None:
    lines = [
        {"stage": "rl", "step": 1, "kl": 0.5},
        {"stage": "rl", "step": 2, "kl": None, "kl_not_finite": True},
        {"stage": "rl", "step": 3},
        {"stage": "sft", "step": 4, "kl": 9.0},
    ]
    assert points_of(lines, "rl", "kl") == [(1.0, 0.5)]


def test_the_frontier_starts_at_zero_and_marks_the_kept_step() -> None:
    lines = [
        validation(0, -0.01, 1.0, 0.4),
        validation(10, 4.0, 1.5, 0.7),
        {"stage": "rl", "step": 1},
    ]
    frontier = frontier_of(lines, 10, "validation_gold")
    assert frontier is not None
    assert frontier.distances == (0.0, 2.0)  # an estimate of the KL may lie below 0
    assert frontier.proxy == (0.0, 0.5)
    assert frontier.gold == pytest.approx((0.0, 0.3))
    assert frontier.kept == 2.0
    assert frontier.fit is None


def test_without_gold_there_is_only_the_proxy() -> None:
    lines = [validation(0, 0.0, 1.0, None), validation(10, 4.0, 1.5, None)]
    frontier = frontier_of(lines, None, "validation_gold")
    assert frontier is not None and frontier.gold == () and frontier.kept is None
    assert "gain by the" not in draw_frontier(frontier, "rubric")
    assert frontier_of(lines[:1], None, None) is None


@pytest.mark.parametrize("gold", [(0.4, 0.6, 0.5), (0.4, 0.3, 0.2), (0.4, 0.4, 0.4)])
def test_the_frontier_is_drawn_whether_gold_rises_or_falls(gold: tuple[float, ...]) -> None:
    lines = [validation(i, float(i), 1.0 + i, g) for i, g in enumerate(gold)]
    frontier = frontier_of(lines, 1, "validation_gold")
    assert frontier is not None
    svg = draw_frontier(frontier, "gold rubric")
    assert "gain by the gold rubric" in svg and ">kept<" in svg


def test_both_axes_have_their_zero_at_one_height() -> None:
    figure: Any = plots.Figure()
    left = figure.subplots()
    right = left.twinx()
    left.set_ylim(-1, 3)
    right.set_ylim(-0.6, 0.2)
    from alignloop.report.frontier import _share_zero

    _share_zero(left, right)
    heights = [-axes.get_ylim()[0] / np.ptp(axes.get_ylim()) for axes in (left, right)]
    assert heights == pytest.approx([0.75, 0.75])  # the lower of the two, 0.6 / 0.8
    assert left.get_ylim()[1] >= 3 and right.get_ylim()[0] <= -0.6


def test_a_picture_is_sound_and_takes_its_colours_from_the_page() -> None:
    lines = [{"stage": "rl", "step": i, "score": float(i % 5)} for i in range(40)]
    drawing = draw_curves(lines, 20, {})[0]
    assert (drawing.english, drawing.group) == ("Reward score", "rl")
    assert drawing.summary == "rollouts: 0 at step 0, 4 at step 39"
    root = ElementTree.fromstring(drawing.svg)
    assert root.tag == "svg" and "viewBox" in root.attrib
    assert "var(--blue)" in drawing.svg and "#0072b2" not in drawing.svg
    assert ">step<" in drawing.svg  # text stays text


def test_the_curve_of_who_looks_on_has_their_name() -> None:
    lines = [{"stage": "rl", "step": i, "validation_truth": 0.5, "score": 1.0} for i in (0, 5)]
    seen = draw_curves(lines, None, {"name": "oracle", "metric": "validation_truth"})
    assert [drawing.english for drawing in seen] == ["Reward score", "Score by the oracle"]


def test_a_stage_without_numbers_has_no_picture() -> None:
    assert draw_curves([{"stage": "rl", "step": 1, "score": None}], None, {}) == []


def test_the_reliability_diagram_leaves_empty_bins_out() -> None:
    full = {"mean_probability": 0.3, "frequency": 0.2, "count": 10}
    empty = {"mean_probability": None, "frequency": None, "count": 0}
    assert draw_reliability([full, empty]) == draw_reliability([full])


@pytest.mark.slow
@pytest.mark.parametrize("fonts", [plots.CJK_FONTS, ()])
def test_the_png_is_written_with_and_without_a_chinese_font(
    run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fonts: tuple[str, ...]
) -> None:
    monkeypatch.setattr(plots, "CJK_FONTS", fonts)
    out = save_curves_png(run_path, tmp_path / "curves.png")
    assert out.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_png_is_refused_before_ppo(run_path: Path, tmp_path: Path) -> None:
    line = {"stage": "sft", "step": 1, "loss": 2.0}
    (run_path / "metrics.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="no RL metrics"):
        save_curves_png(run_path, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
