"""Optional packages: a missing one gives one sentence with the command that installs it."""

from collections.abc import Generator
from contextlib import contextmanager

from alignloop.errors import UserError


@contextmanager
def needs(extra: str, what: str) -> Generator[None]:
    """Wrap an import of an extra's packages; `what` is the feature that needs them.

    Raises UserError if a package is not installed. Errors inside a package pass unchanged.

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
        # an empty name or one of our own modules is a bug, not a missing extra
        if package in ("", "alignloop"):
            raise
        raise UserError(
            f"{what} needs {package}, which is not installed",
            fix=f"pip install 'alignloop[{extra}]'",
        ) from None
