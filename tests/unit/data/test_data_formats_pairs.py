"""Formats of judged answers: what each gives, worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignloop.data import read_demonstrations, read_pairs, read_prompts
from alignloop.errors import UserError
from alignloop.records import PreferencePair, Prompt


def rows_file(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def turns_of(prompt: Prompt) -> str:
    return " ".join(f"{message.role[0]}:{message.content}" for message in prompt.messages)


def told(pair: PreferencePair) -> tuple[str, str, str]:
    return turns_of(pair.prompt), pair.chosen, pair.rejected


ASK, GOOD, BAD = (
    {"role": role, "content": c} for role, c in [("user", "Q"), *[("assistant", "")] * 2]
)
GOOD, BAD = {**GOOD, "content": "A"}, {**BAD, "content": "B"}
SHARE = [{"from": "human", "value": "Q"}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [ASK], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": [ASK], "chosen": "A", "rejected": BAD},
        {"prompt": [ASK], "chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
        {"prompt": "Q", "chosen": [ASK, GOOD], "rejected": [ASK, BAD], "score_chosen": 5},
        {"prompt": "Q", "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
        {"chosen": "Q A", "rejected": "Q B"},
        {"conversations": SHARE, "chosen": {"from": "gpt", "value": "A"}, "rejected": "B"},
        {"messages": [ASK], "chosen": "A", "rejected": "B"},
        {"question": "Q", "chosen": "A", "rejected": "B", "system": ""},
        {"instruction": "Q", "input": "", "chosen": "A", "rejected": "B"},
        {"question": "Q", "response_j": "A", "response_k": "B"},
        {"input": "Q", "output_1": "B", "output_2": "A", "label": 2},
        {"input": "Q", "output_1": "A", "output_2": "B", "label": "1"},
        {"prompt": "Q", "response_a": "B", "response_b": "A", "winner": "B"},
        {"prompt": "Q", "回答A": "B", "回答B": "A", "选择": "b"},
        {"问题": "Q", "好回答": "A", "差回答": "B"},
        {"query": "Q", "chosen_response": "A", "rejected_response": "B"},
        {"instruction": "Q", "input": "", "output": ["A", "B"]},
        {"history": "Q", "human_ref_A": "B", "human_ref_B": "A", "labels": 0, "score_A": 1},
        {
            "prompt": "Q",
            "response_0": "A",
            "response_1": "B",
            "is_response_0_safe": True,
            "better_response_id": 0,
            "safer_response_id": 1,
        },
        {
            "question": {"full_text": "Q"},
            "answer_0": "B",
            "answer_1": "A",
            "score_0": -1,
            "score_1": 1,
        },
        {"conversation_a": [ASK, GOOD], "conversation_b": [ASK, BAD], "winner": "model_a"},
        {
            "prompt": '["Q"]',
            "response_a": '["B"]',
            "response_b": '["A"]',
            "winner_model_a": 0,
            "winner_model_b": 1,
            "winner_tie": 0,
        },
    ],
)
def test_one_pair(tmp_path: Path, row: dict[str, Any]) -> None:
    (pair,) = read_pairs(rows_file(tmp_path, row))
    asked, chosen, rejected = told(pair)
    assert (asked, chosen.strip(), rejected.strip()) == ("u:Q", "A", "B")
    assert (pair.preference, pair.weight, pair.margin) == (1.0, 1.0, 0.0)


def test_the_implicit_prompt_is_what_both_texts_begin_with(tmp_path: Path) -> None:
    # TRL's own example: the space belongs to the answers.
    row = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    (pair,) = read_pairs(rows_file(tmp_path, row))
    assert told(pair) == ("u:The sky is", " blue.", " green.")


def test_turns_that_both_answers_share_belong_to_the_prompt(tmp_path: Path) -> None:
    more = [GOOD, {"role": "user", "content": "R"}]
    row = {
        "prompt": [ASK],
        "chosen": [*more, {"role": "assistant", "content": "1"}],
        "rejected": [*more, {"role": "assistant", "content": "2"}],
    }
    (pair,) = read_pairs(rows_file(tmp_path, row))
    assert told(pair) == ("u:Q a:A u:R", "1", "2")


def test_a_system_prompt_comes_before_the_question(tmp_path: Path) -> None:
    row = {"system": "S", "question": "Q", "chosen": "A", "rejected": "B"}
    assert told(*read_pairs(rows_file(tmp_path, row))) == ("s:S u:Q", "A", "B")


@pytest.mark.parametrize(
    "row",
    [
        {"问题": "Q", "回答A": "x", "评分A": "6 分", "回答B": "y", "评分B": 9},
        {"问题": "Q", "回答A": "x", "回答A评分": "6", "回答B": "y", "回答B评分": "9"},
        {"问题": "Q", "回答A": "x（6 分）", "回答B": "y 9 分"},
        {"question": "Q", "answer_1": "x", "answer_2": "y", "score_1": 6, "score_2": "9/10"},
        {"prompt": "Q", "responses": ["x", "y"], "scores": [6, 9]},
        {
            "prompt": "Q",
            "completions": [
                {"response": "x", "overall_score": 6.0},
                {"response": "y", "overall_score": 9},
            ],
        },
        {"text": "问题：Q\n回答A：x 6 分\n回答B：y（9 分）"},
        {"text": "Q\n回答A（6分）：x\n回答B（9分）：y"},
        {"内容": "问题：Q\n回答A 6 分：x\n回答B 9 分：y"},
        {"问题": "Q", "回答A": "x", "A评分": "6", "回答B": "y", "B评分": "9"},
        {"问题": "Q", "A回答": "x", "A分数": 6, "B回答": "y", "B分数": 9},
        {"prompt": "Q", "response_1": "x", "response_2": "y", "preference_strength": 3},
    ],
)
def test_ratings_become_a_pair_with_strength(tmp_path: Path, row: dict[str, Any]) -> None:
    (pair,) = read_pairs(rows_file(tmp_path, row))
    assert told(pair) == ("u:Q", "y", "x")
    assert (pair.margin, pair.weight, pair.preference) == (3.0, 1.0, 1.0)


def test_k_ratings_are_one_group_with_ties(tmp_path: Path) -> None:
    row = {"prompt": "Q", "responses": ["x", "y", "z"], "scores": [1, 2, 2]}
    pairs = read_pairs(rows_file(tmp_path, row))
    assert [told(pair)[1:] for pair in pairs] == [("y", "x"), ("z", "x"), ("y", "z")]
    assert [pair.preference for pair in pairs] == [1.0, 1.0, 0.5]
    assert [pair.margin for pair in pairs] == [1.0, 1.0, 0.0]
    assert [pair.weight for pair in pairs] == [1 / 3] * 3
    assert len({pair.comparison_id for pair in pairs}) == 1


def test_a_strength_is_3_at_most(tmp_path: Path) -> None:
    row = {"prompt": "Q", "responses": ["x", "y"], "scores": [10, 90]}
    assert [pair.margin for pair in read_pairs(rows_file(tmp_path, row))] == [3.0]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "responses": ["a", "b", "c", "d"], "ranks": [2, 1, 4, 3]},
        {"prompt": "Q", "responses": ["a", "b", "c", "d"], "ranking": [2, 1, 4, 3]},
        {"prompt": "Q", "responses": ["a", "b", "c", "d"], "ranking": [1, 0, 3, 2]},
        {"prompt": "Q", "responses": ["a", "b", "c", "d"], "ranking": ["b", "a", "d", "c"]},
        {"问题": "Q", "回答A": "a", "回答B": "b", "回答C": "c", "回答D": "d", "排序": "B>A>D>C"},
        {
            "问题": "Q",
            "回答A": "a",
            "回答B": "b",
            "回答C": "c",
            "回答D": "d",
            "排名A": "2",
            "排名B": "1",
            "排名C": "4",
            "排名D": "3",
        },
        {
            "prompt": "Q",
            "answers": [{"text": t, "rank": r} for t, r in zip("abcd", [2, 1, 4, 3], strict=True)],
        },
    ],
)
def test_a_ranking_of_k_answers_is_a_group_of_pairs(tmp_path: Path, row: dict[str, Any]) -> None:
    pairs = read_pairs(rows_file(tmp_path, row))
    found = {told(pair)[1:] for pair in pairs}
    assert found == {("b", "a"), ("b", "d"), ("b", "c"), ("a", "d"), ("a", "c"), ("d", "c")}
    assert {pair.weight for pair in pairs} == {1 / 6} and len(pairs) == 6  # 1 / C(4, 2)
    assert {pair.margin for pair in pairs} == {0.0}


def test_a_ranking_with_a_tie(tmp_path: Path) -> None:
    row = {"prompt": "Q", "responses": ["a", "b", "c"], "ranking": "2 > 1 = 3"}
    pairs = read_pairs(rows_file(tmp_path, row))
    assert [(p.chosen, p.rejected, p.preference) for p in pairs] == [
        ("b", "a", 1.0),
        ("a", "c", 0.5),
        ("b", "c", 1.0),
    ]


def test_a_preference_table(tmp_path: Path) -> None:
    row = {"question": "Q", "passages": [["t"]], "preference": [0, 1, 2]}
    row |= {f"prediction {n}": text for n, text in enumerate("abc", start=1)}
    pairs = read_pairs(rows_file(tmp_path, row))
    assert [(p.chosen, p.rejected, p.preference) for p in pairs] == [
        ("a", "b", 0.5),
        ("a", "c", 1.0),
        ("c", "b", 1.0),
    ]
    assert {pair.weight for pair in pairs} == {1 / 3}


def test_the_chosen_one_of_three_beats_the_others(tmp_path: Path) -> None:
    row = {
        "prompt": "Q",
        "answer_a": "x",
        "answer_b": "y",
        "answer_c": "z",
        "preference": "answer_b",
    }
    pairs = read_pairs(rows_file(tmp_path, row))
    assert [(p.chosen, p.rejected, p.weight) for p in pairs] == [("y", "x", 0.5), ("y", "z", 0.5)]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"input": "Q", "output_1": "x", "output_2": "y", "label": 3}, '"label" is 3'),
        ({"prompt": "Q", "responses": ["x", "x "], "scores": [1, 2]}, "all answers are the same"),
        ({"问题": "Q", "回答A": "x", "评分A": 6, "回答B": "y"}, "answer b has no score"),
        ({"prompt": "Q", "responses": ["x", "y"], "ranking": "1 > 3"}, '"ranking" contains "3"'),
        ({"prompt": "Q", "responses": ["x", "y"], "ranking": "1"}, "answer 2 has no rank"),
        ({"question": "Q", "answer 1": "x", "answer 2": "y", "preference": [7]}, "contains 7"),
        ({"prompt": "Q", "responses": ["x", " "], "scores": [1, 2]}, '"answer 2" is empty'),
        ({"prompt": [GOOD], "chosen": "A", "rejected": "B"}, '"prompt" contains no question'),
        (
            {"prompt": [ASK], "chosen": [ASK], "rejected": [BAD]},
            '"chosen" does not end with an answer',
        ),
        ({"messages": [ASK, GOOD], "label": True}, "no prompt has both"),
        ({"question": "Q", "answer": "A"}, "those of demonstrations, not pairs"),
    ],
)
def test_refused(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError) as caught:
        read_pairs(rows_file(tmp_path, row))
    assert problem in caught.value.problem


KTO = {"messages": [ASK, GOOD], "label": True}
UNPAIRED = {"prompt": "Q", "completion": "A", "label": "true"}


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (KTO, {"messages": [ASK, BAD], "label": False}),
        (UNPAIRED, {"prompt": [ASK], "completion": [BAD], "label": 0}),
        (
            {"instruction": "Q", "output": "A", "kto_tag": True},
            {"conversations": [*SHARE, {"from": "gpt", "value": "B"}], "label": "False"},
        ),
    ],
)
def test_labels_of_one_prompt_make_a_pair_and_good_ones_demonstrations(
    tmp_path: Path, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    path = rows_file(tmp_path, good, bad)
    assert [told(pair) for pair in read_pairs(path)] == [("u:Q", "A", "B")]
    assert [made.response for made in read_demonstrations(path)] == ["A"]
    assert [turns_of(prompt) for prompt in read_prompts(path)] == ["u:Q"]


def test_each_good_label_meets_each_bad_one_with_their_share_of_the_weight(tmp_path: Path) -> None:
    rows = [{"prompt": "Q", "completion": text, "label": text < "c"} for text in "abcd"]
    pairs = read_pairs(rows_file(tmp_path, *rows))
    assert [(p.chosen, p.rejected, p.weight) for p in pairs] == [
        (good, bad, 0.25) for good in "ab" for bad in "cd"
    ]


def node(text: str, role: str, *replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"text": text, "role": role, "replies": list(replies), "lang": "en", **more}


TREE = {
    "message_tree_id": "t",
    "prompt": node(
        "Q",
        "prompter",
        node("best", "assistant", node("R", "prompter", node("S", "assistant")), rank=0),
        node("worst", "assistant", rank=2),
        node("middle", "assistant", rank=1),
        node("gone", "assistant", deleted=True, rank=3),
    ),
}


def test_trees(tmp_path: Path) -> None:
    path = rows_file(tmp_path, TREE)
    assert [(told(pair), pair.weight) for pair in read_pairs(path)] == [
        (("u:Q", "best", "worst"), 1 / 3),
        (("u:Q", "best", "middle"), 1 / 3),
        (("u:Q", "middle", "worst"), 1 / 3),
    ]
    assert [(turns_of(d.prompt), d.response) for d in read_demonstrations(path)] == [
        ("u:Q", "best"),
        ("u:Q", "worst"),
        ("u:Q", "middle"),
        ("u:Q a:best u:R", "S"),
    ]
    prompts = read_prompts(path)
    assert [turns_of(prompt) for prompt in prompts] == ["u:Q", "u:Q a:best u:R"]
    assert {prompt.language for prompt in prompts} == {"en"}


def test_a_format_may_be_forced(tmp_path: Path) -> None:
    # Both alpaca and question-response fit this row; the first one reads it unless told.
    path = rows_file(tmp_path, {"instruction": "Q", "output": "A", "response": "B"})
    assert [d.response for d in read_demonstrations(path)] == ["A"]
    found = read_demonstrations(path, format="question-response")
    assert [d.response for d in found] == ["B"]
    with pytest.raises(UserError, match="a key is missing"):
        read_demonstrations(path, format="sharegpt")
    with pytest.raises(UserError, match=r'no format is named "alpacca".*alpaca'):
        read_demonstrations(path, format="alpacca")
    with pytest.raises(UserError, match='"alpaca" contains demonstrations, not pairs'):
        read_pairs(path, format="alpaca")


@pytest.mark.parametrize(
    "row",
    [
        {"conversation_a": [ASK, GOOD], "conversation_b": [ASK, BAD], "winner": "tie (bothbad)"},
        {"prompt": "Q", "response_1": "A", "response_2": "B", "preference_strength": 0},
        {
            "prompt": "Q",
            "response_a": "A",
            "response_b": "B",
            "winner_model_a": 0,
            "winner_model_b": 0,
            "winner_tie": 1,
        },
        {
            "question": {"full_text": "Q"},
            "answer_0": "A",
            "answer_1": "B",
            "score_0": 0,
            "score_1": 0,
        },
    ],
)
def test_published_ties(tmp_path: Path, row: dict[str, Any]) -> None:
    (pair,) = read_pairs(rows_file(tmp_path, row))
    assert (told(pair), pair.preference, pair.margin) == (("u:Q", "A", "B"), 0.5, 0.0)


def test_summaries_of_a_post(tmp_path: Path) -> None:
    row = {"info": {"post": "P"}, "summaries": [{"text": "B"}, {"text": "A"}], "choice": 1}
    (pair,) = read_pairs(rows_file(tmp_path, row))
    assert told(pair) == ("u:Summarize the following text.\n\nP", "A", "B")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"history": "Q", "human_ref_A": "A", "human_ref_B": "B", "labels": 2}, '"labels" is 2'),
        (
            {"prompt": "Q", "response_1": "A", "response_2": "B", "preference_strength": 4},
            '"preference_strength" is 4',
        ),
        (
            {"conversation_a": [ASK, GOOD, ASK], "conversation_b": [ASK, BAD], "winner": "tie"},
            "continues after the first answer",
        ),
        ({"question": {"full_text": "Q"}, "answer_0": "A", "answer_1": "B"}, "a score is missing"),
        (
            {
                "prompt": '["Q", "R"]',
                "response_a": '["A", "A"]',
                "response_b": '["B", "B"]',
                "winner_model_a": 1,
            },
            "more than one exchange",
        ),
        (
            {
                "prompt": "Q",
                "response_a": "A",
                "response_b": "B",
                "winner_model_a": 1,
                "winner_model_b": 1,
            },
            "three winner columns",
        ),
        ({"info": {"post": "P"}, "summaries": [{"text": "A"}], "choice": 0}, "has 1 items"),
    ],
)
def test_published_rows_that_are_refused(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        read_pairs(rows_file(tmp_path, row))
