"""A client of the annotation server's API, for programs: `Client(url, token)`."""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import httpx2

from alignloop.data.refusals import Refusal
from alignloop.errors import UserError
from alignloop.label.new_items import NewItem, items_of_file
from alignloop.label.store import refusals
from alignloop.label.store.tasks import JudgementIn, Task
from alignloop.records import Comparison
from alignloop.run import atomic_write

PATIENCE = 10.0  # seconds of retries if the server does not answer
FIRST_WAIT, LONGEST_WAIT = 0.25, 2.0
CHUNK_SIZE = 500  # items in one upload
MAX_ERRORS_SHOWN = 10
KINDS: dict[int, type[UserError]] = {
    401: refusals.SignInRefused,
    403: refusals.Forbidden,
    404: refusals.NotFound,
    409: refusals.Conflict,
    422: refusals.Invalid,
    429: refusals.TooManyAttempts,
}


class Client:
    """Talks to one server: `with Client("http://127.0.0.1:8000", token) as client: ...`.

    Refusals are raised under the server's names: `refusals.NotFound`, `Conflict`, `Contradiction`,
    `Invalid`, `Forbidden`, `SignInRefused`, `TooManyAttempts`, all of them UserErrors. Requests
    lost by the network are retried if they are idempotent.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        http: httpx2.Client | None = None,
        timeout: float = 60.0,
        patience: float = PATIENCE,
    ) -> None:
        self._url, self._patience = url.rstrip("/"), patience
        self._http = http or httpx2.Client(timeout=timeout)
        self._headers = {"Authorization": f"Bearer {token}"}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def me(self) -> dict[str, Any]:
        """The token's user: name, role and scopes."""
        return self._send("GET", "/me").json()

    def projects(self) -> list[dict[str, Any]]:
        """All projects: slug, title and kind."""
        return self._send("GET", "/projects").json()

    def claim(self, project: str, *, locale: str = "en") -> Task | None:
        """The next item of a project, or the one still unanswered; None if none is left."""
        return _task(self._send("POST", f"/projects/{project}/claim", params={"locale": locale}))

    def submit(self, task: Task | int, judgement: JudgementIn | None = None, **fields: Any) -> int:
        """Judge a task; returns the judgement's id: `client.submit(task, verdict="tie")`.

        Raises Contradiction if ratings contradict the choice and `confirmed` is not set. A `key` is
        made if not given, so a retry never counts twice.
        """
        sent = judgement or JudgementIn.model_validate({"key": secrets.token_hex(16), **fields})
        assignment = task if isinstance(task, int) else task.assignment_id
        body = sent.model_dump(mode="json")
        done = self._send("POST", f"/assignments/{assignment}/judgement", json=body)
        return int(done.json()["judgement_id"])

    def release(self, task: Task | int) -> None:
        """Return an item unjudged."""
        assignment = task if isinstance(task, int) else task.assignment_id
        self._send("POST", f"/assignments/{assignment}/release")

    def undo(self, project: str, *, locale: str = "en") -> Task | None:
        """Withdraw the latest judgement; returns its task with `previous` filled in, or None.

        Never retried: two requests would withdraw two judgements.
        """
        path, params = f"/projects/{project}/undo", {"locale": locale}
        return _task(self._send("POST", path, again=False, params=params))

    def create_project(self, slug: str, title: str, **fields: Any) -> dict[str, Any]:
        """Create a project (lead), optionally with `schema={"kind": "ranking"}` and guidelines."""
        body = {"slug": slug, "title": title, **fields}
        return self._send("POST", "/projects", again=False, json=body).json()

    def create_batch(self, project: str, name: str, **fields: Any) -> dict[str, Any]:
        """Create a batch (lead), optionally with `overlap`, `priority` and `repeats`."""
        body = {"name": name, **fields}
        return self._send("POST", f"/projects/{project}/batches", again=False, json=body).json()

    def import_file(
        self,
        project: str,
        batch: str,
        source: str | Path,
        *,
        gold: bool = False,
        on_progress: Callable[[int], object] = lambda _: None,
    ) -> dict[str, Any]:
        """Import a file of any format that the data layer reads (lead); see `import_items`."""
        items = items_of_file(source, gold=gold)
        return self.import_items(project, batch, items, on_progress=on_progress)

    def import_items(
        self,
        project: str,
        batch: str,
        items: Iterable[Comparison | NewItem | Refusal],
        *,
        on_progress: Callable[[int], object] = lambda _: None,
    ) -> dict[str, Any]:
        """Import items into a batch (lead), in chunks; repeating it is harmless.

        Returns `added`, `duplicates`, `num_refused` and the first ten `refused` with reasons.
        """
        total: dict[str, Any] = {"added": 0, "duplicates": 0, "num_refused": 0, "refused": []}
        read = 0
        for piece in _pieces(items):
            bad = [one for one in piece if isinstance(one, Refusal)]
            lines = [one.model_dump_json() for one in piece if not isinstance(one, Refusal)]
            path, params = f"/projects/{project}/import", {"batch": batch}
            done = self._send("POST", path, params=params, content="\n".join(lines)).json()
            for name in ("added", "duplicates", "num_refused"):
                total[name] += done[name]
            messages = [str(one.error()) for one in bad] + done["refused"]
            total["num_refused"] += len(bad)
            total["refused"] = (total["refused"] + messages)[:MAX_ERRORS_SHOWN]
            read += len(piece)
            on_progress(read)
        return total

    def export(
        self, project: str, out: str | Path, *, kind: str = "pairs", format: str = "jsonl"
    ) -> dict[str, Any]:
        """Create an export (lead) and write its rows to `out`; returns its id, hash and counts."""
        body = {"kind": kind, "format": format}
        made = self._send("POST", f"/projects/{project}/exports", again=False, json=body).json()
        atomic_write(out, self._send("GET", f"/exports/{made['id']}").content)
        return made

    def quality(self, project: str) -> dict[str, Any]:
        """All figures of the quality page (lead)."""
        return self._send("GET", f"/projects/{project}/quality").json()

    def judgements(self, project: str) -> Iterator[dict[str, Any]]:
        """All judgements (lead), including superseded and withdrawn ones."""
        yield from self._pages(f"/projects/{project}/judgements")

    def items(self, project: str) -> Iterator[dict[str, Any]]:
        """All items (lead), with models and reasons."""
        yield from self._pages(f"/projects/{project}/items")

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        after = 0
        while page := self._send("GET", path, params={"after": after, "limit": 500}).json():
            yield from page
            after = page[-1]["id"]

    def _send(
        self, method: str, path: str, *, again: bool = True, **options: Any
    ) -> httpx2.Response:
        """Send one request; raises the server's refusals, and UserError if it is unreachable.

        With `again` it is retried on network or server errors until patience runs out.
        """
        url, wait = f"{self._url}/api/v1{path}", FIRST_WAIT
        give_up = time.monotonic() + (self._patience if again else 0.0)
        while True:
            is_last = time.monotonic() + wait > give_up
            try:
                response = self._http.request(method, url, headers=self._headers, **options)
            except httpx2.TransportError as error:
                if is_last:
                    fix = "start it with `alignloop label serve`, or check the URL"
                    problem = f"the server does not answer ({error or type(error).__name__})"
                    raise UserError(problem, where=self._url, fix=fix) from error
            else:
                # 4xx will not change on a retry
                if response.status_code < 500 or is_last:
                    _raise_for(response)
                    return response
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)


def _task(response: httpx2.Response) -> Task | None:
    return None if response.status_code == 204 else Task.model_validate_json(response.content)


def _raise_for(response: httpx2.Response) -> None:
    """Raise the server's refusal, in its words."""
    if response.status_code < 400:
        return
    try:
        content: Any = response.json()
    except ValueError:
        content = None
    # A proxy between us and the server may answer with anything.
    body: dict[str, Any] = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    detail = str(body.get("detail", f"HTTP status {response.status_code}"))
    fix = str(body.get("fix", "")) if "detail" in body else "is this the right URL?"
    if body.get("contradiction"):
        raise refusals.Contradiction(detail, chosen=body["chosen"], better=body["better"])
    kind = KINDS.get(response.status_code, UserError)
    raise kind(detail, where=f"{response.request.method} {response.request.url.path}", fix=fix)


def _pieces(
    items: Iterable[Comparison | NewItem | Refusal],
) -> Iterator[list[Comparison | NewItem | Refusal]]:
    stream = iter(items)
    while piece := list(islice(stream, CHUNK_SIZE)):
        yield piece
