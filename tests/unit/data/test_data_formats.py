"""Other people's formats: what each gives, and what is refused with which words."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from alignloop.data import prompt_id, read_demonstrations, read_pairs, read_prompts, write_records
from alignloop.errors import UserError
from alignloop.records import Demonstration, Message, PreferencePair, Prompt

DATA = Path(__file__).parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real data are not here")


def rows_file(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def turns_of(prompt: Prompt) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in prompt.messages]


def own_prompt(text: str = "Why?", given: str = "p1") -> Prompt:
    return Prompt(prompt_id=given, messages=(Message(role="user", content=text),))


CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello", "weight": 1},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Goodbye"},
]
SYSTEM, HI = ("system", "Be kind."), ("user", "Hi")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "Q", "response": "A"}, [([("user", "Q")], "A")]),
        ({"prompt": "Q", "completion": " A"}, [([("user", "Q")], " A")]),
        ({"topic": "t", "turns": ["Q", "A"]}, [([("user", "Q")], "A")]),
        (
            {"topic": "t", "turns": ["1", "2", "3"]},
            [([("user", "1")], "2"), ([("user", "2")], "3")],
        ),
        (
            {
                "instruction": "Add",
                "instances": [{"input": "", "output": "5"}, {"input": "2 3", "output": "6"}],
            },
            [([("user", "Add")], "5"), ([("user", "Add\n\n2 3")], "6")],
        ),
        ({"instruction": "Do", "input": "x", "output": "y"}, [([("user", "Do\n\nx")], "y")]),
        ({"instruction": "Do", "output": "y"}, [([("user", "Do")], "y")]),
        (
            {"messages": CHAT},
            [([SYSTEM, HI, ("assistant", "Hello"), ("user", "Bye")], "Goodbye")],
        ),
        (
            {"messages": [*CHAT[:4], {**CHAT[4], "weight": 0}]},
            [([SYSTEM, HI], "Hello")],
        ),
        (
            {
                "system": "Be kind.",
                "conversations": [
                    {"from": "human", "value": "Hi"},
                    {"from": "gpt", "value": "Hello"},
                ],
            },
            [([SYSTEM, HI], "Hello")],
        ),
        (
            {"prompt": CHAT[:2], "completion": CHAT[2:]},
            [
                ([SYSTEM, HI], "Hello"),
                ([SYSTEM, HI, ("assistant", "Hello"), ("user", "Bye")], "Goodbye"),
            ],
        ),
        (
            {"instruction": "Do", "output": "y", "history": [["Hi", "Hello"]]},
            [([HI, ("assistant", "Hello"), ("user", "Do")], "y")],
        ),
        ({"question": "Q", "answer": "A"}, [([("user", "Q")], "A")]),
        ({"问题": "Q", "回答": "A"}, [([("user", "Q")], "A")]),
        ({"query": "Q", "response": "A"}, [([("user", "Q")], "A")]),
    ],
)
def test_demonstrations(tmp_path: Path, row: dict[str, Any], expected: list[Any]) -> None:
    found = read_demonstrations(rows_file(tmp_path, row))
    assert [(turns_of(item.prompt), item.response) for item in found] == expected
    assert {item.prompt.prompt_id for item in found} == {
        prompt_id(item.prompt.messages) for item in found
    }


def test_a_whole_conversation_is_one_demonstration_of_every_turn(tmp_path: Path) -> None:
    rows = [{"messages": CHAT}, {"messages": CHAT[1:3]}]
    found = read_demonstrations(rows_file(tmp_path, *rows))
    assert [item.every_turn for item in found] == [True, False]


def test_what_a_row_says_of_its_prompt_is_kept(tmp_path: Path) -> None:
    given = {"prompt_id": "mine", "category": "maths", "language": "en", "source": "school"}
    path = rows_file(
        tmp_path,
        {"prompt": "Q", "response": "A", **given},
        {"topic": "art", "turns": ["Q", "A"]},
    )
    first, second = (item.prompt for item in read_demonstrations(path))
    assert first == own_prompt("Q", "mine").model_copy(
        update={"category": "maths", "language": "en", "source": "school"}
    )
    assert (second.category, second.source) == ("art", "rows")


def test_prompt_id_is_twelve_hex_digits_of_roles_and_contents() -> None:
    # printf '[["user","中"]]' | b2sum --length 48
    assert prompt_id([Message(role="user", content="中")]) == "e841a7cad009"
    assert prompt_id([Message(role="assistant", content="中")]) != "e841a7cad009"


def test_our_own_records(tmp_path: Path) -> None:
    demonstration = Demonstration(prompt=own_prompt(), response="Because.", source="s")
    pair = PreferencePair(prompt=own_prompt(), chosen="a", rejected="b", margin=2.0, weight=0.5)
    path = tmp_path / "own.jsonl"
    write_records(path, [demonstration])
    assert read_demonstrations(path) == [demonstration]
    write_records(path, [pair])
    assert read_pairs(path) == [pair]
    assert read_prompts(path) == [own_prompt()]
    write_records(path, [own_prompt()])
    assert read_prompts(path) == [own_prompt()]


def transcript(*turns: str) -> str:
    speakers = ("Human", "Assistant")
    return "".join(f"\n\n{speakers[i % 2]}: {turn}" for i, turn in enumerate(turns))


MULTI_TURN = {
    "chosen": transcript("Hi", "Hello", "Is Human: a word?", "Yes.\n\nIt is."),
    "rejected": transcript("Hi", "Hello", "Is Human: a word?", "No."),
}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "Q", "chosen": "A", "rejected": "B"}, ([("user", "Q")], "A", "B")),
        (
            {"prompt": "Q", "rejected_unsafe": "B", "chosen_safe": "A"},
            ([("user", "Q")], "A", "B"),
        ),
        (
            MULTI_TURN,
            (
                [HI, ("assistant", "Hello"), ("user", "Is Human: a word?")],
                "Yes.\n\nIt is.",
                "No.",
            ),
        ),
        (
            {
                "chosen": transcript("Hi", "One.") + "\n\nAssistant: Two.",
                "rejected": transcript("Hi", "Three."),
            },
            ([HI], "One.\n\nTwo.", "Three."),
        ),
    ],
)
def test_pairs(tmp_path: Path, row: dict[str, Any], expected: tuple[Any, ...]) -> None:
    (pair,) = read_pairs(rows_file(tmp_path, row))
    assert (turns_of(pair.prompt), pair.chosen, pair.rejected) == expected
    assert (pair.preference, pair.weight, pair.source) == (1.0, 1.0, "rows")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"id": "koala_0", "prompt": "Q"}, [[("user", "Q")]]),
        ({"question_id": "1", "turns": ["Q", "And then?"]}, [[("user", "Q")]]),
        ({"messages": CHAT[:2]}, [[SYSTEM, HI]]),
        ({"messages": CHAT[:3]}, [[SYSTEM, HI]]),
        ({"prompt": CHAT[:2]}, [[SYSTEM, HI]]),
        ({"conversations": [{"from": "human", "value": "Hi"}]}, [[HI]]),
        ({"goal": "Q", "target": "Sure"}, [[("user", "Q")]]),
        ({"ID": "1", "问题": "Q", "违规类型": "x"}, [[("user", "Q")]]),
        ({"question": "Q", "x": 1}, [[("user", "Q")]]),
        (
            {"context": "C", "question": "Q", "ans0": "x", "ans1": "y", "ans2": "z"},
            [[("user", "C\nQ\n(A) x\n(B) y\n(C) z")]],
        ),
        ({"instruction": "Do", "output": "y"}, [[("user", "Do")]]),
        ({"prompt": "Q", "response": "A"}, [[("user", "Q")]]),
        (MULTI_TURN, [[HI, ("assistant", "Hello"), ("user", "Is Human: a word?")]]),
    ],
)
def test_prompts(tmp_path: Path, row: dict[str, Any], expected: list[Any]) -> None:
    assert [turns_of(prompt) for prompt in read_prompts(rows_file(tmp_path, row))] == expected


def test_a_repeated_prompt_is_given_once(tmp_path: Path) -> None:
    path = rows_file(tmp_path, {"prompt": "Q"}, {"prompt": "R"}, {"prompt": "Q"})
    assert [prompt.text for prompt in read_prompts(path)] == ["Q", "R"]


def test_one_prompt_id_for_two_prompts(tmp_path: Path) -> None:
    path = rows_file(tmp_path, {"prompt": "Q", "prompt_id": "x"}, {"prompt": "R", "prompt_id": "x"})
    with pytest.raises(UserError, match='prompt_id "x" names two different prompts'):
        read_prompts(path)


PAIR = {"prompt": "Q", "chosen": "A", "rejected": "B"}
OWN = {"prompt_id": "p", "messages": [{"role": "user", "content": "Q"}]}


@pytest.mark.parametrize(
    ("read", "row", "problem", "fix"),
    [
        (read_demonstrations, {"prompt": "Q", "response": " "}, '"response" is empty', "write"),
        (read_demonstrations, {"prompt": "", "response": "A"}, '"prompt" is empty', "write"),
        (read_demonstrations, {"prompt": "Q", "response": None}, '"response" is null', "text"),
        (read_demonstrations, {"prompt": OWN, "response": ""}, '"response" is empty', "write"),
        (
            read_demonstrations,
            {"prompt": "Q", "response": "\ud800"},
            '"response" contains half a character',
            "UTF-8",
        ),
        (
            read_demonstrations,
            {"prompt": {"prompt_id": "p", "messages": []}, "response": "A"},
            "prompt.messages: Tuple should have at least 1 item",
            "keys of Demonstration",
        ),
        (
            read_prompts,
            {"prompt_id": "p", "messages": [{"role": "user", "content": " "}]},
            '"content" is empty',
            "write",
        ),
        (read_demonstrations, {"topic": "t", "turns": ["Q", " "]}, '"turns" is empty', "write"),
        (read_demonstrations, {"topic": "t", "turns": ["Q", 3]}, '"turns" is not a text', "text"),
        (read_demonstrations, {"topic": "t", "turns": ["Q"]}, '"turns" contains no answer', "two"),
        (
            read_demonstrations,
            {"instruction": "Do", "instances": []},
            '"instances" is empty',
            "at least one",
        ),
        (
            read_demonstrations,
            {"instruction": "Do", "instances": ["x"]},
            '"output" is not a text',
            "text",
        ),
        (read_demonstrations, {"instruction": "Do", "output": ""}, '"output" is empty', "write"),
        (read_demonstrations, {"messages": []}, '"messages" is empty', "at least one"),
        (
            read_demonstrations,
            {"messages": CHAT[:2]},
            "this row contains prompts, not demonstrations",
            "read the file as prompts (openai-messages)",
        ),
        (
            read_demonstrations,
            {"messages": [CHAT[0], CHAT[2]]},
            "does not follow a user message",
            "user message",
        ),
        (
            read_demonstrations,
            {"messages": [{"role": "teacher", "content": "x"}]},
            'the role "teacher"',
            "system",
        ),
        (read_prompts, {"messages": [CHAT[0]]}, '"messages" contains no question', "user message"),
        (read_prompts, {"turns": []}, '"turns" is empty', "at least one"),
        (read_prompts, {"prompt": "\n"}, '"prompt" is empty', "write"),
        (read_pairs, {**PAIR, "chosen": ""}, '"chosen" is empty', "write"),
        (read_pairs, {**PAIR, "rejected": ""}, '"rejected" is empty', "write"),
        (read_pairs, {**PAIR, "prompt": " "}, '"prompt" is empty', "write"),
        (read_pairs, {**PAIR, "rejected": "A "}, "chosen and rejected are the same text", "remove"),
        (read_pairs, {**PAIR, "prompt": OWN, "rejected": "A"}, "are the same text", "remove"),
        (
            read_pairs,
            {"prompt": "Q", "rejected_unsafe": "A", "chosen_safe": "A"},
            "chosen and rejected are the same text",
            "remove",
        ),
        (
            read_pairs,
            {"chosen": transcript("Q", ""), "rejected": transcript("Q", "B")},
            '"chosen" has an empty response',
            "remove",
        ),
        (
            read_pairs,
            {"chosen": transcript("", "A"), "rejected": transcript("", "B")},
            '"chosen" has an empty turn',
            "remove",
        ),
        (
            read_pairs,
            {"chosen": transcript("Q", "A"), "rejected": transcript("Q", "A")},
            "chosen and rejected are the same text",
            "remove",
        ),
        (
            read_pairs,
            {"chosen": transcript("Q", "A"), "rejected": transcript("R", "B")},
            "differ before their last turn",
            "same conversation",
        ),
        (
            read_pairs,
            {"chosen": transcript("Q", "A"), "rejected": transcript("Q", "B", "C")},
            '"rejected" does not go from a question to an answer',
            "end with an answer",
        ),
        (
            read_pairs,
            {"chosen": "A", "rejected": "B"},
            '"chosen" starts neither with a blank line and "Human:"',
            'add the key "prompt"',
        ),
    ],
)
def test_refused_rows(
    tmp_path: Path, read: Any, row: dict[str, Any], problem: str, fix: str
) -> None:
    path = rows_file(tmp_path, row)
    with pytest.raises(UserError) as caught:
        read(path)
    assert caught.value.where == f"{path}:1"
    assert problem in caught.value.problem
    assert fix in caught.value.fix


def test_a_missing_key_names_the_keys_and_the_known_formats(tmp_path: Path) -> None:
    path = rows_file(tmp_path, {"ask": "Q", "tell": "A"})
    with pytest.raises(UserError) as caught:
        read_demonstrations(path)
    assert caught.value.where == f"{path}:1"
    assert "a key is missing: the keys here (ask, tell)" in caught.value.problem
    for known in ("{prompt, completion}", "chatterbot {topic, turns}", "openai-messages"):
        assert known in caught.value.fix


def test_the_first_ten_refused_rows_in_one_error(tmp_path: Path) -> None:
    bad = {"prompt": "Q", "response": ""}
    path = rows_file(tmp_path, {"prompt": "Q", "response": "A"}, *[bad] * 12)
    with pytest.raises(UserError) as caught:
        read_demonstrations(path)
    assert caught.value.problem == "12 rows are refused"
    shown = [line for line in str(caught.value).splitlines() if '"response" is empty' in line]
    assert [line.split(":")[-2 if i else -3] for i, line in enumerate(shown)] == [
        str(number) for number in range(2, 12)
    ]
    assert str(caught.value).count("write a text in") == 1


def test_skip_refused_returns_the_good_rows_and_logs_the_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = rows_file(tmp_path, {**PAIR, "rejected": "A"}, PAIR, {"x": 1})
    with caplog.at_level(logging.WARNING):
        (pair,) = read_pairs(path, skip_refused=True)
    assert pair.rejected == "B"
    assert "skipped 2 bad rows" in caplog.text


def test_skip_refused_does_not_return_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="are the same text"):
        read_pairs(rows_file(tmp_path, {**PAIR, "rejected": "A"}), skip_refused=True)


def test_an_array_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="no records in the file"):
        read_pairs(path)


@needs_data
def test_real_chatterbot() -> None:
    # Counted by hand: sum of (turns - 1) over the rows. Line 1779 of the English file is a text
    # that was cut into its 88 characters, blanks among them, so that it is refused.
    english = DATA / "demos" / "chatterbot_en.jsonl"
    with pytest.raises(UserError) as caught:
        read_demonstrations(english)
    assert caught.value.where == f"{english}:1779"
    found = read_demonstrations(english, skip_refused=True)
    assert len(found) == 4419 - 2026 - 87
    assert (found[2].prompt.text, found[2].response) == ("Are you sentient?", "Sort of.")
    chinese = read_demonstrations(DATA / "demos" / "chatterbot_zh.jsonl")
    assert len(chinese) == 1019 - 467
    assert chinese[1].response == "Python"


@needs_data
def test_real_self_instruct() -> None:
    found = read_demonstrations(DATA / "demos" / "selfinstruct_seed_tasks.jsonl")
    assert len(found) == 175
    assert found[1].prompt.text == (
        "What is the relation between the given pairs?\n\nNight : Day :: Right : Left"
    )


@needs_data
def test_real_hh_transcripts(caplog: pytest.LogCaptureFixture) -> None:
    path = DATA / "pref_en" / "hh_harmless_base_test.jsonl.gz"
    with pytest.raises(UserError) as caught:
        read_pairs(path)
    assert caught.value.problem == "4 rows are refused"
    for line in (87, 517, 926, 1104):
        assert f'{path}:{line}: the transcript in "chosen" has an empty response' in str(
            caught.value
        )
    pairs = read_pairs(path, skip_refused=True)
    assert len(pairs) == 2312 - 4
    roles = [message.role for message in pairs[0].prompt.messages]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    assert pairs[0].chosen.startswith("No, sorry!  All of these involve a pen")
    assert pairs[0].rejected.startswith("There are lots of funny things")


@needs_data
def test_real_jade_and_koala() -> None:
    pairs = read_pairs(DATA / "pref_zh" / "jade_v3_pairs_dev.jsonl")
    assert len(pairs) == 408
    assert pairs[0].chosen.startswith("很抱歉")
    prompts = read_prompts(DATA / "helpful" / "koala_test_set.jsonl")
    assert len(prompts) == 180
    assert prompts[2].text.startswith("List the layers of the TCP/IP model")
    assert prompts[0].source == "koala_test_set"
