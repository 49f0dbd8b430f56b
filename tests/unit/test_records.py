"""Records: one JSON object per line, frozen, and particular about their keys."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from alignloop.records import (
    Comparison,
    Demonstration,
    Judgement,
    Message,
    PreferencePair,
    Prompt,
    Record,
    Response,
    Sample,
    Verdict,
)

PROMPT = Prompt(
    prompt_id="p1",
    messages=(Message(role="system", content="Be kind."), Message(role="user", content="为什么？")),
    category="explain",
    language="zh",
)
WHO = {"comparison_id": "c", "annotator_id": "a", "choice": "a"}
ONE = {"response_id": "a", "text": "x"}
SAMPLE = {"prompt": PROMPT, "response": "", "num_tokens": 0, "stage": "rl", "step": 0}
RECORDS: list[Record] = [
    PROMPT,
    Demonstration(prompt=PROMPT, response="Because.\nSo."),
    Comparison(
        comparison_id="c1",
        prompt=PROMPT,
        responses=(Response(response_id="a", text=""), Response(response_id="b", text="是")),
    ),
    Judgement(
        comparison_id="c1",
        annotator_id="ann",
        choice="a",
        strength=3,
        ratings={"a": 4.5},
        order_shown=("b", "a"),
        seconds=1.5,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    ),
    PreferencePair(prompt=PROMPT, chosen="a", rejected="b", preference=0.5, weight=1 / 3),
    Sample(
        prompt=PROMPT,
        response="x",
        finish_reason="eos",
        num_tokens=1,
        stage="rl",
        step=3,
        score=0.1,
    ),
    Verdict(reward=0.25, score=0.25, rating=2, marks={"fair": 0.0}, reasons=("cold",)),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_line_reads_back_as_the_same_record(record: Record) -> None:
    line = record.model_dump_json()
    assert "\n" not in line
    assert type(record).model_validate_json(line) == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_unknown_keys_are_refused(record: Record) -> None:
    with pytest.raises(ValidationError, match="respones"):
        type(record).model_validate({**record.model_dump(), "respones": 1})


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_are_frozen(record: Record) -> None:
    name = next(iter(type(record).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(record, name, "other")


def test_the_last_message_is_what_a_person_sees() -> None:
    assert PROMPT.text == "为什么？"


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (Message, {"role": "robot", "content": "x"}),
        (Prompt, {"prompt_id": "p", "messages": []}),
        (Demonstration, {"prompt": PROMPT, "response": ""}),
        (Comparison, {"comparison_id": "c", "prompt": PROMPT, "responses": [ONE]}),
        (Judgement, WHO),  # when?
        (Judgement, {**WHO, "created_at": "2026-01-01", "strength": 4}),
        (Judgement, {**WHO, "created_at": "2026-01-01", "seconds": -1}),
        (PreferencePair, {"prompt": PROMPT, "chosen": "a", "rejected": "b", "preference": 0.4}),
        (PreferencePair, {"prompt": PROMPT, "chosen": "a", "rejected": "b", "weight": 0}),
        (Sample, {**SAMPLE, "finish_reason": "tired"}),
        (Verdict, {"score": 1.1, "rating": 5}),
        (Verdict, {"score": 1.0, "rating": 6}),
        (Verdict, {"score": 0.0, "rating": 0}),
    ],
)
def test_values_out_of_range_are_refused(kind: type[Record], changes: dict) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(changes)


def test_the_defaults_of_a_pair_are_a_plain_choice() -> None:
    pair = PreferencePair(prompt=PROMPT, chosen="a", rejected="b")
    assert (pair.preference, pair.margin, pair.weight) == (1.0, 0.0, 1.0)
