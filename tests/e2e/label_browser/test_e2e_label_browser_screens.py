"""Every screen: for everybody (axe), in light and dark, at a desk and on a phone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("axe_playwright_python")
import axe_playwright_python
from playwright.sync_api import Page

from alignloop.label.store import accounts

pytestmark = [pytest.mark.slow, pytest.mark.alone]
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
SERIOUS = """async () => {
    const found = await axe.run(document, { resultTypes: ["violations"] });
    return found.violations.filter((one) => ["serious", "critical"].includes(one.impact))
        .map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`);
}"""


def press(*keys: str) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        page.wait_for_selector(".task")
        for key in keys:
            page.keyboard.press(key)

    return act


def nothing(page: Page) -> None:
    page.wait_for_selector("#nothing:not([hidden])")


SCREENS: dict[str, tuple[str, str | None, Callable[[Page], None] | None]] = {
    "login": ("/login", None, None),
    "invite": ("/invite/{invitation}", None, None),
    "invite used up": ("/invite/nonsense", None, None),
    "projects": ("/", "ann", None),
    "projects of a lead": ("/", "lea", None),
    "guideline": ("/p/talk/guideline", "ann", None),
    "annotate": ("/p/both", "ann", press("a", "8", "Shift+Digit2", "c", "Escape")),
    "difference": ("/p/both", "ann", press("d", "g")),
    "ranking": ("/p/ranks", "ann", press("2", "4", "=", "1")),
    "rating": ("/p/rates", "ann", press("r", "7")),
    "skip": ("/p/talk", "ann", press("s")),
    "contradiction": ("/p/both", "ann", press("r", "2", "9", "a", "8", "Enter")),
    "keys": ("/p/talk", "ann", press("?")),
    "nothing left": ("/p/empty", "ann", nothing),
    "not found": ("/p/no-such", "ann", None),
    "not for you": ("/lead/talk/progress", "ann", None),
    "progress": ("/lead/talk/progress", "lea", None),
    "quality": ("/lead/talk/quality", "lea", None),
    "quality of nothing": ("/lead/empty/quality", "lea", None),
    "disagreements": ("/lead/talk/disagreements", "lea", None),
    "decide": ("/lead/talk/disagreements/1", "lea", None),
    "discard": ("/lead/talk/discard?annotator=bob", "lea", None),
    "batches": ("/lead/talk/batches", "lea", None),
    "exports": ("/lead/talk/exports", "lea", None),
    "edit guideline": ("/lead/talk/guideline", "lea", None),
    "users": ("/lead/users", "lea", None),
    "tokens": ("/lead/tokens", "lea", None),
    "audit": ("/lead/audit", "lea", None),
}


@pytest.fixture(scope="module")
def invitation(worked_site: Any) -> str:
    with worked_site.database.transaction() as session:
        return accounts.invite(session, "annotator")


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_is_for_everybody(
    worked_site: Any, open_page: Any, invitation: str, name: str
) -> None:
    path, user, act = SCREENS[name]
    page = open_page(worked_site, path.format(invitation=invitation), user=user)
    if act:
        act(page)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    assert page.evaluate(SERIOUS) == []
    page.locator("[data-theme-next]").evaluate("(button) => button.click()")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.evaluate(SERIOUS) == []
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(50)
    wide = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0


def test_axe_finds_what_is_wrong(worked_site: Any, open_page: Any) -> None:
    page = open_page(worked_site, "/login", user=None)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    page.evaluate(
        "() => document.querySelector('label').replaceWith(document.createElement('input'))"
    )
    assert [one.split(":")[0] for one in page.evaluate(SERIOUS)] == ["label"]


def test_language_and_shade_are_kept(worked_site: Any, open_page: Any) -> None:
    page = open_page(worked_site, "/", locale="en", dark=True)
    dark = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    page.locator("[data-theme-next]").click()
    light = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert dark != light
    page.locator("[data-locale]").click()
    page.wait_for_selector('html[lang="zh-CN"]')
    page.goto(f"{worked_site.url}/p/talk/guideline")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert page.locator("html").get_attribute("data-theme") == "light"
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == light
