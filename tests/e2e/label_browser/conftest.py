"""A server on a database of its own, and a real browser that can reach nothing else."""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from label_support import everybody_in, missing

pytest.importorskip("playwright")
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Route,
    expect,
    sync_playwright,
)

from alignloop.label.store import accounts, projects, sign_in
from alignloop.label.store.database import Database, open_database
from alignloop.label.store.importing import NewItem, import_items
from alignloop.label.store.judging import standing, submit
from alignloop.label.store.queue import claim
from alignloop.label.store.tables import ResponseRow, User, judgements, now
from alignloop.label.store.tasks import JudgementIn, LabelSchema
from alignloop.records import Comparison, Message, Prompt, Response

MODELS = ("secret-model-one", "secret-model-two")
PATIENCE_MS = 30_000  # on a machine that does much else
expect.set_options(timeout=PATIENCE_MS)
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@dataclass(kw_only=True)
class Site:
    """A running application. People are called ann, bob and lea, who leads."""

    url: str
    database: Database
    folder: Path

    def cookie(self, name: str) -> str:
        """A new session's cookie; without the password, whose hashing takes its time."""
        with self.database.transaction() as session:
            user = accounts.get_user(session, name)
            return sign_in.begin(session, user.id, at=now()).cookie

    def judgements(self) -> list[Any]:
        """What stands, oldest first."""
        with self.database.reading() as session:
            return list(session.execute(standing().order_by(judgements.c.id)))

    def text_of(self, response_id: int | None) -> str:
        """The text of an answer."""
        with self.database.reading() as session:
            return session.get_one(ResponseRow, response_id).text


@dataclass(kw_only=True)
class Seen:
    """What a page did that it must not do."""

    elsewhere: list[str] = field(default_factory=list[str])
    dialogs: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])


def item(
    number: int, prompt: str | Sequence[str], *answers: str, gold: str | None = None
) -> NewItem:
    """A question; of several turns the user's and the assistant's take turns."""
    turns = [prompt] if isinstance(prompt, str) else list(prompt)
    roles = ("user", "assistant")
    messages = tuple(Message(role=roles[n % 2], content=turn) for n, turn in enumerate(turns))
    name = f"p{number}"
    responses = tuple(
        Response(response_id=f"{name}-{n}", text=text) for n, text in enumerate(answers)
    )
    return NewItem(
        comparison=Comparison(
            comparison_id=f"c{number}",
            prompt=Prompt(prompt_id=name, messages=messages, category="talk", language="en"),
            responses=responses,
        ),
        models={r.response_id: MODELS[n % 2] for n, r in enumerate(responses)},
        why="uncertain",
        gold=gold,
    )


def add_people(database: Database) -> None:
    """ann and bob annotate, lea leads, ada is the admin; nobody has a password yet."""
    people = (("ann", "annotator"), ("bob", "annotator"), ("lea", "lead"), ("ada", "admin"))
    with database.transaction() as session:
        for name, role in people:
            session.add(User(name=name, role=role, active=True, locale="", created_at=now()))


def add_project(
    database: Database, slug: str, items: Sequence[NewItem], *, overlap: int = 2, **schema: Any
) -> None:
    """A project with one batch of items."""
    with database.transaction() as session:
        project = projects.create_project(session, slug, f"Project {slug}", LabelSchema(**schema))
        batch = projects.create_batch(session, project.id, "first", overlap=overlap)
    import_items(database, project.id, batch.id, items)
    everybody_in(database)


@contextmanager
def serving(database: Database, folder: Path) -> Iterator[Site]:
    """The application on a free port of the loopback."""
    import uvicorn

    from alignloop.label.server_settings import ServerSettings
    from alignloop.label.web.app import create_app

    app = create_app(database, ServerSettings(folder=folder))
    config = uvicorn.Config(app, port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Site(url=f"http://127.0.0.1:{port}", database=database, folder=folder)
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """`make_site(items, slug="talk", **schema)`: a server on a project with these items."""
    with ExitStack() as stack:

        def make(items: Sequence[NewItem], slug: str = "talk", **schema: Any) -> Site:
            database = stack.enter_context(closing(open_database(tmp_path)))
            add_people(database)
            add_project(database, slug, items, **schema)
            return stack.enter_context(serving(database, tmp_path))

        yield make


@pytest.fixture(scope="session")
def worked_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with every kind of project, and in "talk" the work of two who do not agree.

    It is for looking at; nothing may be judged there.
    """
    folder = tmp_path_factory.mktemp("worked")
    with closing(open_database(folder)) as database:
        add_people(database)
        items = [item(n, f"Question {n}?", f"Good {n}. **Yes**.", f"Bad {n}.") for n in range(6)]
        add_project(database, "talk", [*items, item(9, "Known?", "a", "b", gold="p9-0")])
        more = [item(n, f"Which {n}?", *(f"Answer {k} of {n}" for k in range(5))) for n in (20, 21)]
        add_project(database, "ranks", more, kind="ranking")
        add_project(database, "rates", items, kind="rating", ratings=True)
        add_project(database, "both", items, ratings=True)
        add_project(database, "empty", [])
        for name, wanted in (("bob", "Good"), ("lea", "Bad")):
            judge_all(database, "talk", name, wanted)
        with serving(database, folder) as site:
            yield site


def judge_all(database: Database, slug: str, name: str, wanted: str) -> None:
    """Somebody judges all that there is; the last of it as the others do."""
    with database.transaction() as session:
        user = accounts.get_user(session, name).id
        for number in range(5):
            task = claim(session, slug, user)
            assert task is not None
            best = next((a for a in task.answers if a.text.startswith(wanted)), task.answers[0])
            sent = {"verdict": "choice", "choice": best.id, "strength": number % 4}
            sent |= {"comment": f"because {number}", "harmful": [best.id] if number == 2 else []}
            key = f"{name}-{number:05d}"
            submit(session, task.assignment_id, user, JudgementIn(key=key, visible_ms=9000, **sent))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of the system; under CI its absence is a failure."""
    path = shutil.which("chromium")
    if path is None:
        missing("Chromium", "apt-get install chromium")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """`open_page(site, "/p/talk", user="ann", locale="zh", dark=True, phone=True)`.

    A request to another host is aborted. At the end of the test there must have been none, no
    dialogue and no error on the console, but for refusals of the API that a test brings about.
    """
    contexts: list[BrowserContext] = []
    watched: list[Seen] = []

    def open_one(
        site: Site,
        path: str = "/",
        *,
        user: str | None = "ann",
        locale: str = "en",
        dark: bool = False,
        phone: bool = False,
    ) -> Page:
        context = browser.new_context(
            viewport=PHONE if phone else DESK,
            color_scheme="dark" if dark else "light",
            locale={"en": "en-GB", "zh": "zh-CN"}[locale],
            reduced_motion="reduce",
            has_touch=phone,
        )
        contexts.append(context)
        if user is not None:
            cookie = {"name": "alignloop", "value": site.cookie(user), "url": site.url}
            context.add_cookies([cookie | {"httpOnly": True}])
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        watched.append(watch(page, site))
        page.goto(f"{site.url}{path}")
        return page

    yield open_one
    for context in contexts:
        context.close()
    for seen in watched:
        assert (seen.elsewhere, seen.dialogs, seen.errors) == ([], [], [])


def watch(page: Page, site: Site) -> Seen:
    """Write down what the page must not do, and let it reach nothing but the site."""
    seen = Seen()

    def only_ours(route: Route) -> None:
        if route.request.url.startswith(site.url):
            route.continue_()
        else:
            seen.elsewhere.append(route.request.url)
            route.abort()

    def on_console(message: ConsoleMessage) -> None:
        # The browser itself notes a request that failed or was refused; scripts' errors count.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            seen.errors.append(message.text)

    def on_dialog(dialog: Any) -> None:
        seen.dialogs.append(dialog.message)
        dialog.dismiss()

    page.route("**/*", only_ours)
    page.on("console", on_console)
    page.on("dialog", on_dialog)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    return seen


@pytest.fixture
def make_item() -> Callable[..., NewItem]:
    """`make_item(1, "Question?", "one answer", "another")`."""
    return item
