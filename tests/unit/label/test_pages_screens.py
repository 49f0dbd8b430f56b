"""Every page in both languages: whole, safe under the policy, and silent about what is secret."""

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from fastapi.testclient import TestClient

from alignloop.label.pages.routes import _local
from alignloop.label.pages.templating import SHADES
from alignloop.label.server_settings import ServerSettings
from alignloop.label.store import accounts, projects, sign_in
from alignloop.label.store.database import open_database
from alignloop.label.store.importing import NewItem, import_items
from alignloop.label.store.judging import submit
from alignloop.label.store.queue import claim
from alignloop.label.store.tables import User, now
from alignloop.label.store.tasks import JudgementIn, LabelSchema
from alignloop.label.texts.i18n import LOCALES, TAGS, catalogue
from alignloop.label.web.app import create_app
from alignloop.records import Comparison, Message, Prompt, Response

SECRETS = ("model-one-secret", "model-two-secret", "uncertain", "gold", "because-reason")
FOR_ANYONE = ["/login", "/invite/nonsense"]
FOR_ANNOTATORS = ["/", "/p/pairs", "/p/pairs/guideline", "/p/pairs/task/{pairs}"]
FOR_ANNOTATORS += [f"/p/{slug}/task/{{{slug}}}/differences" for slug in ("pairs", "ranks")]
FOR_ANNOTATORS += ["/p/ranks/task/{ranks}", "/p/rates/task/{rates}", "/p/missing", "/lead/users"]
PROJECT_SCREENS = ["progress", "quality", "disagreements", "disagreements/1", "batches"]
PROJECT_SCREENS += ["exports", "guideline", "plot/agreement", "plot/progress?shade=dark"]
FOR_LEADS = ["/", "/lead/users", "/lead/tokens", "/lead/audit", "/lead/missing/progress"]
FOR_LEADS += [f"/lead/pairs/{name}" for name in PROJECT_SCREENS]


def new_item(number: int, num_answers: int, **known: Any) -> NewItem:
    """A question whose models are secrets."""
    answers = tuple(
        Response(response_id=f"r{number}-{n}", text=f"answer {n} <b>to</b> {number}")
        for n in range(num_answers)
    )
    turn = Message(role="user", content=f"question {number}")
    prompt = Prompt(prompt_id=f"p{number}", messages=(turn,), category="talk")
    return NewItem(
        comparison=Comparison(comparison_id=f"c{number}", prompt=prompt, responses=answers),
        models={one.response_id: SECRETS[n % 2] for n, one in enumerate(answers)},
        **known,
    )


class Site:
    """A client on an application with three projects; `urls` fills in who has which item."""

    def __init__(self, client: TestClient, database: Any, tasks: dict[str, int]) -> None:
        self.client, self.database, self.tasks = client, database, tasks

    def get(self, path: str, user: str | None, locale: str = "en", shade: str = "") -> Any:
        cookies = {"alignloop_locale": locale, "alignloop_theme": shade}
        if user:
            with self.database.transaction() as session:
                found = accounts.get_user(session, user)
                cookies["alignloop"] = sign_in.begin(session, found.id, at=now()).cookie
        self.client.cookies.clear()
        self.client.cookies.update(cookies)
        return self.client.get(path.format(**self.tasks), follow_redirects=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("pages")
    with closing(open_database(folder)) as database:
        with database.transaction() as session:
            for name, role in (("ann", "annotator"), ("bob", "annotator"), ("lea", "lead")):
                session.add(User(name=name, role=role, active=True, locale="", created_at=now()))
        known = {"why": "uncertain", "why_detail": {"because-reason": 1}}
        pairs = [new_item(n, 2, **known) for n in (1, 2)] + [new_item(3, 2, gold="r3-0")]
        contents = {"pairs": pairs, "ranks": [new_item(4, 4)], "rates": [new_item(5, 3)]}
        kinds = {"pairs": "comparison", "ranks": "ranking", "rates": "rating"}
        tasks: dict[str, int] = {}
        for slug, items in contents.items():
            with database.transaction() as session:
                schema = LabelSchema(kind=kinds[slug], ratings=slug != "ranks")
                project = projects.create_project(session, slug, f"Title {slug}", schema)
                batch = projects.create_batch(session, project.id, "first", overlap=3)
            import_items(database, project.id, batch.id, items)
            with database.transaction() as session:
                ann = accounts.get_user(session, "ann").id
                task = claim(session, slug, ann)
                assert task is not None
                tasks[slug] = task.assignment_id
        for name, best in (("bob", 0), ("lea", 1)):
            with database.transaction() as session:
                user = accounts.get_user(session, name).id
                for number in range(3):
                    task = claim(session, "pairs", user)
                    assert task is not None
                    choice = sorted(task.answers, key=lambda one: one.text)[best].id
                    sent = {"key": f"{name}-{number:06d}", "choice": choice, "strength": number}
                    said = JudgementIn(verdict="choice", visible_ms=5000, **sent)
                    submit(session, task.assignment_id, user, said)
        app = create_app(database, ServerSettings(folder=folder, hosts=()))
        with TestClient(app) as client:
            yield Site(client, database, tasks)


PAGES = [(path, None) for path in FOR_ANYONE]
PAGES += [(path, "ann") for path in FOR_ANNOTATORS] + [(path, "lea") for path in FOR_LEADS]
INLINE = re.compile(
    r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=\")|javascript:|https?://(?!www\.w3)"
)


@pytest.mark.slow
@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize(("path", "user"), PAGES)
def test_a_page_is_whole_and_keeps_to_the_policy(
    site: Site, path: str, user: str | None, locale: Any
) -> None:
    found = site.get(path, user, locale)
    missing = "missing" in path or "nonsense" in path
    forbidden = user == "ann" and path.startswith("/lead")
    assert found.status_code == (404 if missing else 403 if forbidden else 200)
    if "/plot/" in path:
        assert found.text.startswith("<svg")
    elif "/task/" not in path:
        assert found.text.startswith(f'<!doctype html>\n<html lang="{TAGS[locale]}"')
    assert not INLINE.search(found.text)
    assert not re.search(r"\{\{|\{%|\bUndefined\b|&lt;b class|>None<", found.text)


@pytest.mark.slow
@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize(("path", "user"), PAGES)
def test_a_page_shows_no_raw_key(site: Site, path: str, user: str | None, locale: str) -> None:
    shown = re.sub(r"<[^>]+>|data-texts=.*", " ", site.get(path, user, locale).text)
    keys = [key for key in catalogue("en") if "." in key and " " not in key]
    assert not [
        key for key in keys if re.search(rf"(?<![\w./-]){re.escape(key)}(?![\w./-])", shown)
    ]


@pytest.mark.parametrize("path", FOR_ANYONE + FOR_ANNOTATORS)
def test_what_an_annotator_sees_holds_no_secret(site: Site, path: str) -> None:
    found = site.get(path, "ann")
    told = f"{found.text} {dict(found.headers)}".lower()
    assert not [one for one in SECRETS if one in told]


def test_the_search_for_secrets_finds_them_where_a_lead_sees_them(site: Site) -> None:
    assert SECRETS[0] in site.get("/lead/pairs/disagreements/1", "lea").text


def test_an_item_is_shown_to_whom_it_was_given_and_in_its_project(site: Site) -> None:
    own = "/p/pairs/task/{pairs}"
    assert site.get(own, "ann").status_code == 200
    assert site.get(own, "bob").status_code == 404
    assert site.get("/p/ranks/task/{pairs}", "ann").status_code == 404


def test_model_text_is_escaped_in_every_place(site: Site) -> None:
    task = site.get("/p/pairs/task/{pairs}", "ann").text
    assert "<b>" not in task and task.count("&lt;b&gt;") == 2
    compared = site.get("/p/pairs/task/{pairs}/differences", "ann").text
    assert "<b>" not in compared and compared.count("&lt;b&gt;") == 2
    lead = site.get("/lead/pairs/disagreements/1", "lea").text
    assert "<b>" not in lead


@pytest.mark.parametrize("path", ["/", "/p/pairs", "/lead/users"])
def test_who_is_not_signed_in_is_led_to_the_login_and_back(site: Site, path: str) -> None:
    found = site.get(path, None)
    assert (found.status_code, found.headers["location"]) == (303, f"/login?after={path}")


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("/p/talk", "/p/talk"),
        ("/", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/p/x\n", "/"),
        ("", "/"),
    ],
)
def test_after_signing_in_one_stays_here(after: str, expected: str) -> None:
    assert _local(after) == expected


@pytest.mark.parametrize("shade", SHADES)
def test_the_chosen_shade_is_kept(site: Site, shade: str) -> None:
    assert f'data-theme="{shade}"' in site.get("/", "ann", shade=shade).text


def test_a_shade_that_there_is_not_is_ignored(site: Site) -> None:
    assert "data-theme=" not in site.get("/", "ann", shade='x"><b>').text.split("<head>")[0]
