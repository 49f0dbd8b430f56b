"""Model text as HTML: what is shown, and what never is."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignloop.label.pages.render import render, show_invisible

ALLOWED = re.compile(
    r"</?(?:p|br|hr|h[3-6]|strong|em|s|blockquote|ul|ol|li|pre|code|span|div|table|thead|tbody|tr|th|td)"
    r'(?: (?:class="(?:link|address|image|language|hidden-character|table|start|center|end)"'
    r'|tabindex="0"|start="-?\d+"))*>'
)


def html(text: str) -> str:
    return str(render(text)).strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**bold** and *italic*", "<p><strong>bold</strong> and <em>italic</em></p>"),
        ("one\ntwo", "<p>one<br>\ntwo</p>"),
        ("# Big\n## Less", "<h3>Big</h3>\n<h4>Less</h4>"),
        ("3. c\n4. d", '<ol start="3">\n<li>c</li>\n<li>d</li>\n</ol>'),
        (
            "```python\nif a < b: pass\n```",
            '<pre tabindex="0"><span class="language">python</span>'
            "<code>if a &lt; b: pass\n</code></pre>",
        ),
        ("a\r\nb\rc", "<p>a<br>\nb<br>\nc</p>"),
        ("{{ 7 * 7 }} {% raw %}", "<p>{{ 7 * 7 }} {% raw %}</p>"),
    ],
)
def test_markdown(text: str, expected: str) -> None:
    assert html(text) == expected


def test_tables_are_aligned_by_class_and_scroll_in_a_box() -> None:
    found = html("|a|b|\n|:-:|-:|\n|1|2|")
    assert found.startswith('<div class="table" tabindex="0"><table>')
    assert '<td class="center">1</td>' in found
    assert '<td class="end">2</td>' in found
    assert "style" not in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[Submit](https://evil.example/?a=1&b=2)",
            '<p><span class="link">Submit</span>'
            ' <span class="address">https://evil.example/?a=1&amp;b=2</span></p>',
        ),
        ("<https://a.example>", '<p><span class="link">https://a.example</span></p>'),
        (
            '[x](https://a.example "hidden words")',
            '<p><span class="link">x</span>'
            ' <span class="address">https://a.example hidden words</span></p>',
        ),
        (
            "![a cat](https://a.example/cat.png)",
            '<p><span class="image">a cat'
            ' <span class="address">https://a.example/cat.png</span></span></p>',
        ),
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
    ],
)
def test_links_and_images_say_where_they_lead_and_lead_nowhere(text: str, expected: str) -> None:
    assert html(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("safe\u202etxt.exe", "safe⟦U+202E⟧txt.exe"),
        ("a\u200bb\u2060c\ufeff", "a⟦U+200B⟧b⟦U+2060⟧c⟦U+FEFF⟧"),
        ("nul\x00 bell\x07 esc\x1b", "nul⟦U+0000⟧ bell⟦U+0007⟧ esc⟦U+001B⟧"),
        ("tag\U000e0041", "tag⟦U+E0041⟧"),
        ("\u2066isolate\u2069", "⟦U+2066⟧isolate⟦U+2069⟧"),
        ("\ud800", "⟦U+D800⟧"),
        ("tab\tline\nend", "tab\tline\nend"),
        # Joiners that writing needs stay: an emoji of two, Persian, Devanagari.
        ("👩\u200d🚀 ❤\ufe0f\u200d🔥", "👩\u200d🚀 ❤\ufe0f\u200d🔥"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("क्\u200dष", "क्\u200dष"),
        ("pass\u200dword", "pass⟦U+200D⟧word"),
    ],
)
def test_invisible_characters_are_shown(text: str, expected: str) -> None:
    assert show_invisible(text) == expected


def test_shown_characters_are_set_apart_in_prose_and_in_code() -> None:
    found = html("a\u202eb `c\u200bd`")
    assert '<span class="hidden-character">⟦U+202E⟧</span>' in found
    assert '<code>c<span class="hidden-character">⟦U+200B⟧</span>d</code>' in found


TRICKS = ["<", ">", '"', "'", "&", "[", "](", ")", "!", "`", "```\n", "|", "\n", "> ", "- ", "# "]
TRICKS += [
    "<script>",
    "<img src=x onerror=y>",
    "javascript:",
    "https://a.example",
    "&#x3c;",
    "\u202e",
]
TRICKS += [
    "1. ",
    "---\n",
    "|-|\n",
    "*",
    "_",
    "\\",
    "\x00",
    "a",
    "甲",
    " style=x ",
    "⟦U+202E⟧",
    "{{",
    "}}",
]


@settings(max_examples=250, deadline=None)
@given(st.lists(st.sampled_from(TRICKS), max_size=25).map("".join))
def test_no_tag_or_attribute_but_those_that_we_allow(text: str) -> None:
    found = str(render(text))
    rest = ALLOWED.sub("", found)
    assert "<" not in rest and ">" not in rest, found


SLOW = ["[" * 60000, "> " * 30000, "![[" * 15000, "*a_" * 15000, "`" * 50000, "<" * 60000]
SLOW += ["[" * 19999, "> " * 9999, "_a" * 9999, "- " * 9999, "[a](" * 1999, "a" * 10**6]
SLOW += ["|a" * 5000 + "\n" + "|-" * 4999, "*a **b " * 2800, "&" * 19999, "\u202e" * 19999]


@pytest.mark.parametrize("text", SLOW)
def test_texts_made_to_be_slow_or_deep_are_shown_and_soon(text: str) -> None:
    began = time.perf_counter()
    found = str(render(text))
    assert time.perf_counter() - began < 8  # without the limits, minutes
    assert found


def test_what_is_nested_too_deep_is_shown_as_it_was_written() -> None:
    assert html("> " * 200 + "deep").count("&gt;") == 200
