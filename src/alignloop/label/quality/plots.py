"""Plots for the lead's screens: SVG or PNG, light or dark, in English or Chinese.

The same labels give the same bytes. An SVG keeps its text as text, in the reader's fonts, and has
no style attributes, so pages whose policy forbids inline styles can show it.
"""

import io
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import Any, Literal, cast, get_args

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure

from alignloop.fonts import CJK_FONTS
from alignloop.label.labels.project_labels import ProjectLabels
from alignloop.label.labels.votes import votes_of
from alignloop.label.quality.agreement import Agreement, Confusion, by_annotator, confusions
from alignloop.label.quality.annotators import Quality, annotator_quality
from alignloop.label.texts.i18n import Locale, Texts
from alignloop.stats import Estimate

PlotName = Literal["progress", "agreement", "confusion", "side", "speed"]
PLOTS: tuple[PlotName, ...] = get_args(PlotName)

_fonts = cast(Any, font_manager)
_mpl = cast(Any, matplotlib)  # only partly typed, so figures and axes are Any

_CJK_FILES = re.compile(r"(NotoSansCJK-Regular|SourceHanSans\w*-Regular|wqy-\w+)\.\w+$")
_drawing = threading.Lock()  # matplotlib's settings are global, and the server has many threads


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Okabe and Ito's colour-blind safe palette, with ink and background."""

    ink: str
    faint: str
    first: str
    second: str
    ground: str


LIGHT = Colours(ink="#4a5160", faint="#d8dbe1", first="#0072b2", second="#d55e00", ground="#ffffff")
DARK = Colours(ink="#c3c9d4", faint="#3c434f", first="#56b4e9", second="#e69f00", ground="#15181d")


@dataclass(frozen=True, kw_only=True)
class _Pen:
    """What every plot is drawn with: figure, colours and texts."""

    figure: Any
    colours: Colours
    t: Texts


def draw_plot(
    name: PlotName,
    labels: ProjectLabels,
    *,
    language: Locale = "en",
    dark: bool = False,
    format: Literal["svg", "png"] = "svg",
) -> bytes:
    """One plot, or a note that there is nothing to show."""
    painters: dict[PlotName, Callable[[_Pen, ProjectLabels], tuple[float, float] | None]] = {
        "progress": _progress,
        "agreement": _agreement,
        "confusion": _confusion,
        "side": _side,
        "speed": _speed,
    }
    colours = DARK if dark else LIGHT
    with _drawing, _mpl.rc_context({**_style(colours), "svg.hashsalt": name}), _without_complaint():
        figure: Any = Figure(figsize=(6.4, 2.6), layout="constrained")
        pen = _Pen(figure=figure, colours=colours, t=Texts(language))
        size = painters[name](pen, labels)
        if size is None:
            size = (6.4, 0.6)
            figure.text(0.5, 0.5, pen.t("axis.nothing"), ha="center", va="center")
        figure.set_size_inches(*size)
        return _as_svg(figure) if format == "svg" else _as_png(figure, colours)


@contextmanager
def _without_complaint() -> Generator[None]:
    """Suppress warnings about missing glyphs: the reader's fonts display the SVG."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        yield


@cache
def _chinese_fonts() -> list[str]:
    """The first Chinese font of this machine, even if matplotlib's font cache lacks it."""
    known = {font.name for font in _fonts.fontManager.ttflist}
    if not known.intersection(CJK_FONTS):
        for path in _fonts.findSystemFonts():
            if _CJK_FILES.search(path):
                _fonts.fontManager.addfont(path)
        known = {font.name for font in _fonts.fontManager.ttflist}
    return [name for name in CJK_FONTS if name in known][:1]


def _style(colours: Colours) -> dict[str, Any]:
    return {
        "svg.fonttype": "none",
        "font.family": ["DejaVu Sans", *_chinese_fonts()],
        "font.size": 8,
        "text.color": colours.ink,
        "axes.facecolor": "none",
        "axes.edgecolor": colours.ink,
        "axes.labelcolor": colours.ink,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": colours.faint,
        "grid.linewidth": 0.6,
        "xtick.color": colours.ink,
        "ytick.color": colours.ink,
        "legend.frameon": False,
        "legend.fontsize": 7.5,
    }


def _as_png(figure: Any, colours: Colours) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=144, facecolor=colours.ground, metadata={"Software": None}
    )
    return buffer.getvalue()


def _as_svg(figure: Any) -> bytes:
    buffer = io.StringIO()
    omitted = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=omitted)
    return _without_styles(buffer.getvalue()).encode()


_FONT = re.compile(r"(?:(\d+|bold|normal) )?([\d.]+)px (.+)")


def _without_styles(svg: str) -> str:
    """Turn style attributes into presentation attributes; drop styles, comments and metadata."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' style="([^"]*)"', lambda found: _attributes(found[1]), svg)
    return svg.replace("<svg ", '<svg stroke-linejoin="round" stroke-linecap="butt" ', 1)


def _attributes(style: str) -> str:
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in style.split(";"))):
        name, _, value = part.partition(":")
        if name == "font" and (font := _FONT.fullmatch(value.strip())):
            found |= {"font-size": f"{font[2]}px", "font-family": font[3]}
        else:
            found[name] = value.strip()
    return "".join(f' {name}="{value}"' for name, value in found.items())


# --- the pictures ------------------------------------------------------------------------------


def _progress(pen: _Pen, labels: ProjectLabels) -> tuple[float, float] | None:
    """Bars of labels per day, including idle days, and the sum as a line."""
    days = Counter(judged.created_at.date() for judged in labels.judgements)
    if not days:
        return None
    span = _days(min(days), max(days))
    counts = [days[day] for day in span]
    axes = pen.figure.subplots()
    axes.bar(range(len(span)), counts, color=pen.colours.first, width=0.8)
    axes.set_ylabel(pen.t("axis.labels"), color=pen.colours.first)
    axes.set_xlabel(pen.t("axis.day"))
    axes.locator_params(axis="y", integer=True)
    every = max(1, len(span) // 8)
    ticks = range(0, len(span), every)
    axes.set_xticks(ticks, [span[tick].strftime("%m-%d") for tick in ticks])
    total = axes.twinx()
    sums = [sum(counts[: index + 1]) for index in range(len(counts))]
    total.plot(range(len(span)), sums, color=pen.colours.second, marker="o", markersize=2.5)
    total.set_ylabel(pen.t("axis.sum"), color=pen.colours.second)
    total.set_ylim(bottom=0)
    total.locator_params(axis="y", integer=True)
    return 6.4, 2.6


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _agreement(pen: _Pen, labels: ProjectLabels) -> tuple[float, float] | None:
    """Each annotator against the others: raw agreement and alpha with intervals."""
    people = [one for one in by_annotator(votes_of(labels.about_answers)) if one.raw]
    if not people:
        return None
    axes = pen.figure.subplots()
    _intervals(axes, people, lambda one: one.raw, -0.14, pen.colours.first, pen.t("axis.raw"))
    _intervals(axes, people, lambda one: one.alpha, 0.14, pen.colours.second, pen.t("axis.alpha"))
    _named_rows(axes, [one.name for one in people])
    axes.set_xlabel(pen.t("axis.share"))
    axes.set_xlim(right=1.02)
    pen.figure.legend(loc="outside upper right", ncols=2)
    return 6.4, 0.9 + 0.34 * len(people)


def _intervals(
    axes: Any,
    people: Sequence[Agreement],
    value_of: Callable[[Agreement], Estimate | None],
    shift: float,
    colour: str,
    label: str,
) -> None:
    rows = [(row + shift, found) for row, one in enumerate(people) if (found := value_of(one))]
    heights = [row for row, _ in rows]
    axes.hlines(
        heights, [e.low for _, e in rows], [e.high for _, e in rows], color=colour, linewidth=1.4
    )
    axes.plot([e.value for _, e in rows], heights, "o", color=colour, markersize=4, label=label)


def _named_rows(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x")


def _confusion(pen: _Pen, labels: ProjectLabels) -> tuple[float, float] | None:
    """A small heat map per pair of annotators, for the six with most in common."""
    found = sorted(confusions(votes_of(labels.about_answers)), key=lambda one: -one.total)[:6]
    if not found:
        return None
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    grid = pen.figure.subplots(rows, columns, squeeze=False)
    for axes in list(grid.flat)[len(found) :]:
        axes.remove()
    for axes, one in zip(grid.flat, found, strict=False):
        _heat(axes, one, pen)
    return 2.5 * columns, 2.4 * rows


def _heat(axes: Any, one: Confusion, pen: _Pen) -> None:
    cmap = _mpl.colors.LinearSegmentedColormap.from_list(
        "ink", [pen.colours.ground, pen.colours.first]
    )
    most = max(map(max, one.counts)) or 1
    # a mesh, not an image: the page's policy forbids data: URLs inside the SVG
    axes.pcolormesh(one.counts, cmap=cmap, vmin=0, vmax=most)
    for row, counts in enumerate(one.counts):
        for column, count in enumerate(counts):
            ink = pen.colours.ground if count > most / 2 else pen.colours.ink
            axes.text(column + 0.5, row + 0.5, str(count), ha="center", va="center", color=ink)
    names = [pen.t.label(label) for label in one.labels]
    middles = [index + 0.5 for index in range(len(names))]
    axes.set_xticks(middles, names, rotation=30)
    axes.set_yticks(middles, names)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.set_xlabel(one.second)
    axes.set_ylabel(one.first)
    axes.tick_params(length=0)


def _side(pen: _Pen, labels: ProjectLabels) -> tuple[float, float] | None:
    """How often each annotator chose the answer shown first; the line at one half is no bias."""
    people = [one for one in annotator_quality(labels) if one.first_shown]
    if not people:
        return None
    axes = pen.figure.subplots()
    axes.axvline(0.5, color=pen.colours.ink, linewidth=0.8, linestyle=(0, (4, 3)))
    for row, one in enumerate(people):
        share = one.first_shown
        assert share is not None
        biased = not share.low <= 0.5 <= share.high
        colour = pen.colours.second if biased else pen.colours.first
        axes.hlines(row, share.low, share.high, color=colour, linewidth=1.4)
        axes.plot(share.value, row, "o", color=colour, markersize=4)
    _named_rows(axes, [_counted(one) for one in people])
    axes.set_xlim(0, 1)
    axes.set_xlabel(pen.t("axis.side"))
    return 6.4, 0.7 + 0.3 * len(people)


def _counted(one: Quality) -> str:
    assert one.first_shown is not None
    return f"{one.annotator} (n = {one.first_shown.n})"


def _speed(pen: _Pen, labels: ProjectLabels) -> tuple[float, float] | None:
    """Seconds that items were on the screen, per annotator, on a logarithmic axis."""
    seconds: dict[str, list[float]] = {}
    for judged in labels.judgements:
        if judged.seconds > 0:
            seconds.setdefault(judged.annotator, []).append(judged.seconds)
    if not seconds:
        return None
    names = sorted(seconds)
    axes = pen.figure.subplots()
    parts = axes.boxplot(
        [seconds[name] for name in names],
        positions=range(len(names)),
        orientation="horizontal",
        showfliers=False,
        widths=0.5,
    )
    for line in (*parts["boxes"], *parts["whiskers"], *parts["caps"]):
        line.set_color(pen.colours.first)
    for line in parts["medians"]:
        line.set_color(pen.colours.second)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(_mpl.ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(_mpl.ticker.FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(_mpl.ticker.NullFormatter())
    _named_rows(axes, names)
    axes.set_xlabel(pen.t("axis.seconds"))
    return 6.4, 0.8 + 0.34 * len(names)
