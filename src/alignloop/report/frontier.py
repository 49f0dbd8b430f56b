"""Over-optimisation: what the proxy and the gold score gained at which distance from SFT."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alignloop.report.plots import BLUE, GREY, ORANGE, tidy, to_svg
from alignloop.report.tables import Json


@dataclass(frozen=True, kw_only=True)
class GaoFit:
    """gold(d) - gold(0) = d (a - b log d), d = sqrt(KL) (Gao et al. 2022, equation for RL)."""

    a: float
    b: float

    def at(self, distance: float) -> float:
        """The gain of the gold score at d > 0."""
        return distance * (self.a - self.b * math.log(distance))

    @property
    def peak(self) -> float | None:
        """Where the gain is greatest, d = exp(a/b - 1); None where the curve has no top."""
        if self.b <= 0 or self.a / self.b > 20:
            return None
        return math.exp(self.a / self.b - 1)


def fit_gao(distances: Sequence[float], gains: Sequence[float]) -> GaoFit | None:
    """Least squares for a and b over the points with d > 0; None with fewer than four of them.

    The curve is linear in a and b, so that the fit is exact: columns d and -d log d.
    """
    kept = [(d, gain) for d, gain in zip(distances, gains, strict=True) if d > 0]
    if len(kept) < 4:
        return None
    d, y = (np.array(column) for column in zip(*kept, strict=True))
    a, b = np.linalg.lstsq(np.stack([d, -d * np.log(d)], axis=1), y, rcond=None)[0]
    return GaoFit(a=float(a), b=float(b))


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """What was gained at which distance from the SFT model; gains start at 0."""

    distances: tuple[float, ...]
    proxy: tuple[float, ...]
    gold: tuple[float, ...]
    kept: float | None
    fit: GaoFit | None

    @property
    def predicted_peak_kl(self) -> float | None:
        """The KL at which the fitted gold curve turns, in nats."""
        peak = self.fit.peak if self.fit else None
        return None if peak is None else peak**2


def frontier_of(metrics: Iterable[Json], kept_step: float | None) -> Frontier | None:
    """The validation points of PPO; None with fewer than two. `gold` may be empty."""
    lines = [
        line
        for line in metrics
        if line.get("stage") == "rl"
        and line.get("validation_kl") is not None
        and line.get("validation_score") is not None
    ]
    if len(lines) < 2:
        return None
    distances = tuple(math.sqrt(max(float(line["validation_kl"]), 0.0)) for line in lines)
    kept = [d for d, line in zip(distances, lines, strict=True) if line["step"] == kept_step]
    has_gold = all(line.get("validation_gold") is not None for line in lines)
    gold = _gains(lines, "validation_gold") if has_gold else ()
    return Frontier(
        distances=distances,
        proxy=_gains(lines, "validation_score"),
        gold=gold,
        kept=kept[0] if kept else None,
        fit=fit_gao(distances, gold) if gold else None,
    )


def _gains(lines: Sequence[Json], key: str) -> tuple[float, ...]:
    return tuple(float(line[key]) - float(lines[0][key]) for line in lines)


def draw_frontier(frontier: Frontier) -> str:
    """Proxy (left axis) and gold (right axis) against sqrt(KL), both gains from 0, as SVG."""

    def paint(figure: Any) -> None:
        left = figure.subplots()
        _paint_gains(left, frontier, frontier.proxy, BLUE, "proxy: the reward model")
        left.set_ylabel("gain of proxy score", color=BLUE)
        tidy(left, "sqrt(KL), KL in nats per sequence")
        if frontier.gold:
            right = left.twinx()
            _paint_gold(right, frontier)
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


def _paint_gold(axes: Any, frontier: Frontier) -> None:
    _paint_gains(axes, frontier, frontier.gold, ORANGE, "gold")
    fit, furthest = frontier.fit, max(frontier.distances)
    if fit is not None and furthest > 0:
        grid = [furthest * (i + 1) / 100 for i in range(100)]
        axes.plot(
            grid,
            [fit.at(d) for d in grid],
            color=ORANGE,
            linestyle="--",
            linewidth=1.2,
            label="gold ~ d(a − b log d)",
        )
    axes.set_ylabel("gain of gold score", color=ORANGE)
    axes.grid(False)
    axes.locator_params(axis="y", nbins=5)


def _share_zero(left: Any, right: Any) -> None:
    """Put 0 of both axes at the same height: else a gain on one looks like a loss on the other."""
    limits = [(min(axis.get_ylim()[0], 0), max(axis.get_ylim()[1], 0)) for axis in (left, right)]
    below = max(-low / (high - low) for low, high in limits)
    for axis, (low, high) in zip((left, right), limits, strict=True):
        if below >= 1:
            axis.set_ylim(low, 0)
        else:
            above = max(high, -low * (1 - below) / below if below else 0)
            axis.set_ylim(-above * below / (1 - below), above)
