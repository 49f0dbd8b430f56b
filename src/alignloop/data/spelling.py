"""Special tokens spelled out in people's texts: such text stays text.

Only what the chat template itself writes may become a special token. To distinguish the two, the
conversation is rendered again with private characters in place of the spellings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from tokenizers import AddedToken, Encoding, Tokenizer

from alignloop.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

Span = tuple[int, int]
Render = Callable[[Callable[[str], str]], str]

# Unicode's private use areas; characters that the text does not use replace the spellings.
_PRIVATE = (range(0x100000, 0x10FFFE), range(0xF0000, 0xFFFFE), range(0xE000, 0xF900))


@dataclass(frozen=True, kw_only=True)
class Written:
    """A template's output, and where in it people's texts spell special tokens."""

    text: str
    spelled: tuple[Span, ...] = ()

    def part(self, start: int, end: int) -> Written:
        """The text from `start` to before `end`, with the spellings in it."""
        inside = ((max(a, start), min(b, end)) for a, b in self.spelled)
        return Written(
            text=self.text[start:end],
            spelled=tuple((a - start, b - start) for a, b in inside if a < b),
        )

    def __add__(self, other: Written) -> Written:
        at = len(self.text)
        moved = tuple((a + at, b + at) for a, b in other.spelled)
        return Written(text=self.text + other.text, spelled=(*self.spelled, *moved))


@lru_cache(maxsize=8)
def _special_tokens(tokenizer: PreTrainedTokenizerBase, _size: int) -> tuple[AddedToken, ...]:
    added = cast("dict[int, AddedToken]", tokenizer.added_tokens_decoder)
    found = [token for token in added.values() if token.special and token.content.strip()]
    return tuple(sorted(found, key=lambda token: -len(token.content)))


@lru_cache(maxsize=8)
def _pattern_of(tokenizer: PreTrainedTokenizerBase, size: int) -> re.Pattern[str] | None:
    names = [re.escape(token.content) for token in _special_tokens(tokenizer, size)]
    return re.compile("|".join(names)) if names else None


def special_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """Matches every spelling of a special token, the longest first; None if there are none."""
    return _pattern_of(tokenizer, len(tokenizer))


def special_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids of the special tokens."""
    return _ids_of(tokenizer, len(tokenizer))


@lru_cache(maxsize=8)
def _ids_of(tokenizer: PreTrainedTokenizerBase, size: int) -> frozenset[int]:
    names = [token.content for token in _special_tokens(tokenizer, size)]
    return frozenset(cast("list[int]", tokenizer.convert_tokens_to_ids(names)))


def own_words(text: str, pattern: re.Pattern[str] | None) -> Written:
    """A person's text, with every special token that it spells."""
    found = pattern.finditer(text) if pattern else ()
    return Written(text=text, spelled=tuple(match.span() for match in found))


# --- the template's output ---------------------------------------------------------------------


def mark_spellings(render: Render, pattern: re.Pattern[str], texts: Sequence[str]) -> Written:
    """The rendering, with the positions where `texts` spell special tokens.

    `render` renders the conversation with each person's text changed by a function. If the template
    itself searches a text for a spelling (R1 cuts at </think>), replacing that spelling would
    change the output; it then counts as the template's own, provided the template writes the same
    special tokens with and without it. Raises UserError if the two cannot be distinguished.
    """
    text = render(lambda one: one)
    kinds = sorted({match.group() for one in texts for match in pattern.finditer(one)})
    marks = _marks(kinds, [text, *texts])
    # first try to hide all spellings at once: nearly always enough
    hidden = _with_marks(render, pattern, marks)
    if hidden.text == text:
        return hidden
    unseen = {kind: marks[kind] for kind in kinds if _unseen(render, pattern, kind, marks, text)}
    found = _with_marks(render, pattern, unseen)
    if found.text == text and _own(found, pattern) == _own(hidden, pattern):
        return found
    raise UserError(
        "the chat template renders a conversation differently because its texts spell special"
        f" tokens ({', '.join(kinds)})",
        where=f'the text "{next(one for one in texts if pattern.search(one))[:40]}"',
        fix="remove these spellings or this conversation",
    )


def _unseen(
    render: Render, pattern: re.Pattern[str], kind: str, marks: Mapping[str, str], text: str
) -> bool:
    return _with_marks(render, pattern, {kind: marks[kind]}).text == text


def _with_marks(render: Render, pattern: re.Pattern[str], marks: Mapping[str, str]) -> Written:
    """Render with marks in place of spellings, then put the spellings back."""
    if not marks:
        return Written(text=render(lambda one: one))
    changed = render(lambda one: pattern.sub(lambda m: marks.get(m.group(), m.group()), one))
    kind_of = {mark: kind for kind, mark in marks.items()}
    places = list(re.finditer("|".join(map(re.escape, kind_of)), changed))
    text = re.sub("|".join(map(re.escape, kind_of)), lambda m: kind_of[m.group()], changed)
    return Written(text=text, spelled=tuple(match.span() for match in places))


def _own(written: Written, pattern: re.Pattern[str]) -> list[str]:
    """The special tokens written by the template itself, in order."""
    return [match.group() for match in _own_tokens(written, pattern)]


def _own_tokens(written: Written, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    start = 0
    for begins, ends in (*written.spelled, (len(written.text),) * 2):
        yield from pattern.finditer(written.text, start, begins)
        start = ends


def _marks(kinds: Sequence[str], texts: Sequence[str]) -> dict[str, str]:
    """A mark for each kind: of equal length, so positions stay, with a distinct first character."""
    base = _unused_private(texts, 2 * len(kinds))
    return {
        kind: chr(base + 2 * n) + chr(base + 2 * n + 1) * (len(kind) - 1)
        for n, kind in enumerate(kinds)
    }


def _unused_private(texts: Sequence[str], count: int) -> int:
    """The first of `count` private characters that none of the texts contains."""
    used = {ord(character) for text in texts for character in text}
    for area in _PRIVATE:
        for base in range(area.start, area.stop - count, count):
            if used.isdisjoint(range(base, base + count)):
                return base
    raise UserError(
        "a conversation uses all of Unicode's private characters and spells special tokens",
        where=f'the text "{texts[0][:40]}"',
        fix="remove this conversation",
    )


# --- tokens ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Token ids, and the characters of the text that each one covers."""

    ids: list[int]
    encoding: Encoding

    @property
    def offsets(self) -> list[Span]:
        """Start and end of each token in the text."""
        return self.encoding.offsets

    def last_before(self, at: int, tokens: frozenset[int]) -> tuple[int, int] | None:
        """Index and start of the last of these `tokens` that begins before a character."""
        for place in range(len(self.ids) - 1, -1, -1):
            if self.ids[place] in tokens:
                span = self.encoding.token_to_chars(place)
                if span is not None and span[0] < at:
                    return place, span[0]
        return None


def tokens_of(tokenizer: PreTrainedTokenizerBase, written: Written) -> list[int]:
    """Token ids of a template's output; spellings in people's texts become ordinary tokens."""
    if written.spelled:
        return tokens_with_places(tokenizer, written).ids
    return list(tokenizer(written.text, add_special_tokens=False)["input_ids"])


def tokens_with_places(tokenizer: PreTrainedTokenizerBase, written: Written) -> Tokens:
    """The same with each token's position. Raises UserError for a tokenizer without offsets."""
    if not tokenizer.is_fast:
        raise UserError(
            "this tokenizer does not give the positions of its tokens in the text",
            where="tokenizer",
            fix="use conversations with one answer each and no special tokens in their texts, or a"
            " tokenizer with a tokenizer.json",
        )
    if not written.spelled:
        encoded = tokenizer(written.text, add_special_tokens=False)
        assert encoded.encodings is not None, "a fast tokenizer gives them"
        return Tokens(ids=list(encoded["input_ids"]), encoding=encoded.encodings[0])
    return _tokens_apart(tokenizer, written)


def _tokens_apart(tokenizer: PreTrainedTokenizerBase, written: Written) -> Tokens:
    """Tokenise with a copy of the tokenizer that knows special tokens by private names only."""
    size = len(tokenizer)
    pattern = special_pattern(tokenizer)
    assert pattern is not None, "something is spelled"
    specials = _special_tokens(tokenizer, size)
    twin, names, own_id = _private_copy(
        tokenizer, size, _unused_private([written.text], len(specials))
    )
    text, done = "", 0
    for match in _own_tokens(written, pattern):
        text, done = text + written.text[done : match.start()] + names[match.group()], match.end()
    encoding = twin.encode(text + written.text[done:], add_special_tokens=False)
    ids = [own_id.get(token, token) for token in encoding.ids]
    hidden = set(own_id.values())
    if any(token in hidden for token in encoding.ids):
        raise UserError(
            "this tokenizer cannot write a special token as text",
            where=f'the text "{written.text[slice(*written.spelled[0])]}"',
            fix="remove this spelling from the data",
        )
    return Tokens(ids=ids, encoding=encoding)


@lru_cache(maxsize=4)
def _private_copy(
    tokenizer: PreTrainedTokenizerBase, size: int, base: int
) -> tuple[Tokenizer, dict[str, str], dict[int, int]]:
    """The copy, its name for each special token, and the original id of each name's token."""
    backend = cast("PreTrainedTokenizerFast", tokenizer).backend_tokenizer
    twin = Tokenizer.from_str(backend.to_str())
    twin.no_truncation()
    twin.no_padding()
    twin.encode_special_tokens = True  # the old names become text
    names: dict[str, str] = {}
    own_id: dict[int | None, int | None] = {}
    for n, token in enumerate(_special_tokens(tokenizer, size)):
        name = names[token.content] = chr(base + n) * len(token.content)
        flags = {flag: getattr(token, flag) for flag in ("lstrip", "rstrip", "normalized")}
        added = AddedToken(name, special=False, single_word=token.single_word, **flags)
        # the library's own types say no more than `list`
        twin.add_tokens([added])  # pyright: ignore[reportUnknownMemberType]
        own_id[twin.token_to_id(name)] = backend.token_to_id(token.content)
    return twin, names, cast("dict[int, int]", own_id)
