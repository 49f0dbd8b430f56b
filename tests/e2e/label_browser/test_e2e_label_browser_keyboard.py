"""A person with a keyboard: whole batches, undo, ranking, ratings, contradictions."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect
from sqlalchemy import select

from alignloop.label.store.tables import Assignment

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def items(count: int, make: Callable[..., Any]) -> list[Any]:
    return [make(n, f"Question {n}?", f"Left {n} **yes**", f"Right {n} `no`") for n in range(count)]


def text_of_card(page: Page, place: int) -> str:
    return page.locator(".answer").nth(place).locator(".formatted").inner_text().strip()


def plain(markdown: str) -> str:
    return markdown.replace("*", "").replace("`", "")


def send(page: Page, *keys: str) -> None:
    """Press keys, the last of which ends with this item, and wait for the next screen."""
    old = page.locator(".task").get_attribute("data-assignment")
    for key in keys:
        page.keyboard.press(key)
    expect(page.locator(f'.task[data-assignment="{old}"]')).to_have_count(0)
    expect(page.locator(".task, #nothing:not([hidden])").first).to_be_visible()


WORDS = {
    "en": ("A is better", "Submit", "Nothing left for now"),
    "zh": ("A 更好", "提交", "目前没有待标注的内容了"),
}


@pytest.mark.parametrize(
    ("locale", "dark"), [("en", False), ("zh", False), ("en", True), ("zh", True)]
)
def test_a_whole_batch_by_keyboard_alone(
    make_site: Any, open_page: Any, make_item: Any, locale: str, dark: bool
) -> None:
    site = make_site(items(6, make_item))
    page = open_page(site, "/p/talk", locale=locale, dark=dark)
    expect(page.locator(".task")).to_be_visible()
    better, submit, nothing = WORDS[locale]
    assert page.locator("html").get_attribute("lang") == {"en": "en", "zh": "zh-CN"}[locale]
    expect(page.locator('.verdicts [data-act="choose"]').first).to_contain_text(better)
    expect(page.locator('[data-act="submit"]')).to_contain_text(submit)
    shown = [text_of_card(page, 0)]
    send(page, "a", "9", "Enter")
    shown.append(text_of_card(page, 1))
    send(page, "ArrowRight", "ArrowDown", "Shift+Digit1", "Enter")
    send(page, "t", "Enter")
    send(page, "n", "c", "x", "y", "Control+Enter")
    send(page, "s", "3")
    shown.append(text_of_card(page, 1))
    send(page, "d", "1", "2", "6", "g", "?", "Escape", "Enter")
    expect(page.locator("#nothing")).to_contain_text(nothing)

    said = site.judgements()
    assert [one.verdict for one in said] == [
        "choice",
        "choice",
        "tie",
        "both_bad",
        "skip",
        "choice",
    ]
    assert [one.strength for one in said] == [3, 1, None, None, None, 0]
    chosen = [plain(site.text_of(one.choice)) for one in said if one.choice is not None]
    assert chosen == shown
    assert [len(one.harmful) for one in said] == [0, 1, 0, 0, 0, 0]
    assert (said[3].comment, said[4].skip_reason) == ("xy", "broken")
    assert all(0 < one.visible_ms < 120_000 for one in said)
    assert all(one.source == "user" for one in said)


def test_nothing_is_sent_before_it_is_complete(
    make_site: Any, open_page: Any, make_item: Any
) -> None:
    site = make_site(items(1, make_item))
    page = open_page(site, "/p/talk")
    state = page.locator(".state")
    expect(state).to_have_text("Which is better?")
    page.keyboard.press("Enter")
    page.keyboard.press("7")  # a strength of nothing
    page.keyboard.press("a")
    expect(state).to_have_text("How much better?")
    page.keyboard.press("Enter")
    assert site.judgements() == []
    page.keyboard.press("7")
    expect(state).to_have_text("A is slightly better")
    page.keyboard.press("t")
    expect(state).to_have_text("Tie")
    expect(page.locator('.strengths [aria-pressed="true"]')).to_have_count(0)


def test_undo_brings_the_answer_back_and_the_new_one_counts(
    make_site: Any, open_page: Any, make_item: Any
) -> None:
    site = make_site(items(1, make_item))
    page = open_page(site, "/p/talk")
    expect(page.locator(".task")).to_be_visible()
    left = text_of_card(page, 0)
    send(page, "b", "8", "Enter")
    page.keyboard.press("u")
    expect(page.locator(".state")).to_have_text("B is better")
    assert [one.strength for one in site.judgements()] == [2]  # it counts until the next one does
    send(page, "a", "9", "Enter")
    (said,) = site.judgements()
    assert (plain(site.text_of(said.choice)), said.strength) == (left, 3)
    assert said.supersedes is not None


def test_a_skip_can_be_taken_back(make_site: Any, open_page: Any, make_item: Any) -> None:
    site = make_site(items(1, make_item))
    page = open_page(site, "/p/talk")
    expect(page.locator(".task")).to_be_visible()
    send(page, "s", "1")
    page.keyboard.press("u")
    expect(page.locator(".state")).to_have_text("Which is better?")
    send(page, "t", "Enter")
    assert [one.verdict for one in site.judgements()] == ["tie"]


def test_impatient_keys_judge_one_item_once(make_site: Any, open_page: Any, make_item: Any) -> None:
    site = make_site(items(2, make_item))
    page = open_page(site, "/p/talk")
    expect(page.locator(".task")).to_be_visible()
    held: list[Route] = []
    # The next item comes only when all keys are pressed.
    page.route("**/task/*", lambda route: held.append(route))
    for key in ("a", "9", "Enter", "Enter", "b", "Enter", "t", "Enter", "u", "s"):
        page.keyboard.press(key)
    page.unroute("**/task/*")
    for route in held:
        route.continue_()
    expect(page.locator('[data-pace="left"]')).to_have_text("about 1 left")
    expect(page.locator(".state")).to_have_text("Which is better?")
    expect(page.locator("#notice")).to_be_hidden()
    assert [(one.verdict, one.strength) for one in site.judgements()] == [("choice", 3)]


def test_signing_out_gives_the_item_back(make_site: Any, open_page: Any, make_item: Any) -> None:
    site = make_site(items(1, make_item))
    page = open_page(site, "/p/talk")
    expect(page.locator(".task")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("h1")).to_have_text("Sign in")
    with site.database.reading() as session:
        assert session.scalars(select(Assignment.state)).all() == ["released"]


def test_the_difference_view_marks_what_differs(
    make_site: Any, open_page: Any, make_item: Any
) -> None:
    site = make_site([make_item(1, "Which?", "the red car stops", "the blue car stops")])
    page = open_page(site, "/p/talk")
    expect(page.locator(".formatted").first).to_be_visible()
    page.keyboard.press("d")
    expect(page.locator(".formatted").first).to_be_hidden()
    marks = page.locator(".compared mark")
    assert sorted(marks.all_inner_texts()) == ["blue", "red"]
    page.keyboard.press("d")
    expect(page.locator(".compared").first).to_be_hidden()


def names_ranked(page: Page) -> list[list[str]]:
    tiers = page.locator(".tier")
    return [
        [chip.split()[0] for chip in tiers.nth(n).locator(".chip").all_inner_texts()]
        for n in range(tiers.count())
    ]


def test_ranking_by_keys(make_site: Any, open_page: Any, make_item: Any) -> None:
    site = make_site([make_item(1, "Rank", *"vwxyz")], kind="ranking")
    page = open_page(site, "/p/talk")
    expect(page.locator(".chip")).to_have_count(5)
    for key in ("3", "1", "=", "5", "2", "Backspace", "4", "2"):
        page.keyboard.press(key)
    assert names_ranked(page) == [["C", "A"], ["E"], ["D"], ["B"]]
    expect(page.locator(".state")).to_have_text("C = A > E > D > B")
    page.locator('.tier .chip:has-text("D")').focus()
    page.keyboard.press("ArrowLeft")
    assert names_ranked(page) == [["C", "A"], ["E", "D"], ["B"]]
    texts = {name: text_of_card(page, "ABCDE".index(name)) for name in "ABCDE"}
    page.locator("main").evaluate("() => document.activeElement.blur()")
    send(page, "Enter")
    (said,) = site.judgements()
    ranked = [sorted(site.text_of(one) for one in tier) for tier in said.ranking]
    expected = [["C", "A"], ["E", "D"], ["B"]]
    assert ranked == [sorted(texts[name] for name in tier) for tier in expected]


def drag(page: Page, name: str, target: str, *, at: tuple[float, float] = (0.5, 0.5)) -> None:
    start = page.locator(f'.chip:has-text("{name}")').bounding_box()
    end = page.locator(target).bounding_box()
    assert start and end
    page.mouse.move(start["x"] + 8, start["y"] + start["height"] / 2)
    page.mouse.down()
    x, y = end["x"] + at[0] * end["width"], end["y"] + at[1] * end["height"]
    page.mouse.move(x - 3, y, steps=4)
    page.mouse.move(x, y)
    page.mouse.up()


def test_ranking_by_dragging(make_site: Any, open_page: Any, make_item: Any) -> None:
    site = make_site([make_item(1, "Rank", *"xyz")], kind="ranking")
    page = open_page(site, "/p/talk")
    expect(page.locator(".chip")).to_have_count(3)
    drag(page, "B", '.gap[data-drop="gap 0"]')
    assert names_ranked(page) == [["B"]]
    drag(page, "C", '.gap[data-drop="gap 0"]')
    assert names_ranked(page) == [["C"], ["B"]]
    drag(page, "A", '.tier[data-drop="tier 1"]', at=(0.9, 0.5))
    assert names_ranked(page) == [["C"], ["B", "A"]]
    drag(page, "A", '.gap[data-drop="gap 1"]')
    assert names_ranked(page) == [["C"], ["A"], ["B"]]
    send(page, "Enter")
    (said,) = site.judgements()
    assert (said.verdict, [len(tier) for tier in said.ranking]) == ("choice", [1, 1, 1])


def test_ratings_and_a_contradiction(make_site: Any, open_page: Any, make_item: Any) -> None:
    site = make_site(items(1, make_item), ratings=True)
    page = open_page(site, "/p/talk")
    expect(page.locator(".task")).to_be_visible()
    for key in ("r", "6", "9", "a", "8", "Enter"):
        page.keyboard.press(key)
    dialog = page.locator("#contradiction")
    expect(dialog).to_contain_text("You rated B 9/10 and A 6/10, and yet you say that A is better.")
    assert site.judgements() == []
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    send(page, "k")
    (said,) = site.judgements()
    assert (said.verdict, said.strength, sorted(said.ratings.values())) == ("choice", 2, [6, 9])


@pytest.mark.parametrize(("keys", "verdict"), [("0794", "choice"), ("5555", "tie")])
def test_a_project_of_ratings_alone(
    make_site: Any, open_page: Any, make_item: Any, keys: str, verdict: str
) -> None:
    site = make_site([make_item(1, "Rate", *"wxyz")], kind="rating", ratings=True)
    page = open_page(site, "/p/talk")
    expect(page.locator(".state")).to_have_text("Rate every answer.")
    best = text_of_card(page, 0)
    send(page, "r", *keys, "Enter")
    (said,) = site.judgements()
    assert said.verdict == verdict
    assert sorted(said.ratings.values()) == sorted(int(key) or 10 for key in keys)
    assert said.choice is None if verdict == "tie" else site.text_of(said.choice) == best


def test_time_counts_only_while_the_page_can_be_seen(
    make_site: Any, open_page: Any, make_item: Any
) -> None:
    site = make_site(items(1, make_item))
    page = open_page(site, "/p/talk")
    expect(page.locator(".task")).to_be_visible()
    set_seen = """(state) => {
        Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    began = page.evaluate("() => performance.now()")
    page.evaluate(set_seen, "hidden")
    page.wait_for_timeout(2000)
    page.evaluate(set_seen, "visible")
    send(page, "a", "8", "Enter")
    whole = page.evaluate("() => performance.now()") - began
    (said,) = site.judgements()
    assert said.visible_ms <= whole - 1900
