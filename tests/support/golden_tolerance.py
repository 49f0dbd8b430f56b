"""What the numbers of the golden run may differ by on another processor."""

from collections.abc import Iterator

from golden_run import Curves

# Of the largest deviation seen by tests/golden/spread.py, which makes about twenty runs. Another
# processor's rounding is one more draw of the same kind: that it goes beyond the largest of twenty
# by chance is likely (one in twenty for each quantity), beyond four times that is not.
FACTOR = 4
ULPS = 8 * 2.0**-24  # of the largest value: for what no run has moved


def numbers_of(curves: Curves) -> Iterator[tuple[str, str, float]]:
    """(place, quantity, value) of every number: a quantity is the same at all steps of a stage."""
    for place, numbers in curves.items():
        stage, step = place.split("/")
        for name, value in numbers.items():
            where = stage if step.isdigit() else place
            yield f"{place}: {name}", f"{where}/{name}", value


def scales(curves: Curves) -> dict[str, float]:
    """The largest absolute value of each quantity."""
    return _largest((quantity, abs(value)) for _, quantity, value in numbers_of(curves))


def deviations(stored: Curves, other: Curves) -> dict[str, float]:
    """The largest absolute difference of each quantity; the same numbers are in both."""
    return _largest((quantity, abs(a - b)) for _, quantity, a, b in _pairs(stored, other))


def strangers(stored: Curves, other: Curves, spread: dict[str, float]) -> list[str]:
    """In words, every number that lies further from the stored one than float32 allows.

    tolerance = FACTOR * spread of the quantity + ULPS * its largest value
    """
    scale = scales(stored)
    unknown = sorted(scale.keys() - spread.keys())
    assert not unknown, f"not in spread.json, write it anew (spread.py --write): {unknown}"
    found = []
    for place, quantity, a, b in _pairs(stored, other):
        tolerance = FACTOR * spread[quantity] + ULPS * scale[quantity]
        if not abs(a - b) <= tolerance:
            found.append(f"{place}: {b!r} for {a!r}, tolerance {tolerance:.1e}")
    return found


def _pairs(stored: Curves, other: Curves) -> Iterator[tuple[str, str, float, float]]:
    """(place, quantity, stored, other), in the order of places."""
    known = {place: (quantity, value) for place, quantity, value in numbers_of(stored)}
    found = {place: value for place, _, value in numbers_of(other)}
    assert known.keys() == found.keys(), sorted(known.keys() ^ found.keys())
    for place, (quantity, value) in known.items():
        yield place, quantity, value, found[place]


def _largest(pairs: Iterator[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for key, value in pairs:
        found[key] = max(found.get(key, 0.0), value)
    return found
