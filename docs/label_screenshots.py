"""Make every picture of docs/labelling.md: each screen in two languages, light and dark.

    python docs/label_screenshots.py [PART OF A NAME, such as quality or zh-dark ...]

A small project is filled, served on the loopback, and looked at with Debian's Chromium.
"""

import io
import json
import random
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import select

from alignloop.label import exports
from alignloop.label.quality.disagreements import disagreements
from alignloop.label.server_settings import ServerSettings
from alignloop.label.store import accounts, audit, projects, sign_in, tokens
from alignloop.label.store.database import Database, open_database
from alignloop.label.store.importing import NewItem, import_items
from alignloop.label.store.judging import submit
from alignloop.label.store.queue import claim
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.tables import ItemRow, User, now
from alignloop.label.store.tasks import JudgementIn, LabelSchema, Task
from alignloop.label.web.app import create_app
from alignloop.records import Comparison

HERE = Path(__file__).parent
IMAGES = HERE / "images" / "label"
DESK, TALL, PHONE = (1280, 800), (1280, 1420), (390, 844)
QUALITY = 62  # of WebP: letters stay sharp, all pictures together below 3 MB
PEOPLE = {"Mei": 0.99, "Jonas": 0.95, "Priya": 0.9, "Tom": 0.75}  # how often each is right
LEAD = "Ada"


@dataclass(frozen=True, kw_only=True)
class Screen:
    """One picture: where it is, who looks, and what to do before it is taken."""

    name: str
    path: str
    user: str | None = LEAD
    act: Callable[[Page], object] = lambda _: None
    size: tuple[int, int] = DESK
    whole: bool = False  # the whole page, not what fits the window


def press(*keys: str) -> Callable[[Page], None]:
    """Wait for the item, then press these keys."""

    def act(page: Page) -> None:
        page.wait_for_selector(".task")
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_timeout(250)

    return act


def screens(site: "Site", locale: str) -> list[Screen]:
    """Every screen, in the order of the guide."""
    task, lead = f"/p/helpful-{locale}", f"/lead/helpful-{locale}"
    contradicted = press("r", "6", "9", "a", "8", "Enter")
    return [
        Screen(name="login", path="/login", user=None),
        Screen(name="invite", path=f"/invite/{site.invitation}", user=None),
        Screen(name="projects", path="/", user="Noor"),
        Screen(name="annotate", path=task, user="Noor", act=press("a", "8")),
        Screen(name="difference", path=task, user="Noor", act=press("d")),
        Screen(name="guideline", path=task, user="Noor", act=press("g")),
        Screen(name="ranking", path="/p/poems", user="Noor", act=press("2", "4", "=", "1")),
        Screen(name="skip", path=task, user="Noor", act=press("s")),
        Screen(name="contradiction", path=task, user="Noor", act=contradicted),
        Screen(name="keys", path=task, user="Noor", act=press("?")),
        Screen(name="nothing", path="/p/harmless", user="Noor", act=_nothing_left),
        Screen(name="phone", path=task, user="Noor", act=press("a", "8"), size=PHONE),
        Screen(name="progress", path=f"{lead}/progress", whole=True, act=_pictures),
        Screen(name="quality", path=f"{lead}/quality", size=TALL, act=_pictures),
        Screen(name="disagreements", path=f"{lead}/disagreements"),
        Screen(name="decide", path=f"{lead}/disagreements/{site.disputed[locale]}", whole=True),
        Screen(name="batches", path=f"{lead}/batches", whole=True),
        Screen(name="exports", path=f"{lead}/exports"),
        Screen(name="edit-guideline", path=f"{lead}/guideline", whole=True),
        Screen(name="users", path="/lead/users"),
        Screen(name="tokens", path="/lead/tokens"),
        Screen(name="audit", path="/lead/audit"),
    ]


def _nothing_left(page: Page) -> None:
    page.wait_for_selector("#nothing:not([hidden])")


def _pictures(page: Page) -> None:
    """Wait for the plots, which load when they come into view."""
    loaded = "() => [...document.images].every((one) => one.complete || !one.checkVisibility())"
    page.mouse.wheel(0, 5000)
    while not page.evaluate(loaded):  # wait_for_function would need eval, which the page forbids
        page.wait_for_timeout(100)
    page.mouse.wheel(0, -5000)


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the screens need of the content: an open invitation, an item to decide by language."""

    invitation: str
    disputed: dict[str, int]


def fill(database: Database, folder: Path) -> Site:
    """Projects with some days' work in them."""
    rows = json.loads((HERE / "label_screenshots.json").read_text(encoding="utf-8"))
    items = [
        NewItem(comparison=Comparison.model_validate(row["comparison"]), **row["known"])
        for row in rows
    ]
    with database.transaction() as session:
        for name in (*PEOPLE, "Noor", LEAD):
            role = "lead" if name == LEAD else "annotator"
            session.add(User(name=name, role=role, active=True, locale="", created_at=now()))
        session.flush()
        ada = accounts.get_user(session, LEAD).id
        tokens.create_token(session, ada, "nightly export", ["lead"])
        audit.record(session, "login", user_id=ada, target=LEAD, address="127.0.0.1")
        invitation = accounts.invite(session, "annotator", "Yuki")
    poems = [one for one in items if len(one.comparison.responses) > 2]
    add(database, "poems", "Four poems · 四首小诗", poems, kind="ranking")
    add(database, "harmless", "Harmless answers · 无害的回答", [])
    disputed: dict[str, int] = {}
    for locale, title in (("en", "Helpful answers"), ("zh", "有用的回答")):
        slug = f"helpful-{locale}"
        own_first = sorted(items, key=lambda one: one.comparison.prompt.language != locale)
        pairs = [one for one in own_first if one not in poems]
        project_id = add(database, slug, title, pairs, overlap=5, ratings=True)
        work(database, slug, len(pairs))
        with database.reading() as session:
            disputed[locale] = disagreements(load_labels(session, project_id))[0].item.item_id
        query = exports.Query(kind="pairs")
        exports.export_project(database, slug, folder / slug, query)
    return Site(invitation=invitation, disputed=disputed)


def add(
    database: Database, slug: str, title: str, items: list[NewItem], overlap: int = 2, **schema: Any
) -> int:
    """A project with one batch of all items, asked in this order; its id."""
    with database.transaction() as session:
        made = projects.create_project(session, slug, title, LabelSchema(**schema))
        made.secret = "17" * 32  # the same sides in every run
        batch = projects.create_batch(session, made.id, "pilot", overlap=overlap, repeats=0.1)
        audit.record(session, "batch made", user_id=None, target=f"{slug}/pilot")
    import_items(database, made.id, batch.id, items)
    with database.transaction() as session:
        mine = list(session.scalars(select(ItemRow).where(ItemRow.project_id == made.id)))
        for place, item in enumerate(sorted(mine, key=lambda one: (one.why == "repeat", one.id))):
            item.position = place
    return made.id


def work(database: Database, slug: str, num_items: int) -> None:
    """Four people judge on the last days; the better answer is the longer one here."""
    draw = random.Random("screenshots")
    for name, skill in PEOPLE.items():
        at = now() - timedelta(days=6, hours=2 * len(name))
        for _ in range(round(0.85 * num_items)):
            at += timedelta(hours=draw.uniform(5, 18))
            with database.transaction() as session:
                user = accounts.get_user(session, name).id
                task = claim(session, slug, user, at=at, lease=timedelta(days=1))
                if task is not None:
                    said = judge(task, skill, draw)
                    submit(session, task.assignment_id, user, said, at=min(at, now()))


def judge(task: Task, skill: float, draw: random.Random) -> JudgementIn:
    """A judgement such as somebody of this skill gives."""
    best, other = sorted(task.answers, key=lambda one: -len(one.text))
    chosen = best if draw.random() < skill else other
    verdict = draw.choices(["choice", "tie", "both_bad"], [14, 1.2, 0.5])[0]
    fields: dict[str, Any] = {"verdict": verdict, "key": f"{task.assignment_id:08d}"}
    if verdict == "choice":
        fields |= {"choice": chosen.id, "strength": draw.choices(range(4), [1, 3, 5, 3])[0]}
    if verdict == "both_bad":
        fields |= {"harmful": [other.id], "comment": "Neither says how long it keeps."}
    return JudgementIn(**fields, visible_ms=round(1000 * draw.lognormvariate(3.2, 0.5)))


@contextmanager
def serving(database: Database, folder: Path) -> Iterator[str]:
    """The application on a free port; its address."""
    app = create_app(database, ServerSettings(folder=folder))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def take(browser: Browser, url: str, database: Database, screen: Screen, look: str) -> int:
    """Take one picture in a look such as "zh-dark"; its size in bytes."""
    locale, shade = look.split("-")
    width, height = screen.size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        locale={"en": "en-GB", "zh": "zh-CN"}[locale],
        color_scheme="dark" if shade == "dark" else "light",
        reduced_motion="reduce",
        device_scale_factor=2 if screen.size == PHONE else 1,
    )
    if screen.user:
        with database.transaction() as session:
            user = accounts.get_user(session, screen.user)
            cookie = sign_in.begin(session, user.id).cookie
        context.add_cookies([{"name": "alignloop", "value": cookie, "url": url}])
    page = context.new_page()
    page.goto(f"{url}{screen.path}")
    screen.act(page)
    data = page.screenshot(full_page=screen.whole)
    context.close()
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(buffer, "WEBP", quality=QUALITY, method=6)
    IMAGES.mkdir(parents=True, exist_ok=True)
    (IMAGES / f"{screen.name}-{look}.webp").write_bytes(buffer.getvalue())
    return len(buffer.getvalue())


def main(wanted: list[str]) -> None:
    """Take the pictures whose names hold one of the parts that are wanted, or all."""
    with tempfile.TemporaryDirectory() as name:
        database = open_database(name)
        site = fill(database, Path(name))
        with serving(database, Path(name)) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            for locale, shade in product(("en", "zh"), ("light", "dark")):
                for screen in screens(site, locale):
                    look = f"{locale}-{shade}"
                    if not wanted or any(part in f"{screen.name}-{look}" for part in wanted):
                        size = take(browser, url, database, screen, look)
                        print(f"{screen.name}-{look}: {size / 1024:.0f} kB", flush=True)
            browser.close()
        database.close()


if __name__ == "__main__":
    main(sys.argv[1:])
