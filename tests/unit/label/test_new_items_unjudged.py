"""Answers that nobody has judged yet, in every layout in which people have them."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignloop.data import read_pairs
from alignloop.data.formats.registry import FORMATS
from alignloop.data.refusals import Refusal
from alignloop.errors import UserError
from alignloop.label.new_items import ItemFile, ReadItem

Q, A, B = "What is a lease?", "A contract for a flat.", "No idea."
TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": Q}]
SAID = {"role": "assistant", "content": A}
TASK = {"prompt": Q, "answer1": A, "answer2": B}
PAIRWISE = {"type": "pairwise", "from_name": "pw", "to_name": "pw", "value": {"selected": "left"}}
UNJUDGED: dict[str, dict[str, Any]] = {
    "columns": TASK,
    "letters": {"question": Q, "response_a": A, "response_b": B},
    "outputs": {"instruction": Q, "output_1": A, "output_2": B},
    "chinese": {"问题": Q, "回答A": A, "回答B": B},
    "list": {"prompt": Q, "responses": [A, B]},
    "completions": {"prompt": Q, "completions": [A, B]},
    "generations": {"prompt": Q, "generations": [A, B]},
    "objects": {"prompt": Q, "answers": [{"text": A, "model": "x"}, {"text": B, "model": "y"}]},
    "turns": {"messages": TURNS, "candidates": [A, B]},
    "turns of turns": {"prompt": TURNS, "responses": [[SAID], [{**SAID, "content": B}]]},
    "sharegpt": {"conversations": [{"from": "human", "value": Q}], "candidates": [A, B]},
    "label studio": {"data": TASK},
    "label studio, exported": {"id": 1, "data": TASK, "annotations": []},
    "label studio, predicted": {"data": TASK, "predictions": [{"result": [PAIRWISE]}]},
    "label studio, list": {"data": {"prompt": Q, "items": [{"id": 1, "body": A}, {"body": B}]}},
    "label studio, cancelled": {
        "data": TASK,
        "annotations": [{"was_cancelled": True, "result": []}],
    },
    "argilla": {"fields": {"prompt": Q, "response_1": A, "response_2": B}},
    "argilla, exported": {
        "fields": {"prompt": Q, "response_1": A, "response_2": B},
        "responses": [],
        "status": "pending",
    },
    "prodigy": {"text": Q, "options": [{"id": "a", "text": A}, {"id": "b", "text": B}]},
    "potato": {"id": "1", "text": f"Prompt: {Q}\nA: {A}\nB: {B}"},
    "potato, list": {"id": "1", "prompt": Q, "text": [A, B]},
}
JUDGED: dict[str, dict[str, Any]] = {
    "winner": {**TASK, "winner": "answer2"},
    "scores": {"prompt": Q, "responses": [A, B], "scores": [9, 2]},
    "pair": {"prompt": Q, "chosen": A, "rejected": B},
    "label studio": {
        "data": TASK,
        "annotations": [{"completed_by": 2, "was_cancelled": False, "result": [PAIRWISE]}],
    },
}


def read(tmp_path: Path, *rows: Any, gold: bool = False) -> list[ReadItem | Refusal]:
    """What a file of these rows gives."""
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    file = ItemFile(path, gold=gold)
    file.survey()
    assert file.num_rows == len(rows)
    return list(file.items())


@pytest.mark.parametrize("name", UNJUDGED)
def test_a_question_with_answers_can_be_asked(tmp_path: Path, name: str) -> None:
    (found,) = read(tmp_path, UNJUDGED[name])
    assert isinstance(found, ReadItem), found
    comparison = found.item.comparison
    assert comparison.prompt.text == Q
    assert {one.text for one in comparison.responses} == {A, B}
    assert (found.judged, found.item.gold, found.line) == (False, None, 1)
    if "turns" in name:
        assert [turn.role for turn in comparison.prompt.messages] == ["system", "user"]


def test_the_writers_stay_with_their_answers(tmp_path: Path) -> None:
    columns = {**UNJUDGED["letters"], "model_a": "x", "model_b": "y"}
    for row in (UNJUDGED["objects"], columns):
        (found,) = read(tmp_path, row)
        assert isinstance(found, ReadItem)
        ids = {one.response_id: one.text for one in found.item.comparison.responses}
        assert {ids[key]: model for key, model in found.item.models.items()} == {A: "x", B: "y"}


@pytest.mark.parametrize("name", JUDGED)
def test_a_verdict_is_told_and_not_shown(tmp_path: Path, name: str) -> None:
    (found,) = read(tmp_path, JUDGED[name])
    assert isinstance(found, ReadItem) and found.judged
    assert (found.item.gold, found.item.why) == (None, "import")
    (gold,) = read(tmp_path, JUDGED[name], gold=True)
    assert isinstance(gold, ReadItem)
    right = {
        one.text for one in gold.item.comparison.responses if one.response_id == gold.item.gold
    }
    assert right == {B if name == "winner" else A}


@pytest.mark.parametrize("name", UNJUDGED)
def test_unjudged_is_no_gold_and_no_pair(tmp_path: Path, name: str) -> None:
    (found,) = read(tmp_path, UNJUDGED[name], gold=True)
    assert isinstance(found, Refusal) and "needs a right answer" in found.problem
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(UNJUDGED[name]) + "\n", encoding="utf-8")
    with pytest.raises(UserError):
        read_pairs(path)


def test_what_a_stage_is_told_of_unjudged_answers(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"data": TASK}) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="answers that nobody has judged, not pairs"):
        read_pairs(path)


def test_rows_of_all_kinds_in_one_file_keep_their_order(tmp_path: Path) -> None:
    pairs = [{**JUDGED["pair"], "comparison_id": "c", "rejected": text} for text in (B, "C")]
    other = [{**row, "prompt": "Other?"} for row in (TASK, JUDGED["winner"])]
    found = read(tmp_path, other[0], *pairs, {"what": 1}, other[1], UNJUDGED["list"])
    lines = [one.line for one in found]
    assert lines == sorted(lines) and len(found) == 5
    assert [isinstance(one, Refusal) for one in found] == [False, False, True, False, False]
    assert isinstance(found[1], ReadItem) and len(found[1].item.comparison.responses) == 3


def test_a_word_that_names_no_answer_is_not_passed_over(tmp_path: Path) -> None:
    """A damaged verdict is no question that nobody judged."""
    (found,) = read(tmp_path, {**TASK, "winner": "the blue one"})
    assert isinstance(found, Refusal) and "blue" in found.problem


def test_responses_is_anybodys_word() -> None:
    assert {"unjudged-answers", "label-studio-task", "potato-instance"} <= {
        one.name for one in FORMATS if one.kind == "questions"
    }


def test_the_name_of_an_upload_stands_for_its_path(tmp_path: Path) -> None:
    path = tmp_path / "upload.json"
    path.write_text('[{"prompt": "Q"},', encoding="utf-8")
    file = ItemFile(path, name="mine.json")
    with pytest.raises(UserError) as raised:
        file.survey()
        list(file.items())
    assert "mine.json" in str(raised.value) and str(tmp_path) not in str(raised.value)
