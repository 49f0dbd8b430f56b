"""Texts that want to harm, through the real page: nothing runs, nothing leaves, nothing breaks."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.slow, pytest.mark.alone]
CORPUS = [
    (row["name"], row["text"] * row.get("times", 1))
    for row in json.loads((Path(__file__).parent / "hostile.json").read_text(encoding="utf-8"))
]
TOGETHER = 9

# What a text became: elements and attributes that we do not allow, and whether it left its place.
INSPECT = """() => {
    const text = "P H3 H4 H5 H6 STRONG EM CODE SPAN MARK DIV TABLE THEAD TBODY TR TH TD";
    const math = "math mrow mi mn mo mtext mspace msub msup msubsup mfrac msqrt mroot mover munder";
    const tags = new Set(`${text} ${math} munderover mtable mtr mtd mstyle`.split(" "));
    const names = new Set(["class", "tabindex", "dir", "hidden", "display", "stretchy", "fence"]);
    for (const name of ["form", "accent", "width", "minsize", "maxsize"]) names.add(name);
    const problems = [];
    for (const place of document.querySelectorAll(".text, .said")) {
        for (const one of place.querySelectorAll("*")) {
            if (!tags.has(one.tagName)) problems.push(one.outerHTML.slice(0, 100));
            for (const { name } of one.attributes) if (!names.has(name)) problems.push(name);
        }
        const box = place.getBoundingClientRect();
        const around = place.closest(".answer") ?? document.querySelector("main");
        const card = around.getBoundingClientRect();
        if (box.right > card.right + 1) problems.push("too wide");
    }
    if (document.documentElement.scrollWidth > innerWidth) problems.push("scrolls sideways");
    if ("canary" in window) problems.push("a script ran");
    if (document.title.indexOf("Project talk") !== 0) problems.push("the title changed");
    return problems;
}"""


def project_of(corpus: list[tuple[str, str]], make_item: Any) -> list[Any]:
    """Rankings of nine hostile answers, each with a hostile prompt of two turns."""
    groups = [corpus[n : n + TOGETHER] for n in range(0, len(corpus), TOGETHER)]
    if len(groups[-1]) == 1:
        groups[-1].append(("plain", "plain"))
    return [
        make_item(n, [group[0][1], group[-1][1], f"{n}"], *(text for _, text in group))
        for n, group in enumerate(groups)
    ]


def test_the_corpus_is_large_and_has_no_text_twice() -> None:
    assert len(CORPUS) >= 60
    assert len({text.strip() for _, text in CORPUS}) == len(CORPUS)
    assert sum("canary" in text for _, text in CORPUS) > 40
    assert sum("evil.invalid" in text for _, text in CORPUS) > 20


def test_the_probe_sees_a_script_that_runs(open_page: Any, make_site: Any, make_item: Any) -> None:
    site = make_site([make_item(1, "Q", "a", "b")])
    page = open_page(site, "/p/talk")
    expect(page.locator(".task")).to_be_visible()
    assert page.evaluate(INSPECT) == []
    page.evaluate("() => { document.querySelector('.text').innerHTML = '<a title=x>y</a>'; }")
    assert page.evaluate(INSPECT) == ['<a title="x">y</a>', "title"]
    page.evaluate("() => { window.canary = 1; }")
    assert "a script ran" in page.evaluate(INSPECT)


@pytest.mark.parametrize("phone", [False, True])
def test_nothing_runs_and_nothing_leaves(
    make_site: Any, open_page: Any, make_item: Any, phone: bool
) -> None:
    corpus = CORPUS[: 5 * TOGETHER] + CORPUS[-2 * TOGETHER :] if phone else CORPUS
    items = project_of(corpus, make_item)
    site = make_site(items, kind="ranking")
    page = open_page(site, "/p/talk", phone=phone)
    for _ in items:
        expect(page.locator(".task")).to_be_visible()
        problems = look_at(page)
        assert problems == [], page.locator(".turn").last.inner_text()
        answer(page)
    expect(page.locator("#nothing")).to_be_visible()
    assert len(site.judgements()) == len(items)
    assert page.url == f"{site.url}/p/talk"


def look_at(page: Page) -> list[str]:
    """What is wrong with the item on the screen, formatted and compared."""
    problems = page.evaluate(INSPECT)
    page.keyboard.press("w")
    problems += page.evaluate(INSPECT)
    page.keyboard.press("w")
    page.keyboard.press("d")
    expect(page.locator(".text.compared").first).to_be_visible()
    problems += page.evaluate(INSPECT)
    # A pointer that moves over everything, for handlers that wait for it.
    page.evaluate(
        """() => {
            for (const one of document.querySelectorAll(".text *"))
                for (const name of ["pointerenter", "mouseover", "focus", "load", "error"])
                    one.dispatchEvent(new Event(name));
        }"""
    )
    return problems


def answer(page: Page) -> None:
    """Rank the answers as they stand, and wait for what comes next."""
    old = page.locator(".task").get_attribute("data-assignment")
    for number in range(page.locator(".answer").count()):
        page.keyboard.press(str(number + 1))
    page.keyboard.press("Enter")
    expect(page.locator(f'.task[data-assignment="{old}"]')).to_have_count(0)
