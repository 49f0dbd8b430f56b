"""The lead's screens of what comes out: quality, disagreements, decisions, discards, exports."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse

from alignloop.label.exports import FORMATS, KINDS
from alignloop.label.guards import After, Id, Lead, Store
from alignloop.label.labels.project_labels import ProjectLabels
from alignloop.label.pages import views
from alignloop.label.pages.diff import differences
from alignloop.label.pages.templating import PageRoute, locale_of, screen
from alignloop.label.quality.disagreements import Disagreement, around, disagreements, narrowed
from alignloop.label.quality.flags import flagged
from alignloop.label.quality.plots import PLOTS, PlotName, draw_plot
from alignloop.label.quality.reliability import METHODS
from alignloop.label.quality.report import quality_report
from alignloop.label.store import discarding, projects, snapshots
from alignloop.label.store.database import Database, Session
from alignloop.label.store.discarding import Which
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.refusals import Invalid, NotFound
from alignloop.label.store.tables import Project, now
from alignloop.label.texts.i18n import Texts

router = APIRouter(
    route_class=PageRoute, default_response_class=HTMLResponse, include_in_schema=False
)
PER_PAGE = 50
LEAST = (1, 2, 4, 8, 10)  # choices of the smallest distance shown; 10 and more is about harm


@router.get("/lead/{slug}/quality")
def quality(request: Request, slug: str, principal: Lead, database: Store) -> Response:
    """Agreement, and each annotator's quality."""
    project, labels = _read(database, slug)
    report = quality_report(labels, now())
    return screen(
        request,
        principal,
        "quality",
        project=project,
        report=report,
        people=flagged(report.annotators),
        num_decided=len(labels.about_answers.decisions),
        plots=[name for name in PLOTS if name != "progress"],
    )


@router.get("/lead/{slug}/plot/{name}")
def plot(
    request: Request,
    slug: str,
    name: PlotName,
    principal: Lead,
    database: Store,
    shade: Literal["light", "dark"] = "light",
) -> Response:
    """One plot of a project's quality, in the reader's language."""
    _, labels = _read(database, slug)
    language = locale_of(request, principal)
    drawn = draw_plot(name, labels, language=language, dark=shade == "dark")
    return Response(drawn, media_type="image/svg+xml")


@router.get("/lead/{slug}/discard")
def discard(
    request: Request,
    slug: str,
    principal: Lead,
    database: Store,
    annotator: str = "",
    since: str = "",
    until: str = "",
) -> Response:
    """Take an annotator's judgements out: the choice, what it would do, and earlier discards."""
    which = Which(annotator=annotator, since=_day(since), until=_day(until))
    with database.reading() as session:
        project = projects.get_project(session, slug)
        people = sorted({one.annotator for one in load_labels(session, project.id).judgements})
        found = discarding.list_discards(session, project.id)
        preview = _preview(session, project.id, which) if annotator else None
    return screen(
        request,
        principal,
        "quality",
        "discard",
        project=project,
        people=people,
        discards=found,
        which=which,
        days={"since": since if which.since else "", "until": until if which.until else ""},
        preview=preview,
    )


def _preview(session: Session, project_id: int, which: Which) -> discarding.Preview | None:
    try:
        return discarding.preview(session, project_id, which)
    except (Invalid, NotFound):  # a period typed into the address: there is nothing in it
        return None


def _day(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


class Filter:
    """Which disagreements are shown, as in the address of their screens."""

    def __init__(
        self,
        batch: Annotated[str, Query(max_length=100)] = "",
        least: Annotated[float, Query(ge=0, le=1000)] = 0.0,
    ) -> None:
        self.batch, self.least = batch, least

    def of(self, labels: ProjectLabels) -> list[Disagreement]:
        """The disagreements that fit, open ones first."""
        return narrowed(disagreements(labels), batch=self.batch, least=self.least)

    def query(self, **more: object) -> str:
        """This filter, and more, as the end of an address."""
        kept = {"batch": self.batch, "least": f"{self.least:g}" if self.least else ""} | more
        found = urlencode({key: value for key, value in kept.items() if value})
        return f"?{found}" if found else ""


Filtered = Annotated[Filter, Depends(Filter)]


@router.get("/lead/{slug}/disagreements")
def list_disagreements(
    request: Request,
    slug: str,
    principal: Lead,
    database: Store,
    chosen: Filtered,
    start: After = 0,
    decided: After = 0,
) -> Response:
    """A page of disagreements, undecided ones first."""
    project, labels = _read(database, slug)
    found, t = chosen.of(labels), Texts(locale_of(request, principal))
    return screen(
        request,
        principal,
        "disagreements",
        project=project,
        rows=[_disagreement_row(t, one) for one in found[start : start + PER_PAGE]],
        first=start + 1,
        place=around(found, 0),
        effect=_effect(t, labels, decided),
        pages=_pages(chosen, start, len(found)),
        **_choices(labels, chosen),
    )


def _choices(labels: ProjectLabels, chosen: Filter) -> dict[str, Any]:
    batches = sorted({item.batch for item in labels.about_answers.items.values()})
    return {"chosen": chosen, "batches": batches, "distances": LEAST}


def _pages(chosen: Filter, start: int, total: int) -> dict[str, str | None]:
    before = chosen.query(start=max(0, start - PER_PAGE)) or "?"
    after = chosen.query(start=start + PER_PAGE)
    return {
        "before": before if start else None,
        "after": after if start + PER_PAGE < total else None,
    }


def _disagreement_row(t: Texts, one: Disagreement) -> dict[str, Any]:
    names = {answer.response_id: chr(ord("A") + n) for n, answer in enumerate(one.item.answers)}
    judged = [(j.annotator, views.judged_words(t, names, j)) for j in one.judgements]
    settled = one.state == "settled"
    return {
        "item": one.item,
        "said": judged,
        "stake": one.stake,
        "harm": one.harm,
        "settled": settled,
    }


@router.get("/lead/{slug}/disagreements/{item_id}")
def decide(
    request: Request,
    slug: str,
    item_id: Id,
    principal: Lead,
    database: Store,
    chosen: Filtered,
    decided: After = 0,
) -> Response:
    """One disputed item, the lead's verdict on it, and what the decision before changed."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        labels = load_labels(session, project.id)
        if item_id not in labels.items:
            raise NotFound("there is no such item", where=str(item_id))
        answers = views.shown_answers(session, item_id)
    t, item = Texts(locale_of(request, principal)), labels.items[item_id]
    return screen(
        request,
        principal,
        "disagreements",
        "decide",
        project=project,
        item=item,
        messages=[{"role": one.role, "text": one.content} for one in item.prompt.messages],
        answers=answers,
        differences=differences([one.text for one in answers]),
        place=around(chosen.of(labels), item_id),
        effect=_effect(t, labels, decided),
        now_in_export=views.in_export(t, labels.about_answers.settled, item_id),
        **_choices(labels, chosen),
        **views.what_was_said(t, labels, item_id, {one.name: one.label for one in answers}),
    )


def _effect(t: Texts, labels: ProjectLabels, item_id: int) -> dict[str, Any] | None:
    """What a decision changed in exports: votes before, the lead's verdict now."""
    decision = labels.decisions.get(item_id)
    if decision is None or item_id not in labels.items:
        return None
    names = views.letters(labels.items[item_id])
    return {
        "item_id": item_id,
        "prompt": labels.items[item_id].prompt.text,
        "before": views.in_export(t, labels.about_answers, item_id),
        "now": views.decided_words(t, names, decision),
    }


@router.get("/lead/{slug}/exports")
def exports(request: Request, slug: str, principal: Lead, database: Store) -> Response:
    """Exports so far, and making new ones."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        found = snapshots.list_snapshots(session, project.id)
        batches = projects.list_batches(session, project.id)
        people = snapshots.annotators_of(session, project.id)
    offers: dict[str, Sequence[Any]] = {"kinds": KINDS, "formats": FORMATS, "weights": METHODS}
    return screen(
        request,
        principal,
        "exports",
        project=project,
        snapshots=found,
        batches=batches,
        people=people,
        **offers,
    )


def _read(database: Database, slug: str) -> tuple[Project, ProjectLabels]:
    with database.reading() as session:
        project = projects.get_project(session, slug)
        return project, load_labels(session, project.id)
