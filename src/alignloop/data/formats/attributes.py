"""Answers with a score on each of several criteria (attributes), for multi-objective rewards."""

import json
from collections.abc import Mapping
from typing import Any

from alignloop.data.formats.parts import checked, messages, number, prompt, record_source, text
from alignloop.data.formats.registry import Refused, Row, attributes, shown
from alignloop.records import AttributeScores, Message

_HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_OBJECTS = ("levels", "raters", "spread", "by_annotator")  # cells of a table hold them as JSON


@attributes("attributes", prompt=(str, list), response=str, levels=(dict, str))
def _ours(row: Row, source: str) -> list[AttributeScores]:
    """Our export: a column of means for each criterion that `levels` names, and who scored it."""
    more = {key: _object(row, key) for key in _OBJECTS if row.get(key) not in (None, "")}
    levels = more.get("levels", {})
    scores = {name: value for name in levels if (value := _score(row, name)) is not None}
    lowest = number(row.get("lowest", 1.0))
    return [_record(row, source, scores, {**more, "lowest": 1.0 if lowest is None else lowest})]


@attributes("helpsteer", prompt=str, response=str, **dict.fromkeys(_HELPSTEER, (int, float, str)))
def _helpsteer(row: Row, source: str) -> list[AttributeScores]:
    """HelpSteer and HelpSteer2 (Wang et al. 2023, 2024): five attributes from 0 to 4."""
    scores = {name: _score(row, name) for name in _HELPSTEER}
    more = {"levels": dict.fromkeys(_HELPSTEER, 4.0), "lowest": 0.0}
    return [_record(row, source, scores, more)]


def _record(
    row: Row, source: str, scores: Mapping[str, float | None], more: Mapping[str, Any]
) -> AttributeScores:
    asked = prompt(row, source, _question(row))
    fields = {"prompt": asked, "response": text(row, "response"), "scores": scores, **more}
    return checked(AttributeScores, fields | {"source": record_source(row, asked)})


def _question(row: Row) -> str | list[Message]:
    return (
        text(row, "prompt") if isinstance(row["prompt"], str) else messages(row["prompt"], "prompt")
    )


def _object(row: Row, key: str) -> dict[str, Any]:
    value = row[key]
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, dict):
        raise Refused(f'"{key}" is {shown(row[key])}', f'make "{key}" an object, by criterion')
    return value


def _score(row: Row, name: str) -> float | None:
    """The score in a criterion's column; None if nobody gave one."""
    given = row.get(name)
    if given is None or given == "":
        return None
    if (found := number(given)) is None:
        raise Refused(f'"{name}" is {shown(given)}', f'make "{name}" a number, or remove it')
    return found
