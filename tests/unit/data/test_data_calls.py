"""Tools, calls, results and reasoning: read, kept on disk, learnt, or named where they are not."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignloop.data.check import check
from alignloop.data.convert import convert
from alignloop.data.files import read_records, write_records
from alignloop.data.formats.reading import read_demonstrations, read_pairs, read_prompts
from alignloop.data.pairs import PairStore, TextCodes
from alignloop.data.tokenise import LengthLimit, encode_demonstration
from alignloop.errors import UserError
from alignloop.records import Demonstration, Message, PreferencePair, Prompt, ToolCall

from .test_data_what_is_learnt import tokenizer_of

TOOLS = [{"type": "function", "function": {"name": "get_rent", "description": "Rent of a flat"}}]
ASKED = {"role": "user", "content": "What is the rent of flat 7?"}


def calling(flat: Any, content: Any = "Let me look.") -> dict[str, Any]:
    function = {"name": "get_rent", "arguments": {"flat": flat}}
    call = {"id": "abcdefghi", "type": "function", "function": function}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


def rows_file(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def learnt(tokenizer: Any, made: Demonstration) -> str:
    encoded = encode_demonstration(tokenizer, made, 10_000)
    pairs = zip(encoded.input_ids, encoded.response_mask, strict=True)
    return tokenizer.decode([i for i, counts in pairs if counts])


def test_a_call_is_learnt_and_its_tools_are_asked_with(tmp_path: Path) -> None:
    path = rows_file(tmp_path, {"tools": TOOLS, "messages": [ASKED, calling("7")]})
    made = read_demonstrations(path)[0]
    assert made.prompt.tools == tuple(TOOLS)
    call = ToolCall(name="get_rent", arguments={"flat": "7"}, id="abcdefghi")
    assert made.extra is not None and made.extra.tool_calls == (call,)
    said = learnt(tokenizer_of("qwen2_5"), made)
    assert said == (
        'Let me look.\n<tool_call>\n{"name": "get_rent", "arguments": {"flat": "7"}}\n'
        "</tool_call><|im_end|>"
    )


@pytest.mark.parametrize("arguments", ['{"flat": "7"}', {"flat": "7", "city": None}])
def test_arguments_as_a_json_text_or_with_empty_columns(tmp_path: Path, arguments: Any) -> None:
    turn = calling("7", None)
    turn["tool_calls"][0]["function"]["arguments"] = arguments
    made = read_demonstrations(rows_file(tmp_path, {"messages": [ASKED, turn]}))[0]
    assert made.response == ""
    assert made.answer.tool_calls[0].arguments == {"flat": "7"}


def test_tools_as_a_json_text(tmp_path: Path) -> None:
    path = rows_file(tmp_path, {"tools": json.dumps(TOOLS), "messages": [ASKED]})
    assert read_prompts(path)[0].tools == tuple(TOOLS)


def test_a_result_stands_between_call_and_answer(tmp_path: Path) -> None:
    result = {"role": "tool", "tool_call_id": "abcdefghi", "content": "500"}
    answer = {"role": "assistant", "content": "It is 500."}
    made = read_demonstrations(
        rows_file(tmp_path, {"tools": TOOLS, "messages": [ASKED, calling("7"), result, answer]})
    )[0]
    assert [turn.role for turn in made.prompt.messages] == ["user", "assistant", "tool"]
    said = learnt(tokenizer_of("qwen2_5"), made)
    assert said.count("<|im_end|>") == 2 and "500.<|im_end|>" in said and "get_rent" in said


def test_pairs_that_differ_in_their_calls_alone(tmp_path: Path) -> None:
    row = {"messages": [ASKED], "tools": TOOLS, "chosen": calling("7"), "rejected": calling("8")}
    pair = read_pairs(rows_file(tmp_path, row))[0]
    chosen, rejected = pair.answers
    assert [turn.tool_calls[0].arguments["flat"] for turn in (chosen, rejected)] == ["7", "8"]  # type: ignore[index]
    limit = LengthLimit.of("reward.max_tokens", 10_000, None, "refuse")
    codes = TextCodes(tokenizer=tokenizer_of("qwen2_5"), limit=limit)
    assert len(PairStore.of([pair], codes).texts) == 2
    with pytest.raises(UserError, match="chosen and rejected are the same text"):
        read_pairs(rows_file(tmp_path, row | {"rejected": calling("7")}))


def test_reasoning_is_kept_and_learnt(tmp_path: Path) -> None:
    turn = {"role": "assistant", "reasoning_content": "two and two are four", "content": "4"}
    row = {"messages": [{"role": "user", "content": "2+2?"}, turn]}
    made = read_demonstrations(rows_file(tmp_path, row))[0]
    said = learnt(tokenizer_of("qwen3"), made)
    assert said == "<think>\ntwo and two are four\n</think>\n\n4<|im_end|>"
    with pytest.raises(UserError, match="leaves out reasoning_content"):
        learnt(tokenizer_of("chatml"), made)


def test_records_keep_all_of_it_on_disk_and_others_gain_no_key(tmp_path: Path) -> None:
    rows = [
        {"messages": [ASKED], "tools": TOOLS, "chosen": calling("7"), "rejected": calling("8")},
        {"prompt": "Q", "chosen": "a", "rejected": "b"},
    ]
    pairs = read_pairs(rows_file(tmp_path, *rows))
    write_records(tmp_path / "own.jsonl", pairs)
    assert read_records(tmp_path / "own.jsonl", PreferencePair) == pairs
    assert read_pairs(tmp_path / "own.jsonl") == pairs
    plain = Demonstration(prompt=Prompt(prompt_id="p", messages=(Message(**ASKED),)), response="a")
    assert plain.model_dump_json() == (
        '{"prompt":{"prompt_id":"p","messages":[{"role":"user","content":'
        '"What is the rent of flat 7?"}],"source":"","category":"","language":""},'
        '"response":"a","source":"","every_turn":false}'
    )


def test_trl_gets_tools_and_calls(tmp_path: Path) -> None:
    row = {"messages": [ASKED], "tools": TOOLS, "chosen": calling("7"), "rejected": calling("8")}
    source = rows_file(tmp_path, row)
    convert(str(source), tmp_path / "out.jsonl", "trl")
    made = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
    assert made["tools"] == TOOLS
    function = made["chosen"][0]["tool_calls"][0]["function"]
    assert function == {"name": "get_rent", "arguments": {"flat": "7"}}
    assert read_pairs(tmp_path / "out.jsonl")[0].answers == read_pairs(source)[0].answers


def test_prompts_that_differ_in_their_tools_are_two(tmp_path: Path) -> None:
    rows = [{"messages": [ASKED], "tools": TOOLS}, {"messages": [ASKED]}]
    assert len({one.prompt_id for one in read_prompts(rows_file(tmp_path, *rows))}) == 2


def test_two_system_texts_are_both_read(tmp_path: Path) -> None:
    row = {"system": "Be kind.", "messages": [{"role": "system", "content": "Be short."}, ASKED]}
    made = read_prompts(rows_file(tmp_path, row))[0]
    assert made.messages[0] == Message(role="system", content="Be kind.\n\nBe short.")


@pytest.mark.parametrize("media", [{"images": ["a.png"]}, {"audios": [{"bytes": None}]}])
def test_pictures_and_sounds_are_refused_by_name(tmp_path: Path, media: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"the row has {next(iter(media))}"):
        read_prompts(rows_file(tmp_path, {"messages": [ASKED], **media}))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"messages": [ASKED, calling("7") | {"tool_calls": [{"a": 1}]}]}, "invalid tool_calls"),
        ({"messages": [ASKED, calling("7") | {"tool_calls": 3}]}, "invalid tool_calls"),
        ({"messages": [ASKED, calling("7")], "tools": "get_rent"}, "not a list of JSON schemas"),
    ],
)
def test_what_is_no_call(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        read_demonstrations(rows_file(tmp_path, row))


def labelled_rows(folder: Path) -> Path:
    """One question, answered by two calls of a tool whose texts are the same."""
    good, bad = calling("7"), calling("8")
    return rows_file(
        folder,
        {"messages": [ASKED, good], "label": True, "tools": TOOLS},
        {"messages": [ASKED, bad], "label": False, "tools": TOOLS},
    )


def test_labelled_answers_keep_their_calls(tmp_path: Path) -> None:
    path = labelled_rows(tmp_path)
    (demonstration,) = read_demonstrations(path)
    assert demonstration.answer.tool_calls[0].arguments == {"flat": "7"}
    (pair,) = read_pairs(path)
    assert [answer.tool_calls[0].arguments for answer in pair.answers] == [
        {"flat": "7"},
        {"flat": "8"},
    ]


def test_answers_that_differ_in_a_call_are_no_duplicates(tmp_path: Path) -> None:
    rows = [{"messages": [ASKED, calling(flat)]} for flat in ("7", "8", "8")]
    (report,) = check(
        [str(rows_file(tmp_path, *rows))], lambda texts: [len(text) for text in texts]
    )
    assert report.duplicates == 1
