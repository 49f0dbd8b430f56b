"""What a gold question is for: a check, the entry test, or training with an explanation."""

from sqlalchemy.orm import Session

from alignloop.label.store.refusals import Conflict, NotFound
from alignloop.label.store.tables import ItemRow


def change_gold(
    session: Session,
    project_id: int,
    item_id: int,
    *,
    gold_use: str | None = None,
    explanation: str | None = None,
) -> None:
    """Change the use or the explanation of a gold question.

    Raises NotFound, and Conflict if the item is no gold question.
    """
    item = session.get(ItemRow, item_id)
    if item is None or item.project_id != project_id:
        raise NotFound("there is no such item", where=str(item_id))
    if item.gold_verdict is None:
        raise Conflict("this item is no gold question", fix="import it with its right answer")
    if gold_use is not None:
        item.gold_use = gold_use
    if explanation is not None:
        item.explanation = explanation
