"""File chosen comparisons in a project; models and reasons stay on the server."""

from collections.abc import Sequence
from typing import Any

from alignloop.acquisition.select import Chosen
from alignloop.label.store.database import Database
from alignloop.label.store.importing import Imported, NewItem, import_items
from alignloop.run import progress_for


def file_chosen(
    database: Database, project_id: int, batch_id: int, chosen: Sequence[Chosen]
) -> Imported:
    """File the comparisons in a batch, skipping those already in the project."""
    with progress_for("filing", len(chosen)) as bar:
        return import_items(
            database, project_id, batch_id, map(new_item, chosen), on_progress=bar.update
        )


def new_item(chosen: Chosen) -> NewItem:
    """The comparison with the model and settings of each answer, and why it was chosen."""
    answers = chosen.candidate.answers
    settings: dict[str, dict[str, Any]] = {a.response_id: dict(a.settings) for a in answers}
    return NewItem(
        comparison=chosen.candidate.comparison,
        models={answer.response_id: answer.model for answer in answers},
        settings=settings,
        why=chosen.why,
        why_detail=dict(chosen.detail),
    )
