"""Prodigy, doccano and Potato: a text or options, and the annotator's selection."""

import html
import re
from collections.abc import Mapping

from alignloop.data.formats.annotated import (
    Annotated,
    Vote,
    annotated,
    answers_of,
    choice_of,
    compared,
    time_of,
    vote_of,
)
from alignloop.data.formats.parts import asks, number, text
from alignloop.data.formats.registry import Refused, Row, shown
from alignloop.data.narrow import Json, are_texts, list_at, text_at

# --- Prodigy -----------------------------------------------------------------------------------


@annotated("prodigy", options=list, answer=str)
def _prodigy(row: Row, source: str) -> Annotated:
    """A `choice` task: the accepted options. Ignored and rejected tasks give no vote."""
    answers = answers_of({"options": row["options"]})
    if len(answers) < 2:
        raise Refused("fewer than two options with a text in the task", "remove the row")
    asked = row if asks(row) else row | {"prompt": row.get("text")}
    comparison = compared(asked, source, answers)
    if text_at(row, "answer").lower() != "accept":
        return Annotated(comparison=comparison, votes=())
    accepted = row.get("accept")
    found = [choice_of(one, answers) for one in (accepted if isinstance(accepted, list) else [])]
    if any(name not in answers for name in found):
        raise Refused(f'"accept" is {shown(accepted)}', f"name one of {', '.join(answers)}")
    vote = Vote(
        annotator=str(row.get("_annotator_id") or row.get("_session_id") or ""),
        choice=_of_accepted(found, answers),
        created_at=time_of(row.get("_timestamp")),
    )
    return Annotated(comparison=comparison, votes=(vote,) if vote.choice != "skip" else ())


def _of_accepted(found: list[str], answers: Mapping[str, str]) -> str:
    if len(set(found)) == 1:
        return found[0]
    if found and set(found) != set(answers):
        raise Refused(f'"accept" names several: {shown(found)}', "keep the best one, or all")
    return "tie" if found else "both_bad"


# --- answers within one text -------------------------------------------------------------------

_MARK = re.compile(
    r"^[ \t]*[(\[【*]*(?:(?P<question>prompt|question|instruction|user|human|q|问题|提问)"
    r"|(?:(?:answer|response|option|output|completion|model|assistant|回答|答案|选项)[ \t]*)?"
    r"(?P<name>[a-i]|[1-9]))[)\]】*]*[ \t]*[:：.、)][*]*[ \t]*",
    re.I | re.M,
)
_BREAK = re.compile(r"<\s*(?:br|/p|/div)\s*/?>", re.I)
_TAG = re.compile(r"</?\s*(?:p|div|b|i|em|strong|span|h\d)\b[^<>]*>", re.I)


def answers_in_lines(content: str) -> tuple[str, dict[str, str]]:
    """Question and answers of a text with lines such as "Prompt: ...", "A: ...", "B: ...".

    The answers' marks count up from A or 1; anything else is part of a text. ("", {}) unless there
    are two answers with a question before them.
    """
    marks = list(_MARK.finditer(content))
    starts: list[tuple[str, int, int]] = []
    question, begun = content[: marks[0].start()] if marks else "", 0
    for mark in marks:
        if mark["question"] and not starts and not begun:
            question, begun = "", mark.end()
        elif mark["name"] and mark["name"].lower() in _next_marks([name for name, _, _ in starts]):
            starts.append((mark["name"].lower(), mark.start(), mark.end()))
    if len(starts) < 2:
        return "", {}
    question = (question or content[begun : starts[0][1]]).strip()
    ends = [*(start for _, start, _ in starts[1:]), len(content)]
    answers = {
        name: content[start:end].strip() for (name, _, start), end in zip(starts, ends, strict=True)
    }
    return (question, answers) if question and all(answers.values()) else ("", {})


def _next_marks(names: list[str]) -> tuple[str, ...]:
    return ("a", "1") if not names else (chr(ord(names[-1]) + 1),)


def _plain_text(content: str) -> str:
    """The text of a displayed page: with line breaks, without its layout tags."""
    return html.unescape(_TAG.sub("", _BREAK.sub("\n", content)))


def _annotator(row: Row) -> str:
    keys = ("annotator", "annotator_id", "user", "username", "user_id", "created_by")
    return next((str(row[key]) for key in keys if isinstance(row.get(key), str | int)), "")


# --- doccano -----------------------------------------------------------------------------------


def _is_doccano(row: Row) -> bool:
    return are_texts(row["label"]) and bool(answers_in_lines(text_at(row, "text"))[1])


@annotated("doccano", fits=_is_doccano, text=str, label=list)
def _doccano(row: Row, source: str) -> Annotated:
    """Question and answers in one text, and the label of the better one; one file per annotator."""
    question, answers = answers_in_lines(text(row, "text"))
    comparison = compared(row | {"prompt": question}, source, answers)
    if len(list_at(row, "label")) > 1:
        raise Refused(
            f'"label" names several: {shown(row["label"])}', "keep one, or remove the row"
        )
    vote = vote_of(_annotator(row), {"label": row["label"]}, answers)
    return Annotated(comparison=comparison, votes=(vote,) if vote.choice != "skip" else ())


# --- Potato ------------------------------------------------------------------------------------


def _schemas(row: Row) -> Row:
    """Values by schema: {"preference": {"A": "true"}}, or columns "preference:::A"."""
    annotations = row.get("label_annotations")
    if isinstance(annotations, dict):
        return {str(schema): _marked(values) for schema, values in annotations.items()}
    columns = [str(key).partition(":::") for key in row if ":::" in str(key)]
    found: dict[str, Row] = {}
    for schema, _, label in columns:
        found.setdefault(schema, {})[label] = row[f"{schema}:::{label}"]
    return {schema: _marked(values) for schema, values in found.items()}


def _marked(value: Json) -> Json:
    """{"A": "true", "B": None} is ["A"]; {"selection": "A"} is "A"; {"quality": "4"} is 4."""
    if not isinstance(value, dict):
        return value
    marked = {str(name): value for name, value in value.items() if _is_marked(value)}
    if len(marked) == 1 and isinstance(value := next(iter(marked.values())), str | int):
        only = next(iter(marked))
        plain = str(value).lower() in ("true", "1", "yes", only.lower())
        return only if plain or isinstance(value, bool) else number(value) or value
    return list(marked)


def _is_marked(value: Json) -> bool:
    return value not in (None, False, "", 0) and str(value).lower() not in ("false", "nan", "none")


def _is_potato(row: Row) -> bool:
    has_annotations = isinstance(row.get("label_annotations"), dict) or any(
        ":::" in str(key) for key in row
    )
    return has_annotations and bool(row.keys() & {"displayed_text", "instance_id", "id"})


@annotated("potato", fits=_is_potato)
def _potato(row: Row, source: str) -> Annotated:
    """One annotator's file of instances; the answers are in its text or in columns."""
    answers, asked = answers_of(row), row
    if len(answers) < 2 or not asks(row):
        displayed = row.get("displayed_text", row.get("text"))
        question, answers = answers_in_lines(
            _plain_text(displayed if isinstance(displayed, str) else "")
        )
        asked = row | {"prompt": question}
    if len(answers) < 2:
        raise Refused(
            "no question with two answers in the displayed text",
            'show "Prompt: ...", "A: ..." and "B: ..." on separate lines, or remove the row',
        )
    vote = vote_of(_annotator(row), _schemas(row), answers)
    comparison = compared(asked, source, answers)
    return Annotated(comparison=comparison, votes=(vote,) if vote.choice != "skip" else ())
