"""The checks of annotators as pure functions of counts: when their work should be looked at.

Every check is an e-process (`stats.sequential`): it may be looked at after each answer, and raises
a false alarm about somebody at the bar with a chance of at most `rules.alarm`, however long they
work. Checks together are products, which test that all of their bars are met at once.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from alignloop.label.store.rules import Check, QueueRules
from alignloop.stats import evidence_below, evidence_of_side

PRIOR, PRIOR_RIGHT = 5.0, 4.5  # answers that a newcomer's share starts with
LOWEST_BAR = 0.05
TRUSTED = -5.0  # log of the odds of guessing down to which an annotator gets more gold questions
LEAST_TRUSTED_BAR = 0.6  # below it answers say little about guessing
SIDE_DOUBT = 0.0
FEWEST_GOLD_FOR_DOUBT = 2


@dataclass(frozen=True, kw_only=True)
class Counts:
    """An annotator's answers: gold questions, items on which two or more others agree, choices
    between two answers with how many went to the left, and all answers with how many were fast."""

    gold: int = 0
    gold_right: int = 0
    peers: int = 0
    peers_agree: int = 0
    sides: int = 0
    sides_left: int = 0
    timed: int = 0
    too_fast: int = 0


@dataclass(frozen=True, kw_only=True)
class Bars:
    """The shares below which gold answers and agreement with others are alarming."""

    gold: float
    peers: float


def bars_of(others: Sequence[Counts], rules: QueueRules) -> Bars:
    """The rules' bars, lowered to `margin` below the middle of the other annotators.

    So a wrong key or hard questions alarm about nobody. The middle is treated as known; one
    annotator like a newcomer is counted among the others, for projects with few.
    """
    found = [*others, Counts()]
    gold = median(_share(one.gold_right, one.gold) for one in found)
    peers = median(_share(one.peers_agree, one.peers) for one in found)
    return Bars(
        gold=max(LOWEST_BAR, min(rules.gold_bar, gold - rules.margin)),
        peers=max(LOWEST_BAR, min(rules.peer_bar, peers - rules.margin)),
    )


def evidence_of(counts: Counts, bars: Bars, rules: QueueRules) -> dict[Check, float]:
    """The log of the evidence of each check against an annotator.

    gold: their gold answers; accuracy: these times agreement with others; side: choices of one
    side; all: accuracy times side; speed: fast answers.
    """
    gold = evidence_below(counts.gold_right, counts.gold - counts.gold_right, bars.gold)
    peers = evidence_below(counts.peers_agree, counts.peers - counts.peers_agree, bars.peers)
    right = counts.sides - counts.sides_left
    side = evidence_of_side(counts.sides_left, right, rules.side_tolerance)
    slow = counts.timed - counts.too_fast
    speed = evidence_below(slow, counts.too_fast, 1 - rules.fast_tolerance)
    return {
        "gold": gold,
        "accuracy": gold + peers,
        "side": side,
        "all": gold + peers + side,
        "speed": speed,
    }


def alarms(evidence: Mapping[Check, float], rules: QueueRules) -> list[Check]:
    """The checks whose evidence has reached 1 / alarm."""
    return [name for name, value in evidence.items() if value >= math.log(1 / rules.alarm)]


def is_in_doubt(counts: Counts, bars: Bars, rules: QueueRules) -> bool:
    """Whether more gold questions would settle what to think of somebody.

    Until the likelihood of their answers under guessing is small against that at the bars.
    """
    wrong = counts.gold - counts.gold_right, counts.peers - counts.peers_agree
    odds = _guessing(counts.gold_right, wrong[0], bars.gold)
    odds += _guessing(counts.peers_agree, wrong[1], bars.peers)
    right = counts.sides - counts.sides_left
    side = evidence_of_side(counts.sides_left, right, rules.side_tolerance)
    return counts.gold >= FEWEST_GOLD_FOR_DOUBT and (odds > TRUSTED or side > SIDE_DOUBT)


def _guessing(right: int, wrong: int, bar: float) -> float:
    bar = max(bar, LEAST_TRUSTED_BAR)
    return right * math.log(0.5 / bar) + wrong * math.log(0.5 / (1 - bar))


def agreement_counts(votes: Mapping[int, str]) -> dict[int, tuple[int, int]]:
    """Of one item's votes by user (an answer's id; "" for others): (counted, agreed) of each.

    A vote counts if two or more others voted and all for the same answer.
    """
    found: dict[int, tuple[int, int]] = {}
    for user, own in votes.items():
        others = [vote for one, vote in votes.items() if one != user]
        if own and len(others) > 1 and others[0] and len(set(others)) == 1:
            found[user] = 1, int(own == others[0])
    return found


def _share(right: int, asked: int) -> float:
    return (right + PRIOR_RIGHT) / (asked + PRIOR)
