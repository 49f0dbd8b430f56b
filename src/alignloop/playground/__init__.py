"""The playground: a small bilingual world with its base model, annotators and gold judge.

Only the evaluation's caller imports the gold judge, `alignloop.playground.gold`: nothing that
trains may reach it.
"""

from pathlib import Path

BASE_MODEL = Path(__file__).parent / "base_model"
# Comparisons for `alignloop label demo`, made by `alignloop playground demo`.
DEMO = Path(__file__).parent / "demo"

__all__ = ["BASE_MODEL", "DEMO"]
