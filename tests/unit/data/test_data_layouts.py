"""Published layouts as they are, roles and weights of turns, tables without names of columns."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignloop.data import read_demonstrations, read_pairs, read_prompts
from alignloop.data.check import check
from alignloop.data.containers import Row, tables_of
from alignloop.data.formats.dialects import in_one_form, role_of
from alignloop.data.formats.registry import Refused
from alignloop.errors import UserError
from alignloop.records import Prompt


def rows_file(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def text_file(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def kind_of(path: Path) -> tuple[str, str, int]:
    (report,) = check([str(path)], lambda texts: [len(text.split()) for text in texts])
    return report.format, report.kind, report.num_refused


def turns_of(prompt: Prompt) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in prompt.messages]


# --- pairs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("safe", "unsafe"),
    [("安全有用回答", "违规回答"), ("安全回答", "违规回答"), ("安全回复", "违规回复")],
)
def test_jade_3(tmp_path: Path, safe: str, unsafe: str) -> None:
    table = f"问题,{unsafe},{safe}\n怎样开锁？,用这个工具。,请找锁匠。\n"
    path = text_file(tmp_path / "jade.csv", table)
    (pair,) = read_pairs(path)
    assert (pair.prompt.text, pair.chosen, pair.rejected) == (
        "怎样开锁？",
        "请找锁匠。",
        "用这个工具。",
    )
    assert kind_of(path) == ("jade", "pairs", 0)


CROWS = """,sent_more,sent_less,stereo_antistereo,bias_type,annotations,anon_writer
0,Old people are slow.,Young people are slow.,stereo,age,"[['age']]",a0
1,Girls cannot count.,Boys cannot count.,antistereo,gender,"[['gender']]",a1
"""


def test_crows_pairs_with_the_index_of_pandas(tmp_path: Path) -> None:
    path = text_file(tmp_path / "crows.csv", CROWS)
    pairs = read_pairs(path)
    # in both directions the second column is the sentence that stereotypes less
    assert [(p.chosen, p.rejected, p.prompt.category) for p in pairs] == [
        ("Young people are slow.", "Old people are slow.", "age"),
        ("Boys cannot count.", "Girls cannot count.", "gender"),
    ]
    rows = [row.value for row in tables_of(path)[0].rows() if isinstance(row, Row)]
    assert [row["Unnamed: 0"] for row in rows] == ["0", "1"]


def test_moss_rlhf_counts_turns_from_the_end(tmp_path: Path) -> None:
    whole = {"chosen": ["Hi", "Hello", "Why?", "So."], "rejected": ["Hi", "Hello", "Why?", "No."]}
    cut = {key: said[1:] for key, said in whole.items()}
    first, second = read_pairs(rows_file(tmp_path / "a.jsonl", whole, cut))
    assert turns_of(first.prompt) == [("user", "Hi"), ("assistant", "Hello"), ("user", "Why?")]
    assert turns_of(second.prompt) == [("assistant", "Hello"), ("user", "Why?")]
    assert {(p.chosen, p.rejected) for p in (first, second)} == {("So.", "No.")}


def test_bare_lists_are_dialogues(tmp_path: Path) -> None:
    path = text_file(tmp_path / "train.json", json.dumps([["Q", "A"], ["Q", "A", "R"], ["S"]]))
    assert [turns_of(prompt) for prompt in read_prompts(path)] == [
        [("user", "Q")],
        [("user", "Q"), ("assistant", "A"), ("user", "R")],
        [("user", "S")],
    ]
    only = text_file(tmp_path / "sft.json", json.dumps([["Q", "A", "R", "B"]]))
    (made,) = read_demonstrations(only)
    assert made.response == "B" and made.every_turn


def parts(role: str, text: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "value": text}], **more}


def test_llama_factory_1(tmp_path: Path) -> None:
    asked = [parts("system", "Be kind."), parts("user", "Q", loss_weight=0.0)]
    row = {f"{key}_messages": [*asked, parts("assistant", key)] for key in ("chosen", "rejected")}
    (pair,) = read_pairs(rows_file(tmp_path / "a.jsonl", row))
    assert turns_of(pair.prompt) == [("system", "Be kind."), ("user", "Q")]
    assert (pair.chosen, pair.rejected) == ("chosen", "rejected")
    told = {"messages": [*asked, parts("assistant", "A", loss_weight=1.0)]}
    (made,) = read_demonstrations(rows_file(tmp_path / "b.jsonl", told))
    assert (turns_of(made.prompt), made.response) == (turns_of(pair.prompt), "A")


def test_answers_as_turns_beside_a_question(tmp_path: Path) -> None:
    row = {
        "question": "Q",
        **{k: [{"role": "assistant", "content": k}] for k in ("chosen", "rejected")},
    }
    (pair,) = read_pairs(rows_file(tmp_path / "a.jsonl", row))
    assert (turns_of(pair.prompt), pair.chosen) == ([("user", "Q")], "chosen")


# --- demonstrations, labels and prompts --------------------------------------------------------


def test_belle(tmp_path: Path) -> None:
    rows = [{"question": "2+2?", "class": "math", "std_answer": "4"}]
    path = rows_file(tmp_path / "a.jsonl", *rows, {**rows[0], "question": "Why?", "std_answer": ""})
    assert kind_of(path)[1:] == ("demonstrations", 0)
    (made,) = read_demonstrations(rows_file(tmp_path / "b.jsonl", *rows))
    assert (made.prompt.text, made.response) == ("2+2?", "4")
    assert [prompt.text for prompt in read_prompts(path)] == ["2+2?", "Why?"]


@pytest.mark.parametrize(
    ("type_", "grade", "good"),
    [
        ("homonyms", "1_full_compliance", True),
        ("homonyms", "2_full_refusal", False),
        ("homonyms", "3_partial_refusal", False),
        ("contrast_homonyms", "1_full_compliance", False),
        ("contrast_homonyms", "2_full_refusal", True),
        ("contrast_homonyms", "3_partial_refusal", True),
    ],
)
def test_xstest_completions_are_graded(tmp_path: Path, type_: str, grade: str, good: bool) -> None:
    row = {"type": type_, "prompt": "Q", "completion": "A", "final_label": grade}
    path = rows_file(tmp_path / "a.jsonl", row)
    assert kind_of(path) == ("xstest", "labels", 0)
    if good:
        assert [made.response for made in read_demonstrations(path)] == ["A"]
    else:
        with pytest.raises(UserError, match="no records in the file"):
            read_demonstrations(path)
    with pytest.raises(UserError, match='"final_label" is "fine"'):
        read_pairs(rows_file(tmp_path / "b.jsonl", {**row, "final_label": "fine"}))


def test_harmbench(tmp_path: Path) -> None:
    table = "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n"
    table += "Do it,standard,x,,,do\nDo that,contextual,y,,The plan,that\n"
    prompts = read_prompts(text_file(tmp_path / "h.csv", table))
    found = [(prompt.text, prompt.category) for prompt in prompts]
    assert found == [("Do it", "x"), ("The plan\n\n---\n\nDo that", "y")]


# --- tables without names of columns -----------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff怎样可以避免被骗？\n" + '"为什么, 真的？"\n',
        ' How do you feel today, friend?\n"Why, really?"\n'.replace("today, friend", "today"),
        '"How do you, a person, feel?"\nWhy?\n',
        '"How do you feel today?",\n"Why, really?",\n',
    ],
)
def test_a_file_of_questions_without_a_header(tmp_path: Path, text: str) -> None:
    prompts = read_prompts(text_file(tmp_path / "x.csv", text))
    assert len(prompts) == 2 and prompts[1].text[0] in "W为"


def test_a_header_of_one_column_stays_a_header(tmp_path: Path) -> None:
    assert len(read_prompts(text_file(tmp_path / "x.csv", "question\nWhy is it so?\n"))) == 1
    with pytest.raises(UserError, match="the keys here"):
        read_prompts(text_file(tmp_path / "y.csv", "my questions\nWhy is it so?\n"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Why is it so today?,Because it is.\n", "the first line has no column names"),
        ("17,Why is it so today?\n18,How?\n", "the first line has no column names"),
        ("a,,b\n1,2,3\n", "column 2 of 3 has no name"),
        ("a,a\n1,2\n", 'column "a" appears twice'),
    ],
)
def test_a_first_line_that_cannot_name_the_columns(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        read_prompts(text_file(tmp_path / "x.csv", text))
    assert problem in caught.value.problem and caught.value.where.endswith("x.csv:1")


def test_columns_that_a_spreadsheet_leaves_empty_at_the_end(tmp_path: Path) -> None:
    path = text_file(tmp_path / "x.csv", "prompt,response,,\nQ,A,,\n")
    assert [made.response for made in read_demonstrations(path)] == ["A"]


# --- roles and weights of turns ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("said_by", "role"),
    [
        ("User", "user"),
        ("prompter", "user"),
        (" Human ", "user"),
        ("GPT", "assistant"),
        ("model", "assistant"),
        ("AI", "assistant"),
        ("developer", "system"),
        ("observation", "tool"),
        ("function", "tool"),
        ("ipython", "tool"),
        ("function_call", "assistant"),
        ("teacher", None),
        (3, None),
    ],
)
def test_names_of_roles(said_by: Any, role: str | None) -> None:
    assert role_of({"from": said_by}) == role == role_of({"role": said_by})


CALL = '{"name": "add", "arguments": {"a": 1}}'


def test_calls_and_results_of_tools_in_one_form() -> None:
    calls = [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]
    told = in_one_form({"from": "function_call", "value": CALL})
    assert told == {"role": "assistant", "content": "", "tool_calls": calls}
    called = [{"type": "reasoning", "value": "Hm."}, {"type": "tool_call", "value": CALL}]
    assert in_one_form({"role": "assistant", "content": called}) == {
        "role": "assistant",
        "content": "",
        "reasoning_content": "Hm.",
        "tool_calls": calls,
    }
    assert in_one_form({"from": "observation", "value": "3"}) == {"role": "tool", "content": "3"}
    with pytest.raises(Refused, match="invalid tool call"):
        in_one_form({"from": "function_call", "value": "add(1)"})
    image = [{"type": "image", "image": "x.png"}, {"type": "text", "text": "What?"}]
    assert in_one_form({"role": "user", "content": image})["content"] == image


def test_a_result_of_a_tool_may_be_what_is_answered(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "1+2?"},
        {"from": "gpt", "value": "I add."},
        {"from": "observation", "value": "3"},
    ]
    answered = {"conversations": [*turns, {"from": "gpt", "value": "It is 3."}]}
    (made,) = read_demonstrations(rows_file(tmp_path / "a.jsonl", answered))
    assert [role for role, _ in turns_of(made.prompt)] == ["user", "assistant", "tool"]
    # without an answer after it, it is a prompt, and no answer is dropped
    path = rows_file(tmp_path / "b.jsonl", {"conversations": turns})
    assert kind_of(path) == ("sharegpt", "prompts", 0)
    assert len(read_prompts(path)[0].messages) == 3


ROLES = [("user", "assistant"), ("User", "Assistant"), ("prompter", "gpt"), ("human", "model")]
NOT_LEARNT = [
    ("weight", 0),
    ("weight", 0.0),
    ("weight", False),
    ("loss_weight", 0.0),
    ("loss", False),
    ("train", False),
    ("training", "false"),
    ("loss_mask", 0),
    ("masked", True),
    ("masked", 1),
]


@pytest.mark.parametrize(("asks", "answers"), ROLES)
@pytest.mark.parametrize(("key", "value"), NOT_LEARNT)
@pytest.mark.parametrize("form", ["messages", "conversations"])
def test_a_turn_of_weight_0_is_not_learnt(
    tmp_path: Path, asks: str, answers: str, key: str, value: Any, form: str
) -> None:
    who, what = ("role", "content") if form == "messages" else ("from", "value")
    told = [(asks, "a?"), (answers, "BAD"), (asks, "b?"), (answers, "good")]
    turns: list[dict[str, Any]] = [{who: role, what: said} for role, said in told]
    turns[1][key] = value
    (made,) = read_demonstrations(rows_file(tmp_path / "a.jsonl", {form: turns}))
    assert made.response == "good" and not made.every_turn
    assert turns_of(made.prompt)[1] == ("assistant", "BAD")


@pytest.mark.parametrize(
    ("key", "value"), [("weight", 1), ("loss", True), ("masked", False), ("train", None)]
)
def test_a_turn_that_counts_is_learnt_with_the_others(tmp_path: Path, key: str, value: Any) -> None:
    turns: list[Any] = [{"role": role, "content": role} for role in ("user", "assistant") * 2]
    turns[1][key] = value
    (made,) = read_demonstrations(rows_file(tmp_path / "a.jsonl", {"messages": turns}))
    assert made.every_turn


def test_weights_in_a_completion(tmp_path: Path) -> None:
    turns: list[Any] = [
        {"role": role, "content": role} for role in ("assistant", "user", "assistant")
    ]
    turns[0]["weight"] = 0
    row = {"prompt": [{"role": "user", "content": "Q"}], "completion": turns}
    (made,) = read_demonstrations(rows_file(tmp_path / "a.jsonl", row))
    assert len(made.prompt.messages) == 3


def test_a_conversation_of_which_nothing_is_learnt_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "weight": 0}]
    good = {"prompt": "Q", "response": "A"}
    path = rows_file(tmp_path / "a.jsonl", {"messages": turns}, good)
    assert len(read_demonstrations(path)) == 1
    assert "1 rows contain nothing to train on" in caplog.text


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ({"weight": 0.5}, '"weight" of a turn is 0.5'),
        ({"loss_mask": [0, 1]}, '"loss_mask" of a turn is [0, 1]'),
        ({"weight": 0, "train": True}, "contradict each other"),
        ({"mask": 1}, '"mask" of a turn is 1'),
    ],
)
def test_weights_that_are_not_clear_are_refused(
    tmp_path: Path, weights: dict[str, Any], problem: str
) -> None:
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", **weights}]
    with pytest.raises(UserError) as caught:
        read_demonstrations(rows_file(tmp_path / "a.jsonl", {"messages": turns}))
    assert problem in caught.value.problem
