"""The keys on keyboards of the world: what is typed counts, else the key's place."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.slow, pytest.mark.alone]
MEANING = """async (presses) => {
    const { meaning } = await import("/static/keys.js");
    return presses.map(([key, code, shiftKey]) => meaning({ key, code, shiftKey }));
}"""

# (key, code, shift), and what it means. The first two say what the browser reports.
PRESSES = {
    "QWERTY": [
        (("1", "Digit1", False), "1"),
        (("!", "Digit1", True), "flag 1"),
        (("a", "KeyA", False), "a"),
        (("A", "KeyA", True), "a"),
        (("?", "Slash", True), "?"),
        (("=", "Equal", False), "="),
    ],
    "AZERTY": [
        (("&", "Digit1", False), "1"),
        (("1", "Digit1", True), "1"),
        (("é", "Digit2", False), "2"),
        (("2", "Digit2", True), "2"),
        (("a", "KeyQ", False), "a"),
        (("w", "KeyZ", False), "w"),
        ((",", "KeyM", False), ","),
        (("?", "KeyM", True), "?"),
    ],
    "QWERTZ": [
        (("=", "Digit0", True), "="),
        (("/", "Digit7", True), "flag 7"),
        (("z", "KeyY", False), "z"),
        (("?", "Minus", True), "?"),
    ],
    "Czech": [(("+", "Digit1", False), "1"), (("1", "Digit1", True), "1")],
    "Dvorak": [
        (("a", "KeyA", False), "a"),
        (("n", "KeyL", False), "n"),
        (("'", "KeyQ", False), "'"),
        (("e", "KeyD", False), "e"),
    ],
    "Cyrillic": [
        (("ф", "KeyA", False), "a"),
        (("И", "KeyB", True), "b"),
        (("е", "KeyT", False), "t"),
        (("т", "KeyN", False), "n"),
        (("?", "Digit7", True), "?"),
        (("!", "Digit1", True), "flag 1"),
    ],
    "Greek, Hebrew, Arabic": [
        (("α", "KeyA", False), "a"),
        (("ש", "KeyA", False), "a"),
        (("لا", "KeyB", False), "b"),
        (("١", "Digit1", False), "1"),
    ],
    "Chinese": [
        (("ａ", "KeyA", False), "a"),
        (("１", "Digit1", False), "1"),
        (("？", "Slash", True), "?"),
    ],
    "numbers apart": [
        (("2", "Numpad2", False), "2"),
        (("ArrowDown", "Numpad2", False), ""),
        (("ArrowRight", "Numpad6", False), ""),
        (("End", "Numpad1", False), ""),
        (("Clear", "Numpad5", False), ""),
        (("Enter", "NumpadEnter", False), "Enter"),
        (("+", "NumpadAdd", False), "+"),
        (("ArrowRight", "ArrowRight", False), "ArrowRight"),
    ],
}


@pytest.fixture
def page(make_site: Any, open_page: Any, make_item: Any) -> Page:
    made = open_page(make_site([make_item(1, "Q", "one", "two")]), "/p/talk")
    expect(made.locator(".task")).to_be_visible()
    return made


def test_what_presses_mean(page: Page) -> None:
    for name, presses in PRESSES.items():
        found = page.evaluate(MEANING, [press for press, _ in presses])
        assert found == [meant for _, meant in presses], name


def press(page: Page, key: str, code: str, *, shift: bool = False) -> None:
    """A press as a keyboard of another layout makes it."""
    event = {"key": key, "code": code, "shiftKey": shift, "bubbles": True, "cancelable": True}
    page.evaluate("(how) => document.body.dispatchEvent(new KeyboardEvent('keydown', how))", event)


def test_a_french_keyboard_chooses_and_never_flags_by_mistake(page: Page) -> None:
    state, harmful = page.locator(".state"), page.locator('.harm[aria-pressed="true"]')
    press(page, "Shift", "ShiftLeft", shift=True)
    press(page, "2", "Digit2", shift=True)
    expect(page.locator(".answer.chosen")).to_have_attribute("data-name", "B")
    expect(harmful).to_have_count(0)
    press(page, "&", "Digit1")
    expect(page.locator(".answer.chosen")).to_have_attribute("data-name", "A")
    press(page, "ç", "Digit9")
    expect(state).to_have_text("A is significantly better")
    press(page, "h", "KeyH")
    press(page, "Shift", "ShiftLeft", shift=True)
    press(page, "2", "Digit2", shift=True)
    expect(page.locator(".answer.harmful")).to_have_attribute("data-name", "B")
    expect(page.locator(".answer.chosen")).to_have_attribute("data-name", "A")


def test_arrows_of_the_number_block_decide_nothing(page: Page) -> None:
    for key, code in (("ArrowDown", "Numpad2"), ("End", "Numpad1"), ("ArrowLeft", "Numpad4")):
        press(page, key, code)
    press(page, "ArrowRight", "Numpad6")
    expect(page.locator(".state")).to_have_text("Which is better?")
    press(page, "2", "Numpad2")
    expect(page.locator(".answer.chosen")).to_have_attribute("data-name", "B")


def test_a_russian_keyboard_does_everything(page: Page) -> None:
    press(page, "ф", "KeyA")
    press(page, "8", "Digit8")
    expect(page.locator(".state")).to_have_text("A is better")
    press(page, "е", "KeyT")
    expect(page.locator(".state")).to_have_text("Tie")
    press(page, "ы", "KeyS")
    expect(page.locator("#skip")).to_be_visible()
    press(page, "3", "Digit3")
    expect(page.locator("#nothing")).to_be_visible()
