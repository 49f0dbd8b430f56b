"""The lead's screens: progress, quality, disagreements and people."""

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from alignloop.label.exports import FORMATS, KINDS
from alignloop.label.guards import After, Id, Lead, Store
from alignloop.label.pages import views
from alignloop.label.pages.diff import differences
from alignloop.label.pages.templating import PageRoute, locale_of, page
from alignloop.label.quality.disagreements import Disagreement, disagreements
from alignloop.label.quality.forecast import forecast
from alignloop.label.quality.plots import PLOTS, PlotName, draw_plot
from alignloop.label.quality.report import quality_report
from alignloop.label.store import accounts, audit, projects, snapshots, tokens
from alignloop.label.store.accounts import Principal
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.refusals import NotFound
from alignloop.label.store.tables import now
from alignloop.label.texts.i18n import Texts

router = APIRouter(
    route_class=PageRoute, default_response_class=HTMLResponse, include_in_schema=False
)
PAGE_OF_LOG = 100


def _screen(
    request: Request, principal: Principal, tab: str, name: str = "", /, **values: Any
) -> Response:
    """One of the lead's screens; its template is named after its tab unless `name` is given."""
    return page(request, f"lead_{name or tab}", principal, tab=tab, **values)


@router.get("/lead/users")
def users(request: Request, principal: Lead, database: Store) -> Response:
    """The users."""
    with database.reading() as session:
        found = accounts.list_users(session)
    return _screen(request, principal, "users", users=found)


@router.get("/lead/tokens")
def list_tokens(request: Request, principal: Lead, database: Store) -> Response:
    """The API tokens."""
    with database.reading() as session:
        people = accounts.list_users(session)
        names = accounts.user_names(session)
        found = [vars(one) | {"user": names[one.user_id]} for one in tokens.list_tokens(session)]
    return _screen(request, principal, "tokens", tokens=found, users=people)


@router.get("/lead/audit")
def audit_log(
    request: Request, principal: Lead, database: Store, before: After | None = None
) -> Response:
    """The audit log."""
    with database.reading() as session:
        names = accounts.user_names(session)
        found = audit.latest(session, limit=PAGE_OF_LOG, before=before)
    rows = [vars(one) | {"who": names.get(one.user_id, "")} for one in found]
    older = found[-1].id if len(found) == PAGE_OF_LOG else None
    return _screen(request, principal, "audit", rows=rows, older=older)


@router.get("/lead/{slug}/progress")
def progress(request: Request, slug: str, principal: Lead, database: Store) -> Response:
    """Work done, by whom, and the forecast."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        labels = load_labels(session, project.id)
        batches = views.batch_rows(projects.list_batches(session, project.id), labels)
    at = now()
    return _screen(
        request,
        principal,
        "progress",
        project=project,
        forecast=forecast(labels, at),
        batches=batches,
        people=views.person_rows(labels, at),
    )


@router.get("/lead/{slug}/quality")
def quality(request: Request, slug: str, principal: Lead, database: Store) -> Response:
    """Agreement, and each annotator's quality."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        labels = load_labels(session, project.id)
    return _screen(
        request,
        principal,
        "quality",
        project=project,
        report=quality_report(labels, now()),
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
    with database.reading() as session:
        labels = load_labels(session, projects.get_project(session, slug).id)
    language = locale_of(request, principal)
    drawn = draw_plot(name, labels, language=language, dark=shade == "dark")
    return Response(drawn, media_type="image/svg+xml")


@router.get("/lead/{slug}/disagreements")
def list_disagreements(request: Request, slug: str, principal: Lead, database: Store) -> Response:
    """Disagreements, undecided ones first."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        found = disagreements(load_labels(session, project.id))
    t = Texts(locale_of(request, principal))
    rows = [_disagreement_row(t, one) for one in found]
    return _screen(request, principal, "disagreements", project=project, rows=rows)


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
def decide(request: Request, slug: str, item_id: Id, principal: Lead, database: Store) -> Response:
    """One disputed item, and the lead's verdict on it."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        labels = load_labels(session, project.id)
        if item_id not in labels.items:
            raise NotFound("there is no such item", where=str(item_id))
        answers = views.shown_answers(session, item_id)
    t = Texts(locale_of(request, principal))
    return _screen(
        request,
        principal,
        "disagreements",
        "decide",
        project=project,
        item_id=item_id,
        messages=[
            {"role": one.role, "text": one.content} for one in labels.items[item_id].prompt.messages
        ],
        answers=answers,
        differences=differences([one.text for one in answers]),
        **views.what_was_said(t, labels, item_id, {one.name: one.label for one in answers}),
    )


@router.get("/lead/{slug}/batches")
def batches(request: Request, slug: str, principal: Lead, database: Store) -> Response:
    """Batches, and importing items."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        rows = views.batches_with_gold(session, projects.list_batches(session, project.id))
    return _screen(request, principal, "batches", project=project, batches=rows)


@router.get("/lead/{slug}/exports")
def exports(request: Request, slug: str, principal: Lead, database: Store) -> Response:
    """Exports so far, and making new ones."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        found = snapshots.list_snapshots(session, project.id)
        choices = projects.list_batches(session, project.id)
    offers: dict[str, Any] = {"kinds": KINDS, "formats": FORMATS, "batches": choices}
    return _screen(request, principal, "exports", project=project, snapshots=found, **offers)


@router.get("/lead/{slug}/guideline")
def edit_guideline(request: Request, slug: str, principal: Lead, database: Store) -> Response:
    """The guideline in both languages, with all its versions."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        versions = projects.list_guidelines(session, project.id)
    return _screen(request, principal, "guideline", project=project, versions=versions)
