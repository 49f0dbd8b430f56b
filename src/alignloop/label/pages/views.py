"""What the lead's screens show, from plain rows: sums and words, nothing written."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from alignloop.label.pages.i18n import Texts
from alignloop.label.quality.rows import Judged, Labels
from alignloop.label.store.judging import standing
from alignloop.label.store.tables import (
    Batch,
    Item,
    ItemResponse,
    Judgement,
    Project,
    Response,
)

WEEK = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class ProjectCard:
    """A project on the first page, with what the reader has done of it."""

    slug: str
    title: str
    kind: str
    done: int


@dataclass(frozen=True, kw_only=True)
class BatchRow:
    """A batch and how far it is: `done` of `wanted` judgements of its ordinary items."""

    name: str
    overlap: int
    num_items: int
    closed: bool
    wanted: int
    done: int


@dataclass(frozen=True, kw_only=True)
class PersonRow:
    """How much somebody has judged, and when last."""

    name: str
    today: int
    week: int
    all: int
    seconds: float | None
    last: datetime


@dataclass(frozen=True, kw_only=True)
class ShownAnswer:
    """One answer as the lead sees it: `id` is what a decision names, `name` the record's id."""

    id: str
    name: str
    label: str
    text: str
    model: str


def project_card(session: Session, project: Project, user_id: int) -> ProjectCard:
    """A project and how many items of it this person has judged."""
    mine = standing().join(Item, Item.id == Judgement.item_id)
    mine = mine.where(Item.project_id == project.id, Judgement.user_id == user_id)
    done = session.scalar(mine.with_only_columns(func.count(Judgement.id))) or 0
    kind = str(project.schema["kind"])
    return ProjectCard(slug=project.slug, title=project.title, kind=kind, done=done)


def batch_rows(batches: Sequence[Batch], labels: Labels) -> list[BatchRow]:
    """The batches in the order in which they are worked off."""
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
            closed=batch.closed_at is not None,
            wanted=wanted[batch.name],
            done=done[batch.name],
        )
        for batch in batches
    ]


def batches_with_gold(session: Session, batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """The batches with their numbers of gold questions; reads no text and no judgement."""
    count = select(Item.batch_id, func.count(Item.id)).where(Item.gold_verdict.is_not(None))
    mine = count.where(Item.batch_id.in_([batch.id for batch in batches]))
    gold: dict[int, int] = {row[0]: row[1] for row in session.execute(mine.group_by(Item.batch_id))}
    return [
        vars(batch) | {"gold": gold.get(batch.id, 0), "closed": batch.closed_at is not None}
        for batch in batches
    ]


def person_rows(labels: Labels, at: datetime) -> list[PersonRow]:
    """Everybody who has judged something, the busiest of this week first."""
    midnight = at.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    people: dict[str, list[Judged]] = {}
    for judged in labels.judgements:
        people.setdefault(judged.annotator, []).append(judged)
    rows = [
        PersonRow(
            name=name,
            today=sum(one.created_at >= midnight for one in said),
            week=sum(one.created_at > at - WEEK for one in said),
            all=len(said),
            seconds=_median([one.seconds for one in said if one.seconds > 0]),
            last=max(one.created_at for one in said),
        )
        for name, said in people.items()
    ]
    return sorted(rows, key=lambda row: (-row.week, row.name))


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def shown_answers(session: Session, item_id: int) -> list[ShownAnswer]:
    """An item's answers in the order in which they are stored."""
    rows = session.scalars(
        select(Response)
        .join(ItemResponse, ItemResponse.response_id == Response.id)
        .where(ItemResponse.item_id == item_id)
        .order_by(ItemResponse.position)
    )
    return [
        ShownAnswer(
            id=row.public_id,
            name=row.record_id,
            label=chr(ord("A") + place),
            text=row.text,
            model=row.model,
        )
        for place, row in enumerate(rows)
    ]


def judged_words(t: Texts, names: Mapping[str, str], judged: Judged) -> str:
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
    t: Texts, labels: Labels, item_id: int, names: Mapping[str, str]
) -> dict[str, Any]:
    """Everybody's judgement of an item, and the lead's latest decision on it."""
    said = [
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
    return {"said": said, "decision": decision}


def label_name(t: Texts, label: str) -> str:
    """A label of the agreement's tables: a place in an item's content order, or a verdict."""
    return t("label.answer", n=int(label) + 1) if label.isdigit() else t(f"label.{label}")
