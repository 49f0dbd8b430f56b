"""How many labels are left, the pace, and the expected end."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from alignloop.label.labels.project_labels import ProjectLabels, StoredJudgement
from alignloop.stats import Estimate, cluster_bootstrap, finish_window

WINDOW_DAYS = 14
SEED = 0
DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """`per_day` is the pace of the last days, including idle ones, with its interval.

    `done_on` is the end at that pace; None without recent work or with less than one day of data.
    The end lies between `earliest` and `latest` with 95 % probability; both are None if unknown, as
    in the first two days, and `latest` alone if the pace may be zero.
    `per_hour` is the pace during work: labels of all annotators per hour with any work.
    """

    left: int
    done: int
    per_day: Estimate | None
    per_hour: float | None
    done_on: datetime | None
    earliest: datetime | None
    latest: datetime | None


def forecast(labels: ProjectLabels, now: datetime) -> Forecast:
    """Labels left in the open batches, and the expected end at the pace of the last days.

    The pace is the mean over the last 24-hour days, at most fourteen, counted back from `now` and
    starting after the first label. Its interval is a bootstrap over those days: irregular work
    makes it wide, and fewer than five days have none. The end comes from `stats.finish_window`,
    which allows future days to vary as past ones did.
    """
    left, done = _left(labels)
    # Only what `left` counts: skips, gold questions and repeats do not bring the end nearer.
    counted = [j for j in labels.about_answers.judgements if j.verdict != "skip"]
    recent = [j for j in counted if now - WINDOW_DAYS * DAY < j.created_at <= now]
    counts = _last_days(counted, recent, now)
    per_day = cluster_bootstrap(counts, range(len(counts)), seed=SEED) if counts else None
    early, late = finish_window(left, counts)
    return Forecast(
        left=left,
        done=done,
        per_day=per_day,
        per_hour=_per_hour(recent),
        done_on=_moment(now, left, per_day.value) if per_day else None,
        earliest=_in_days(now, early),
        latest=_in_days(now, late),
    )


def _left(labels: ProjectLabels) -> tuple[int, int]:
    """Labels missing of open items, and labels done; skips do not count."""
    about = labels.about_answers
    have = Counter(judged.item_id for judged in about.judgements if judged.verdict != "skip")
    open_items = [item for item in about.items.values() if item.is_open]
    return sum(max(0, item.wanted - have[item.item_id]) for item in open_items), have.total()


def _last_days(
    judgements: Sequence[StoredJudgement], recent: Sequence[StoredJudgement], now: datetime
) -> list[int]:
    """Labels of each of the last whole days, the latest first; empty without recent work."""
    if not recent:
        return []
    age = (now - min(judged.created_at for judged in judgements)) / DAY
    whole = min(WINDOW_DAYS, int(age))  # whole days only: a morning's pace ignores the night
    days = Counter(max(0, math.ceil((now - j.created_at) / DAY) - 1) for j in recent)
    return [days[day] for day in range(whole)]


def _per_hour(recent: Sequence[StoredJudgement]) -> float | None:
    hours = {judged.created_at.replace(minute=0, second=0, microsecond=0) for judged in recent}
    return len(recent) / len(hours) if hours else None


def _moment(now: datetime, left: int, per_day: float) -> datetime | None:
    if left == 0:
        return now
    return _in_days(now, left / per_day if per_day > 0 else math.inf)


def _in_days(now: datetime, days: float) -> datetime | None:
    return now + days * DAY if days < 36_500 else None
