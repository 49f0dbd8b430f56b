"""How many labels are left, how fast they come, and when they are there at that pace."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from alignloop.label.quality.rows import Judged, Labels
from alignloop.stats import Estimate, cluster_bootstrap

WINDOW_DAYS = 14
SEED = 0
DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """`per_day` is the pace of the last days, those without work counted too, with its interval.

    `done_on` is the moment at that pace, `earliest` and `latest` at the interval's ends; None
    where nobody works, or where nothing but one day is known.
    `per_hour` is the pace while somebody works: labels of all people per hour with work in it.
    """

    left: int
    done: int
    per_day: Estimate | None
    per_hour: float | None
    done_on: datetime | None
    earliest: datetime | None
    latest: datetime | None


def forecast(labels: Labels, now: datetime) -> Forecast:
    """Labels left in the open batches, and when they are there at the pace of the last days.

    The pace is the mean over the last days of 24 hours, at most fourteen, reckoned back from
    `now`, that began after the first label. Its interval is a bootstrap over those days: people
    who come every other day make it wide.
    """
    left, done = _left(labels)
    # Of what is counted in `left`: skips, gold questions and repeats bring the end no nearer.
    counted = [j for j in labels.about_answers.judgements if j.verdict != "skip"]
    recent = [j for j in counted if now - WINDOW_DAYS * DAY < j.created_at <= now]
    per_day = _per_day(counted, recent, now)
    return Forecast(
        left=left,
        done=done,
        per_day=per_day,
        per_hour=_per_hour(recent),
        done_on=_moment(now, left, per_day.value) if per_day else None,
        earliest=_moment(now, left, per_day.high) if per_day else None,
        latest=_moment(now, left, per_day.low) if per_day else None,
    )


def _left(labels: Labels) -> tuple[int, int]:
    """What is wanted of open items and not there yet, and what is there; a skip is nothing."""
    about = labels.about_answers
    have = Counter(judged.item_id for judged in about.judgements if judged.verdict != "skip")
    wanted = [item for item in about.items.values() if item.is_open]
    return sum(max(0, item.wanted - have[item.item_id]) for item in wanted), have.total()


def _per_day(
    judgements: Sequence[Judged], recent: Sequence[Judged], now: datetime
) -> Estimate | None:
    if not recent:
        return None
    age = (now - min(judged.created_at for judged in judgements)) / DAY
    whole = min(WINDOW_DAYS, int(age))
    if whole == 0:
        return None  # less than a day old: a morning's pace says nothing of a night
    days = Counter(max(0, math.ceil((now - j.created_at) / DAY) - 1) for j in recent)
    counts = [days[day] for day in range(whole)]
    return cluster_bootstrap(counts, range(whole), seed=SEED)


def _per_hour(recent: Sequence[Judged]) -> float | None:
    hours = {judged.created_at.replace(minute=0, second=0, microsecond=0) for judged in recent}
    return len(recent) / len(hours) if hours else None


def _moment(now: datetime, left: int, per_day: float) -> datetime | None:
    if left == 0:
        return now
    days = left / per_day if per_day > 0 else float("inf")
    return now + days * DAY if days < 36_500 else None
