"""The annotation application: people compare answers in the browser, and all they say is kept.

`store` is the database and the only part that writes to it, `web` the JSON API and its guards,
`pages` what people see, `quality` and `exports` what comes out. `Client` speaks to a running one.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alignloop.label.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    """Load the client on first use: `import alignloop.label` costs nothing."""
    if name == "Client":
        from alignloop.label.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
