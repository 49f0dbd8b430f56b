"""Judgements as other annotation tools keep them: Label Studio's tasks and Argilla's records.

https://labelstud.io/guide/task_format, https://docs.argilla.io (records of the server's API). Both
keep who judged, when, for how long, and skips; `alignloop data` reads both back as the same
verdicts. What a tool has no place for (which answers are harmful) stays in our own format.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from alignloop.data.formats.annotated import STRENGTH
from alignloop.label.exports.export_rows import ExportRow

Row = dict[str, Any]
_NAMESPACE = uuid.UUID("5b4a0d0e-6d0f-5c1c-9b52-6b8f3a1c7e21")  # of annotators' ids for Argilla


class Question:
    """A comparison with the judgements on it, and the names of its answers in the tool."""

    def __init__(self, comparison: ExportRow, judged: Sequence[ExportRow], word: str) -> None:
        self.record: Mapping[str, Any] = comparison.content
        self.judged, self.prompt = judged, comparison.prompt
        responses: list[Row] = self.record["responses"]
        self.names: dict[str, str] = {
            str(one["response_id"]): f"{word}{n}" for n, one in enumerate(responses, 1)
        }
        self.texts = {self.names[one["response_id"]]: str(one["text"]) for one in responses}

    @property
    def about(self) -> Row:
        """What a reader keeps of the prompt besides its turns."""
        keys = ("prompt_id", "source", "category", "language")
        return {key: value for key in keys if (value := getattr(self.prompt, key))}

    @property
    def turns(self) -> list[Row]:
        """The conversation."""
        return [turn.model_dump(mode="json") for turn in self.prompt.messages]

    def named(self, judged: ExportRow) -> tuple[str, dict[str, int], Row]:
        """A judgement's verdict, the rank of each answer, and ratings, by the tool's names."""
        said = judged.content
        ranks = {
            self.names[one]: rank
            for rank, equal in enumerate(judged.provenance["ranking"], start=1)
            for one in equal
        }
        ratings = {self.names[key]: value for key, value in said["ratings"].items()}
        choice = str(said["choice"])
        return self.names.get(choice, choice), ranks, ratings


def tool_lines(rows: Iterable[ExportRow], format: str) -> Iterator[str]:
    """The lines of a file from comparison rows and judgement rows: a JSON array, or JSONL."""
    mixed = list(rows)
    judged: dict[str, list[ExportRow]] = {}
    for row in mixed:
        if "annotator_id" in row.content:
            judged.setdefault(row.content["comparison_id"], []).append(row)
    asked = [row for row in mixed if "responses" in row.content]
    word = "answer" if format == "label-studio" else "response_"
    made: Callable[[int, Question], Row] = _task if format == "label-studio" else _record
    found = [
        made(number, Question(row, judged.get(row.content["comparison_id"], []), word))
        for number, row in enumerate(asked, start=1)
    ]
    texts = [json.dumps(one, ensure_ascii=False) for one in found]
    if format == "label-studio":
        yield "["
        yield from (f"{text}," for text in texts[:-1])
        yield from texts[-1:]
        yield "]"
    else:
        yield from texts


# --- Label Studio ------------------------------------------------------------------------------


def _task(number: int, asked: Question) -> Row:
    data: Row = {"prompt": asked.turns, **asked.about}
    if len(asked.texts) == 2:
        data |= asked.texts
    else:
        listed = enumerate(asked.texts.items(), start=1)
        data["items"] = [{"id": name, "title": f"{n}", "body": text} for n, (name, text) in listed]
    data["comparison_id"] = asked.record["comparison_id"]
    annotations = [_annotation(asked, judged) for judged in asked.judged]
    return {"id": number, "data": data, "annotations": annotations, "predictions": []}


def _annotation(asked: Question, judged: ExportRow) -> Row:
    said, is_skip = judged.content, judged.content["choice"] == "skip"
    (number,) = judged.provenance["judgements"]
    return {
        "id": number,
        # Label Studio finds annotators by their address, and accepts nothing else as text
        "completed_by": {"email": said["annotator_id"]},
        "was_cancelled": is_skip,
        "ground_truth": False,
        "created_at": said["created_at"],
        "updated_at": said["created_at"],
        "lead_time": said["seconds"],
        "result": list(_results(asked, judged)),
    }


def _results(asked: Question, judged: ExportRow) -> Iterator[Row]:
    said = judged.content
    choice, ranks, ratings = asked.named(judged)
    both = list(asked.texts)
    if choice == "skip":
        yield from _remark("skip_reason", judged.provenance["skip_reason"])
    elif ranks:
        tiers: dict[str, list[str]] = {}
        for name, rank in ranks.items():
            tiers.setdefault(str(rank), []).append(name)
        yield _result("rank", "answers", "ranker", {"ranker": tiers})
    elif choice in both and len(both) == 2:
        side = "left" if choice == both[0] else "right"
        yield _result("comparison", ",".join(both), "pairwise", {"selected": side})
    else:
        yield _result("verdict", "answers", "choices", {"choices": [choice]})
    for name, value in ratings.items():
        yield _result(f"rating_{name}", name, "rating", {"rating": value})
    if said["strength"]:
        value = {"choices": [str(said["strength"])]}
        yield _result(STRENGTH, "answers", "choices", value)
    yield from _remark("comment", said["rationale"])


def _remark(name: str, text: str) -> Iterator[Row]:
    if text:
        yield _result(name, "answers", "textarea", {"text": [text]})


def _result(control: str, about: str, kind: str, value: Row) -> Row:
    names = {"from_name": control, "to_name": about, "type": kind}
    return {"id": uuid.uuid5(_NAMESPACE, control + about).hex[:10], **names, "value": value}


# --- Argilla -----------------------------------------------------------------------------------


def _record(_number: int, asked: Question) -> Row:
    return {
        "external_id": asked.record["comparison_id"],
        "status": "completed" if asked.judged else "pending",
        "fields": {"prompt": asked.turns, **asked.texts},
        "metadata": asked.about,
        "responses": [_response(asked, judged) for judged in asked.judged],
        "suggestions": [],
    }


def _response(asked: Question, judged: ExportRow) -> Row:
    said = judged.content
    choice, ranks, ratings = asked.named(judged)
    values: Row = {"preference": choice}
    if choice == "skip":
        reason = judged.provenance["skip_reason"]
        values = {"skip_reason": reason} if reason else {}
    elif ranks:
        values = {"ranking": [{"value": name, "rank": rank} for name, rank in ranks.items()]}
    values |= {f"rating_{name}": value for name, value in ratings.items()}
    values |= {STRENGTH: said["strength"]} if said["strength"] else {}
    values |= {"comment": said["rationale"]} if said["rationale"] else {}
    return {
        # Argilla knows people by UUID: the same name gives the same one
        "user_id": str(uuid.uuid5(_NAMESPACE, said["annotator_id"])),
        "username": said["annotator_id"],
        "status": "discarded" if choice == "skip" else "submitted",
        "values": {name: {"value": value} for name, value in values.items()},
        "inserted_at": said["created_at"],
        "updated_at": said["created_at"],
        "seconds": said["seconds"],
    }
