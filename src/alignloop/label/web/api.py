"""The API of annotators: signing in, claiming items, judging them, undoing judgements."""

from typing import Any, Literal

from fastapi import APIRouter, Request, Response

from alignloop.label.guards import (
    Annotator,
    Anyone,
    Id,
    Settings,
    Store,
    address_of,
    begin_session,
    end_session,
)
from alignloop.label.store import accounts, overview, projects, queue, sign_in
from alignloop.label.store import judging as judgements
from alignloop.label.store.accounts import Principal
from alignloop.label.store.overview import OwnProgress
from alignloop.label.store.task_view import feedback_of
from alignloop.label.store.tasks import JudgementIn, Task
from alignloop.label.web.schemas import (
    AcceptIn,
    ContradictionOut,
    Judged,
    LoginIn,
    Me,
    MePatch,
    PausedOut,
    ProblemOut,
    ProjectOut,
)

Responses = dict[int | str, dict[str, Any]]
Locale = Literal["en", "zh"]


def problems(*statuses: int) -> Responses:
    """The errors that a route may return, for its description."""
    return {status: {"model": ProblemOut} for status in (*statuses, 400, 413, 422)}


RESPONSES_403: Responses = problems(403)
RESPONSES_401: Responses = problems(401, 403)
RESPONSES_404: Responses = problems(401, 403, 404)

router = APIRouter(prefix="/api/v1", tags=["annotator"])


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request, _anyone: None = Anyone) -> dict[str, Any]:
    """The description of this API, which is public."""
    return request.app.openapi()


@router.post("/login", responses=problems(401, 403, 429))
def log_in(
    request: Request, response: Response, body: LoginIn, database: Store, _anyone: None = Anyone
) -> Me:
    """Begin a session: sets the cookie, and returns `csrf`, required with every change."""
    begun = sign_in.log_in(database, body.name, body.password, address_of(request))
    begin_session(request, response, begun)
    return _me(sign_in.who(database, begun.cookie))


@router.post("/logout", status_code=204, responses=RESPONSES_401)
def log_out(request: Request, response: Response, _principal: Annotator) -> None:
    """End the session."""
    end_session(request, response)


@router.post("/invitations/accept", responses=problems(403, 404, 409))
def accept(
    request: Request, response: Response, body: AcceptIn, database: Store, _anyone: None = Anyone
) -> Me:
    """Create the account of a one-time link, or set its password, and begin a session."""
    begun = sign_in.accept(database, body.token, body.name, body.password, address_of(request))
    begin_session(request, response, begun)
    return _me(sign_in.who(database, begun.cookie))


@router.get("/me", responses=RESPONSES_401)
def me(principal: Annotator) -> Me:
    """The signed-in user."""
    return _me(principal)


@router.patch("/me", responses=RESPONSES_401)
def change_me(body: MePatch, principal: Annotator, database: Store) -> Me:
    """Set the language of the pages."""
    with database.transaction() as session:
        accounts.set_locale(session, principal.user_id, body.locale)
    return _me(principal).model_copy(update={"locale": body.locale})


@router.get("/projects", responses=RESPONSES_401)
def list_projects(_principal: Annotator, database: Store) -> list[ProjectOut]:
    """All projects."""
    with database.reading() as session:
        return [ProjectOut.model_validate(one) for one in projects.list_projects(session)]


@router.get("/projects/{slug}/progress", responses=RESPONSES_404)
def progress(slug: str, principal: Annotator, database: Store) -> OwnProgress:
    """The user's own work in a project."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        return overview.own_progress(session, project.id, principal.user_id)


@router.post(
    "/projects/{slug}/claim",
    response_model=Task,
    responses={
        **RESPONSES_404,
        403: {"model": PausedOut},
        204: {"description": "nothing is left for you"},
    },
)
def claim(
    slug: str, principal: Annotator, database: Store, settings: Settings, locale: Locale = "en"
) -> Task | Response:
    """The next item; the same one until it is judged or released."""
    # a lease lost in a power cut costs nothing: the item is claimed again
    with database.transaction(durably=False) as session:
        task = queue.claim(session, slug, principal.user_id, locale=locale, lease=settings.lease)
    return task or Response(status_code=204)


@router.post(
    "/projects/{slug}/undo",
    response_model=Task,
    responses={
        **RESPONSES_404,
        **problems(409),
        204: {"description": "there is nothing to take back"},
    },
)
def undo(
    slug: str, principal: Annotator, database: Store, settings: Settings, locale: Locale = "en"
) -> Task | Response:
    """The item of the latest judgement, to be judged anew; until then the old one counts."""
    with database.transaction() as session:
        task = judgements.undo(
            session, slug, principal.user_id, locale=locale, lease=settings.lease
        )
    return task or Response(status_code=204)


@router.post(
    "/assignments/{assignment_id}/judgement",
    status_code=201,
    responses={**RESPONSES_404, 409: {"model": ContradictionOut}},
)
def submit(assignment_id: Id, body: JudgementIn, principal: Annotator, database: Store) -> Judged:
    """Judge an item. Sent again with the same key it counts once and returns the same id.

    409 with a `contradiction` if the ratings contradict the choice: send `confirmed`.
    """
    source = "api" if principal.via == "token" else "user"
    with database.transaction() as session:
        judgement_id = judgements.submit(
            session, assignment_id, principal.user_id, body, source=source
        )
        feedback = feedback_of(session, assignment_id)
    return Judged(judgement_id=judgement_id, feedback=feedback)


@router.post(
    "/assignments/{assignment_id}/release",
    status_code=204,
    responses={**RESPONSES_404, **problems(409)},
)
def release(assignment_id: Id, principal: Annotator, database: Store) -> None:
    """Return an item unjudged."""
    with database.transaction() as session:
        queue.release(session, assignment_id, principal.user_id)


def _me(principal: Principal | None) -> Me:
    assert principal is not None, "the session has just begun"
    return Me.model_validate(
        {
            "name": principal.name,
            "role": principal.role,
            "locale": principal.locale,
            "scopes": sorted(principal.scopes),
            "csrf": principal.csrf,
        }
    )
