"""Files of JSON objects: reading with exact places in the errors, writing atomically."""

import difflib
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from io import BufferedIOBase
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from alignloop.errors import UserError
from alignloop.records import Record

RecordType = TypeVar("RecordType", bound=Record)

EXCERPT_CHARACTERS = 80
_GZIP_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_SHAPE = "give one JSON object per line (JSONL), or one JSON array of objects"


def read_objects(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a JSONL file or a JSON array, plain or gzipped, UTF-8.

    Raises UserError with the file and line: missing or empty file, text that is not UTF-8, broken
    JSON, a value that is no object. Blank lines are passed over.
    """
    path = Path(path)
    _require_file(path)
    with _open_bytes(path) as stream:
        lines = _decoded_lines(path, stream)
        first = next((pair for pair in lines if pair[1].strip()), None)
        if first is None:
            raise UserError("the file is empty", where=str(path), fix=_SHAPE)
        objects = _array_objects if first[1].lstrip().startswith("[") else _line_objects
        yield from objects(path, chain([first], lines))


def read_records(path: str | Path, record_type: type[RecordType]) -> list[RecordType]:
    """Read a file of our own records, such as `read_records("pairs.jsonl", PreferencePair)`.

    Raises UserError as `read_objects` does, and for a row that the record type refuses.
    """
    records: list[RecordType] = []
    for line, row in read_objects(path):
        try:
            records.append(record_type.model_validate(row))
        except ValidationError as error:
            name, keys = record_type.__name__, ", ".join(record_type.model_fields)
            raise UserError(
                f"this is no {name}: {explain(error)}",
                where=f"{path}:{line}",
                fix=f"write the keys of {name}: {keys}",
            ) from error
    return records


def write_records(path: str | Path, records: Iterable[Record]) -> None:
    """Write one JSON object per line, gzipped if the name ends in .gz; nobody sees half a file.

    The records go to a temporary file in the same folder, then fsync, then rename.
    """
    path = Path(path)
    content = "".join(record.model_dump_json() + "\n" for record in records).encode()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)  # no time stamp: same records, same bytes
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def explain(error: ValidationError) -> str:
    """Say in one line what pydantic refused: `prompt.messages: Field required; seconds: ...`."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'row'}: {item['msg']}"
        for item in error.errors(include_url=False)
    )


def _require_file(path: Path) -> None:
    if path.is_file():
        return
    if path.is_dir():
        raise UserError("this is a folder, not a file", where=str(path), fix="name a file in it")
    if not path.parent.is_dir():
        raise UserError("the file is missing, and so is its folder", where=str(path))
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    fix = f"did you mean {' or '.join(close)}?" if close else f"look into {path.parent}"
    raise UserError("the file is missing", where=str(path), fix=fix)


def _open_bytes(path: Path) -> BufferedIOBase:
    """Open the file, unpacking gzip by what it holds, since names lie."""
    with path.open("rb") as probe:
        packed = probe.read(2) == _GZIP_MAGIC
    return gzip.open(path, "rb") if packed else path.open("rb")


def _decoded_lines(path: Path, stream: BufferedIOBase) -> Iterator[tuple[int, str]]:
    """Decode line by line, so that a bad byte is reported with its line."""
    number = 0
    try:
        for number, raw in enumerate(stream, start=1):
            yield number, (raw.removeprefix(_BOM) if number == 1 else raw).decode("utf-8")
    except UnicodeDecodeError as error:
        problem = f"the text is not UTF-8 (byte {error.object[error.start]:#04x})"
        raise UserError(problem, where=f"{path}:{number}", fix="save the file as UTF-8") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"the gzip file is damaged: {error}", where=f"{path}:{number + 1}", fix="fetch it again"
        ) from error


def _line_objects(
    path: Path, lines: Iterable[tuple[int, str]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in lines:
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise _broken(path, number, error) from error
        yield number, _require_object(value, path, number)


def _array_objects(
    path: Path, lines: Iterable[tuple[int, str]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Decode a JSON array element by element: `json.loads` would lose the elements' lines."""
    numbered = list(lines)
    text = "".join(line for _, line in numbered)
    decoder, position, line, counted = json.JSONDecoder(), text.index("[") + 1, numbered[0][0], 0
    try:
        position = _skip_space(text, position)
        while text[position : position + 1] != "]":
            line, counted = line + text.count("\n", counted, position), position
            value, end = decoder.raw_decode(text, position)
            yield line, _require_object(value, path, line)
            position = _next_element(text, end)
        trailing = _skip_space(text, position + 1)
        if trailing != len(text):
            raise json.JSONDecodeError("Extra data after the array", text, trailing)
    except json.JSONDecodeError as error:
        raise _broken(path, numbered[0][0] + error.lineno - 1, error) from error


def _next_element(text: str, end: int) -> int:
    """From the end of one element to the start of the next, or to the closing bracket."""
    position = _skip_space(text, end)
    if text[position : position + 1] == "]":
        return position
    if text[position : position + 1] != ",":
        raise json.JSONDecodeError("Expecting ',' or ']'", text, position)
    following = _skip_space(text, position + 1)
    if text[following : following + 1] == "]":
        raise json.JSONDecodeError("Comma before the closing bracket", text, position)
    return following


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _require_object(value: object, path: Path, line: int) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    problem = f"this is no JSON object: {_excerpt(json.dumps(value, ensure_ascii=False), 0)}"
    raise UserError(problem, where=f"{path}:{line}", fix=_SHAPE)


def _broken(path: Path, line: int, error: json.JSONDecodeError) -> UserError:
    problem = f"broken JSON ({error.msg}) near: {_excerpt(error.doc, error.pos)}"
    return UserError(problem, where=f"{path}:{line}", fix=_SHAPE)


def _excerpt(text: str, position: int) -> str:
    """At most 80 characters around the place, on one line."""
    start = max(0, position - EXCERPT_CHARACTERS // 2)
    return " ".join(text[start : start + EXCERPT_CHARACTERS].split())
