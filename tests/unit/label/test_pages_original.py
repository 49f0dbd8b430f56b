"""The view in which texts are marked holds exactly the text."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from alignloop.label.pages.original import original

ODD = st.text(st.sampled_from([*"a<&\"' \t\n\r", "\u202e", "\u200d", "\u200b", "👩", "🚀", "企"]))


class Text(HTMLParser):
    """The text content of a page; a parser of pages reads a bare return as a line feed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.tags = "", set[str]()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)


def read(html: str) -> Text:
    """What a browser makes of it."""
    parser = Text()
    parser.feed(html.replace("\r\n", "\n").replace("\r", "\n"))
    parser.close()
    return parser


@given(st.text() | ODD)
def test_its_text_is_the_text(text: str) -> None:
    found = read(str(original(text)))
    assert found.text == text
    assert found.tags <= {"span"}


def test_invisible_characters_are_shown_and_emoji_stay_whole() -> None:
    assert str(original("a\u202eb")) == (
        'a<span class="invisible" data-code="U+202E">\u202e</span>b'
    )
    assert str(original("👩\u200d🚀")) == "👩\u200d🚀"
    assert str(original("\r\n")) == "&#13;\n"
