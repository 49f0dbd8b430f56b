"""Model text as HTML: every character is shown, formatted where that hides nothing but marks."""

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignloop.label.pages import render as rendering
from alignloop.label.pages.code_colours import LANGUAGES, CodeColours
from alignloop.label.pages.formulas import to_mathml
from alignloop.label.pages.invisible import show_invisible
from alignloop.label.pages.render import render


class Shown(HTMLParser):
    """The text of HTML: `all` that it holds, and without the marks that the style sheet hides."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.all, self.unhidden = "", ""
        self.hidden: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(f"{tag} {dict(attrs).get('class') or ''}".strip())

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().split()[0] == tag

    def handle_data(self, data: str) -> None:
        if any(one.split()[0] == "math" for one in self.open):
            return
        self.all += data
        if {"span marker", "span source"} & set(self.open):
            self.hidden.append(data)
        else:
            self.unhidden += data


def marks(text: str) -> list[str]:
    """What the style sheet hides of a text."""
    return Shown(str(render(text))).hidden


# --- every character ----------------------------------------------------------------------------

FRAGMENTS = [
    "**",
    "*",
    "***",
    "_",
    "__",
    "~~",
    "`",
    "``",
    "```",
    "```python\n",
    "~~~\n",
    "\n",
    "\n\n",
]
FRAGMENTS += ["# ", "## ", "#", "> ", ">> ", "- ", "+ ", "* ", "1. ", "7) ", "    ", "\t", "  \n"]
FRAGMENTS += [
    "|",
    "|-|-|\n",
    "|a|b|\n",
    ":-:",
    "---\n",
    "===\n",
    "[",
    "](",
    ")",
    "![",
    "[a](b)",
    "[a]: b\n",
]
FRAGMENTS += [
    "&amp;",
    "&#x3c;",
    "&nbsp;",
    "<b>",
    "<!-- c -->",
    "<br>",
    "<script>",
    "\\",
    "\\\\",
    "\\*",
]
FRAGMENTS += [
    "\\(",
    "\\)",
    "\\[",
    "\\]",
    "$",
    "$$",
    "x_1",
    "^2",
    "\\frac{a}{b}",
    "\\text{if }",
    "{",
    "}",
]
FRAGMENTS += [
    "\\begin{cases}",
    "\\end{cases}",
    "& ",
    "%",
    "\\left(",
    "\\right)",
    "\\sqrt[3]{x}",
    "'",
]
FRAGMENTS += [
    "a",
    "word ",
    "2*3*4",
    "甲",
    "，",
    "שלום",
    "é",
    "\u202e",
    "\u200d",
    "👩",
    "\x00",
    "\r\n",
    "\ud800",
]
MARKDOWN = st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join)


@settings(max_examples=400, deadline=None)
@given(st.one_of(MARKDOWN, st.text(max_size=200)))
def test_the_page_holds_every_character_in_order(text: str) -> None:
    assert Shown(str(render(text))).all == show_invisible(text)


FRAME = re.compile(r"[|\s:-]*")
FENCE = re.compile(r"[ \t]*(?:`{3,}|~{3,})[ \t]*\n?|\n")
PAIRED = {"*", "**", "***", "`", "``"}


@settings(max_examples=400, deadline=None)
@given(MARKDOWN)
def test_what_is_hidden_is_a_mark_of_the_stated_list(text: str) -> None:
    shown = Shown(str(render(text)))
    for mark in shown.hidden:
        formula = mark[:1] in ("$", "\\") and mark[-1:] in "$)]"
        known = mark in PAIRED or FRAME.fullmatch(mark) or FENCE.fullmatch(mark)
        assert known or formula, (mark, text)


@pytest.mark.parametrize(
    "text",
    [
        "The set \\{1, 2\\} has 2 elements; 5\\% of 40; a\\_b and \\\\server\\share \\d+\\.\\d*",
        "__init__.py and snake_case_name and _x_ and ~~struck~~",
        "2*3*4 = 24 and 2 * 3 and f(*args, **kwargs)",
        "/usr/*/bin/*.* and */5 * * * *",
        "1. first\n1. second\n7. third\n- 5\n+ 3\n> 10",
        "Write &lt;b&gt; and &amp; and &#65; and &copy;",
        "before <!-- hidden --> after <br> <script>",
        "[a]: https://a.example 'title'\n[^1]: a footnote",
        "Title\n---\ntext\n===\n***\n#hashtag",
        "a    b\n  indented\ttab  \n\n\n\nfour lines below",
        '[words](https://a.example "title") ![picture](p.png) <http://a.example>',
        "$5 and $10, US$5, $HOME:$PATH, \\(not a formula\\)",
        "unknown \\(\\unknown{x}\\), a comment \\(x % y\\), \\(\\phantom{x}\\)",
        "**not closed, `not closed, $not closed, **** and ** **",
    ],
)
def test_nothing_is_hidden_of(text: str) -> None:
    shown = Shown(str(render(text)))
    assert (shown.unhidden, shown.hidden) == (show_invisible(text), [])


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("**bold** and *italic*", ["**", "**", "*", "*"]),
        ("***both*** **one *in* other**", ["***", "***", "**", "*", "*", "**"]),
        ("**bold *both***", ["**", "*", "*", "**"]),
        ("这是**“重点”**的内容", ["**", "**"]),
        ("`code` and ``a ` b``", ["`", "`", "``", "``"]),
        ("```python\nx\n```\n", ["```", "\n", "```\n"]),
        ("~~~\nx", ["~~~\n"]),
        ("|a|b|\n|-|-|\n|1|2|3|", ["|", "|", "|\n|-|-|\n", "|", "|", "|", "|"]),
        ("\\(x_1\\) $a*b*c$ $$y$$", ["\\(x_1\\)", "$a*b*c$", "$$y$$"]),
        ("\\[\na\n- b\n\\]\n", ["\\[\na\n- b\n\\]"]),
    ],
)
def test_marks_that_formatting_stands_for_are_hidden(text: str, hidden: list[str]) -> None:
    assert marks(text) == hidden


def test_a_mistake_of_ours_shows_the_text_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    for broken in (lambda _: iter(["other"]), lambda _: iter([]), lambda _: 1 / 0):
        monkeypatch.setattr(rendering, "blocks", broken)
        assert str(render("**a** <b>")) == '<p dir="auto" class="long">**a** &lt;b&gt;</p>'


# --- formatting ---------------------------------------------------------------------------------


def html(text: str) -> str:
    """The HTML without marks and directions."""
    found = re.sub(r'<span class="marker">[^<]*</span>| dir="\w+"', "", str(render(text)))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**bold** and *italic*", "<p><strong>bold</strong> and <em>italic</em></p>"),
        ("# Big", '<h3><span class="sign">#</span> Big</h3>'),
        ("- a\n  - b", '<p class="item">- a\n</p><p class="item">  - b</p>'),
        ("> a\n> b\n\nc", '<p class="quote">&gt; a\n&gt; b\n</p><p class="blank">\n</p><p>c</p>'),
        (
            "[a](b)",
            '<p><span class="link">[a](<span class="address">b</span>)</span></p>',
        ),
        (
            "```\nif a < b\n```",
            '<div class="code" tabindex="0"><code>if a &lt; b\n</code></div>',
        ),
        (
            "```python\nx = 1\n```",
            '<div class="code" tabindex="0"><span class="language">python</span>'
            '<code>x = <span class="code-number">1</span>\n</code></div>',
        ),
        ("a\r\nb\rc", "<p>a\nb\nc</p>"),
        ("{{ 7 * 7 }} {% raw %}", "<p>{{ 7 * 7 }} {% raw %}</p>"),
    ],
)
def test_formatting(text: str, expected: str) -> None:
    assert html(text) == expected


def test_tables_are_aligned_by_class_and_scroll_in_a_box() -> None:
    found = html("|a|b|\n|:-:|-:|\n|1|2|3|\n|4|")
    assert found.startswith('<div class="table" tabindex="0"><table>')
    assert '<td class="center">1</td><td class="end">2</td><td>3</td>' in found
    assert "style" not in found


def test_a_table_needs_a_rule_below_its_head() -> None:
    assert "<table" not in html("a | b\nc | d") + html("|a|b|\n|-|\n") + html("a|b\n---\n")


# --- formulas -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "latex",
    [
        r"x_{1,2} = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}",
        r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
        r"\begin{aligned} a &= b \\ c &= d \end{aligned}",
        r"\begin{array}{c|c} a & b \end{array}",
        r"\sum_{i=1}^n i^2 = \infty, \quad x' \in \mathbb{R}^n",
        r"f(x) = \begin{cases} 1 & \text{if } x > 0 \\ 0 & \text{else} \end{cases}",
        r"\left. \frac{a}{b} \right| \le \|x\|, \{1, 2\}, 5\%",
        r"\operatorname{softmax}(x) \to \mathcal{L}, \sqrt[3]{x}, \hat{y}, 你好",
    ],
)
def test_formulas_that_people_write_are_shown(latex: str) -> None:
    found = to_mathml(latex, True)
    assert found is not None and found.startswith('<math display="block"><mrow>')


@pytest.mark.parametrize(
    "latex",
    [
        r"\unknown{x}",
        r"x % gone",
        r"\phantom{x}",
        r"\color{white}{x}",
        r"\textcolor{red}{x}",
        r"\cancel{x}",
        r"\hspace{-1cm} x",
        r"\href{https://evil.invalid}{x}",
        r"\newcommand{\x}{y} \x",
        r"\class{decision}{x}",
        r"\style{color:red}{x}",
        r"two words",
        "x\u202ey",
        r"\text{&#x41;}",
        "{" * 20 + "x" + "}" * 20,
        "a" * 1001,
        "",
        "}",
        "^",
        r"\frac{a}",
    ],
)
def test_formulas_that_would_lose_something_stay_as_written(latex: str) -> None:
    assert to_mathml(latex, False) is None
    assert f"\\({latex}\\)" in Shown(str(render(f"\\({latex}\\)"))).unhidden.replace(
        "⟦U+202E⟧", "\u202e"
    )


def test_a_formula_cannot_bring_markup() -> None:
    found = to_mathml(r"\text{<script>alert(1)</script> a<b & c}", False)
    assert found is not None and "&lt;script&gt;" in found and "<script" not in found
    assert 'class="boxed"' in str(to_mathml(r"\boxed{42}", False))


# --- safety -------------------------------------------------------------------------------------

CLASSES = (
    "marker|sign|link|address|language|hidden-character|table|code|start|center|end|blank|item"
)
CLASSES += "|quote|long|source|formula|formula wide|boxed|code-[a-z]+"
MATH = "math|mrow|mi|mn|mo|mtext|mspace|msub|msup|msubsup|mfrac|msqrt|mroot|mover|munder|munderover"
ALLOWED = re.compile(
    rf"</?(?:p|h[3-6]|strong|em|code|span|div|table|thead|tbody|tr|th|td|{MATH}|mtable|mtr|mtd|mstyle)"
    rf'(?: (?:class="(?:{CLASSES})"|tabindex="0"|dir="(?:auto|ltr)"|display="(?:block|inline)"'
    r'|(?:stretchy|fence|accent|displaystyle)="(?:true|false)"|form="(?:prefix|postfix)"'
    r'|(?:width|minsize|maxsize)="[\d.]+em"|linethickness="0"|scriptlevel="[0-2]"))*>'
)
TRICKS = [
    *FRAGMENTS,
    "<",
    ">",
    '"',
    "&",
    "javascript:",
    "https://a.example",
    " style=x ",
    "⟦U+202E⟧",
]
TRICKS += ["<img src=x onerror=y>", "\\text{<script>}", "\\href{x}{y}", "\\class{a}{b}", "{{", "}}"]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(TRICKS), max_size=25).map("".join))
def test_no_tag_or_attribute_but_those_that_we_allow(text: str) -> None:
    found = str(render(text))
    rest = ALLOWED.sub("", found)
    assert "<" not in rest and ">" not in rest, found


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


def test_shown_characters_are_set_apart_and_written_ones_are_not() -> None:
    found = html("a\u202eb `c\u200bd` ⟦U+202E⟧")
    assert found.count('<span class="hidden-character">⟦U+202E⟧</span>') == 1
    assert '<code>c<span class="hidden-character">⟦U+200B⟧</span>d</code>' in found


# --- time ---------------------------------------------------------------------------------------

SLOW = ["[", "> ", "![[", "*a_", "`", "<", "_a ", "- ", "[a](", '[a](b "', "*a **b ", "&", "\u202e"]
SLOW += [
    "\u200d",
    "👩\u200d",
    "$a",
    "$a$ ",
    "$$",
    "\\(",
    "\\(a",
    "\\(a\\) ",
    "\\[",
    "\\[\na\n",
    "$$\n",
]
SLOW += [
    "**a ",
    "*a* ",
    "***a*** ",
    "a*",
    "`a` ",
    "``a",
    "``a`b`",
    "a\n",
    "- a\n",
    "# a\n",
    "\n",
    "|",
]
SLOW += [
    "|a",
    "|a|\n",
    "|a|\n|-|\n",
    "|a|b|\n|-|-|\n|c|d|\n\n",
    "```\n",
    "```\nx\n```\n",
    "\\",
    "\\|",
]
SLOW += ["> [x](y) **b** `c` $d$\n", "$\\frac{a}{b}$ ", "$abcdefgh$ ", "```js\n'a\n", "W"]


SLOW += ["a\u202e", "👩\u200da"]


@pytest.mark.alone
@pytest.mark.parametrize("length", [20_000, 300_000])
@pytest.mark.parametrize("text", SLOW)
def test_texts_made_to_be_slow_are_shown_and_soon(text: str, length: int) -> None:
    whole = (text * (length // len(text) + 1))[:length]
    began = time.thread_time()
    found = str(render(whole))
    # 0.02 to 0.2 s on a machine at rest; a pattern with a quadratic cost takes many seconds
    assert time.thread_time() - began < 1.5
    assert found


ENDLESS = [
    "'",
    '"',
    "'''",
    "(",
    "{",
    "[",
    "<",
    "<!--",
    "/*",
    "\\",
    "a",
    "a ",
    "a=",
    "$",
    "${",
    "`",
    "#",
]
ENDLESS += [
    "//",
    "@",
    "-",
    "0",
    "=",
    "<<",
    "?",
    "%",
    "%q(",
    'r"',
    "f'{",
    "::",
    "a.",
    "a<",
    "\n",
    "\n ",
]
ENDLESS += [
    "class a",
    "import a",
    "a: ",
    "<script>",
    '"a\\',
    "/",
    "=/(",
    "a\\\n",
    "é",
    "\u202e",
    "|",
    "...",
]


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_code_made_to_be_slow_is_shown_and_soon(language: str) -> None:
    CodeColours().of("", language)  # loads the lexer
    for text in ENDLESS:
        code = (text * 5_000)[:5_000]
        began = time.thread_time()
        assert "".join(run for _, run in CodeColours().of(code, language)) == code
        assert time.thread_time() - began < 1
