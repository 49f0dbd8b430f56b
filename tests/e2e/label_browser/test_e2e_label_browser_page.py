"""What an annotator sees: the question, every character of a text, differences on demand."""

from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect
from sqlalchemy import select

from alignloop.label.pages.invisible import show_invisible
from alignloop.label.store import projects
from alignloop.label.store.tables import AuditLog

pytestmark = [pytest.mark.slow, pytest.mark.alone]
SIZES = [(1280, 800), (1024, 600), (390, 844)]
TURNS = [f"Turn {n}: what about this, then? " * 3 for n in range(13)]
IN_VIEW = """(selector) => [...document.querySelectorAll(selector)].map((one) => {
    const box = one.getBoundingClientRect();
    const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
    const seen = one.contains(document.elementFromPoint(x, y));
    return seen && box.top >= 0 && box.bottom <= innerHeight;
})"""


def open_task(open_page: Any, site: Any, size: tuple[int, int] = (1280, 800), **how: Any) -> Page:
    page = open_page(site, "/p/talk", **how)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    expect(page.locator(".task")).to_be_visible()
    page.wait_for_timeout(100)  # the sizes of question and decision are measured after a frame
    return page


# --- the question in view ------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("locale", ["en", "zh"])
def test_question_and_heads_are_in_view_wherever_one_reads(
    make_site: Any, open_page: Any, make_item: Any, size: tuple[int, int], locale: str
) -> None:
    site = make_site([make_item(1, TURNS, "One answer. " * 400, "Another answer. " * 400)])
    page = open_task(open_page, site, size, locale=locale)
    asked = page.locator(".asked")
    expect(asked).to_contain_text("Turn 12:")
    expect(page.locator(".earlier[open]")).to_have_count(0)
    for _ in range(3):
        assert page.evaluate(IN_VIEW, ".asked") == [True]
        assert page.evaluate(IN_VIEW, ".answer > header") == [True, True]
        page.mouse.move(size[0] / 2, size[1] / 2)
        page.mouse.wheel(0, 700)
        page.wait_for_timeout(150)


def test_earlier_turns_open_by_key_and_by_press(
    make_site: Any, open_page: Any, make_item: Any
) -> None:
    site = make_site([make_item(1, TURNS, "one", "two")])
    page = open_task(open_page, site, (1024, 600))
    summary = page.locator(".earlier summary")
    expect(summary).to_contain_text("12 earlier turns")
    first = page.locator(".turn").filter(has_text="Turn 0:")
    expect(first).to_be_hidden()
    page.keyboard.press("e")
    expect(first).to_be_visible()
    assert page.evaluate(IN_VIEW, ".asked") == [True]
    page.keyboard.press("e")
    expect(first).to_be_hidden()
    summary.click()
    expect(first).to_be_visible()


def test_a_question_of_one_turn_folds_nothing(
    make_site: Any, open_page: Any, make_item: Any
) -> None:
    page = open_task(open_page, make_site([make_item(1, "Which?", "one", "two")]))
    expect(page.locator(".asked")).to_contain_text("Which?")
    expect(page.locator(".earlier")).to_have_count(0)


def test_a_long_question_takes_a_third_at_most_and_scrolls(
    make_site: Any, open_page: Any, make_item: Any
) -> None:
    page = open_task(
        open_page, make_site([make_item(1, "Why? " * 2000, "one", "two")]), (1024, 600)
    )
    asked = page.locator(".asked")
    assert asked.evaluate("(one) => one.offsetHeight") <= 0.31 * 600
    assert asked.evaluate("(one) => one.scrollHeight > one.clientHeight")
    assert page.evaluate(IN_VIEW, ".answer > header") == [True, True]


@pytest.mark.parametrize("locale", ["en", "zh"])
def test_bars_leave_a_low_window_to_the_texts(
    make_site: Any, open_page: Any, make_item: Any, locale: str
) -> None:
    site = make_site([make_item(1, "Which?", "one " * 900, "two " * 900)])
    page = open_task(open_page, site, (1024, 600), locale=locale)
    page.keyboard.press("a")
    heights = [page.locator(one).bounding_box()["height"] for one in (".bar", ".decision")]
    assert sum(heights) <= 0.16 * 600, heights


def test_the_deciding_screen_folds_earlier_turns_too(
    make_site: Any, open_page: Any, make_item: Any
) -> None:
    site = make_site([make_item(1, TURNS, "one", "two")])
    page = open_page(site, "/lead/talk/disagreements/1", user="lea")
    expect(page.locator(".asked")).to_contain_text("Turn 12:")
    expect(page.locator(".turn").filter(has_text="Turn 0:")).to_be_hidden()
    page.locator(".earlier summary").click()
    expect(page.locator(".turn").filter(has_text="Turn 0:")).to_be_visible()


def test_long_answers_wrap(make_site: Any, open_page: Any, make_item: Any) -> None:
    page = open_task(open_page, make_site([make_item(1, "Q", "word " * 6000, "W" * 25_000)]))
    for text in page.locator(".formatted").all():
        assert text.evaluate("(one) => one.scrollWidth <= one.clientWidth")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


# --- every character -----------------------------------------------------------------------------

TEXTS = [
    "# Title\n\nSome **bold**, *italic* and `code` and __init__.py\n\n\n- a\n  - b\n1. c\n1. d\n",
    "Roots: \\(x_1\\) and $x_2$:\n\\[\nx = \\frac{-b}{2a}\n\\]\n$$y$$ but \\(\\unknown{x}\\)",
    "```python\ndef f(x):\n\treturn x  # done\n```\nafter\n\n    indented  twice",
    "|a|b|\n|:-|-:|\n|1|*2*|3|\n\nafter | it",
    "> quoted\n>> twice\n\n&amp; <b> <!-- c --> \\* [a](b) ![c](d) ~~s~~ $5 and $10",
    "שלום **עולם** 123\nEnglish\n\n一 **二** 三",
    "tab\tend\r\nnext\u202eback \u200bword \x07",
    "plain",
]
VISIBLE = """(place) => {
    const copy = place.cloneNode(true);
    for (const one of copy.querySelectorAll(".marker, .formula")) one.remove();
    const shown = place.cloneNode(true);
    shown.removeAttribute("hidden");
    place.replaceWith(shown);
    for (const one of shown.querySelectorAll(".formula")) one.remove();
    const found = [copy.textContent, shown.innerText];
    shown.replaceWith(place);
    return found;
}"""


# What the browser draws of a place; innerText adds lines at every <p>, even within a line.
SELECTED = """(place) => {
    getSelection().selectAllChildren(place);
    return getSelection().toString();
}"""


@pytest.mark.parametrize("dark", [False, True])
def test_the_browser_shows_every_character(
    make_site: Any, open_page: Any, make_item: Any, dark: bool
) -> None:
    site = make_site([make_item(1, TEXTS[1], *TEXTS)], kind="ranking")
    page = open_task(open_page, site, dark=dark)
    texts = {show_invisible(text).strip() for text in TEXTS}
    formatted = page.locator(".formatted")
    for n in range(formatted.count()):
        meant, seen = formatted.nth(n).evaluate(VISIBLE)
        # The style sheet hides marks alone; boxes beside each other add line ends.
        assert "".join(seen.split()) == "".join(meant.split())
    page.keyboard.press("w")
    for n in range(formatted.count()):
        assert formatted.nth(n).evaluate(SELECTED).strip() in texts
    assert page.locator(".asked .said").evaluate(SELECTED).strip() == TEXTS[1]


def test_formulas_are_drawn_and_their_source_is_a_key_away(
    make_site: Any, open_page: Any, make_item: Any
) -> None:
    site = make_site([make_item(1, "\\(q\\)", "\\(x_1\\)", "\\[y\\]")])
    with site.database.transaction() as session:
        project = projects.get_project(session, "talk")
        projects.add_guideline(session, project.id, "Prefer $z$.", "选 $z$。")
    page = open_task(open_page, site)
    page.keyboard.press("g")
    formulas = page.locator(".formula")
    expect(formulas).to_have_count(4)
    for formula in formulas.all():
        expect(formula.locator("math")).to_be_visible()
        expect(formula.locator(".source")).to_be_hidden()
    page.keyboard.press("w")
    expect(page.locator('[data-toggle="written"]')).to_have_attribute("aria-pressed", "true")
    for formula in formulas.all():
        expect(formula.locator("math")).to_be_hidden()
        expect(formula.locator(".source")).to_be_visible()
    page.locator('[data-toggle="written"]').click()
    expect(formulas.first.locator("math")).to_be_visible()


def test_right_to_left_text_begins_at_the_right_block_by_block(
    make_site: Any, open_page: Any, make_item: Any
) -> None:
    text = "שלום עולם\n\nEnglish words\n\n- פריט"
    page = open_task(open_page, make_site([make_item(1, "מה?", text, "plain")]))
    blocks = page.locator(".formatted").filter(has_text="English").locator("p:not(.blank)")
    ways = "(all) => all.map((one) => getComputedStyle(one).direction)"
    assert blocks.evaluate_all(ways) == ["rtl", "ltr", "rtl"]
    code = page.locator(".asked p")
    assert code.evaluate_all(ways) == ["rtl"]


# --- differences, and what cannot be shown -------------------------------------------------------


def test_differences_are_asked_for_once_and_only_on_demand(
    make_site: Any, open_page: Any, make_item: Any
) -> None:
    page = open_task(open_page, make_site([make_item(1, "Q", "a red car", "a blue car")]))
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    for _ in range(3):
        page.keyboard.press("d")
        expect(page.locator(".compared").first).to_be_visible()
        page.keyboard.press("d")
        expect(page.locator(".compared").first).to_be_hidden()
    assert [one.rsplit("/", 1)[1] for one in asked] == ["differences"]


def test_answers_too_different_are_said_to_be(
    make_site: Any, open_page: Any, make_item: Any
) -> None:
    first = " ".join(f"w{n}" for n in range(16_000))
    second = " ".join(f"w{n}" if n % 2 else f"x{n}" for n in range(16_000))
    page = open_task(open_page, make_site([make_item(1, "Q", first, second)]))
    page.keyboard.press("d")
    expect(page.locator(".compared").first).to_contain_text("too long and too different")


@pytest.mark.parametrize("allow", [("tie", "skip"), ("tie",)])
def test_an_item_that_cannot_be_shown_is_skipped_by_key_and_reported(
    make_site: Any, open_page: Any, make_item: Any, allow: tuple[str, ...]
) -> None:
    items = [make_item(n, f"Q{n}", "one", "two") for n in range(2)]
    site = make_site(items, allow=allow, overlap=1)
    page = open_page(site, "/login", user="ann")
    broken: list[str] = []

    def fail(route: Route) -> None:
        if broken:
            return route.continue_()
        broken.append(route.request.url)
        return route.fulfill(status=500, body="{}")

    page.route("**/task/*", fail)
    page.goto(f"{site.url}/p/talk")
    expect(page.locator(".task h2")).to_have_text("This item cannot be shown")
    page.keyboard.press("a")
    page.keyboard.press("s")
    expect(page.locator(".asked")).to_be_visible()
    (said,) = site.judgements()
    assert (said.verdict, said.skip_reason) == ("skip", "cannot_be_shown")
    with site.database.reading() as session:
        reported = session.scalars(
            select(AuditLog).where(AuditLog.action == "item not shown")
        ).all()
    assert [(one.target, one.detail) for one in reported] == [("talk", {"item": said.item_id})]


def test_what_could_not_be_shown_can_be_tried_again(
    make_site: Any, open_page: Any, make_item: Any
) -> None:
    site = make_site([make_item(1, "Q", "one", "two")])
    page = open_page(site, "/login", user="ann")
    page.route("**/task/*", lambda route: route.fulfill(status=500, body="{}"))
    page.goto(f"{site.url}/p/talk")
    expect(page.locator(".task h2")).to_have_text("This item cannot be shown")
    page.unroute("**/task/*")
    page.keyboard.press("Enter")
    expect(page.locator(".asked")).to_contain_text("Q")
