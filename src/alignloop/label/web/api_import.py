"""The API of imports: a file of any format that we read, streamed to disk, then filed."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from alignloop.errors import UserError
from alignloop.label.guards import Id, Lead, Store
from alignloop.label.import_jobs import ImportJob, Imports, Upload
from alignloop.label.store import projects
from alignloop.label.store.accounts import Principal
from alignloop.label.store.database import Database
from alignloop.label.store.importing import Imported, import_items
from alignloop.label.web.api import RESPONSES_404
from alignloop.label.web.api_lead import RESPONSES_404_409, note
from alignloop.label.web.schemas import ImportOut

router = APIRouter(prefix="/api/v1", tags=["lead"])

FileName = Annotated[str, Query(max_length=200, description="the file's name, for messages")]
CONTENT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
}


@router.post("/projects/{slug}/import", responses=RESPONSES_404_409, openapi_extra=CONTENT)
async def import_upload(
    request: Request,
    slug: str,
    batch: str,
    principal: Lead,
    database: Store,
    gold: bool = False,
    name: FileName = "upload",
) -> Imported:
    """Import a file of any format that we read, and answer when it is filed.

    Items already in the project are skipped. Valid rows are imported even if others are refused:
    correct those and send everything again.
    """
    upload = Upload(name)
    try:
        await _receive(request, upload)
        given = request, principal, database, slug, batch
        return await run_in_threadpool(_import, *given, upload, gold)
    finally:
        upload.remove()


@router.post(
    "/projects/{slug}/imports",
    status_code=202,
    responses=RESPONSES_404_409,
    openapi_extra=CONTENT,
)
async def begin_import(
    request: Request,
    slug: str,
    batch: str,
    principal: Lead,
    database: Store,
    gold: bool = False,
    name: FileName = "upload",
) -> ImportOut:
    """The same in the background: watch it with GET, cancel it with DELETE.

    409 while another import into this project is running.
    """
    upload = Upload(name)
    try:
        await _receive(request, upload)
        given = request, principal, database, slug, batch
        return await run_in_threadpool(_begin, *given, upload, gold)
    except BaseException:  # a browser that goes away in the middle of it, too
        upload.remove()
        raise


@router.get("/projects/{slug}/imports/{import_id}", responses=RESPONSES_404)
def show_import(
    request: Request, slug: str, import_id: Id, _principal: Lead, database: Store
) -> ImportOut:
    """How far an import is."""
    return ImportOut.model_validate(_found(request, database, slug, import_id))


@router.delete("/projects/{slug}/imports/{import_id}", responses=RESPONSES_404)
def cancel_import(
    request: Request, slug: str, import_id: Id, principal: Lead, database: Store
) -> ImportOut:
    """Cancel an import: it ends after the rows that are just being filed, and these stay."""
    job = _found(request, database, slug, import_id)
    if job.runs and not job.cancelled.is_set():
        job.cancelled.set()
        with database.transaction() as session:
            note(session, request, principal, "import cancelled", f"{slug}/{job.batch}")
    return ImportOut.model_validate(job)


async def _receive(request: Request, upload: Upload) -> None:
    with upload.path.open("wb") as file:
        async for chunk in request.stream():
            file.write(chunk)


def _places(database: Database, slug: str, batch_name: str) -> tuple[int, int]:
    with database.reading() as session:
        project = projects.get_project(session, slug)
        return project.id, projects.get_batch(session, project.id, batch_name).id


def _import(
    request: Request,
    principal: Principal,
    database: Database,
    slug: str,
    batch_name: str,
    upload: Upload,
    gold: bool,
) -> Imported:
    project_id, batch_id = _places(database, slug, batch_name)
    file = upload.file(gold=gold)
    try:
        file.survey()
        done = import_items(database, project_id, batch_id, file.items())
    except UserError as error:
        # where it breaks is part of what is wrong: an answer has no place of its own
        where = f"{error.where}: " if error.where else ""
        raise type(error)(f"{where}{error.problem}", fix=error.fix) from error
    _note(request, principal, database, f"{slug}/{batch_name}", done)
    return done


def _begin(
    request: Request,
    principal: Principal,
    database: Database,
    slug: str,
    batch_name: str,
    upload: Upload,
    gold: bool,
) -> ImportOut:
    project_id, batch_id = _places(database, slug, batch_name)

    def when_over(done: Imported) -> None:
        _note(request, principal, database, f"{slug}/{batch_name}", done)

    imports: Imports = request.app.state.imports
    job = imports.begin(project_id, (batch_id, batch_name), upload, gold=gold, when_over=when_over)
    return ImportOut.model_validate(job)


def _note(
    request: Request, principal: Principal, database: Database, target: str, done: Imported
) -> None:
    with database.transaction() as session:
        note(session, request, principal, "items filed", target, added=done.added)


def _found(request: Request, database: Database, slug: str, import_id: int) -> ImportJob:
    with database.reading() as session:
        project_id = projects.get_project(session, slug).id
    imports: Imports = request.app.state.imports
    return imports.find(project_id, import_id)
