"""The figures: curves as SVG that follow the page's light or dark colours, and one PNG.

In the page a figure contains only numbers and short English labels; titles are HTML, so no figure
depends on the fonts of this machine.
"""

import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure

from alignloop.errors import UserError
from alignloop.fonts import CJK_FONTS
from alignloop.report.tables import Json, as_dict, evaluation_sets, measures_of
from alignloop.run import atomic_write, read_metrics

# Okabe and Ito's colour-blind safe palette. In the page each colour becomes a CSS variable.
INK, FAINT, BLUE, ORANGE, GREEN, GREY = (
    "#6a7180",
    "#d8dbe1",
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#8a8f99",
)
_CSS_NAMES = {
    INK: "--plot-ink",
    FAINT: "--plot-grid",
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    GREY: "--grey",
}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.5,
}

# matplotlib's drawing calls are only partly typed, so figures and axes are Any.
_mpl = cast(Any, matplotlib)

Points = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a figure: `key` of the metrics of `stage`; `points` if measured rarely."""

    stage: str
    key: str
    label: str = ""
    colour: str = BLUE
    points: bool = False


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One small figure of the page."""

    group: str
    english: str
    chinese: str
    unit: str
    series: tuple[Series, ...]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A finished figure: the SVG, its titles, and a `summary` in words."""

    group: str
    english: str
    chinese: str
    unit: str
    svg: str
    summary: str


def _rl(
    english: str, chinese: str, unit: str, key: str, check: str = "", group: str = "rl"
) -> Curve:
    """A curve over the steps of stage 3, with validation values as points."""
    series = [Series(stage="rl", key=key, label="rollouts", colour=BLUE)] if key else []
    if check:
        label = "validation" if key else ""
        series.append(Series(stage="rl", key=check, label=label, colour=ORANGE, points=True))
    return Curve(group=group, english=english, chinese=chinese, unit=unit, series=tuple(series))


CURVES = (
    Curve(
        group="sft",
        english="SFT loss",
        chinese="监督微调损失",
        unit="nats per token",
        series=(Series(stage="sft", key="loss"),),
    ),
    Curve(
        group="sft",
        english="Held-out perplexity",
        chinese="留出困惑度",
        unit="lower is better",
        series=(Series(stage="sft", key="held_out_perplexity", colour=ORANGE, points=True),),
    ),
    Curve(
        group="reward",
        english="Reward model accuracy",
        chinese="准确率",
        unit="share of each training batch",
        series=(
            Series(stage="reward", key="accuracy", label="reward model", colour=BLUE),
            Series(stage="reward_held_out", key="accuracy", label="held-out model", colour=GREEN),
        ),
    ),
    Curve(
        group="reward",
        english="Reward model loss",
        chinese="损失",
        unit="nats per pair; chance: 0.693",
        series=(
            Series(stage="reward", key="loss", label="reward model", colour=BLUE),
            Series(stage="reward_held_out", key="loss", label="held-out model", colour=GREEN),
        ),
    ),
    Curve(
        group="dpo",
        english="DPO loss",
        chinese="DPO 损失",
        unit="nats per pair; at the start 0.693",
        series=(
            Series(stage="dpo", key="loss", label="training", colour=BLUE),
            Series(stage="dpo", key="held_out_loss", label="held out", colour=ORANGE, points=True),
        ),
    ),
    Curve(
        group="dpo",
        english="DPO accuracy",
        chinese="DPO 准确率",
        unit="share of pairs with margin above 0",
        series=(
            Series(stage="dpo", key="accuracy", label="training", colour=BLUE),
            Series(
                stage="dpo", key="held_out_accuracy", label="held out", colour=ORANGE, points=True
            ),
        ),
    ),
    _rl("Reward score", "奖励分数", "the reward model RL optimises", "score", "validation_score"),
    _rl("Held-out score", "留出奖励分数", "second reward model", "", "validation_held_out_score"),
    _rl("KL to the SFT model", "与 SFT 的 KL 散度", "nats per sequence", "kl", "validation_kl"),
    _rl("Entropy", "熵", "nats per token", "entropy"),
    _rl("Response length", "回答长度", "tokens", "response_length", "validation_length"),
    _rl("Answers that end", "正常结束率", "share with EOS", "eos_rate", "validation_eos_rate"),
    _rl("Repetition", "重复率", "share", "repetition", group="health"),
    _rl(
        "Approximate KL of an update",
        "近似 KL",
        "nats per token",
        "approx_kl",
        group="health",
    ),
    _rl("Clip fraction", "裁剪比例", "share of tokens", "clip_fraction", group="health"),
    _rl(
        "Explained variance",
        "价值解释方差",
        "of the critic, best 1",
        "explained_variance",
        group="health",
    ),
    _rl("Value loss", "价值损失", "", "value_loss", group="health"),
    _rl(
        "Policy gradient norm",
        "策略梯度范数",
        "before clipping",
        "policy_gradient_norm",
        group="health",
    ),
    _rl("Tokens per second", "每秒词元数", "", "tokens_per_second", group="health"),
)


def points_of(metrics: Iterable[Json], stage: str, key: str) -> Points:
    """The (step, value) pairs of one metric, if present and finite."""
    return [
        (float(line["step"]), float(line[key]))
        for line in metrics
        if line.get("stage") == stage and line.get(key) is not None
    ]


def curves_seen_by(observer: Json) -> tuple[Curve, ...]:
    """All curves, with the observer's score after the held-out score."""
    if not observer:
        return CURVES
    name, metric = str(observer["name"]), str(observer["metric"])
    seen = _rl(f"Score by the {name}", f"{name} 评分", "shown, decides nothing", "", metric)
    index = 1 + next(i for i, curve in enumerate(CURVES) if curve.english == "Held-out score")
    return (*CURVES[:index], seen, *CURVES[index:])


def draw_curves(metrics: Sequence[Json], kept_step: float | None, observer: Json) -> list[Drawing]:
    """The figures that have data; `kept_step` marks the checkpoint."""
    return [
        _draw_curve(curve, metrics, kept_step)
        for curve in curves_seen_by(observer)
        if any(points_of(metrics, line.stage, line.key) for line in curve.series)
    ]


def _draw_curve(curve: Curve, metrics: Sequence[Json], kept_step: float | None) -> Drawing:
    def paint(figure: Any) -> None:
        _paint_curve(figure.subplots(), curve, metrics, kept_step)

    return Drawing(
        group=curve.group,
        english=curve.english,
        chinese=curve.chinese,
        unit=curve.unit,
        svg=to_svg(paint, (3.5, 2.15), name=curve.english),
        summary=_in_words(curve, metrics),
    )


def _in_words(curve: Curve, metrics: Sequence[Json]) -> str:
    parts: list[str] = []
    for line in curve.series:
        points = points_of(metrics, line.stage, line.key)
        if points:
            (first, before), (last, after) = points[0], points[-1]
            name = f"{line.label}: " if line.label else ""
            parts.append(f"{name}{before:.3g} at step {first:g}, {after:.3g} at step {last:g}")
    return "; ".join(parts)


def _paint_curve(axes: Any, curve: Curve, metrics: Sequence[Json], kept_step: float | None) -> None:
    for line in curve.series:
        points = points_of(metrics, line.stage, line.key)
        if points:
            _paint_series(axes, points, line)
    if kept_step is not None and curve.group in ("rl", "health"):
        axes.axvline(kept_step, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(loc="best", handlelength=1.2)
    tidy(axes, "step")


def _paint_series(axes: Any, points: Points, line: Series) -> None:
    steps, values = (np.array(column) for column in zip(*points, strict=True))
    if line.points or len(points) < 12:
        axes.plot(steps, values, color=line.colour, marker="o", markersize=3, label=line.label)
        return
    axes.plot(steps, values, color=line.colour, alpha=0.28, linewidth=0.8)
    axes.plot(steps, smooth(values), color=line.colour, label=line.label)


def smooth(
    values: "np.ndarray[Any, np.dtype[np.float64]]",
) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """A centred running mean over a twentieth of the points, with shorter windows at the ends."""
    reach = max(1, len(values) // 40)
    weights = np.ones(2 * reach + 1)
    counts = np.convolve(np.ones(len(values)), weights, mode="same")
    return np.convolve(values, weights, mode="same") / counts


def tidy(axes: Any, x_label: str) -> None:
    """Common style of all figures with an x axis."""
    axes.set_xlabel(x_label)
    axes.set_axisbelow(True)
    axes.margins(x=0.02, y=0.08)
    axes.locator_params(axis="y", nbins=6)
    axes.locator_params(axis="x", nbins=6)


def draw_reliability(bins: Sequence[Any]) -> str:
    """Predicted probability against observed frequency, one dot per bin, as SVG."""
    filled = [as_dict(item) for item in bins]
    filled = [b for b in filled if b.get("count") and b.get("frequency") is not None]
    predicted = [float(b["mean_probability"]) for b in filled]
    seen = [float(b["frequency"]) for b in filled]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=0.9)
        axes.vlines(predicted, predicted, seen, color=ORANGE, linewidth=1.2)
        axes.plot(predicted, seen, "o-", color=BLUE, markersize=4, linewidth=1)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="share that was preferred")
        axes.set_xlabel("predicted probability of being preferred")
        axes.set_aspect("equal")
        axes.set_axisbelow(True)

    return to_svg(paint, (3.6, 3.5), name="reliability")


def to_svg(paint: Callable[[Any], None], size: tuple[float, float], *, name: str) -> str:
    """Draw with `paint` and return an <svg> element for an HTML page: unique ids, no URLs.

    `size` in inches. The same numbers give the same bytes.
    """
    with _mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure: Any = Figure(figsize=size, layout="constrained")
        paint(figure)
        buffer = io.StringIO()
        # no date or version: the same numbers must give the same bytes
        omitted = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=omitted)
    return _clean_svg(buffer.getvalue(), re.sub(r"\W+", "-", name.lower()))


def _clean_svg(text: str, prefix: str) -> str:
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    used = set(re.findall(r"#([\w-]+)", svg))
    # Ids must be unique in the page, but every figure has an "axes_1".
    svg = re.sub(r' id="([\w-]+)"', lambda m: m[0] if m[1] in used else "", svg)
    svg = re.sub(r'((?: id|href)="#?|url\(#)', rf"\1{prefix}-", svg)
    svg = re.sub(r'<svg[^>]*?(viewBox="[^"]*")[^>]*>', r"<svg \1>", svg, count=1)
    for colour, variable in _CSS_NAMES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.strip()


def _chinese_font() -> str | None:
    known = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in CJK_FONTS if name in known), None)


_PNG_CURVES = (
    "Reward score",
    "Held-out score",
    "KL to the SFT model",
    "Response length",
    "Entropy",
)


def save_curves_png(run_path: str | Path, out_png: str | Path) -> Path:
    """Write the main curves of a run and its before/after bars as one PNG (for a README).

    Raises `UserError` if the run has no metrics yet.
    """
    metrics = read_metrics(run_path)
    observer = _object(Path(run_path) / "rl" / "observer.json")
    shown = (*_PNG_CURVES[:2], f"Score by the {observer.get('name')}", *_PNG_CURVES[2:])
    known = {curve.english: curve for curve in curves_seen_by(observer)}
    curves = [known[name] for name in shown if name in known]
    curves = [c for c in curves if any(points_of(metrics, s.stage, s.key) for s in c.series)]
    results = _object(Path(run_path) / "evaluate" / "results.json")
    if not curves:
        raise UserError(
            "there are no RL metrics to draw",
            where=str(Path(run_path) / "metrics.jsonl"),
            fix="run `alignloop rl` first",
        )
    content = _png(metrics, curves, results)
    atomic_write(out_png, content)
    return Path(out_png)


def _object(path: Path) -> Json:
    return as_dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _png(metrics: Sequence[Json], curves: Sequence[Curve], results: Mapping[str, Any]) -> bytes:
    chinese = _chinese_font()
    fonts = ["DejaVu Sans", *([chinese] if chinese else [])]
    curves = curves[: 6 - bool(results)]  # two full rows
    panels = len(curves) + bool(results)
    with _mpl.rc_context({**_STYLE, "font.family": fonts, "axes.titlesize": 9}):
        rows = math.ceil(panels / 3)
        figure: Any = Figure(figsize=(10.5, 2.6 * rows), layout="constrained", facecolor="white")
        grid = figure.subplots(rows, 3, squeeze=False)
        for axes in list(grid.flat)[panels:]:
            axes.remove()
        for axes, curve in zip(grid.flat, curves, strict=False):
            _paint_curve(axes, curve, metrics, None)
            axes.set_title(f"{curve.english} · {curve.chinese}" if chinese else curve.english)
        if results:
            _paint_before_after(grid.flat[len(curves)], dict(results))
            grid.flat[len(curves)].set_title("Before and after" + " · 前后对比" * bool(chinese))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def _paint_before_after(axes: Any, results: Json) -> None:
    sets, measures = evaluation_sets(results), measures_of(results)
    keys = [m.key for m in measures if m.safety or m is measures[0]]
    changes = [c for key in keys if sets and (c := sets[0].change(key)) is not None]
    for row, change in enumerate(changes):
        sides = ((change.sft, GREY, "SFT", -0.18), (change.policy, BLUE, "RLHF", 0.18))
        for estimate, colour, label, shift in sides:
            if estimate is None:
                continue
            axes.barh(row + shift, estimate.value, 0.32, color=colour, label="" if row else label)
            axes.hlines(row + shift, estimate.low, estimate.high, color=INK, linewidth=1)
    axes.set_yticks(range(len(changes)), [change.measure.english for change in changes])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.grid(axis="y", visible=False)
    axes.set_axisbelow(True)
    axes.legend(loc="center right", handlelength=1)
