"""Items from files: Comparison records, and whatever the data layer reads as preference pairs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from alignloop.label.store.database import Database
from alignloop.records import Comparison, Record

Why = Literal["random", "uncertain", "ensemble", "coverage", "gold", "repeat", "import"]


class NewItem(Record):
    """A comparison to be asked, with what is known of it; a line of an import file.

    `models` and `settings` are by response_id (`comparison.sampled_from` is the model of those not
    named). `gold` is the right answer, a response_id, "tie" or "both_bad", for gold questions.
    """

    comparison: Comparison
    models: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    why: Why = "import"
    why_detail: dict[str, Any] = Field(default_factory=dict)
    gold: str | None = None


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of a file's rows. `refused` are messages with places, the first ten."""

    added: int
    duplicates: int
    num_refused: int = 0
    refused: list[str] = field(default_factory=list[str])


def import_items(
    database: Database,
    project_id: int,
    batch_id: int,
    items: Iterable[NewItem],
    *,
    on_progress: Callable[[int], object] = lambda _: None,
) -> Imported:
    """File items in short transactions, so that annotators work on; each content once a project.

    Running it again adds nothing. `on_progress` gets the number of items read so far. Raises
    UserError where one comparison_id names two different comparisons.
    """
    raise NotImplementedError((database, project_id, batch_id, items, on_progress))


def import_file(
    database: Database,
    project_id: int,
    batch_id: int,
    source: str | Path,
    *,
    gold: bool = False,
    on_progress: Callable[[int], object] = lambda _: None,
) -> Imported:
    """File a file or folder of any known format: Comparison or NewItem records, or pairs.

    With `gold` the chosen answer of each pair is the right one of a gold question.
    """
    raise NotImplementedError((database, project_id, batch_id, source, gold, on_progress))
