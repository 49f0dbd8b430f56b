"""Over-optimisation: gains of proxy and gold score by distance from the SFT model."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from alignloop.report.plots import BLUE, GREY, ORANGE, tidy, to_svg
from alignloop.report.tables import Json
from alignloop.stats import GaoFit, fit_rl_curve, rl_curve

FAR = 10  # a peak this many times beyond the furthest point is extrapolation, not prediction


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """Gains by distance from the SFT model; they start at 0."""

    distances: tuple[float, ...]
    proxy: tuple[float, ...]
    gold: tuple[float, ...]
    kept: float | None
    fit: GaoFit | None

    @property
    def predicted_peak_kl(self) -> float | None:
        """The KL in nats at which the fitted gold curve peaks; None if far beyond the points."""
        if self.fit is None or self.fit.peak_d > FAR * max(self.distances):
            return None
        return self.fit.peak_d**2


def frontier_of(
    metrics: Iterable[Json], kept_step: float | None, gold_metric: str | None
) -> Frontier | None:
    """The validation points; None if fewer than two have a KL. `gold` may be empty."""
    lines = [
        line
        for line in metrics
        if line.get("stage") == "rl"
        and line.get("validation_kl") is not None
        and line.get("validation_score") is not None
    ]
    if len(lines) < 2:
        return None
    # sqrt(KL) as in Gao et al. 2022; an estimate of the KL may be negative
    distances = tuple(math.sqrt(max(float(line["validation_kl"]), 0.0)) for line in lines)
    kept = [d for d, line in zip(distances, lines, strict=True) if line["step"] == kept_step]
    has_gold = gold_metric and all(line.get(gold_metric) is not None for line in lines)
    gold = _gains(lines, gold_metric) if gold_metric and has_gold else ()
    return Frontier(
        distances=distances,
        proxy=_gains(lines, "validation_score"),
        gold=gold,
        kept=kept[0] if kept else None,
        fit=fit_rl_curve(distances, gold) if gold else None,
    )


def _gains(lines: Sequence[Json], key: str) -> tuple[float, ...]:
    return tuple(float(line[key]) - float(lines[0][key]) for line in lines)


def draw_frontier(frontier: Frontier, gold: str) -> str:
    """Gains of proxy (left axis) and gold (right axis) against sqrt(KL), as SVG."""

    def paint(figure: Any) -> None:
        left = figure.subplots()
        _paint_gains(left, frontier, frontier.proxy, BLUE, "proxy: the reward model")
        left.set_ylabel("gain of proxy score", color=BLUE)
        tidy(left, "sqrt(KL), KL in nats per sequence")
        if frontier.gold:
            right = left.twinx()
            _paint_gold(right, frontier, gold)
            _share_zero(left, right)
        if frontier.kept is not None:
            left.axvline(frontier.kept, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
            left.annotate(
                "kept",
                (frontier.kept, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, -8),
                textcoords="offset points",
                color=GREY,
            )
        figure.legend(loc="outside upper left", ncols=3, handlelength=1.6, columnspacing=1.2)

    return to_svg(paint, (6.6, 3.3), name="frontier")


def _paint_gains(
    axes: Any, frontier: Frontier, gains: Sequence[float], colour: str, label: str
) -> None:
    axes.plot(
        frontier.distances, gains, "o-", color=colour, markersize=3.5, linewidth=1.1, label=label
    )


def _paint_gold(axes: Any, frontier: Frontier, name: str) -> None:
    _paint_gains(axes, frontier, frontier.gold, ORANGE, name)
    fit, furthest = frontier.fit, max(frontier.distances)
    if fit is not None and furthest > 0:
        grid = [furthest * (i + 1) / 100 for i in range(100)]
        axes.plot(
            grid,
            rl_curve(fit, grid),
            color=ORANGE,
            linestyle="--",
            linewidth=1.2,
            label=f"{name} ~ d(a − b log d)",
        )
    axes.set_ylabel(f"gain by the {name}", color=ORANGE)
    axes.grid(False)
    axes.locator_params(axis="y", nbins=5)


def _share_zero(left: Any, right: Any) -> None:
    """Align 0 of both axes: otherwise a gain on one looks like a loss on the other."""
    limits = [(min(axis.get_ylim()[0], 0), max(axis.get_ylim()[1], 0)) for axis in (left, right)]
    # the share of the axis below 0, the larger of the two
    below = max(-low / (high - low) for low, high in limits)
    for axis, (low, high) in zip((left, right), limits, strict=True):
        if below >= 1:
            axis.set_ylim(low, 0)
        else:
            above = max(high, -low * (1 - below) / below if below else 0)
            axis.set_ylim(-above * below / (1 - below), above)
