"""The entry test, training and pauses in a real browser."""

from typing import Any

import pytest
from playwright.sync_api import expect

from alignloop.label.store import projects
from alignloop.label.store.rules import rules_of

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def test_training_shows_the_right_answer_and_why(
    make_site: Any, make_item: Any, open_page: Any
) -> None:
    known = make_item(1, "Which is right?", "the right one", "the wrong one", gold="p1-0")
    known = known.model_copy(update={"gold_use": "training", "explanation": "Facts <b>first</b>."})
    site = make_site([known, make_item(2, "And now?", "one", "two")])
    page = open_page(site, "/p/talk")
    expect(page.locator('[data-pace="left"]')).to_have_text("Training")
    page.keyboard.press("a")
    page.keyboard.press("9")
    page.keyboard.press("Enter")
    dialog = page.locator("#feedback")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text("is better")
    expect(dialog).to_contain_text("Facts <b>first</b>.")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.locator(".prompt")).to_contain_text("And now?")
    expect(page.locator('[data-pace="left"]')).to_have_text("about 1 left")


def test_a_paused_annotator_reads_why_and_goes_on_when_let(
    make_site: Any, make_item: Any, open_page: Any
) -> None:
    site = make_site([make_item(n, f"Q{n}?", "one", "two") for n in range(3)])
    page = open_page(site, "/p/talk")
    expect(page.locator(".task")).to_be_visible()
    lead = open_page(site, "/lead/talk/checks", user="lea")
    lead.get_by_role("button", name="Pause").click()
    expect(lead.locator("table").first).to_contain_text("paused")
    page.reload()
    expect(page.locator("#stopped")).to_contain_text("your lead knows of it")
    expect(page.locator(".task")).to_have_count(0)
    lead.get_by_role("button", name="Let them go on").click()
    expect(lead.get_by_role("button", name="Pause")).to_be_visible()
    page.locator("#stopped").get_by_role("button", name="Look again").click()
    expect(page.locator(".task")).to_be_visible()


def test_the_rules_are_a_form(make_site: Any, make_item: Any, open_page: Any) -> None:
    site = make_site([make_item(1, "Q?", "one", "two")])
    page = open_page(site, "/lead/talk/checks", user="lea")
    page.locator('[name="gold_rate"]').fill("15")
    page.locator('[name="quota"]').fill("40")
    page.locator('[name="pause_on"][value="side"]').check()
    page.get_by_role("button", name="Save the rules").click()
    expect(page.locator('[name="quota"]')).to_have_value("40")
    with site.database.reading() as session:
        rules = rules_of(projects.get_project(session, "talk"))
    assert (rules.gold_rate, rules.quota, rules.pause_on) == (0.15, 40, ("gold", "side"))
    page.locator('[name="quota"]').fill("")
    page.get_by_role("button", name="Save the rules").click()
    expect(page.locator('[name="quota"]')).to_have_value("")
