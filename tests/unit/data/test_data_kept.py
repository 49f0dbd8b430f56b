"""What rows hold beside a question: which column is the reference, and what is metadata."""

import csv
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from alignloop.cli import main
from alignloop.data import read_demonstrations, read_pairs, read_prompts, write_records
from alignloop.errors import UserError
from alignloop.records import Demonstration, Message, PreferencePair, Prompt

ASKED = [{"role": "user", "content": "q"}]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "reference", "metadata"),
    [
        ({"prompt": "q", "answer": "5", "level": 3, "metadata": {"a": None, "b": [1]}}, "5",
         {"level": 3, "a": None, "b": [1]}),
        ({"question": "q", "answer": "so\n#### 5"}, "so\n#### 5", {}),
        ({"prompt": "q", "ground_truth": 4.0}, "4", {}),
        ({"prompt": "q", "ground_truth": ["4", 4.5]}, ("4", "4.5"), {}),
        (
            {"data_source": "gsm", "prompt": ASKED, "ability": "math", "extra_info": {"index": 0},
             "reward_model": {"style": "rule", "ground_truth": "72"}},
            "72",
            {"data_source": "gsm", "ability": "math", "extra_info": {"index": 0},
             "reward_model": {"style": "rule"}},
        ),
        ({"problem": "q", "solution": "s", "answer": "a", "id": 3}, "a",
         {"solution": "s", "id": 3}),
        ({"problem": "q", "solution": "s", "level": "5"}, "s", {"level": "5"}),
        ({"input": "q", "label": "72"}, "72", {}),
        ({"prompt": "q", "label": True, "id": 0}, None, {"label": True, "id": 0}),
        ({"prompt": "q", "answer": "a", "reference": "r"}, "r", {"answer": "a"}),
        ({"prompt": "q", "answer": "", "label": None}, None, {}),
        ({"prompt": "q", "answer": {"value": "a"}}, None, {"answer": {"value": "a"}}),
        ({"问题": "q", "参考答案": "五"}, "五", {}),
        ({"prompt": "q", "response": "r"}, None, {"response": "r"}),
        ({"context": "c", "question": "q", "ans0": "x", "ans1": "y", "ans2": "z", "label": 1}, "B",
         {}),
        ({"prompt_id": "p", "messages": ASKED, "reference": "x", "metadata": {"k": 1}}, "x",
         {"k": 1}),
        # judged: an answer is no reference then, and neither answers nor judgements are metadata
        ({"prompt": "q", "chosen": "a", "rejected": "b", "answer": "x", "level": 1}, None,
         {"level": 1}),
        ({"question": "q", "answers": ["a", "b"], "scores": [1, 2]}, None, {}),
        ({"question": "q", "answer": "a", "label": 1, "level": 1}, None, {"level": 1}),
    ],
)  # fmt: skip
def test_read_as_prompts(
    tmp_path: Path, row: dict[str, Any], reference: Any, metadata: dict[str, Any]
) -> None:
    rows = [row, {**row, "label": 0}] if row.get("label") == 1 and "answer" in row else [row]
    found = read_prompts(write(tmp_path / "a.jsonl", *rows))[0]
    assert found.reference == reference
    assert list(found.metadata.items()) == list(metadata.items())  # in the row's order


def test_read_as_demonstrations_an_answer_is_what_is_learnt(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"question": "q", "answer": "a", "level": 1})
    (found,) = read_demonstrations(path)
    assert (found.response, found.prompt.reference) == ("a", None)
    assert found.prompt.metadata == {"level": 1}
    path = write(tmp_path / "b.jsonl", {"prompt": "q", "answer": "a"})
    with pytest.raises(UserError, match="prompts, not demonstrations"):
        read_demonstrations(path)
    (found,) = read_demonstrations(path, format="question-answer")  # a person says so
    assert (found.response, found.prompt.reference) == ("a", None)


def test_beside_a_judged_pair_an_answer_is_metadata(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "answer": "x", "score_chosen": 2}
    row |= {"annotator": "ana", "provenance": {"item": 1}, "provenance_item": 1}
    (found,) = read_pairs(write(tmp_path / "a.jsonl", row))
    assert (found.prompt.reference, found.prompt.metadata) == (None, {"answer": "x"})


def test_neither_is_a_part_of_the_id(tmp_path: Path) -> None:
    bare = read_prompts(write(tmp_path / "a.jsonl", {"prompt": "q"}))
    full = read_prompts(write(tmp_path / "b.jsonl", {"prompt": "q", "answer": "5", "level": 1}))
    assert [one.prompt_id for one in bare] == [one.prompt_id for one in full]
    assert bare[0].model_dump_json() == (
        f'{{"prompt_id":"{bare[0].prompt_id}","messages":[{{"role":"user","content":"q"}}],'
        '"source":"a","category":"","language":""}'
    )


def test_each_reference_of_a_prompt_is_right(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"prompt": "q", "answer": "5", "row": 1}, {"prompt": "q", "answer": "five", "row": 2}]
    with caplog.at_level(logging.WARNING):
        (found,) = read_prompts(write(tmp_path / "a.jsonl", *rows, rows[0]))
    assert (found.reference, found.metadata) == (("5", "five"), {"row": 1})
    assert "rows of one prompt have different references; each is correct" in caplog.text
    caplog.clear()
    assert read_prompts(write(tmp_path / "b.jsonl", rows[0], rows[0]))[0].reference == "5"
    assert "references" not in caplog.text


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"page": "x" * 70_000, "url": "u"}, '70024 bytes, mostly in "page"; the limit is 65536'),
        ({"level": float("nan")}, '"level" contains a number that is not finite'),
        (
            {"metadata": {"deep": [{"x": float("inf")}]}},
            '"deep" contains a number that is not finite',
        ),
        ({"note": "\ud800"}, '"note" contains half a character'),
        (
            {"level": 1, "metadata": {"level": 2}},
            '"level" is both a column and a key of "metadata"',
        ),
    ],
)
def test_what_cannot_be_kept_names_row_and_key(
    tmp_path: Path, row: dict[str, Any], problem: str
) -> None:
    path = write(tmp_path / "a.jsonl", {"prompt": "p"}, {"prompt": "q", **row})
    with pytest.raises(UserError, match=problem) as caught:
        read_prompts(path)
    assert "a.jsonl:2" in str(caught.value)
    if "metadata" not in row:
        own = {"prompt_id": "p", "messages": ASKED, "metadata": row}
        with pytest.raises(UserError, match=problem):
            read_prompts(write(tmp_path / "own.jsonl", own))


def test_other_keys_of_our_own_records_are_refused(tmp_path: Path) -> None:
    own = {"prompt_id": "p", "messages": ASKED, "level": 1}
    with pytest.raises(UserError, match="level: Extra inputs"):
        read_prompts(write(tmp_path / "own.jsonl", own))


PROMPT = Prompt(
    prompt_id="p",
    messages=(Message(role="user", content="q"),),
    reference=("-5", "five"),
    metadata={"level": 2, "tags": ["a", {"b": None}], "answer": "x"},
)
PAIR = PreferencePair(prompt=PROMPT, chosen="a", rejected="b")


def test_they_stay_with_every_target_of_convert(tmp_path: Path) -> None:
    demonstration = Demonstration(prompt=PROMPT, response="a")
    for record, read, targets in (
        (PROMPT, read_prompts, ("prompts", "trl")),
        (PAIR, read_pairs, ("pairs", "prompts", "trl")),
        (demonstration, read_demonstrations, ("demonstrations", "prompts", "trl")),
    ):
        source = tmp_path / "own.jsonl"
        write_records(source, [record])
        for target in targets:
            out = str(tmp_path / f"{target}.jsonl")
            main(["data", "convert", str(source), out, "--to", target, "--overwrite"])
            found: Any = (read_prompts if target == "prompts" else read)(out)[0]
            assert (found if isinstance(found, Prompt) else found.prompt) == PROMPT, target


def test_a_table_holds_both_as_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["prompt", "reference", "metadata", "level"])
        writer.writerow(["q", '["-5", "five"]', '{"tags": ["a"]}', "2"])
        writer.writerow(["r", "[1, 2]", "", ""])
        writer.writerow(["s", '{"type": "object"}', "free text", ""])
    first, second, third = read_prompts(path)
    assert (first.reference, first.metadata) == (("-5", "five"), {"tags": ["a"], "level": "2"})
    assert (second.reference, second.metadata) == (("1", "2"), {})
    assert (third.reference, third.metadata) == ('{"type": "object"}', {"metadata": "free text"})


def test_check_says_what_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"problem": "q", "answer": "5", "level": 1, "subject": "s"}
    rows = [row | {"problem": f"q{n}"} for n in range(6)]
    main(["data", "check", str(write(tmp_path / "a.jsonl", *rows))])
    said = " ".join(capsys.readouterr().out.split())
    assert "kept as reference answer in 6 of 6 rows" in said
    assert "kept as metadata level, subject in 6 of 6 rows" in said
    assert "not read" not in said


def test_prompts_with_metadata_go_into_sets() -> None:
    other = PROMPT.model_copy(update={"metadata": {}})
    assert len({PROMPT, PROMPT.model_copy(), other}) == 2
