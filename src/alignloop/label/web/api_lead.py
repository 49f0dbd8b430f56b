"""The API of leads: projects, batches, imports, judgements, users, tokens, the audit log."""

import secrets
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from alignloop.errors import UserError
from alignloop.label import exports
from alignloop.label.exports.shapes import suffix
from alignloop.label.guards import After, Id, Lead, Settings, Store, address_of, origin_of
from alignloop.label.new_items import items_of_lines, numbered_lines
from alignloop.label.quality.report import quality_report, to_json
from alignloop.label.store import accounts, audit, overview, projects, snapshots, tokens
from alignloop.label.store.accounts import Principal
from alignloop.label.store.database import Database, Session
from alignloop.label.store.importing import Imported, import_items
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.refusals import Conflict, NotFound
from alignloop.label.store.tables import now
from alignloop.label.store.tasks import Sent
from alignloop.label.web.api import RESPONSES_401, RESPONSES_404, problems
from alignloop.label.web.schemas import (
    AdjudicationIn,
    AuditOut,
    BatchIn,
    BatchOut,
    BatchPatch,
    ExportIn,
    ExportOut,
    GuidelineIn,
    Invited,
    ItemOut,
    JudgementOut,
    ProjectIn,
    ProjectOut,
    TokenIn,
    TokenMade,
    TokenOut,
    UserIn,
    UserOut,
    UserPatch,
)

MAX_BYTES_IN_MEMORY = 8 * 2**20  # of an upload; larger ones are spooled to disk
Limit = Annotated[int, Query(ge=1, le=1000)]
RESPONSES_404_409 = {**RESPONSES_404, **problems(409)}

Shown = TypeVar("Shown", bound=Sent)

router = APIRouter(prefix="/api/v1", tags=["lead"])


def note(
    session: Session,
    request: Request,
    principal: Principal,
    action: str,
    target: str,
    **detail: Any,
) -> None:
    """Record an action in the audit log, in the transaction of its change."""
    address, user_id = address_of(request), principal.user_id
    audit.record(session, action, user_id=user_id, target=target, detail=detail, address=address)


@router.post("/projects", status_code=201, responses={**RESPONSES_401, **problems(409)})
def create_project(
    request: Request, body: ProjectIn, principal: Lead, database: Store
) -> ProjectOut:
    """Create a project."""
    with database.transaction() as session:
        made = projects.create_project(
            session,
            body.slug,
            body.title,
            body.label_schema,
            locale=body.locale,
            text_en=body.guideline_en,
            text_zh=body.guideline_zh,
        )
        note(session, request, principal, "project made", made.slug)
        return ProjectOut.model_validate(made)


@router.post("/projects/{slug}/guideline", status_code=201, responses=RESPONSES_404)
def add_guideline(
    request: Request, slug: str, body: GuidelineIn, principal: Lead, database: Store
) -> dict[str, int]:
    """Add a version of the guideline, which is current from now on."""
    with database.transaction() as session:
        project = projects.get_project(session, slug)
        made = projects.add_guideline(session, project.id, body.text_en, body.text_zh)
        note(session, request, principal, "guideline changed", slug, version=made.version)
        return {"version": made.version}


@router.get("/projects/{slug}/batches", responses=RESPONSES_404)
def list_batches(slug: str, _principal: Lead, database: Store) -> list[BatchOut]:
    """The batches in working order."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        return [BatchOut.model_validate(one) for one in projects.list_batches(session, project.id)]


@router.post("/projects/{slug}/batches", status_code=201, responses=RESPONSES_404_409)
def create_batch(
    request: Request, slug: str, body: BatchIn, principal: Lead, database: Store
) -> BatchOut:
    """Create a batch."""
    with database.transaction() as session:
        project = projects.get_project(session, slug)
        made = projects.create_batch(session, project.id, **body.model_dump())
        note(session, request, principal, "batch made", f"{slug}/{made.name}", **body.model_dump())
        return BatchOut.model_validate(made)


@router.patch("/projects/{slug}/batches/{batch_id}", responses=RESPONSES_404)
def change_batch(
    request: Request, slug: str, batch_id: Id, body: BatchPatch, principal: Lead, database: Store
) -> BatchOut:
    """Close or reopen a batch."""
    with database.transaction() as session:
        project = projects.get_project(session, slug)
        batch = projects.close_batch(session, project.id, batch_id, closed=body.closed)
        action = "batch closed" if body.closed else "batch opened"
        note(session, request, principal, action, f"{slug}/{batch.name}")
        return BatchOut.model_validate(batch)


NDJSON = {"application/x-ndjson": {"schema": {"type": "string"}}}


@router.post(
    "/projects/{slug}/import",
    responses=RESPONSES_404_409,
    openapi_extra={"requestBody": {"required": True, "content": NDJSON}},
)
async def import_upload(
    request: Request, slug: str, batch: str, principal: Lead, database: Store, gold: bool = False
) -> Imported:
    """Import an upload, one JSON object per line; items already in the project are skipped.

    Valid rows are imported even if others are refused: correct those and send everything again.
    """
    with tempfile.SpooledTemporaryFile(MAX_BYTES_IN_MEMORY) as spooled:
        async for chunk in request.stream():
            spooled.write(chunk)
        spooled.seek(0)
        given = request, principal, database, slug, batch, gold
        return await run_in_threadpool(_import, *given, spooled)


def _import(
    request: Request,
    principal: Principal,
    database: Database,
    slug: str,
    batch_name: str,
    gold: bool,
    lines: "tempfile.SpooledTemporaryFile[bytes]",
) -> Imported:
    with database.reading() as session:
        project = projects.get_project(session, slug)
        batch = projects.get_batch(session, project.id, batch_name)

    def from_the_start() -> Iterator[tuple[int, str]]:
        lines.seek(0)
        return numbered_lines(lines)

    items = items_of_lines(from_the_start, "upload", gold=gold)
    done = import_items(database, project.id, batch.id, items)
    with database.transaction() as session:
        note(session, request, principal, "items filed", f"{slug}/{batch_name}", added=done.added)
    return done


@router.get("/projects/{slug}/items", responses=RESPONSES_404)
def list_items(
    slug: str, _principal: Lead, database: Store, after: After = 0, limit: Limit = 100
) -> list[ItemOut]:
    """Items with models and reasons; `after` is the last id of the previous page."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        rows = overview.list_items(session, project.id, after=after, limit=limit)
    return [ItemOut.model_validate(row) for row in rows]


@router.get("/projects/{slug}/judgements", responses=RESPONSES_404)
def list_judgements(
    slug: str, _principal: Lead, database: Store, after: After = 0, limit: Limit = 100
) -> list[JudgementOut]:
    """All judgements, including superseded and withdrawn ones; `standing` marks valid ones."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        rows = overview.list_judgements(session, project.id, after=after, limit=limit)
    return [JudgementOut.model_validate(row) for row in rows]


@router.get("/projects/{slug}/quality", responses=RESPONSES_404)
def quality(slug: str, _principal: Lead, database: Store) -> dict[str, Any]:
    """Agreement, annotators, models and forecast: all figures of the quality page."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        return to_json(quality_report(load_labels(session, project.id), now()))


@router.post("/projects/{slug}/adjudications", status_code=201, responses=RESPONSES_404)
def adjudicate(
    request: Request, slug: str, body: AdjudicationIn, principal: Lead, database: Store
) -> dict[str, int]:
    """Decide a disagreement."""
    with database.transaction() as session:
        project = projects.get_project(session, slug)
        made = overview.adjudicate(session, project.id, principal.user_id, **body.model_dump())
        detail = {"item": body.item_id, "verdict": body.verdict}
        note(session, request, principal, "item decided", slug, **detail)
        return {"adjudication_id": made.id}


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
    query = exports.Query(kind=body.kind, format=body.format, batch=body.batch)
    try:
        done = exports.export_project(database, slug, out, query, user_id=principal.user_id)
    except UserError as error:  # nothing to export, or the format cannot express it
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


@router.get("/users", responses=RESPONSES_401)
def list_users(_principal: Lead, database: Store) -> list[UserOut]:
    """All accounts."""
    with database.reading() as session:
        return [UserOut.model_validate(one) for one in accounts.list_users(session)]


@router.post("/users", status_code=201, responses=RESPONSES_401)
def invite(request: Request, body: UserIn, principal: Lead, database: Store) -> Invited:
    """A one-time link for a new account, or for a new password of an existing one."""
    with database.transaction() as session:
        token = accounts.invite(session, body.role, body.name)
        note(session, request, principal, "invited", body.name, role=body.role)
    return Invited(link=f"{origin_of(request)}/invite/{token}")


@router.patch("/users/{name:path}", responses=RESPONSES_404_409)  # a name may contain a slash
def change_user(
    request: Request, name: str, body: UserPatch, principal: Lead, database: Store
) -> UserOut:
    """Disable an account, with its sessions and tokens, or enable it again."""
    with database.transaction() as session:
        user = accounts.set_active(session, name, active=body.active)
        note(session, request, principal, "enabled" if body.active else "disabled", name)
        return UserOut.model_validate(user)


@router.get("/tokens", responses=RESPONSES_401)
def list_tokens(_principal: Lead, database: Store) -> list[TokenOut]:
    """All API tokens, without their secrets."""
    with database.reading() as session:
        names = accounts.user_names(session)
        return [
            _shown(TokenOut, one, user=names[one.user_id]) for one in tokens.list_tokens(session)
        ]


@router.post("/tokens", status_code=201, responses=RESPONSES_404)
def create_token(request: Request, body: TokenIn, principal: Lead, database: Store) -> TokenMade:
    """Create an API token; its secret is shown only here."""
    with database.transaction() as session:
        user = accounts.get_user(session, body.user)
        lasts = timedelta(days=body.days)
        made, secret = tokens.create_token(
            session, user.id, body.name, list(body.scopes), lasts=lasts
        )
        note(session, request, principal, "token made", f"{user.name}/{body.name}")
        return _shown(TokenMade, made, user=user.name, token=secret)


@router.delete("/tokens/{token_id}", status_code=204, responses=RESPONSES_404)
def revoke_token(request: Request, token_id: Id, principal: Lead, database: Store) -> None:
    """End a token."""
    with database.transaction() as session:
        ended = tokens.revoke_token(session, token_id)
        note(session, request, principal, "token ended", ended.name)


@router.get("/audit", responses=RESPONSES_401)
def list_audit(
    _principal: Lead, database: Store, before: After | None = None, limit: Limit = 200
) -> list[AuditOut]:
    """The audit log, newest first; `before` is the last id of the previous page."""
    with database.reading() as session:
        names = accounts.user_names(session)
        rows = audit.latest(session, limit=limit, before=before)
    return [_shown(AuditOut, row, user=names.get(row.user_id)) for row in rows]


def _shown(kind: type[Shown], row: object, **more: object) -> Shown:
    """A store row in the API's form, with values from other tables."""
    same = (name for name in kind.model_fields if name not in more)
    return kind.model_validate({name: getattr(row, name) for name in same} | more)
