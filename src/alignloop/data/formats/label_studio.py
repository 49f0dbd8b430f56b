"""Label Studio: JSON of tasks with annotations, and JSON_MIN and CSV with one annotation per row.

https://labelstud.io/guide/export: cancelled annotations were skipped and are ignored, as are
predictions and drafts. If an annotation is marked as ground truth, pairs are made from it alone,
while agreement is measured on all.
"""

from collections.abc import Mapping
from dataclasses import replace

from alignloop.data.containers.cells import value_in
from alignloop.data.formats.annotated import (
    Annotated,
    Vote,
    annotated,
    answers_of,
    compared,
    last_of_each,
    seconds_of,
    simple,
    time_of,
    vote_of,
)
from alignloop.data.formats.cells import opened
from alignloop.data.formats.parts import ASKING, asked_in, asks, prompt
from alignloop.data.formats.registry import Refused, Row, prompts
from alignloop.data.narrow import Json, first_list, object_at, objects_in, text_at
from alignloop.records import Prompt

_ANNOTATIONS = ("annotations", "completions")  # completions: before version 1.0
_ABOUT = (
    "id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement",
    "was_cancelled", "ground_truth", "project", "inner_id", "total_annotations", "source",
    "category", "language", "topic", "system", "context", "prompt_id",
)  # fmt: skip


def _annotations(row: Row) -> list[Row] | None:
    found = first_list(row, _ANNOTATIONS)
    return None if found is None else objects_in(found)


def _is_task(row: Row) -> bool:
    found = _annotations(row)
    return found is not None and all("result" in one for one in found)


@annotated("label-studio", fits=_is_task, data=dict)
def _task(row: Row, source: str) -> Annotated:
    """One task with annotations of several people; each person's last one counts."""
    data = opened(object_at(row, "data"))
    answers = answers_of(data)
    if len(answers) < 2:
        raise _no_answers(data)
    given = [one for one in _annotations(row) or () if not _is_cancelled(one)]
    named = next((names for one in given if (names := _sides(one, data))), ())
    if named:
        answers = {name: answers.get(name) or text_at(data, name) for name in named}
    votes = last_of_each([_vote(one, answers) for one in given])
    given_votes = tuple(vote for vote in votes if vote.choice != "skip")
    return Annotated(comparison=compared(data, source, answers), votes=given_votes)


def _no_answers(data: Row) -> Refused:
    return Refused(
        f"fewer than two answers in the task (its keys: {', '.join(map(str, data))[:120]})",
        "name them answer1 and answer2, or give them as a list",
    )


def _is_cancelled(annotation: Row) -> bool:
    return any(_is_set(annotation.get(key)) for key in ("was_cancelled", "skipped"))


def _sides(annotation: Row, data: Row) -> tuple[str, ...]:
    """Left and right, if the tags that a Pairwise compares have the names of the task's texts."""
    for item in objects_in(annotation.get("result")):
        if item.get("type") == "pairwise":
            names = tuple(name.strip() for name in str(item.get("to_name")).split(","))
            if len(names) == 2 and all(isinstance(data.get(name), str) for name in names):
                return names
    return ()


def _vote(annotation: Row, answers: Mapping[str, str]) -> Vote:
    controls: Row = {}
    for item in objects_in(annotation.get("result")):
        kind = item.get("type")
        about = str(item.get("to_name")) if kind in ("rating", "number") else ""
        name = str(item.get("from_name", kind))
        controls[f"{name} of {about}" if about else name] = item.get("value")
    vote = vote_of(_person(annotation.get("completed_by")), controls, answers)
    return _with_facts(vote, annotation)


def _with_facts(vote: Vote, annotation: Row) -> Vote:
    """The vote with its time, and whether it is the truth."""
    return replace(
        vote,
        seconds=seconds_of(annotation.get("lead_time")),
        created_at=time_of(annotation.get("updated_at") or annotation.get("created_at")),
        truth=_is_set(annotation.get("ground_truth")),
    )


def _person(person: Json) -> str:
    """A number, an address, or an object that holds one of them."""
    if isinstance(person, dict):
        person = next((person[key] for key in ("email", "username", "id") if person.get(key)), "")
    return str(person) if isinstance(person, str | int) else ""


@prompts("label-studio", fits=lambda row: row.keys() & {*_ANNOTATIONS, "is_labeled"}, data=dict)
def _task_prompt(row: Row, source: str) -> list[Prompt]:
    """A task's question, whoever judged it."""
    data = opened(object_at(row, "data"))
    if not asks(data):
        raise Refused(
            f"no question in the task (its keys: {', '.join(map(str, data))[:120]})",
            'give the question as "prompt"',
        )
    return [prompt(data, source, asked_in(data))]


# --- JSON_MIN and CSV --------------------------------------------------------------------------


def _is_flat(row: Row) -> bool:
    """An annotator together with an annotation id or a duration: no other format has both."""
    return "annotator" in row and bool(row.keys() & {"annotation_id", "lead_time"})


@annotated("label-studio-min", fits=_is_flat)
def _flat(row: Row, source: str) -> Annotated:
    """A task's texts, an annotation's values by control name, and the annotator.

    Rows of one task share a comparison_id, so judgements of several people are joined.
    """
    answers = answers_of(row)
    if len(answers) < 2:
        raise _no_answers(row)
    about = {*_ABOUT, *ASKING, *answers}
    controls = {key: value_in(value) for key, value in row.items() if key not in about}
    comparison = compared(row, source, answers)
    if _is_cancelled(row):
        return Annotated(comparison=comparison, votes=())
    plain = {key: simple(value) for key, value in controls.items()}
    vote = _with_facts(vote_of(_person(value_in(row["annotator"])), plain, answers), row)
    return Annotated(comparison=comparison, votes=(vote,) if vote.choice != "skip" else ())


def _is_set(flag: object) -> bool:
    """Whether a flag is true, as written in JSON or in a table."""
    return str(flag).strip().lower() in ("true", "1", "1.0")
