"""Decoding text: UTF-8 with or without BOM, or GB18030, which is detected and reported."""

import codecs
from collections.abc import Iterator

from alignloop.data.containers.rows import Encoding
from alignloop.data.containers.unpack import Unpacked
from alignloop.errors import UserError

_BOM = codecs.BOM_UTF8
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_CHINESE_SHARE = 0.5  # by chance, other encodings decode to few common characters


class Decoder:
    """Decodes one text from its start; `encoding.name` is the result.

    The first non-ASCII bytes decide. If they are not UTF-8 but common Chinese in GB18030, the whole
    text is; if they are UTF-8, a bad byte later is an error and no reason to read the rest in
    another encoding.
    """

    def __init__(self, path: object, encoding: Encoding) -> None:
        self._path, self.encoding = path, encoding
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._line, self._decided = 1, False
        encoding.name = "UTF-8"

    def start(self, content: bytes) -> bytes:
        """The first bytes of the text, without a BOM."""
        if content.startswith(_UTF16):
            raise UserError("the text is UTF-16", where=str(self._path), fix="save it as UTF-8")
        if content.startswith(_BOM):
            self.encoding.name, self._decided = "UTF-8 with BOM", True
        return content.removeprefix(_BOM)

    def decode(self, content: bytes, *, final: bool = False) -> str:
        """The next bytes as text; raises UserError, with the line, for an invalid byte."""
        pending = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(content, final)
        except UnicodeDecodeError as error:
            text = self._as_gb18030(pending + content, error, final)
        self._decided = self._decided or not content.isascii()
        self._line += content.count(b"\n")
        return text

    def _as_gb18030(self, content: bytes, error: UnicodeDecodeError, final: bool) -> str:
        if not self._decided and looks_like_gb18030(content):
            self._decoder = codecs.getincrementaldecoder("gb18030")()
            self.encoding.name, self._decided = "GB18030", True
            try:
                return self._decoder.decode(content, final)
            except UnicodeDecodeError as half:  # the text ends within a character
                error = half
        line = self._line + content.count(b"\n", 0, error.start)
        known = "GB18030" if self.encoding.name == "GB18030" else "UTF-8"
        raise UserError(
            f"the text is not {known} (byte {error.object[error.start]:#04x})",
            where=f"{self._path}:{line}",
            fix="save the file as UTF-8",
        ) from error


def looks_like_gb18030(content: bytes) -> bool:
    """Whether the bytes are Chinese in GB18030: they decode, mostly to common characters.

    German in Latin-1 may decode by chance, but hardly ever to characters of GB 2312.
    """
    text = codecs.getincrementaldecoder("gb18030")(errors="replace").decode(content)
    foreign = [character for character in text if ord(character) > 127]
    if not foreign or "�" in text:
        return False
    common = sum(_is_common(character) for character in foreign)
    return common >= _CHINESE_SHARE * len(foreign)


def _is_common(character: str) -> bool:
    try:
        return len(character.encode("gb2312")) == 2
    except UnicodeEncodeError:
        return False


def text_chunks(source: Unpacked, encoding: Encoding) -> Iterator[str]:
    """The text in non-empty pieces of any length."""
    decoder = Decoder(source.path, encoding)
    content = decoder.start(source.read())
    while content:
        following = source.read()
        if text := decoder.decode(content, final=not following):
            yield text
        content = following


def text_lines(source: Unpacked, encoding: Encoding) -> Iterator[tuple[int, str]]:
    """Each line with its number from 1, including its line end."""
    decoder = Decoder(source.path, encoding)
    for number, raw in enumerate(source.lines(), start=1):
        yield number, decoder.decode(decoder.start(raw) if number == 1 else raw, final=True)
