"""The API of leads for what comes out: decisions, discards, exports."""

import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from alignloop.errors import UserError
from alignloop.label import exports
from alignloop.label.exports.shapes import suffix
from alignloop.label.guards import After, Id, Lead, Settings, Store
from alignloop.label.store import adjudicating, discarding, projects, snapshots
from alignloop.label.store.discarding import Which
from alignloop.label.store.refusals import Conflict, NotFound
from alignloop.label.store.tasks import JudgementIn
from alignloop.label.web.api import RESPONSES_404
from alignloop.label.web.api_lead import RESPONSES_404_409, Limit, note
from alignloop.label.web.schemas import (
    AdjudicationIn,
    AdjudicationOut,
    DiscardIn,
    DiscardMade,
    DiscardOut,
    ExportIn,
    ExportOut,
    PreviewOut,
    WhichIn,
)

router = APIRouter(prefix="/api/v1", tags=["lead"])


@router.get("/projects/{slug}/adjudications", responses=RESPONSES_404)
def list_decisions(
    slug: str, _principal: Lead, database: Store, after: After = 0, limit: Limit = 100
) -> list[AdjudicationOut]:
    """All decisions, including changed and withdrawn ones; `counts` marks those in force."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        rows = adjudicating.list_decisions(session, project.id, after=after, limit=limit)
    return [AdjudicationOut.model_validate(row) for row in rows]


@router.post("/projects/{slug}/adjudications", status_code=201, responses=RESPONSES_404)
def adjudicate(
    request: Request, slug: str, body: AdjudicationIn, principal: Lead, database: Store
) -> dict[str, int]:
    """Decide an item, or change a decision: the newest counts, in place of all votes."""
    said = body.model_dump(exclude={"item_id"})
    # the key only marks retries of judgements; decisions may be repeated
    decided = JudgementIn.model_validate({"key": "decision", **said})
    with database.transaction() as session:
        project = projects.get_project(session, slug)
        made = adjudicating.adjudicate(
            session, project.id, principal.user_id, body.item_id, decided
        )
        detail = {"item": body.item_id, "verdict": made.verdict}
        note(session, request, principal, "item decided", slug, **detail)
        return {"adjudication_id": made.id}


@router.delete("/projects/{slug}/adjudications/{item_id}", responses=RESPONSES_404_409)
def withdraw_decision(
    request: Request, slug: str, item_id: Id, principal: Lead, database: Store
) -> dict[str, int]:
    """Withdraw the decision on an item: the votes count again."""
    with database.transaction() as session:
        project = projects.get_project(session, slug)
        made = adjudicating.withdraw_decision(session, project.id, principal.user_id, item_id)
        note(session, request, principal, "decision withdrawn", slug, item=item_id)
        return {"adjudication_id": made.id}


@router.get("/projects/{slug}/discards", responses=RESPONSES_404)
def list_discards(slug: str, _principal: Lead, database: Store) -> list[DiscardOut]:
    """All discards, newest first, including those that were undone."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        rows = discarding.list_discards(session, project.id)
    return [DiscardOut.model_validate(row) for row in rows]


@router.post("/projects/{slug}/discards/preview", responses=RESPONSES_404)
def preview_discard(slug: str, body: WhichIn, _principal: Lead, database: Store) -> PreviewOut:
    """What a discard would take out; changes nothing."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        return PreviewOut.model_validate(discarding.preview(session, project.id, _which(body)))


@router.post("/projects/{slug}/discards", status_code=201, responses=RESPONSES_404)
def discard(
    request: Request, slug: str, body: DiscardIn, principal: Lead, database: Store
) -> DiscardMade:
    """Take an annotator's judgements of a period out; their items are asked again of others."""
    which = _which(body)
    with database.transaction() as session:
        project = projects.get_project(session, slug)
        found = discarding.preview(session, project.id, which)
        by = principal.user_id
        number = discarding.discard(session, project.id, which, body.why, by=by)
        detail = {"annotator": body.annotator, "judgements": found.judgements, "why": body.why}
        note(session, request, principal, "judgements discarded", slug, **detail)
    return DiscardMade(id=number, **asdict(found))


@router.delete("/projects/{slug}/discards/{discard_id}", responses=RESPONSES_404_409)
def undo_discard(
    request: Request, slug: str, discard_id: Id, principal: Lead, database: Store
) -> dict[str, int]:
    """Make the judgements of a discard valid again."""
    with database.transaction() as session:
        project = projects.get_project(session, slug)
        by = principal.user_id
        count = discarding.undo_discard(session, project.id, discard_id, by=by)
        note(session, request, principal, "discard undone", slug, judgements=count)
    return {"judgements": count}


def _which(body: WhichIn) -> Which:
    return Which(annotator=body.annotator, since=body.since, until=body.until)


@router.post("/projects/{slug}/exports", status_code=201, responses=RESPONSES_404_409)
def create_export(
    request: Request,
    slug: str,
    body: ExportIn,
    principal: Lead,
    database: Store,
    settings: Settings,
) -> ExportOut:
    """Export labels with their provenance as a permanent snapshot."""
    if settings.folder is None:
        raise Conflict("this server has no folder for exports", fix="start it with --project DIR")
    with database.reading() as session:
        projects.get_project(session, slug)
    # against path traversal: the only requested part of the name is an existing project's slug
    out = settings.folder.resolve() / "exports" / f"{slug}-{body.kind}-{secrets.token_hex(4)}"
    asked: dict[str, Any] = dict(body)
    asked |= {"annotators": tuple(body.annotators), "without": tuple(body.without)}
    query = exports.Query(**asked)
    try:
        done = exports.export_project(database, slug, out, query, user_id=principal.user_id)
    except UserError as error:  # nothing to export, or what cannot be exported like this
        raise Conflict(error.problem, fix=error.fix) from error
    with database.transaction() as session:
        note(session, request, principal, "exported", slug, kind=body.kind, hash=done.hash)
    return ExportOut(id=done.snapshot_id, kind=body.kind, hash=done.hash, counts=done.counts)


@router.get("/exports/{export_id}", response_class=FileResponse, responses=RESPONSES_404)
def download_export(export_id: Id, _principal: Lead, database: Store) -> FileResponse:
    """The rows of an export."""
    with database.reading() as session:
        row = snapshots.find_snapshot(session, export_id)
    name = f"{row.kind}{suffix(row.query['format'])}" if row else ""
    if row is None or not (Path(row.path) / name).is_file():
        raise NotFound("there is no such export, or its file is gone", where=str(export_id))
    return FileResponse(Path(row.path) / name, filename=name, media_type="application/octet-stream")
