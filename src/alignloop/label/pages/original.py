"""A text exactly as stored, for marking parts of it: the element's text is the text."""

from markupsafe import Markup, escape

from alignloop.label.pages.render import show_invisible

_JOINERS = {"\u200c", "\u200d"}
_RETURN = Markup("&#13;")  # a bare carriage return would be read as a line feed


def original(text: str) -> Markup:
    """The text as HTML whose text content is exactly the text, character by character.

    Invisible characters are wrapped, so that the style sheet shows their code points (`data-code`)
    and none of them reorders the rest. Joiners within words and emoji stay as they are.

    >>> str(original("a<b\\u202e"))
    'a&lt;b<span class="invisible" data-code="U+202E">\\u202e</span>'
    """
    if "\r" not in text and show_invisible(text) == text:
        return escape(text)
    hidden = {one for one in set(text) if one != "\r" and show_invisible(one) != one}
    parts: list[str] = []
    for at, one in enumerate(text):
        if one == "\r":
            parts.append(_RETURN)
        elif one in hidden and not _joins(text, at):
            code = f"U+{ord(one):04X}"
            parts.append(f'<span class="invisible" data-code="{code}">{escape(one)}</span>')
        else:
            parts.append(escape(one))
    return Markup("".join(parts))


def _joins(text: str, at: int) -> bool:
    """Whether a joiner shapes its neighbours, as in an emoji, rather than hiding text."""
    return text[at] in _JOINERS and text[at] in show_invisible(text[max(0, at - 1) : at + 2])
