"""The one exception users see: what is wrong, where, and what to do."""

import errno
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

# C0 except tab and line feed, DEL, C1, bidirectional overrides, lone surrogates. A terminal obeys
# the first three, the overrides deceive a reader, and a surrogate cannot be printed at all.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class UserError(Exception):
    """A problem that the user can fix; the command line prints it and exits with code 2.

    >>> print(UserError("the file is empty", where="pairs.jsonl", fix="give at least one pair"))
    pairs.jsonl: the file is empty. What to do: give at least one pair
    """

    def __init__(self, problem: str, *, where: str = "", fix: str = "") -> None:
        self.problem, self.where, self.fix = problem, where, fix
        message = f"{where}: {problem}" if where else problem
        super().__init__(f"{message}. What to do: {fix}" if fix else message)


def harmless(text: str) -> str:
    r"""Untrusted text, safe to print on a terminal: control characters are escaped.

    >>> print(harmless("\x1b[2Jgone"))
    \x1b[2Jgone
    """
    return _HARMFUL.sub(lambda match: _escape(match[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


@contextmanager
def explain_full_disk(path: Path | str) -> Generator[None]:
    """Turn "no space left" (or a spent quota) into a `UserError`; other errors pass unchanged."""
    try:
        yield
    except Exception as error:
        if not is_full_disk(error):
            raise
        raise UserError(
            "the disk is full",
            where=str(path),
            fix="free some space and run the same command again; files written so far are intact",
        ) from error


def is_full_disk(error: BaseException) -> bool:
    """Whether an error means that the disk or the quota is full."""
    return _system_error(error) in (errno.ENOSPC, errno.EDQUOT)


def _system_error(error: BaseException) -> int | None:
    """The errno; libraries written in Rust, such as safetensors, give it only in their message."""
    if isinstance(error, OSError):
        return error.errno
    number = re.search(r"\(os error (\d+)\)", str(error))
    return int(number[1]) if number else None
