"""Argilla: records of version 2, their flat export, and data sets of version 1.

Only submitted responses count: drafts are unfinished and discarded ones withdrawn. Suggestions come
from a model and are no judgements.
"""

from collections.abc import Iterator, Mapping, Sequence

from alignloop.data.containers.cells import value_in
from alignloop.data.formats.annotated import (
    Annotated,
    Vote,
    annotated,
    answers_of,
    compared,
    last_of_each,
    vote_of,
)
from alignloop.data.formats.cells import opened
from alignloop.data.formats.registry import Refused, Row
from alignloop.data.narrow import Json, object_at, objects_in

Response = tuple[str, str, Json]  # person, question, value

_RESPONSES = ".responses"


@annotated("argilla", fields=dict, responses=(dict, list))
def _record(row: Row, source: str) -> Annotated:
    """A record of version 2: responses by question, or (the server's own form) by person."""
    return _annotated(opened(object_at(row, "fields")), source, list(_of_record(row["responses"])))


def _of_record(responses: Json) -> Iterator[Response]:
    if isinstance(responses, dict):
        for question, given in responses.items():
            for one in objects_in(given):
                if _counts(one.get("status")):
                    yield _person(one), str(question), one.get("value")
        return
    for one in objects_in(responses):
        values = one.get("values")
        if _counts(one.get("status")) and isinstance(values, dict):
            for question, answer in values.items():
                yield _person(one), str(question), _value(answer)


def _value(answer: Json) -> Json:
    return answer["value"] if isinstance(answer, dict) and "value" in answer else answer


def _person(response: Row) -> str:
    named = next(
        (response[key] for key in ("user_id", "user", "username") if response.get(key)), ""
    )
    return str(named)


def _counts(status: object) -> bool:
    """Some versions export no status, and then only submitted responses."""
    return status is None or str(getattr(status, "value", status)).lower() == "submitted"


# --- flat --------------------------------------------------------------------------------------


def _flat_questions(row: Row) -> list[str]:
    return [
        key.removesuffix(_RESPONSES)
        for key in row
        if str(key).endswith(_RESPONSES) and f"{key}.users" in row
    ]


@annotated("argilla-flat", fits=_flat_questions)
def _flat(row: Row, source: str) -> Annotated:
    """`to_list(flatten=True)`, `to_datasets`: lists of values, of users and of statuses."""
    responses = [one for question in _flat_questions(row) for one in _of_columns(row, question)]
    fields = {key: value for key, value in row.items() if "." not in str(key)}
    return _annotated(fields, source, responses)


def _of_columns(row: Row, question: str) -> Iterator[Response]:
    key = f"{question}{_RESPONSES}"
    values, users = (_list(row[name]) for name in (key, f"{key}.users"))
    given = row.get(f"{key}.status")
    statuses = [None] * len(values) if given is None else _list(given)
    if not len(values) == len(users) == len(statuses):
        raise Refused(
            f'"{key}" has {len(values)} values, {len(users)} users, {len(statuses)} statuses',
            "give one of each per response, or remove the row",
        )
    for value, user, status in zip(values, users, statuses, strict=True):
        if _counts(status):
            yield str(user or ""), question, value


def _list(value: Json) -> list[Json]:
    """A list, also if a table stores it as text."""
    found = value_in(value)
    return found if isinstance(found, list) else [] if found in (None, "") else [found]


# --- version 1 ---------------------------------------------------------------------------------


def _old_questions(row: Row) -> dict[str, list[Row]]:
    """Columns that hold lists of responses: {"user_id", "value", "status"}."""
    found = {
        str(key): objects_in(given)
        for key, value in row.items()
        if isinstance(given := value_in(value), list) and given
    }
    return {
        key: given
        for key, given in found.items()
        if given and all({"user_id", "value"} <= one.keys() for one in given)
    }


@annotated("argilla-1", fits=_old_questions)
def _old(row: Row, source: str) -> Annotated:
    """A feedback data set of version 1 as `datasets` stores it: a column per question."""
    questions = _old_questions(row)
    responses = [
        (_person(one), question, one.get("value"))
        for question, given in questions.items()
        for one in given
        if _counts(one.get("status"))
    ]
    fields = {key: value for key, value in row.items() if key not in questions}
    return _annotated(fields, source, responses)


def _annotated(fields: Row, source: str, responses: Sequence[Response]) -> Annotated:
    answers = answers_of(fields)
    if len(answers) < 2:
        raise Refused(
            f"fewer than two answers in the fields ({', '.join(map(str, fields))[:120]})",
            "name them response_1 and response_2, or remove the row",
        )
    comparison = compared(fields, source, answers)
    people: dict[str, Row] = {}
    for place, (person, question, value) in enumerate(responses):
        people.setdefault(person or f"\0{place}", {})[question] = value
    votes = [_vote(person, controls, answers) for person, controls in people.items()]
    return Annotated(
        comparison=comparison,
        votes=last_of_each([vote for vote in votes if vote.choice != "skip"]),
    )


def _vote(person: str, controls: Row, answers: Mapping[str, str]) -> Vote:
    return vote_of(person if not person.startswith("\0") else "", controls, answers)
