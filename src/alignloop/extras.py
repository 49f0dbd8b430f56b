"""Packages of extras: a missing one is one sentence with the command that installs it."""

from collections.abc import Generator
from contextlib import contextmanager

from alignloop.errors import UserError


@contextmanager
def needs(extra: str, what: str) -> Generator[None]:
    """Around an import of an extra's packages; `what` is the thing that needs them.

    Raises UserError if one of them is not installed. Errors inside a package pass unchanged.

    >>> with needs("lora", "an adapter"):
    ...     import no_such_package
    Traceback (most recent call last):
    alignloop.errors.UserError: an adapter needs no_such_package, which is not installed. \
What to do: pip install 'alignloop[lora]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "alignloop"):
            raise
        raise UserError(
            f"{what} needs {package}, which is not installed",
            fix=f"pip install 'alignloop[{extra}]'",
        ) from None
