"""alignloop: the whole loop of reinforcement learning from human feedback."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alignloop.pipeline import Pipeline as Pipeline
    from alignloop.records import (
        Comparison,
        Demonstration,
        Judgement,
        Message,
        PreferencePair,
        Prompt,
    )

__version__ = "0.1.0"
__all__ = [
    "Comparison",
    "Demonstration",
    "Judgement",
    "Message",
    "Pipeline",
    "PreferencePair",
    "Prompt",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Load the public names on first use, so that `import alignloop` stays instant."""
    import importlib

    if name == "Pipeline":
        return importlib.import_module("alignloop.pipeline").Pipeline
    if name in __all__:
        return getattr(importlib.import_module("alignloop.records"), name)
    raise AttributeError(f"module 'alignloop' has no attribute {name!r}")
