"""Answers that nobody has judged yet, as people file them for labelling: no stage learns from them.

A row is a question with two or more answers and no verdict on them. `label import` reads these
formats after those of judged answers, so a row that says which answer is better is never one.
"""

from collections.abc import Mapping

from alignloop.data.formats.annotated import answers_of, compared, is_chat, mark_of
from alignloop.data.formats.cells import opened
from alignloop.data.formats.made import Unjudged
from alignloop.data.formats.parts import asks
from alignloop.data.formats.registry import Refused, Row, questions
from alignloop.data.formats.tools_of_annotation import answers_in_lines, as_plain_text
from alignloop.data.narrow import first_list, object_at, text_at

_MORE_LISTS = ("generations", "samples", "replies")
_WRITERS = ("model", "generator", "policy")


def _answers(row: Row) -> dict[str, str]:
    """The answers by name; a list that the annotation tools do not use counts here too."""
    found = answers_of(row)
    listed = first_list(row, _MORE_LISTS)
    return found if len(found) > 1 or listed is None else answers_of({"answers": listed})


def _models(row: Row, answers: Mapping[str, str]) -> dict[str, str]:
    """Who wrote each answer: `model_a`, or `model` in the objects of a list."""
    marks = {mark_of(name): name for name in answers}
    found: dict[str, str] = {}
    for writer in _WRITERS:
        for key in row:
            name = marks.get(str(key).lower().removeprefix(writer).strip("_- "))
            said = row[key]
            if str(key).lower().startswith(writer) and name and isinstance(said, str):
                found.setdefault(name, said)
    for items in (value for value in row.values() if isinstance(value, list)):
        for place, item in enumerate(items, start=1):
            said = item.get("model") if isinstance(item, dict) else None
            name = str(item.get("id", place)) if isinstance(item, dict) else ""
            if isinstance(said, str) and name in answers:
                found.setdefault(name, said)
    return found


def _unjudged(row: Row, source: str, answers: Mapping[str, str]) -> list[Unjudged]:
    return [Unjudged(comparison=compared(row, source, answers), models=_models(row, answers))]


def _in_columns(row: Row) -> bool:
    answers = _answers(row)
    return len(answers) > 1 and (asks(row) or any(map(is_chat, _but(row, answers).values())))


def _but(row: Row, answers: Mapping[str, str]) -> Row:
    return {key: value for key, value in row.items() if key not in answers}


@questions("unjudged-answers", fits=_in_columns)
def _flat(row: Row, source: str) -> list[Unjudged]:
    """A question or turns, with answers in columns or in a list."""
    return _unjudged(row, source, _answers(row))


def _is_task(row: Row) -> bool:
    return len(_answers(opened(object_at(row, "data")))) > 1


@questions("label-studio-task", fits=_is_task, data=dict)
def _task(row: Row, source: str) -> list[Unjudged]:
    """A task as Label Studio imports it; predictions are a model's guess and no verdict."""
    data = opened(object_at(row, "data"))
    return _unjudged(data, source, _answers(data))


def _is_record(row: Row) -> bool:
    return len(_answers(opened(object_at(row, "fields")))) > 1


@questions("argilla-record", fits=_is_record, fields=dict)
def _record(row: Row, source: str) -> list[Unjudged]:
    """A record as Argilla 2 imports it; suggestions are no verdict."""
    fields = opened(object_at(row, "fields"))
    return _unjudged(fields, source, _answers(fields))


def _is_instance(row: Row) -> bool:
    value = row.get("text")
    if isinstance(value, list):
        return asks(row) and len(answers_of({"answers": value})) > 1
    return isinstance(value, str) and len(answers_in_lines(as_plain_text(value))[1]) > 1


@questions("potato-instance", fits=_is_instance, text=(str, list))
def _instance(row: Row, source: str) -> list[Unjudged]:
    """Potato's data: the answers as a list under "text", or all in one text, line by line."""
    if isinstance(row["text"], list):
        return _unjudged(row, source, answers_of({"answers": row["text"]}))
    asked, answers = answers_in_lines(as_plain_text(text_at(row, "text")))
    return _unjudged(row | {"prompt": asked}, source, answers)


@questions("prodigy-task", options=list, text=str)
def _choices(row: Row, source: str) -> list[Unjudged]:
    """Prodigy's input for `choice`: a text and options."""
    answers = answers_of({"options": row["options"]})
    if len(answers) < 2:
        raise Refused("fewer than two options with a text in the task", "remove the row")
    asked = row if asks(row) else row | {"prompt": row["text"]}
    return _unjudged(asked, source, answers)
