"""Content of the lead's screens from plain rows: sums and words, read only."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from alignloop.label.labels.project_labels import ProjectLabels, StoredJudgement
from alignloop.label.store import overview
from alignloop.label.store.database import Session
from alignloop.label.store.tables import Batch, Project
from alignloop.label.texts.i18n import Texts

WEEK = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class ProjectCard:
    """A project on the start page, with the reader's own work."""

    slug: str
    title: str
    kind: str
    done: int


@dataclass(frozen=True, kw_only=True)
class BatchRow:
    """A batch and its progress: `done` of `wanted` judgements of its ordinary items."""

    name: str
    overlap: int
    num_items: int
    closed: bool
    wanted: int
    done: int


@dataclass(frozen=True, kw_only=True)
class PersonRow:
    """How much an annotator has judged, and when last."""

    name: str
    today: int
    week: int
    all: int
    seconds: float | None
    last: datetime


@dataclass(frozen=True, kw_only=True)
class ReviewedAnswer:
    """One answer as the lead sees it: `id` is for decisions, `name` the record's id."""

    id: str
    name: str
    label: str
    text: str
    model: str


def project_card(session: Session, project: Project, user_id: int) -> ProjectCard:
    """A project and how many of its items this user has judged."""
    done = overview.count_judged(session, project.id, user_id)
    return ProjectCard(slug=project.slug, title=project.title, kind=project.kind, done=done)


def batch_rows(batches: Sequence[Batch], labels: ProjectLabels) -> list[BatchRow]:
    """The batches in working order."""
    serious = [one for one in labels.judgements if one.verdict != "skip"]
    have = Counter(one.item_id for one in serious)
    wanted: Counter[str] = Counter()
    done: Counter[str] = Counter()
    for item in labels.items.values():
        if not item.measures_people:
            wanted[item.batch] += item.wanted
            done[item.batch] += min(item.wanted, have[item.item_id])
    return [
        BatchRow(
            name=batch.name,
            overlap=batch.overlap,
            num_items=batch.num_items,
            closed=batch.closed,
            wanted=wanted[batch.name],
            done=done[batch.name],
        )
        for batch in batches
    ]


def batches_with_gold(session: Session, batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """The batches with their numbers of gold questions; reads no texts or judgements."""
    gold = overview.count_gold(session, [batch.id for batch in batches])
    return [
        vars(batch) | {"gold": gold.get(batch.id, 0), "closed": batch.closed} for batch in batches
    ]


def person_rows(labels: ProjectLabels, at: datetime) -> list[PersonRow]:
    """All annotators with judgements, this week's busiest first."""
    midnight = at.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    people: dict[str, list[StoredJudgement]] = {}
    for judged in labels.judgements:
        people.setdefault(judged.annotator, []).append(judged)
    rows = [
        PersonRow(
            name=name,
            today=sum(one.created_at >= midnight for one in own),
            week=sum(one.created_at > at - WEEK for one in own),
            all=len(own),
            seconds=_median([one.seconds for one in own if one.seconds > 0]),
            last=max(one.created_at for one in own),
        )
        for name, own in people.items()
    ]
    return sorted(rows, key=lambda row: (-row.week, row.name))


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def shown_answers(session: Session, item_id: int) -> list[ReviewedAnswer]:
    """An item's answers in stored order."""
    rows = overview.responses_of(session, [item_id])[item_id]
    return [
        ReviewedAnswer(
            id=row.public_id,
            name=row.record_id,
            label=chr(ord("A") + index),
            text=row.text,
            model=row.model,
        )
        for index, row in enumerate(rows)
    ]


def judged_words(t: Texts, names: Mapping[str, str], judged: StoredJudgement) -> str:
    """A judgement in words; `names` gives the letter of each answer: "A is slightly better"."""
    if judged.ranking:
        return " > ".join(" = ".join(names[one] for one in tier) for tier in judged.ranking)
    if judged.verdict == "choice" and judged.choice is not None and judged.strength is not None:
        return t(f"js.strength_{judged.strength}", name=names[judged.choice])
    return verdict_words(t, names, judged.verdict, judged.choice)


def verdict_words(t: Texts, names: Mapping[str, str], verdict: str, choice: str | None) -> str:
    """A verdict in words."""
    if verdict == "choice" and choice is not None:
        return t("task.better", name=names[choice])
    return t(f"verdict.{verdict}")


def what_was_said(
    t: Texts, labels: ProjectLabels, item_id: int, names: Mapping[str, str]
) -> dict[str, Any]:
    """All judgements of an item, and the lead's latest decision on it."""
    judged = [
        {
            "who": one.annotator,
            "words": judged_words(t, names, one),
            "harmful": ", ".join(names[name] for name in one.harmful),
            "comment": one.comment,
            "seconds": one.seconds,
        }
        for one in labels.judgements
        if one.item_id == item_id
    ]
    decided = [one for one in labels.adjudications if one.item_id == item_id]
    last = max(decided, key=lambda one: one.created_at, default=None)
    decision = last and {
        "by": last.by,
        "words": verdict_words(t, names, last.verdict, last.choice),
        "comment": last.comment,
    }
    return {"said": judged, "decision": decision}
