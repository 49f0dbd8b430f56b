"""Small worlds for tests of the annotation application: people, items, browsers, a server."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import RouteContext
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from alignloop.label.store import accounts, judging, projects, queue, sign_in, tokens
from alignloop.label.store.database import Database
from alignloop.label.store.importing import NewItem, import_items
from alignloop.label.store.seats import change_rules
from alignloop.label.store.tables import (
    Assignment,
    ItemRow,
    Presentation,
    User,
    judgements,
    now,
)
from alignloop.label.store.task_view import answer_id
from alignloop.label.store.tasks import JudgementIn, LabelSchema, Task
from alignloop.records import Comparison, Message, Prompt, Response

SOURCE = Path(__file__).parents[2] / "src"
PASSWORD = "a sentence to sign in with"
SLUG = "demo"


def comparison(number: int, *, answers: int = 2, model: str = "secret-model-7b") -> Comparison:
    """Question `number` with some answers; nothing in it is shared with another number."""
    prompt = Prompt(
        prompt_id=f"p{number}",
        messages=(Message(role="user", content=f"Question {number}?"),),
        category="odd" if number % 2 else "even",
        language="en",
    )
    responses = tuple(
        Response(response_id=f"p{number}#{place}", text=f"Answer {place} to question {number}.")
        for place in range(answers)
    )
    return Comparison(
        comparison_id=f"c{number}", prompt=prompt, responses=responses, sampled_from=model
    )


def items(count: int, *, start: int = 0, **fields: Any) -> list[NewItem]:
    """Items of the questions start, start + 1, ..."""
    answers = fields.pop("answers", 2)
    return [
        NewItem(comparison=comparison(start + n, answers=answers), **fields) for n in range(count)
    ]


def gold_items(
    count: int, *, start: int = 500, use: str = "check", explanation: str = ""
) -> list[NewItem]:
    """Gold questions, of which the first response is right."""
    return [
        one.model_copy(
            update={
                "gold": one.comparison.responses[0].response_id,
                "gold_use": use,
                "explanation": explanation,
            }
        )
        for one in items(count, start=start)
    ]


@dataclass
class World:
    """A project with one batch and some annotators, on a database."""

    database: Database
    project_id: int
    batch_id: int
    users: list[int]
    names: list[str] = field(default_factory=list)

    def claim(self, user: int = 0, **options: Any) -> Task | None:
        """The next item of annotator number `user`."""
        with self.database.transaction() as session:
            return queue.claim(session, SLUG, self.users[user], **options)

    def must_claim(self, user: int = 0, **options: Any) -> Task:
        """The same, where there has to be one."""
        task = self.claim(user, **options)
        assert task is not None
        return task

    def submit(self, task: Task, user: int = 0, **said: Any) -> int:
        """Judge; without `said` the first answer shown is the better one."""
        sent = said_of(task, **said)
        at = said.get("at")
        with self.database.transaction() as session:
            return judging.submit(session, task.assignment_id, self.users[user], sent, at=at)

    def undo(self, user: int = 0) -> Task | None:
        """Take the latest judgement back."""
        with self.database.transaction() as session:
            return judging.undo(session, SLUG, self.users[user])

    def release(self, task: Task, user: int = 0) -> None:
        """Give an item back."""
        with self.database.transaction() as session:
            queue.release(session, task.assignment_id, self.users[user])

    def work(self, user: int = 0, at_most: int = 10_000) -> list[Task]:
        """Claim and judge until nothing is left; the tasks in order."""
        done: list[Task] = []
        while len(done) < at_most and (task := self.claim(user)) is not None:
            self.submit(task, user)
            done.append(task)
        return done

    def standing(self) -> list[Any]:
        """The judgements that hold, by id."""
        with self.database.reading() as session:
            return list(session.execute(judging.standing().order_by(judgements.c.id)))

    def file(self, new: Iterable[NewItem]) -> Any:
        """Import items into the batch."""
        return import_items(self.database, self.project_id, self.batch_id, new)

    def counted(self) -> dict[int, tuple[int, int]]:
        """By item: (taken as the item says, taken as assignments and judgements say)."""
        taken = {}
        with self.database.reading() as session:
            skipped = (
                judging.standing()
                .join(Assignment, Assignment.id == judgements.c.assignment_id)
                # while it is being changed, a skip has a place
                .where(judgements.c.verdict == "skip", Assignment.state == "done")
            )
            skips = set(session.scalars(skipped.with_only_columns(judgements.c.assignment_id)))
            for item in session.scalars(select(ItemRow)):
                held = select(Assignment.id).where(
                    Assignment.item_id == item.id, Assignment.state.in_(("leased", "done"))
                )
                taken[item.id] = (item.taken, len(set(session.scalars(held)) - skips))
        return taken

    def item_of(self, task: Task) -> int:
        """The item's own id, which no annotator sees."""
        with self.database.reading() as session:
            return session.get_one(Assignment, task.assignment_id).item_id

    def response_of(self, task: Task, answer: str) -> int:
        """The response behind an answer's id on the screen."""
        with self.database.reading() as session:
            secret = projects.get_project(session, SLUG).secret
            shown = select(Presentation).where(Presentation.assignment_id == task.assignment_id)
            order = session.scalars(shown).one().order
        ids = {answer_id(secret, task.assignment_id, one): one for one in order}
        return ids[answer]

    def right(self, task: Task, user: int = 0, **said: Any) -> int:
        """Judge with the response that was stored first, the right one of `gold_items`."""
        best = min(task.answers, key=lambda answer: self.response_of(task, answer.id))
        return self.submit(task, user, choice=best.id, **said)

    def wrong(self, task: Task, user: int = 0) -> int:
        """Judge with the one that was stored last."""
        best = max(task.answers, key=lambda answer: self.response_of(task, answer.id))
        return self.submit(task, user, choice=best.id)

    def rule(self, **changes: Any) -> None:
        """Change rules of the project."""
        with self.database.transaction() as session:
            change_rules(session, projects.get_project(session, SLUG), changes)

    def num_items(self) -> int:
        """How many items there are."""
        with self.database.reading() as session:
            return session.scalar(select(func.count(ItemRow.id))) or 0


def said_of(task: Task, **said: Any) -> JudgementIn:
    """A judgement of a task: by default the first answer shown is better."""
    fields = {key: value for key, value in said.items() if key != "at"}
    defaults: dict[str, Any] = {"key": secrets.token_hex(8), "verdict": "choice"}
    if fields.get("verdict", "choice") == "choice" and not fields.get("ranking"):
        defaults["choice"] = task.answers[0].id
    if task.kind == "ranking" and fields.get("verdict", "choice") == "choice":
        defaults |= {"ranking": [[answer.id] for answer in task.answers]}
    return JudgementIn.model_validate({**defaults, **fields})


def make_world(
    database: Database,
    new: Iterable[NewItem] = (),
    *,
    users: int = 1,
    overlap: int = 1,
    repeats: float = 0.0,
    schema: LabelSchema | None = None,
) -> World:
    """A project "demo" with a batch "first" of some items, and annotators ann0, ann1, ..."""
    with database.transaction() as session:
        project = projects.create_project(session, SLUG, "Demo", schema or LabelSchema())
        batch = projects.create_batch(
            session, project.id, "first", overlap=overlap, repeats=repeats
        )
        names = [f"ann{n}" for n in range(users)]
        people = [
            User(name=name, role="annotator", active=True, created_at=now()) for name in names
        ]
        session.add_all(people)
        session.flush()
        world = World(database, project.id, batch.id, [one.id for one in people], names)
    world.file(new)
    return world


def make_lead(database: Database, name: str = "lea") -> int:
    """An account of a lead with PASSWORD."""
    return make_account(database, name, "lead")


def make_account(database: Database, name: str, role: str) -> int:
    """An account with PASSWORD, made as people make theirs."""
    with database.transaction() as session:
        token = accounts.invite(session, role, name)
    with database.transaction() as session:
        return accounts.accept(session, token, name, PASSWORD).id


def make_token(database: Database, user_id: int, *scopes: str) -> str:
    """An API token with these scopes."""
    with database.transaction() as session:
        return tokens.create_token(session, user_id, "test", list(scopes))[1]


def browser(app: FastAPI, name: str = "", *, scheme: str = "http") -> TestClient:
    """A browser on a page of ours, signed in or not: it sends origin and CSRF header."""
    origin = f"{scheme}://localhost"
    client = TestClient(app, base_url=origin, follow_redirects=False)
    client.headers["Origin"] = origin
    if name:
        signed_in = client.post("/api/v1/login", json={"name": name, "password": PASSWORD})
        assert signed_in.status_code == 200, signed_in.text
        client.headers["X-CSRF-Token"] = signed_in.json()["csrf"]
    return client


def session_of(database: Database, name: str) -> sign_in.NewSession:
    """A session of somebody, without the password."""
    with database.transaction() as session:
        return sign_in.begin(session, accounts.get_user(session, name).id)


def path_of(route: RouteContext) -> str:
    """A route's path with something in its places."""
    names = {"slug": SLUG, "name": "ann", "token": "x"}
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda one: names.get(one[1], "1"), route.path or "")


# --- processes ---------------------------------------------------------------------------------


@dataclass
class Server:
    """A running `alignloop label serve`."""

    process: "subprocess.Popen[str]"
    url: str
    invitation: str

    def kill(self) -> None:
        """kill -9: nothing is written any more."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=30)


@contextmanager
def serving(*where: str, port: int = 0) -> Generator[Server]:
    """A server in a process of its own, on a free port of 127.0.0.1."""
    command = [sys.executable, "-m", "alignloop", "label", "serve", "--port", str(port), *where]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            told = _read_until(process, "Ctrl+C")
            found = re.search(r"Annotation page: (\S+)", told)
            assert found, told
            invited = re.search(r"/invite/(\S+)", told)
            server = Server(process, found[1], invited[1] if invited else "")
            _wait_for(server)
            yield server
        finally:
            process.send_signal(signal.SIGKILL)


def _read_until(process: "subprocess.Popen[str]", mark: str) -> str:
    assert process.stdout is not None and process.stderr is not None
    told = ""
    while mark not in told:
        line = process.stdout.readline()
        assert line, f"the server ended: {told} {process.stderr.read()[-2000:]}"
        told += line
    return told


def _wait_for(server: Server) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if httpx2.get(f"{server.url}/login").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.02)
    raise AssertionError("the server does not answer")


# --- PostgreSQL --------------------------------------------------------------------------------


def is_ci() -> bool:
    """Whether nothing may be skipped: .ci/run says so."""
    return any(os.environ.get(name) for name in ("CI", "ALIGNLOOP_CI"))


def missing(what: str, how: str) -> NoReturn:
    """Skip a test for lack of a program; under CI fail."""
    if is_ci():
        pytest.fail(f"{what} is missing, and under CI nothing may be skipped: {how}")
    pytest.skip(f"{what} is missing: {how}")


@contextmanager
def postgres_cluster() -> Generator[str]:
    """A PostgreSQL server of our own in a folder of its own; gives the URL of its database.

    It listens on a free port of 127.0.0.1, runs as who we are, or as the user postgres where we
    are root (which PostgreSQL refuses), and is gone afterwards.
    """
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        missing("PostgreSQL", "apt-get install postgresql")
    # Not in pytest's folders: another run of pytest closes them to other users.
    with tempfile.TemporaryDirectory(prefix="alignloop-postgres-") as name:
        folder, bin_, port = Path(name), programs[-1].parent, _free_port()
        prefix: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
            prefix = ["runuser", "-u", "postgres", "--"]
        made = [f"{bin_}/initdb", "-D", f"{folder}/data", "-A", "trust", "-E", "UTF8", "-N"]
        _run([*prefix, *made, "-U", "label"])
        control = [*prefix, f"{bin_}/pg_ctl", "-D", f"{folder}/data", "-w", "-t", "60"]
        options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={folder}"
        options += " -c fsync=off -c max_connections=120"
        _run([*control, "-l", f"{folder}/log", "-o", options, "start"])
        try:
            yield f"postgresql://label@127.0.0.1:{port}/postgres"
        finally:
            _run([*control, "-m", "immediate", "stop"])


def _run(command: list[str]) -> None:
    # No pipe: the server that pg_ctl starts would keep it open.
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, check=False, cwd="/")
    assert ended.returncode == 0, command


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
