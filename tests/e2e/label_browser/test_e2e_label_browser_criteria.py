"""Scales, a rationale and marks in the texts, in a real browser, by keyboard alone."""

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.slow, pytest.mark.alone]

CRITERIA = [
    {"key": "helpful", "name_en": "Helpful", "name_zh": "有帮助", "levels": 10},
    {"key": "correct", "name_en": "Correct", "name_zh": "正确", "hint_en": "It is true"},
]
KINDS = [
    {"key": "wrong_fact", "name_en": "Wrong fact", "name_zh": "事实错误", "colour": "red"},
    {"key": "unsafe", "name_en": "Unsafe", "name_zh": "不安全"},
]
ASKED: dict[str, Any] = {"criteria": CRITERIA, "span_kinds": KINDS, "guideline_first": True}
ASKED |= {"rationale": "required", "rationale_min": 10}
ASKED |= {"flags": [{"key": "off_topic", "name_en": "Off topic", "name_zh": "跑题"}]}
# What a page may lose on its way: line ends, invisible and astral characters, markup.
TEXT = "😀 Penguins **fly**.\r\n\u202eNo & <b>they</b>\tdo\u200b not\r at all 👩‍🚀 企鹅。"


def press(page: Page, *keys: str) -> None:
    """One key after another."""
    for key in keys:
        page.keyboard.press(key)


@pytest.mark.parametrize("locale", ["en", "zh"])
def test_a_whole_task_by_keyboard(
    make_site: Callable[..., Any],
    open_page: Callable[..., Page],
    make_item: Callable[..., Any],
    locale: str,
) -> None:
    turns = ["Earlier?", "An earlier answer.", "Do penguins fly?"]
    site = make_site([make_item(1, turns, TEXT, TEXT + " So.")], **ASKED)
    page = open_page(site, "/p/talk", locale=locale)
    first = page.locator("#first")
    expect(first).to_be_visible()
    press(page, "Escape")
    expect(first).to_be_visible()  # it is to be read, not to be waved away
    press(page, "Enter")
    expect(first).to_be_hidden()

    # A wins, and has the lower score on every criterion
    press(page, "a", "8", "r", "6", "7")  # the second scale ends at 5: 7 is no answer
    expect(page.locator(".state")).to_contain_text({"en": "Score A: Correct", "zh": "正确"}[locale])
    press(page, "3", "9", "5", "c")
    page.keyboard.type("too short")
    press(page, "Control+Enter")
    expect(page.locator(".state.missing-now")).to_be_visible()
    page.keyboard.type(", no longer")
    press(page, "Escape")

    # the second word of answer A, and one character of the next turn of the prompt
    press(page, "m", "ArrowRight", "ArrowRight")
    expect(page.locator(".verdicts")).to_be_hidden()  # the texts have the room
    press(page, "1")
    page.keyboard.type("they swim, 1 2 3 a b")
    press(page, "Enter", "ArrowUp")
    expect(page.locator(".original[data-turn='2']")).to_be_focused()
    press(page, "ArrowRight", "Control+Shift+ArrowRight", "2", "Escape", "Escape")
    expect(page.locator(".task.marking")).to_have_count(0)
    expect(page.locator(".marking-bar")).to_be_hidden()
    expect(page.locator(".verdicts")).to_be_visible()
    expect(page.locator(".marks:visible li")).to_have_count(2)
    press(page, "Enter")
    dialog = page.locator("#contradiction")
    expect(dialog).to_contain_text({"en": "Helpful 9 to 6 and Correct 5 to 3", "zh": "9"}[locale])
    press(page, "k")
    expect(page.locator("#nothing")).to_be_visible()

    kept = site.judgements()[0]
    other = next(int(one) for one in kept.scores if int(one) != kept.choice)
    assert kept.scores[str(kept.choice)] == {"helpful": 6, "correct": 3}
    assert kept.scores[str(other)] == {"helpful": 9, "correct": 5}
    assert kept.comment == "too short, no longer"
    answer, turn = kept.spans
    assert answer["answer"] == kept.choice
    assert (answer["text"], answer["kind"]) == ("fly", "wrong_fact")
    assert answer["comment"] == "they swim, 1 2 3 a b"
    assert site.text_of(kept.choice)[answer["start"] : answer["end"]] == "fly"
    assert (turn["turn"], turn["text"], turn["kind"]) == (2, "Do ", "unsafe")

    # taken back, everything is in the form again
    press(page, "u")
    expect(page.locator(".marks:visible li")).to_have_count(2)
    expect(page.locator("[data-of='helpful']:checked")).to_have_count(2)
    expect(page.locator("#comment")).to_have_value("too short, no longer")
    page.locator(".own-flag").first.focus()
    press(page, " ", "Escape", "Enter")
    expect(dialog).to_be_visible()
    press(page, "k")
    expect(page.locator("#nothing")).to_be_visible()
    again = site.judgements()[0]
    assert again.spans == kept.spans
    assert list(again.flags.values()) == [["off_topic"]]


def test_the_text_to_be_marked_is_the_text(
    make_site: Callable[..., Any], open_page: Callable[..., Page], make_item: Callable[..., Any]
) -> None:
    odd = (
        "".join(chr(n) for n in range(1, 0x300) if not 0x7F <= n <= 0x9F) + "\u2028\ufeff\U000e0041"
    )
    site = make_site([make_item(1, "\n\n Q\r\n", TEXT, odd + "\r\r\n\n")], span_kinds=KINDS)
    page = open_page(site, "/p/talk")
    expect(page.locator(".task")).to_be_visible()
    shown = page.evaluate("[...document.querySelectorAll('.original')].map((e) => e.textContent)")
    assert sorted(shown) == sorted(["\n\n Q\r\n", TEXT, odd + "\r\r\n\n"])
    # by pointer: a third click reaches beyond the text, and the mark does not
    press(page, "m")
    page.locator(".original[data-turn='0']").click(click_count=3)
    page.locator(".kind").first.click()
    expect(page.locator(".marks li")).to_have_count(1)
    press(page, "Escape", "Escape", "a", "8", "Enter")
    expect(page.locator("#nothing")).to_be_visible()
    (span,) = site.judgements()[0].spans
    assert "\n\n Q\r\n"[span["start"] : span["end"]] == span["text"]


def test_a_lead_makes_a_project_with_criteria(
    make_site: Callable[..., Any], open_page: Callable[..., Page], make_item: Callable[..., Any]
) -> None:
    site = make_site([make_item(1, "Q?", "a", "b")])
    page = open_page(site, "/", user="lea")
    page.locator("details.add > summary").click()
    page.locator("[name=title]").fill("Criteria")
    page.locator("[name=slug]").fill("criteria")
    page.locator("details.more > summary").click()
    criteria = page.locator("[data-list='schema.criteria']")
    for english, chinese in (("Very helpful", "很有帮助"), ("Correct", "正确")):
        criteria.locator("[data-add-row]").click()
        row = criteria.locator("[data-row]").last
        row.locator("[name=name_en]").fill(english)
        row.locator("[name=name_zh]").fill(chinese)
        row.locator("[name=levels]").select_option("10")
    criteria.locator("[data-remove-row]").last.click()
    page.locator("[name='schema.rationale']").select_option("required")
    page.locator("button.primary").click()
    expect(page.locator("section.card")).to_have_count(2)
    with site.database.reading() as session:
        from alignloop.label.store.projects import get_project

        schema = get_project(session, "criteria").schema
    assert [(c["key"], c["levels"]) for c in schema["criteria"]] == [("very_helpful", 10)]
    assert (schema["rationale"], schema["span_kinds"], schema["flags"]) == ("required", [], [])
