"""Chosen comparisons into a project: who answered and why it is asked stay on the server."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select

from alignloop.asking.choose import Chosen
from alignloop.label.store.database import Database
from alignloop.label.store.importing import Imported, NewItem, import_items
from alignloop.label.store.tables import Batch, Item, Prompt
from alignloop.run import progress_for


def file_chosen(
    database: Database, project_id: int, batch_id: int, chosen: Sequence[Chosen]
) -> Imported:
    """File the comparisons in a batch; those that the project has already are not filed again."""
    with progress_for("filing", len(chosen)) as bar:
        return import_items(
            database, project_id, batch_id, map(new_item, chosen), on_progress=bar.update
        )


def new_item(chosen: Chosen) -> NewItem:
    """The comparison with who gave each answer, how, and why it is asked."""
    answers = chosen.candidate.answers
    settings: dict[str, dict[str, Any]] = {a.response_id: dict(a.settings) for a in answers}
    return NewItem(
        comparison=chosen.candidate.comparison,
        models={answer.response_id: answer.model for answer in answers},
        settings=settings,
        why=chosen.why,
        why_detail=dict(chosen.detail),
    )


def held_slices(database: Database, project_id: int, *, beside: str) -> Mapping[str, int]:
    """How many items the project has of each category and language: {"howto/en": 12}.

    Those of the batch `beside` do not count: filling it again chooses the same again.
    """
    wanted = (
        select(Prompt.category, Prompt.language, func.count(Item.id))
        .join(Item, Item.prompt_id == Prompt.id)
        .join(Batch, Batch.id == Item.batch_id)
        .where(Item.project_id == project_id, Batch.name != beside)
        .group_by(Prompt.category, Prompt.language)
    )
    with database.reading() as session:
        rows = session.execute(wanted).all()
    return Counter({f"{category}/{language}": count for category, language, count in rows})
