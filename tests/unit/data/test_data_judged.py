"""Layouts of judged answers: AlpacaEval, PandaLM, choices before points, points in texts."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignloop.data import read_pairs
from alignloop.errors import UserError
from alignloop.label.new_items import NewItem, items_of_file


def rows_file(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


TWO = {"question": "Q", "answer_a": "x", "answer_b": "y"}


# --- published layouts ---------------------------------------------------------------------------


def test_alpaca_eval(tmp_path: Path) -> None:
    row = {
        "instruction": "Q",
        "output_1": "x",
        "output_2": "y",
        "generator_1": "m",
        "annotator": "j",
    }
    values = [1.0, 2.0, 1.5, 1.93, 0, 1.25]
    pairs = read_pairs(rows_file(tmp_path, *[{**row, "preference": v} for v in values]))
    assert [(p.chosen, p.preference) for p in pairs] == [
        ("x", 1.0),
        ("y", 1.0),
        ("x", 0.5),
        ("y", pytest.approx(0.93)),
        ("x", 0.5),
        ("x", 0.75),
    ]
    assert {pair.source for pair in pairs} == {"j"}


def test_pandalm_is_one_judgement_for_each_annotator(tmp_path: Path) -> None:
    row = {"instruction": "Q", "input": "", "response1": "x", "response2": "y"}
    votes = {"annotator1": 1, "annotator2": 2, "annotator3": 0}
    path = rows_file(tmp_path, {**row, **votes})
    pairs = read_pairs(path)
    assert [(p.chosen, p.preference, p.source, p.weight) for p in pairs] == [
        ("x", 1.0, "annotator1", 1.0),
        ("y", 1.0, "annotator2", 1.0),
        ("x", 0.5, "annotator3", 1.0),
    ]
    assert len({pair.comparison_id for pair in pairs}) == 1
    (item,) = items_of_file(path)  # one question, and no right answer where they disagree
    assert isinstance(item, NewItem) and len(item.comparison.responses) == 2
    (refused,) = items_of_file(path, gold=True)
    assert not isinstance(refused, NewItem) and "needs a right answer" in refused.problem


@pytest.mark.parametrize(("second", "gold"), [("A", "x"), ("tie", None), ("B", None)])
def test_gold_needs_all_who_judged(tmp_path: Path, second: str, gold: str | None) -> None:
    rows = [{**TWO, "winner": one, "annotator": f"p{one}"} for one in ("A", second)]
    (item,) = items_of_file(rows_file(tmp_path, *rows), gold=True)
    if gold is None:
        assert not isinstance(item, NewItem)
    else:
        assert isinstance(item, NewItem)
        named = {one.response_id: one.text for one in item.comparison.responses}
        assert named[str(item.comparison and item.gold)] == gold


def test_import_reads_columns_as_the_stages_do(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{n}", "responses": [f"x{n}", f"y{n}"], "label": n % 2} for n in range(4)]
    found = items_of_file(rows_file(tmp_path, *rows), gold=True)
    items = [item for item in found if isinstance(item, NewItem)]
    texts = {one.response_id: one.text for item in items for one in item.comparison.responses}
    assert [texts[str(item.gold)] for item in items] == ["x0", "y1", "x2", "y3"]


@pytest.mark.parametrize(
    "row",
    [
        {"responses": ["x", "y"], "labels": [0, 1]},
        {"responses": ["x", "y"], "chosen": "y"},
        {"answers": [{"text": "x", "label": 0}, {"text": "y", "label": 1}]},
        {"answers": [{"id": "r7", "text": "x"}, {"id": "r9", "text": "y"}], "best": "r9"},
        {"answer_a": "x", "answer_b": "y", "model_a": "m-1", "model_b": "m-2", "winner": "m-2"},
        {"answer_a": "x", "answer_b": "y", "winner": ["B"]},
        {"回答甲": "x", "回答乙": "y", "胜者": "乙"},
        {"output": ["x", "y"], "preference": 2},
        {"answer_a": "x", "answer_b": "y", "winner": "B", "label": "math"},
        {"answer_a": "x", "answer_b": "y", "winner": "B", "preference": 2.0},
    ],
)
def test_other_ways_to_choose(tmp_path: Path, row: dict[str, Any]) -> None:
    (pair,) = read_pairs(rows_file(tmp_path, {"question": "Q", **row}))
    assert (pair.chosen, pair.rejected) == ("y", "x")


def test_a_choice_goes_before_ranks_and_points_and_takes_the_strength_that_agrees(
    tmp_path: Path,
) -> None:
    rows = [
        {**TWO, "winner": "a", "score_a": 3, "score_b": 5},
        {**TWO, "winner": "b", "score_a": 3, "score_b": 5},
        {**TWO, "winner": "a", "rank_a": 2, "rank_b": 1},
        {**TWO, "rank_a": 2, "rank_b": 1, "score_a": 9, "score_b": 5, "winner": "a"},
    ]
    pairs = read_pairs(rows_file(tmp_path, *rows))
    assert [(p.chosen, p.margin) for p in pairs] == [("x", 0), ("y", 2), ("x", 0), ("x", 3)]
    ranked = {**TWO, "label": "maths", "rank_a": 2, "rank_b": 1, "score_a": 9, "score_b": 5}
    assert [p.chosen for p in read_pairs(rows_file(tmp_path, ranked))] == ["y"]


def test_an_empty_choice_leaves_the_points_to_decide(tmp_path: Path) -> None:
    row = {**TWO, "score_a": 3, "score_b": 5}
    assert [p.chosen for p in read_pairs(rows_file(tmp_path, {**row, "winner": None}))] == ["y"]
    rows = [{**row, "winner": None}, {**row, "winner": "A"}]
    (pair,) = read_pairs(rows_file(tmp_path, *rows), skip_refused=True)
    assert pair.chosen == "x"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"winner": "A", "vote": "B"}, "two columns disagree"),
        ({"score_a": None, "score_b": None}, "answer a has no score"),
        ({"score_a": "good", "score_b": "bad"}, "answer a has no score"),
    ],
)
def test_judged_rows_that_are_refused(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        read_pairs(rows_file(tmp_path, {**TWO, **row}))


def test_a_row_that_nobody_judged_among_judged_ones(tmp_path: Path) -> None:
    """Parquet writes no key for a null: the row is no question alone."""
    rows = [{**TWO, "winner": "A"}, TWO]
    with pytest.raises(UserError, match="as other rows of this file do"):
        read_pairs(rows_file(tmp_path, *rows))


# --- points in texts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        [{"answer_a": "It is 3/4", "answer_b": "It is 1/4"}],
        [{"answer_a": "It is 3/10", "answer_b": "It is 7/10"}],
        [{"answer_a": "They scored 21 points", "answer_b": "They scored 35 points"}],
        [{"answer_a": "一队得了 6 分", "answer_b": "二队得了 9 分"}],
        [{"answer_a": "x (6 分)", "answer_b": "y (9 分)"}, {"answer_a": "x", "answer_b": "y"}],
        [{"answer_a": "x (6 分)", "answer_b": "y (9/10)"}],
        [
            {"answer_a": "x (6/10)", "answer_b": "y (9/10)"},
            {"answer_a": "a (1/5)", "answer_b": "b (2/5)"},
        ],
    ],
)
def test_what_texts_look_like_decides_nothing_alone(tmp_path: Path, rows: list[Any]) -> None:
    path = rows_file(tmp_path, *[{"question": f"Q{n}", **row} for n, row in enumerate(rows)])
    with pytest.raises(UserError, match="those of prompts, not pairs"):
        read_pairs(path, skip_refused=True)


@pytest.mark.parametrize(
    "row",
    [
        {"answer_a": "x（6 分）", "answer_b": "y 9 分"},
        {"answer_a": "x [6/10]", "answer_b": "y (9/10)"},
        {"answer_a": "x. Score: 6", "answer_b": "y (rating: 9)"},
        {"回答A": "x。6 分", "回答B": "y。\n9 分"},
        {"回答A（评分：6分）": "x", "回答B（评分：9分）": "y"},
        {"回答A": {"内容": "x", "评分": 6}, "回答B": {"内容": "y", "评分": 9}},
        {"回答A": "x", "回答A（评分）": "6分", "回答B": "y", "回答B（评分）": "9分"},
    ],
)
def test_ratings_in_layouts_that_say_so(tmp_path: Path, row: dict[str, Any]) -> None:
    (pair,) = read_pairs(rows_file(tmp_path, {"问题": "Q", **row}))
    assert (pair.chosen.rstrip("。."), pair.rejected.rstrip("。."), pair.margin) == ("y", "x", 3.0)


@pytest.mark.parametrize(
    "told",
    [
        "问题：Q\n回答A（评分：6分）：\nx\n回答B（评分：9分）：\ny",
        "问题：Q\n\n回答A（评分：6分）：\n\nx\n\n回答B（评分：9分）：\n\ny\n",
        "问题（Prompt）：Q\n回答A（6分）：x\n回答B（9分）：y",
        "Q\n回答 A（得分 6 分）：x\n回答 B（得分 9 分）：y",
        "Question: Q\nAnswer A (score: 6/10): x\nAnswer B (score: 9/10): y",
        "Prompt: Q\nResponse 1 [rating 6]: x\nResponse 2 [rating 9]: y",
        "问题：Q\n回答A：x\n评分：6分\n回答B：y\n评分：9分",
    ],
)
def test_the_textbooks_rated_pair(tmp_path: Path, told: str) -> None:
    (pair,) = read_pairs(rows_file(tmp_path, {"text": told}))
    assert (pair.prompt.text, pair.chosen, pair.rejected) == ("Q", "y", "x")
    assert pair.margin == 3.0
    more = rows_file(tmp_path, {"text": told}, {"text": "Another text, of no pair."})
    assert len(read_pairs(more, skip_refused=True)) == 1


@pytest.mark.parametrize("key", ["comparison_id", "judgement_id", "vote_id", "preference_index"])
def test_an_id_of_a_judgement_names_no_answer(tmp_path: Path, key: str) -> None:
    row = {key: "c1", "prompt": "q", "responses": ["a", "b"], "ranks": [2, 1]}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (pair,) = read_pairs(path)
    assert (pair.chosen, pair.rejected) == ("b", "a")
