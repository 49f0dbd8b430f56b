"""What a lead should look into: an annotator's figures that stand out, with their intervals."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from alignloop.label.quality.annotators import Quality, is_unknown
from alignloop.stats import Estimate

Level = Literal["bad", "warn"]

# Shares below which an annotator stands out: "bad" if the interval's upper end is below, "warn" if
# only the value of five prompts or more is. Two answers leave 50 % to chance.
LEAST_GOLD = 0.75
LEAST_SELF = 0.7
LEAST_TRUE = 0.7
LEAST_DECIDED = 0.5
FEWEST = 5  # prompts; fewer make a value that looks low by chance
SIDE = 0.6  # the share of one side from which a bias is "bad" if the interval lies beyond it
TOO_FAST = 2.0  # seconds: nobody reads two answers in less
MUCH_FASTER = 1 / 3  # of the other annotators' median
MANY_WITHOUT_TIME = 0.1
MOSTLY = 0.5  # of the judgements are ties, both bad or skips


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One remark: `kind` names its text, `share` or `seconds` is the figure it is about."""

    kind: str
    level: Level
    share: Estimate | None = None
    seconds: float | None = None
    count: int | None = None


@dataclass(frozen=True, kw_only=True)
class Flagged:
    """An annotator with what stands out, the worst first."""

    quality: Quality
    flags: Sequence[Flag] = field(default_factory=tuple[Flag, ...])

    @property
    def need(self) -> tuple[int, int]:
        """How many flags are bad, and how many there are."""
        return sum(flag.level == "bad" for flag in self.flags), len(self.flags)


def flagged(people: Sequence[Quality]) -> list[Flagged]:
    """All annotators, those in most need of a look first."""
    found = [Flagged(quality=one, flags=_flags(one, people)) for one in people]
    return sorted(found, key=lambda one: (*(-n for n in one.need), one.quality.annotator))


def _flags(one: Quality, people: Sequence[Quality]) -> list[Flag]:
    low = (
        ("gold", one.gold, LEAST_GOLD),
        ("true", one.dawid_skene, LEAST_TRUE),
        ("self", one.self_agreement, LEAST_SELF),
        ("decided", one.decided, LEAST_DECIDED),
    )
    found = [_too_low(kind, share, least) for kind, share, least in low]
    found += [_side(one.first_shown), _speed(one, people), _without_time(one), _evasive(one)]
    return sorted((flag for flag in found if flag), key=lambda flag: flag.level != "bad")


def _too_low(kind: str, share: Estimate | None, least: float) -> Flag | None:
    if share is None or share.value >= least or is_unknown(share):
        return None
    if share.high < least:
        return Flag(kind=kind, level="bad", share=share)
    return Flag(kind=kind, level="warn", share=share) if share.n >= FEWEST else None


def _side(left: Estimate | None) -> Flag | None:
    """A share of one side that half is not in; shown for the side that is preferred."""
    if left is None or left.low <= 0.5 <= left.high:
        return None
    if left.value > 0.5:
        return Flag(kind="left", level="bad" if left.low > SIDE else "warn", share=left)
    right = Estimate(value=1 - left.value, low=1 - left.high, high=1 - left.low, n=left.n)
    return Flag(kind="right", level="bad" if right.low > SIDE else "warn", share=right)


def _speed(one: Quality, people: Sequence[Quality]) -> Flag | None:
    seconds = one.median_seconds
    if seconds < TOO_FAST:
        return Flag(kind="fast", level="bad", seconds=seconds)
    others = [other.median_seconds for other in people if other.annotator != one.annotator]
    if others and seconds < MUCH_FASTER * statistics.median(others):
        return Flag(kind="fast", level="warn", seconds=seconds)
    return None


def _without_time(one: Quality) -> Flag | None:
    if not one.no_time:
        return None
    many = one.no_time > MANY_WITHOUT_TIME * one.judgements
    return Flag(kind="no_time", level="bad" if many else "warn", count=one.no_time)


def _evasive(one: Quality) -> Flag | None:
    shares = {"ties": one.tie_share, "bad": one.both_bad_share, "skips": one.skip_share}
    kind, share = max(shares.items(), key=lambda named: named[1])
    if share <= MOSTLY:
        return None
    return Flag(kind=kind, level="warn", count=round(share * one.judgements))
