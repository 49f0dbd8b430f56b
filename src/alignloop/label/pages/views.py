"""Content of the lead's screens from plain rows: sums and words, read only."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from alignloop.label.exports.tallies import Tally, tallies
from alignloop.label.labels.project_labels import (
    Adjudicated,
    Item,
    ProjectLabels,
    StoredJudgement,
)
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
    seconds: float
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
            seconds=statistics.median(one.seconds for one in own),
            last=max(one.created_at for one in own),
        )
        for name, own in people.items()
    ]
    return sorted(rows, key=lambda row: (-row.week, row.name))


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
        return ranked_words(names, judged.ranking)
    if judged.verdict == "choice" and judged.choice is not None and judged.strength is not None:
        return t(f"js.strength_{judged.strength}", name=names[judged.choice])
    return verdict_words(t, names, judged.verdict, judged.choice)


def ranked_words(names: Mapping[str, str], ranking: Sequence[Sequence[str]]) -> str:
    """A ranking: "A > B = C"."""
    return " > ".join(" = ".join(names[one] for one in tier) for tier in ranking)


def verdict_words(t: Texts, names: Mapping[str, str], verdict: str, choice: str | None) -> str:
    """A verdict in words."""
    if verdict == "choice" and choice is not None:
        return t("task.better", name=names[choice])
    return t(f"verdict.{verdict}")


def letters(item: Item) -> dict[str, str]:
    """The letter of each answer on the lead's screens, in stored order."""
    return {answer.response_id: chr(ord("A") + n) for n, answer in enumerate(item.answers)}


def decided_words(t: Texts, names: Mapping[str, str], decided: Adjudicated) -> str:
    """A lead's decision in words."""
    if decided.ranking:
        return ranked_words(names, decided.ranking)
    if decided.choice is not None and decided.strength is not None:
        return t(f"js.strength_{decided.strength}", name=names[decided.choice])
    return verdict_words(t, names, decided.verdict, decided.choice)


def in_export(t: Texts, labels: ProjectLabels, item_id: int) -> str:
    """What an export makes of an item: the preferred answer, its share, and the margin."""
    item = labels.items.get(item_id)
    judged = [j for j in labels.judgements if j.item_id == item_id and j.verdict != "skip"]
    found = tallies(item, judged) if item else []
    if item is None or not found:
        return t("decide.nothing")
    return "; ".join(_tally_words(t, letters(item), tally) for tally in found)


def _tally_words(t: Texts, names: Mapping[str, str], tally: Tally) -> str:
    first, second = names[tally.first], names[tally.second]
    if tally.share == 0.5:
        first, second = sorted((first, second))
        return t("decide.even", first=first, second=second)
    if tally.share < 0.5:
        first, second = second, first
    share = t.number(max(tally.share, 1 - tally.share), 2)
    margin = t.number(tally.lead, 1)
    return t("decide.preferred", first=first, second=second, share=share, margin=margin)


def what_was_said(
    t: Texts, labels: ProjectLabels, item_id: int, names: Mapping[str, str]
) -> dict[str, Any]:
    """All valid judgements of an item, and the lead's decision on it."""
    judged = [
        {
            "who": one.annotator,
            "words": judged_words(t, names, one),
            "harmful": ", ".join(names[name] for name in one.harmful),
            "ratings": ", ".join(f"{names[n]} {r:g}" for n, r in sorted(one.ratings.items())),
            "comment": one.comment or one.skip_reason,
            "seconds": one.seconds,
            "at": one.created_at,
        }
        for one in labels.judgements
        if one.item_id == item_id
    ]
    last = labels.decisions.get(item_id)
    decision = last and {
        "by": last.by,
        "words": decided_words(t, names, last),
        "comment": last.comment,
        "at": last.created_at,
    }
    return {"said": judged, "decision": decision}
