"""What makes the documentation: wrapped paragraphs, links between pages, nothing from a network."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def load(file: str) -> Any:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(Path(file).stem, DOCS / file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def wrap() -> Any:
    return load("wrap.py")


@pytest.fixture(scope="module")
def pages() -> Any:
    return load("site/pages.py")


def test_paragraphs_are_wrapped_and_all_else_stays(wrap: Any) -> None:
    words = " ".join(["word"] * 24)  # 119 columns
    code = f"```\n{words}\n```"
    text = f"# {words}\n\n{words}\n\n- {words}\n\n{code}\n\n| {words} |\n|---|\n| {words} |\n"
    first, rest = " ".join(["word"] * 20), " ".join(["word"] * 4)
    listed = f"- {' '.join(['word'] * 19)}\n  {' '.join(['word'] * 5)}"
    expected = text.replace(f"\n\n{words}\n\n- {words}", f"\n\n{first}\n{rest}\n\n{listed}")
    assert wrap.wrapped(text) == expected
    assert wrap.wrapped(expected) == expected


@pytest.mark.parametrize(
    "piece", ["`a b`", "[a b](docs/a.md)", "![a b](a.png)", "[`a b`](a.md#c)", "(`a b`),"]
)
def test_code_and_links_stay_in_one_piece(wrap: Any, piece: str) -> None:
    for padding in range(88, 100):
        assert piece in wrap.wrapped(f"{'x' * padding} {piece} y\n")


@pytest.mark.parametrize("start", ["-", "1.", "#", ">", "+", "=", "|"])
def test_no_line_begins_with_what_would_be_a_block(wrap: Any, start: str) -> None:
    text = f"{'x' * 98} {start} {'y' * 90}\n"
    assert wrap.wrapped(text) == f"{'x' * 98} {start}\n{'y' * 90}\n"


def test_lines_between_the_marks_of_generated_results_stay(wrap: Any) -> None:
    long = "word " * 30
    text = f"<!-- results:begin -->\n{long.strip()}\n\n{long.strip()}\n<!-- results:end -->\n"
    assert wrap.wrapped(text) == text


def test_chinese_and_generated_pages_are_left_alone(wrap: Any) -> None:
    names = {str(file.relative_to(DOCS.parent)) for file in wrap.files()}
    assert {"README.md", "docs/data.md", "docs/decisions/0001-one-alignment.md"} <= names
    assert not names & {"README.zh-CN.md", "docs/configuration.md"}


@pytest.mark.parametrize(
    ("file", "page", "text", "expected"),
    [
        ("README.md", "index.md", "[d](docs/data.md#a)", "[d](data.md#a)"),
        ("docs/data.md", "data.md", "[r](../README.md)", "[r](index.md)"),
        ("docs/a.md", "decisions/a.md", "[d](data.md)", "[d](../data.md)"),
        ("README.md", "index.md", "`[d](docs/data.md)`", "`[d](docs/data.md)`"),
        ("README.md", "index.md", "[d](docs/decisions/)", "[d](decisions/index.md)"),
        ("README.md", "index.md", "[it](LICENSE)", "it (`LICENSE`)"),
        ("README.md", "index.md", "[x](https://a.b/c)", "[x](https://a.b/c)"),
        ("README.md", "index.md", r"runs/\<name>", "runs/&lt;name>"),
        (
            "README.md",
            "index.md",
            "[中文](README.zh-CN.md)",
            '<a href="zh/index.html">中文</a>',
        ),
        (
            "docs/tutorial.zh-CN.md",
            "tutorial.zh.md",
            "[English](tutorial.md) [主页](../README.zh-CN.md#a)",
            '<a href="../tutorial.html">English</a> [主页](index.md#a)',
        ),
        (
            "docs/labelling.zh-CN.md",
            "labelling.zh.md",
            '<img src="images/label/login-zh-light.webp">',
            '<img src="../images/label/login-zh-light.webp">',
        ),
    ],
)
def test_links_between_files_become_links_between_pages(
    pages: Any, file: str, page: str, text: str, expected: str
) -> None:
    assert pages.with_links(text, file, page, pages.page_map())[0] == expected


def test_a_link_that_leads_nowhere_is_refused(pages: Any) -> None:
    with pytest.raises(AssertionError, match=r"README\.md: there is no gone\.md"):
        pages.with_links("[x](gone.md)", "README.md", "index.md", pages.page_map())


def test_every_room_has_a_page(pages: Any) -> None:
    rooms = {name: modules for name, _, modules in pages.rooms()}
    assert {"losses", "rl", "label", "pipeline", "errors"} <= rooms.keys()
    assert "losses.policy" in rooms["losses"] and rooms["errors"] == ["errors"]
    assert "recipes" not in rooms


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ('<script src="https://a.b/c.js">', ["https://a.b/c.js"]),
        ('<link rel="stylesheet" href="//a.b/c.css">', ["//a.b/c.css"]),
        ('<img src="http://a.b/c.png">', ["http://a.b/c.png"]),
        ('<a href="https://a.b"><img src="images/c.png"></a>', []),
        ('<link rel="next" href="https://a.b">', []),
    ],
)
def test_what_a_page_loads_from_a_network_is_found(html: str, found: list[str]) -> None:
    assert load("site/check.py").loaded_from_elsewhere(html) == found
