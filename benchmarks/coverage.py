"""How often the intervals that people are shown hold the truth: python benchmarks/coverage.py

Draws data of known truth, asks for the nominal 95 % interval, and counts. Prints, for every
interval and size, the lowest coverage over its designs and the median width of that design, as the
table in docs/evaluation.md. An open end covers whatever lies on its side; where most intervals are
open the width is a dash.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from alignloop.stats import (
    Estimate,
    abilities,
    choices_of,
    cluster_bootstrap,
    cluster_share,
    finish_window,
    krippendorff_interval,
    length_controlled_win_rate,
    win_rate,
)

Random = np.random.Generator
Draw = Callable[[Random], Iterator[tuple[float, float, float]]]  # truth, low, high


@dataclass(frozen=True, kw_only=True)
class Design:
    """One way to draw data: `draw` yields (truth, low, high) for each interval of one sample."""

    interval: str
    size: str
    name: str
    draw: Draw
    cost: int = 1  # samples are divided by it


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What came of one design."""

    design: Design
    covered: float
    width: float


def measure(design: Design, samples: int, seed: int) -> Coverage:
    """Coverage and median width over so many samples; the same seed gives the same numbers."""
    rng = np.random.default_rng([seed, *design.interval.encode(), *design.name.encode()])
    found = [one for _ in range(max(1, samples // design.cost)) for one in design.draw(rng)]
    held = [low - 1e-9 <= truth <= high + 1e-9 for truth, low, high in found]
    return Coverage(
        design=design,
        covered=float(np.mean(held)),
        width=float(np.median([high - low for _, low, high in found])),
    )


def designs() -> Iterator[Design]:
    """All of them, by the interval they try."""
    for n in (5, 10, 30, 100):
        yield from shares(n)
        yield from scores(n)
        yield from means(n)
    for n in (20, 50, 200):
        yield from at_equal_length(n)
    for n in (10, 30, 100):
        yield from alphas(n)
    for n in (12, 40, 200):
        yield from rankings(n)
    for days in (3, 7, 14):
        yield from forecasts(days)


def shares(n: int) -> Iterator[Design]:
    """Yes or no (accuracy, harmful compliance, first shown), ties, and several to a prompt."""

    def plain(share: float) -> Draw:
        return lambda rng: one(share, cluster_share(rng.random(n) < share, np.arange(n)))

    def together(share: float, correlation: float, sizes: list[int]) -> Draw:
        def draw(rng: Random) -> Iterator[tuple[float, float, float]]:
            size = rng.choice(sizes, n)
            spread = 1 / correlation - 1
            chance = np.repeat(rng.beta(share * spread, (1 - share) * spread, n), size)
            values = rng.random(len(chance)) < chance
            return one(share, cluster_share(values, np.repeat(np.arange(n), size)))

        return draw

    def tied(won: float, lost: float) -> Draw:
        chances = [won, lost, 1 - won - lost]
        return lambda rng: one(
            won + chances[2] / 2, win_rate(rng.choice([1, 0, 0.5], n, p=chances), np.arange(n))
        )

    for share in (0.5, 0.7, 0.9, 0.95, 0.98):
        yield Design(interval="share", size=f"{n} prompts", name=f"{share}", draw=plain(share))
        for sizes in ([4], [1, 2, 3, 10]):
            name = f"{share}, answers {sizes} to a prompt, correlation 0.3"
            draw = together(share, 0.3, sizes)
            yield Design(interval="share, clustered", size=f"{n} prompts", name=name, draw=draw)
    for won, lost in ((0.3, 0.3), (0.3, 0.1), (0.1, 0.05), (0.05, 0.0)):
        name = f"won {won}, lost {lost}"
        yield Design(interval="win rate", size=f"{n} prompts", name=name, draw=tied(won, lost))


def scores(n: int) -> Iterator[Design]:
    """Means of scores in 0..1: a judge's, near each other or far apart, or mostly 0."""
    for a, b in ((8, 2), (1, 1), (0.3, 0.7), (0.2, 4)):

        def draw(rng: Random, a: float = a, b: float = b) -> Iterator[tuple[float, float, float]]:
            return one(a / (a + b), cluster_share(rng.beta(a, b, n), np.arange(n)))

        yield Design(
            interval="mean score in 0..1", size=f"{n} prompts", name=f"beta({a}, {b})", draw=draw
        )


def means(n: int) -> Iterator[Design]:
    """Means without bounds: lengths, differences of ratings."""
    ratings, chances = np.array([-2, -1, 0, 1, 2]), [0.05, 0.1, 0.5, 0.2, 0.15]
    kinds: dict[str, tuple[float, Callable[[Random], np.ndarray]]] = {
        "lengths, lognormal(4, 0.5)": (np.exp(4.125), lambda rng: rng.lognormal(4, 0.5, n)),
        "lengths, lognormal(4, 1)": (np.exp(4.5), lambda rng: rng.lognormal(4, 1, n)),
        "rating differences -2..2": (0.3, lambda rng: rng.choice(ratings, n, p=chances)),
        "rating differences, normal": (0.5, lambda rng: rng.normal(0.5, 1, n)),
    }
    for name, (truth, values) in kinds.items():

        def draw(
            rng: Random, truth: float = truth, values: Callable[[Random], np.ndarray] = values
        ) -> Iterator[tuple[float, float, float]]:
            seed = int(rng.integers(2**31))
            return one(truth, cluster_bootstrap(values(rng), np.arange(n), seed=seed))

        yield Design(
            interval="mean without bounds", size=f"{n} prompts", name=name, draw=draw, cost=4
        )


def at_equal_length(n: int) -> Iterator[Design]:
    """The length-controlled win rate where the model holds."""
    for level, pull in ((0.0, 0.0), (0.5, 1.0), (-1.0, 2.0), (2.0, 0.5)):

        def draw(
            rng: Random, level: float = level, pull: float = pull
        ) -> Iterator[tuple[float, float, float]]:
            length = rng.normal(0.3, 1, n)
            chance = 1 / (1 + np.exp(-level - pull * np.tanh(length)))
            found = length_controlled_win_rate(rng.random(n) < chance, length, np.arange(n))
            return one(1 / (1 + np.exp(-level)), found)

        yield Design(
            interval="win rate at equal length",
            size=f"{n} prompts",
            name=f"theta {level}, phi {pull}",
            draw=draw,
        )


def alphas(n: int) -> Iterator[Design]:
    """Krippendorff's alpha of people who are right with an accuracy, else say another label."""
    for people in (2, 4):
        for labels in (2, 3):
            for accuracy in (0.7, 0.9, 0.95):
                for first in (1 / labels, 0.8):
                    yield Design(
                        interval="Krippendorff's alpha",
                        size=f"{n} units",
                        name=f"{people} people, {labels} labels, accuracy {accuracy}, "
                        f"first label {first:.2f}",
                        draw=alpha_of(n, people, labels, accuracy, first),
                        cost=2,
                    )


def alpha_of(n: int, people: int, labels: int, accuracy: float, first: float) -> Draw:
    """Draws n units and compares with the alpha of infinitely many."""
    prior = np.array([first] + [(1 - first) / (labels - 1)] * (labels - 1))
    said = np.full((labels, labels), (1 - accuracy) / (labels - 1))
    np.fill_diagonal(said, accuracy)
    shares = prior @ said
    truth = 1 - (1 - prior @ (said**2).sum(axis=1)) / (1 - (shares**2).sum())

    def draw(rng: Random) -> Iterator[tuple[float, float, float]]:
        true = rng.choice(labels, n, p=prior)
        wrong = (true[:, None] + rng.integers(1, labels, (n, people))) % labels
        given = np.where(rng.random((n, people)) < accuracy, true[:, None], wrong)
        triples = [(who, unit, int(given[unit, who])) for unit in range(n) for who in range(people)]
        found = krippendorff_interval(triples)
        return one(truth, found) if not np.isnan(found.value) else iter(())

    return draw


def rankings(n: int) -> Iterator[Design]:
    """Abilities about the mean of all: from pairs, several votes on a prompt, rankings."""
    for truth in ((0.0, 0.0, 0.0), (1.0, 0.0, -1.0), (4.0, 0.0, 0.0), (2.0, 1.0, 0.0, -3.0)):
        for kind in ("pairs", "4 alike votes on a prompt", "rankings"):
            yield Design(
                interval="ability",
                size=f"{n} comparisons",
                name=f"{truth}, {kind}",
                draw=abilities_of(n, np.array(truth), kind),
                cost=20,
            )


def abilities_of(n: int, truth: np.ndarray, kind: str) -> Draw:
    """Draws n comparisons, the best by Gumbel's noise."""
    at = truth - truth.mean()

    def draw(rng: Random) -> Iterator[tuple[float, float, float]]:
        told, prompts = [], []
        for number in range(n):
            some = len(at) if kind == "rankings" else 2
            models = rng.permutation(len(at))[:some]
            copies = 4 if kind.startswith("4") else 1  # one verdict, and people who repeat it
            if number % copies:
                continue
            order = models[np.argsort(-at[models] - rng.gumbel(size=some))]
            told += [[[int(model)] for model in order]] * copies
            prompts += [number] * copies
        found = abilities(choices_of(told, len(at), np.unique(prompts, return_inverse=True)[1]))
        for model, ability in enumerate(found or ()):
            yield float(at[model]), ability.low, ability.high

    return draw


def forecasts(days: int) -> Iterator[Design]:
    """On which day the work is done, of people who come with a chance and do a varying amount."""
    for come, spread in ((1.0, 0.0), (1.0, 0.5), (0.7, 0.3)):

        def draw(
            rng: Random, come: float = come, spread: float = spread
        ) -> Iterator[tuple[float, float, float]]:
            pace = 20 * rng.lognormal(-(spread**2) / 2, spread, 2000)
            work = rng.poisson(pace) * (rng.random(2000) < come)
            left = 300
            if work[:days].sum():
                early, late = finish_window(left, work[:days].tolist())
                done = int(np.argmax(np.cumsum(work[days:]) >= left)) + 1
                yield done, early, late + 1  # a day is done when it ends

        yield Design(
            interval="day of completion",
            size=f"{days} days",
            name=f"at work with chance {come}, pace spread {spread}",
            draw=draw,
        )


def one(truth: float, found: Estimate) -> Iterator[tuple[float, float, float]]:
    """The row of one estimate."""
    yield float(truth), found.low, found.high


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="every design, not the worst alone")
    options = parser.parse_args()
    found: dict[tuple[str, str], list[Coverage]] = {}
    for design in designs():
        row = measure(design, options.samples, options.seed)
        found.setdefault((design.interval, design.size), []).append(row)
        if options.all:
            name = f"{design.interval}, {design.size}, {design.name}"
            print(f"{row.covered:.3f}  {row.width:8.3f}  {name}", flush=True)
    print("| interval | size | designs | lowest coverage | of which design | its median width |")
    print("|---|---|---|---|---|---|")
    for (interval, size), rows in sorted(found.items(), key=lambda item: item[0][0]):
        worst = min(rows, key=lambda row: row.covered)
        width = f"{worst.width:.3g}" if np.isfinite(worst.width) else "–"
        name = worst.design.name
        print(f"| {interval} | {size} | {len(rows)} | {worst.covered:.3f} | {name} | {width} |")


if __name__ == "__main__":
    main()
