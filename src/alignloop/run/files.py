"""Atomic writes: after a kill or on a full disk, the previous file is intact."""

import json
import os
import re
import shutil
import threading
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, TypeGuard

from pydantic import BaseModel

from alignloop.errors import UserError, explain_full_disk

_RESTORE = "restore it, or delete it together with its stage's output to redo that stage"
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<role>tmp|old)-(?P<pid>\d+)-\d+")


def atomic_write(path: Path | str, content: str | bytes) -> None:
    """Write a whole file or nothing: temporary sibling, fsync, rename, fsync of the folder.

    Text is written as UTF-8. Raises `UserError` if the disk is full; the old file is then kept.
    """
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = _sibling(target, "tmp")
    with explain_full_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb", buffering=0) as handle:
                _write_all(handle, data)
                os.fsync(handle.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_path(target.parent)


@contextmanager
def atomic_folder(path: Path | str) -> Generator[Path]:
    """Fill a whole folder or nothing: yields a hidden sibling that replaces `path` at the end.

    On an exception the sibling is removed and an existing folder at `path` is left as it was.
    Raises `UserError` if the disk is full.
    """
    target = Path(path)
    temporary = _sibling(target, "tmp")
    with explain_full_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(target.parent)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            _fsync_tree(temporary)
            _move_into_place(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def remove_folder(path: Path) -> None:
    """Delete a folder so that no reader ever sees part of it, even after a kill."""
    aside = _sibling(path, "old")
    path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def append_jsonl(path: Path | str, records: Iterable[BaseModel | Mapping[str, Any]]) -> None:
    """Append one JSON object per line, all of `records` or none, and fsync.

    A last line torn by an earlier kill is cut off first. Raises `UserError` if the disk is full
    (the file keeps its length) and `ValueError` for a NaN or an infinity in a mapping.
    """
    data = "".join(json_line(record) for record in records).encode()
    if not data:
        return
    target = Path(path)
    with explain_full_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("a+b", buffering=0) as handle:
            ending = _mend_tail(handle)
            length = handle.seek(0, os.SEEK_END)
            try:
                _write_all(handle, ending + data)
                os.fsync(handle.fileno())
            except BaseException:
                with suppress(OSError):  # the first error is the one worth reporting
                    handle.truncate(length)
                raise


def json_line(record: BaseModel | Mapping[str, Any]) -> str:
    """One record as a line of JSON, newline included; raises `ValueError` for NaN in a mapping."""
    if isinstance(record, BaseModel):
        return record.model_dump_json() + "\n"
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def whole_lines(path: Path | str) -> list[bytes]:
    """The complete lines of a file without their newlines; [] if there is no file.

    Split at "\\n" only, since texts may contain other line separators. A last line without a
    newline counts only if it is complete JSON: otherwise a kill tore it.
    """
    source = Path(path)
    if not source.exists():
        return []
    *lines, tail = source.read_bytes().split(b"\n")
    return [*lines, tail] if tail and _is_json(tail) else lines


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """Every object of a JSONL file in order; [] if there is no file; a torn last line is dropped.

    Raises `UserError` with file and line for any other line that is not a JSON object.
    """
    return [parse_line(path, n, line) for n, line in enumerate(whole_lines(path), 1) if line]


def parse_line(path: Path | str, number: int, line: bytes) -> dict[str, Any]:
    """One line as a JSON object; raises `UserError` naming `path:number` if it is not."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if is_object(value):
        return value
    raise UserError(
        "this line is not a JSON object", where=f"{path}:{number}", fix="fix or delete the line"
    )


def read_object(path: Path | str, *, fix: str = "") -> dict[str, Any]:
    """A small JSON file of ours as a dictionary; raises `UserError` if it is not one."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        problem = f"this file is not JSON ({str(error)[:80]})"
        raise UserError(problem, where=str(path), fix=fix or _RESTORE) from error
    if not is_object(value):
        problem = f"expected a JSON object, found {type(value).__name__}"
        raise UserError(problem, where=str(path), fix=fix or _RESTORE)
    return value


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a value read from JSON is an object."""
    return isinstance(value, dict)


@contextmanager
def explain_shape(path: Path | str, *, fix: str = "") -> Generator[None]:
    """Turn errors caused by a file of unexpected shape into a `UserError` naming the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        reason = f"{type(error).__name__}: {str(error)[:120]}"
        problem = f"unexpected content: not as alignloop writes it ({reason})"
        raise UserError(problem, where=str(path), fix=fix or _RESTORE) from error


def fsync_path(path: Path) -> None:
    """Make a file's bytes, or a folder's names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sibling(path: Path, role: str) -> Path:
    # The thread id too, because a server's threads may write the same file at once.
    return path.with_name(f".{path.name}.{role}-{os.getpid()}-{threading.get_native_id()}")


def _write_all(handle: FileIO, data: bytes) -> None:
    # Unbuffered: on close a buffer would be flushed again, after a failed write was cut off.
    rest = memoryview(data)
    while rest:
        rest = rest[handle.write(rest) :]


def _mend_tail(handle: FileIO) -> bytes:
    """Cut off a torn last line; if it is complete, return the newline that it lacks."""
    size = handle.seek(0, os.SEEK_END)
    if size == 0:
        return b""
    handle.seek(size - 1)
    if handle.read(1) == b"\n":
        return b""
    handle.seek(0)
    content = handle.readall()
    start = content.rfind(b"\n") + 1
    if _is_json(content[start:]):
        return b"\n"
    handle.truncate(start)
    return b""


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _fsync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if not path.is_symlink():
            fsync_path(path)
    fsync_path(folder)


def _move_into_place(temporary: Path, target: Path) -> None:
    """Rename over `target`; an existing folder is moved aside first, and back if that fails."""
    aside = _sibling(target, "old")
    replaces = target.exists()
    if replaces:
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
    try:
        temporary.rename(target)
    except BaseException:
        if replaces:
            aside.rename(target)
        raise
    fsync_path(target.parent)
    if replaces:
        shutil.rmtree(aside, ignore_errors=True)


def _clear_leftovers(parent: Path) -> None:
    """Remove leftovers of killed processes; restore a folder killed between its two renames."""
    for path in sorted(parent.glob(".*")):
        match = _LEFTOVER.fullmatch(path.name)
        if match is None or _is_alive(int(match["pid"])) or not path.is_dir():
            continue
        original = path.with_name(match["name"])
        if match["role"] == "old" and not original.exists():
            path.rename(original)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # another user's process, or an impossible number: not ours to clear
    return True
