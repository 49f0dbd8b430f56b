"""The embedded world: a small bilingual world with its base model, people and gold judge.

The gold judge is in `alignloop.playground.gold` and is imported by evaluation's caller alone:
nothing that trains may reach it.
"""

from pathlib import Path

BASE_MODEL = Path(__file__).parent / "base_model"
# Comparisons for `alignloop label demo`, as `alignloop playground demo` has made them.
DEMO = Path(__file__).parent / "demo"

__all__ = ["BASE_MODEL", "DEMO"]
