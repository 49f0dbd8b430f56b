"""The annotation application: people compare answers in the browser, and every judgement is kept.

`store` is the database and the only part that writes to it, `web` the JSON API and its guards,
`pages` the HTML, `quality` and `exports` the results. `Client` talks to a running server.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alignloop.label.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    """Load the client on first use, to keep `import alignloop.label` cheap."""
    if name == "Client":
        from alignloop.label.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
