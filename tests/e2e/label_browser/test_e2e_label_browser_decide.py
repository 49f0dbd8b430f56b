"""Disagreements are decided by keyboard alone, and a bad annotator is taken out."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from alignloop.label.exports import export_rows
from alignloop.label.labels.project_labels import ProjectLabels
from alignloop.label.store import accounts
from alignloop.label.store.judging import submit
from alignloop.label.store.queue import claim
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.tasks import JudgementIn

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def judge(site: Any, name: str, prefer: str, strength: int, comment: str = "") -> None:
    """Somebody judges everything: of each item the answer that begins like this."""
    with site.database.transaction() as session:
        user = accounts.get_user(session, name).id
        while (task := claim(session, "talk", user)) is not None:
            best = next(a for a in task.answers if a.text.startswith(prefer))
            order = [best, *(a for a in task.answers if a is not best)]
            ranked = {"ranking": [[a.id] for a in order]} if len(order) > 2 else {}
            said = {"choice": best.id, "strength": strength, "comment": comment, **ranked}
            key = f"{name}-{task.item_id:06d}"
            sent = JudgementIn(key=key, verdict="choice", visible_ms=9000, **said)
            submit(session, task.assignment_id, user, sent)


def read(site: Any) -> ProjectLabels:
    with site.database.reading() as session:
        return load_labels(session, 1)


@pytest.fixture
def disputed(make_site: Any, make_item: Any) -> Any:
    """Three items on which ann and bob differ."""
    site = make_site([make_item(n, f"Which {n}?", f"good {n}", f"bad {n}") for n in range(3)])
    judge(site, "ann", "good", 3, "it is **true**")
    judge(site, "bob", "bad", 1)
    return site


def place_of(page: Page) -> str:
    """Which item is on the screen."""
    return page.locator(".asked .said").inner_text().strip()


def press(page: Page, key: str, then: Callable[[], Any]) -> None:
    """Press a key and wait for another page."""
    before = page.url
    page.keyboard.press(key)
    page.wait_for_url(lambda url: url != before)
    page.wait_for_load_state()
    then()


@pytest.mark.parametrize("locale", ["en", "zh"])
def test_disagreements_are_decided_by_keyboard_alone(
    disputed: Any, open_page: Any, locale: str
) -> None:
    page = open_page(disputed, "/lead/talk/disagreements", user="lea", locale=locale)
    words = {"en": "3 of 3 left", "zh": "还剩 3 条，共 3 条"}[locale]
    expect(page.locator("main")).to_contain_text(words)
    press(page, "j", lambda: None)
    expect(page.locator("main")).to_contain_text("ann")
    expect(page.locator("main")).to_contain_text("it is **true**")  # the comment, as written
    first = place_of(page)
    press(page, "j", lambda: None)  # skip it
    second = place_of(page)
    assert first != second
    press(page, "k", lambda: None)  # and back
    assert place_of(page) == first
    # a comment first, in which keys are letters; then the strength, then the verdict
    page.keyboard.press("c")
    page.keyboard.type("t12 because")
    page.keyboard.press("Escape")
    page.keyboard.press("8")
    expect(page.locator('[name="strength"][value="2"]')).to_be_checked()
    press(page, "2", lambda: None)
    effect = page.locator(".effect")
    before, now = {
        "en": ("before: A and B tied", "now: the lead says B is better"),
        "zh": ("之前：A 与 B 平手", "现在：负责人裁定 B"),
    }[locale]
    expect(effect).to_contain_text(before)
    expect(effect).to_contain_text(now)
    assert place_of(page) not in (first,)
    press(page, "t", lambda: None)
    press(page, "n", lambda: None)
    expect(page.locator("tbody .badge.good")).to_have_count(3)  # back at the list: nothing is left
    labels = read(disputed)
    assert sorted(one.verdict for one in labels.decisions.values()) == ["both_bad", "choice", "tie"]
    chosen = next(one for one in labels.decisions.values() if one.verdict == "choice")
    assert (chosen.comment, chosen.strength, chosen.by) == ("t12 because", 2, "lea")
    rows = export_rows(labels, "margins")
    assert [(row.content["source"], row.content["margin"]) for row in rows] == [("lead", 2.0)]


def test_a_decision_is_changed_and_taken_back(disputed: Any, open_page: Any) -> None:
    page = open_page(disputed, "/lead/talk/disagreements/1", user="lea")
    press(page, "1", lambda: None)
    press(page, "z", lambda: None)  # take back what the banner tells
    assert read(disputed).decisions == {}
    expect(page.locator(".message.good")).to_have_count(0)
    press(page, "2", lambda: None)
    page.goto(f"{disputed.url}/lead/talk/disagreements/1")
    expect(page.locator(".message.good")).to_contain_text("lea decided: B is better.")
    expect(page.locator("main")).to_contain_text("An export now says: B preferred to A 1.00")
    with page.expect_navigation():
        page.keyboard.press("u")
    expect(page.locator(".message.good")).to_have_count(0)
    expect(page.locator("main")).to_contain_text("An export now says: A and B tied.")
    assert read(disputed).decisions == {}


def test_rankings_are_decided_by_numbers(make_site: Any, open_page: Any, make_item: Any) -> None:
    site = make_site([make_item(1, "Which?", "one", "two", "three")], kind="ranking")
    judge(site, "ann", "one", 0)
    judge(site, "bob", "three", 0)
    page = open_page(site, "/lead/talk/disagreements/1", user="lea")
    done = page.locator('[data-rank="done"]')
    for key in ("3", "1", "Backspace", "2", "="):
        page.keyboard.press(key)
    expect(done).to_be_disabled()
    page.keyboard.press("1")
    expect(page.locator("[data-ranked]")).to_have_text("C > B = A")
    press(page, "Enter", lambda: None)
    (decided,) = read(site).decisions.values()
    assert decided.ranking == (("p1-2",), ("p1-1", "p1-0"))


def test_a_bad_annotator_is_taken_out(disputed: Any, open_page: Any) -> None:
    page = open_page(disputed, "/lead/talk/quality", user="lea")
    page.locator("tr").filter(has_text="bob").get_by_role("link", name="discard …").click()
    expect(page.locator(".message.warn")).to_contain_text("3 judgements of 3 questions")
    expect(page.locator(".message.warn")).to_contain_text("3 items will be asked again of others.")
    page.locator('[name="why"]').fill("always the bad one")
    page.get_by_role("button", name="Discard the judgements of bob").click()
    expect(page.locator("tbody")).to_contain_text("always the bad one")
    assert {one.annotator for one in read(disputed).judgements} == {"ann"}
    page.wait_for_load_state()  # the script binds the forms
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("tbody .badge")).to_have_text("undone")
    assert len(read(disputed).judgements) == 6


def test_an_export_with_filters(disputed: Any, open_page: Any) -> None:
    page = open_page(disputed, "/lead/talk/exports", user="lea")
    page.locator('[name="kind"]').select_option("soft")
    page.locator("details summary").click()
    page.locator('[name="since"]').fill("2020-01-01")
    page.locator('[name="without"][value="bob"]').check()
    page.locator("button.primary").click()
    expect(page.locator("tbody")).to_contain_text("bob")
    with page.expect_download() as downloading:
        page.locator("tbody a").click()
    lines = downloading.value.path().read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["chosen"].split()[0] for line in lines} == {"good"}
