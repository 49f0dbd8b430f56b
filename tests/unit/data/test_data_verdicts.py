"""Which answer is better: any layout with any way to say it gives the intended one, or a reason.

A winner is drawn for each row, written as some data set writes it, and read again.
"""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignloop.data import read_demonstrations, read_pairs
from alignloop.errors import UserError
from alignloop.records import PreferencePair

QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TIE = -1
# Ends that look like ratings, dates and marks; an answer is told from the others by its beginning.
ENDS = [
    " is 3/4",
    " is 1/2",
    " has 21 points",
    " 得了 9 分",
    ": 7/10",
    " (6 分)",
    "",
    " 12/25",
    " 2",
]


def columns(*names: str) -> Callable[[Sequence[str]], dict[str, Any]]:
    return lambda texts: dict(zip(names, texts, strict=True))


LAYOUTS: dict[str, tuple[Callable[[Sequence[str]], dict[str, Any]], int, int | None]] = {
    # How answers stand in a row, how many there are, and what their names count from.
    "output_1": (columns("output_1", "output_2"), 2, 1),
    "response_0": (columns("response_0", "response_1"), 2, 0),
    "answer_a": (columns("answer_a", "answer_b"), 2, None),
    "answer_b first": (lambda t: {"answer_b": t[1], "answer_a": t[0]}, 2, None),
    "回答": (columns("回答A", "回答B"), 2, None),
    "three": (columns("prediction 1", "prediction 2", "prediction 3"), 3, 1),
    "list": (lambda texts: {"responses": list(texts)}, 2, None),
    "list of 3": (lambda texts: {"answers": list(texts)}, 3, None),
    "objects": (lambda texts: {"completions": [{"text": t} for t in texts]}, 2, None),
}
KEYS = ["label", "winner", "preference", "choice", "best", "chosen", "Winner", "选择", "vote"]
CLASSES = {"label", "best", "chosen"}  # a 0 of theirs is an answer and no tie
WORDS = [
    "{0}", "Assistant {0}", "[[{0}]]", "{0} is better", "Response {0}", "model_{0}", "回答{0}",
    "{0}更好", "Answer {0} is much better.", "[{0}]",
    "My final verdict is: [[{0}]]", "**{0}**", "option ({0})", "I prefer {0}", "选{0}",
]  # fmt: skip
PLACES = [
    ("left", "right"),
    ("first", "second"),
    ("左", "右"),
    ("前者", "后者"),
    ("甲", "乙"),
    ("回答一", "回答二"),
]
AGAINST = [
    "{0}>{1}",
    "{1}<{0}",
    "[[{0}>>{1}]]",
    "{0} is better than {1}",
    "{0}优于{1}",
    "{0}比{1}好",
]
TIES = ["tie", "Tie", "both bad", "tie (bothbad)", "neither", "both_bad", "平局", "[[C]]", "一样好"]


@st.composite
def written(draw: Any, count: int, start: int | None, key: str) -> tuple[list[int], list[Any]]:
    """Winners, and what stands in the column; None is a row that nobody judged."""
    winners = draw(st.lists(st.integers(TIE, count - 1), min_size=1, max_size=7))
    way = draw(st.sampled_from(["words", "ints", "floats", "texts of numbers"]))
    if way == "words":
        cells = [_word(draw, winner, count) for winner in winners]
    else:
        base = draw(st.sampled_from([0, 1]))
        # A number that is an answer's own name is that answer, unless another row shows otherwise.
        shown = count - 1 if base else 0
        if start is not None and base != start and shown not in winners:
            winners = [*winners, shown]
        tie = draw(st.sampled_from(_ties(base, count, key, winners)))
        if tie is None:
            winners = [max(0, winner) for winner in winners]
        numbers: list[Any] = [tie if winner == TIE else winner + base for winner in winners]
        as_float = way == "floats" or any(isinstance(one, float) for one in numbers)
        cells = [float(one) if as_float else one for one in numbers]
        cells = [str(one) for one in cells] if way == "texts of numbers" else cells
    for place in draw(st.lists(st.integers(0, len(winners)), max_size=1)):
        winners, cells = list(winners), list(cells)
        winners.insert(place, 0)
        cells.insert(place, None)
    return winners, cells


def _ties(base: int, count: int, key: str, winners: list[int]) -> list[Any]:
    """How a column of numbers writes a tie: 0 only where the column shows that it counts from 1."""
    if count > 2:
        return [None]
    if base == 0:
        return [None, 0.5]
    shows = count - 1 in winners or key not in CLASSES
    return [None, 1.5, *([0] if shows else [])]


def _word(draw: Any, winner: int, count: int) -> str:
    if winner == TIE:
        return draw(st.sampled_from(TIES if count == 2 else TIES[:2]))
    letters = "ABC"
    kinds = ["word"] if count > 2 else ["word", "place", "against"]
    match draw(st.sampled_from(kinds)):
        case "word":
            return draw(st.sampled_from(WORDS)).format(letters[winner])
        case "place":
            return draw(st.sampled_from(PLACES))[winner]
        case _:
            pattern = draw(st.sampled_from(AGAINST))
            return pattern.format(letters[winner], letters[1 - winner])


def write(path: Path, rows: list[dict[str, Any]], as_csv: bool) -> Path:
    """JSONL, or CSV as pandas writes it: nothing for None, lists as they cannot be."""
    if not as_csv:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        for row in rows:
            cells = {k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()}
            writer.writerow(cells)
    return path


def texts_of(draw: Any, count: int) -> list[str]:
    names = ["The first", "The second", "The third"][:count]
    ends = draw(st.lists(st.sampled_from(ENDS), min_size=count, max_size=count))
    return [name + end for name, end in zip(names, ends, strict=True)]


@QUICK
@given(data=st.data())
def test_the_intended_answer_wins_or_the_right_reason_is_given(tmp_path: Path, data: Any) -> None:
    layout = data.draw(st.sampled_from(sorted(LAYOUTS)))
    make, count, start = LAYOUTS[layout]
    key = data.draw(st.sampled_from(KEYS))
    winners, cells = data.draw(written(count, start, key))
    answers = [texts_of(data.draw, count) for _ in winners]
    rows = [
        {"question": f"Q{n}?", **make(texts), key: cell}
        for n, (texts, cell) in enumerate(zip(answers, cells, strict=True))
    ]
    as_csv = layout != "objects" and data.draw(st.booleans())
    path = write(tmp_path / ("a.csv" if as_csv else "a.jsonl"), rows, as_csv)
    try:
        pairs = read_pairs(path, skip_refused=True)
    except UserError as error:
        _check_reason(str(error), cells, count, start, key)
        return
    found: dict[str, list[PreferencePair]] = {}
    for pair in pairs:
        found.setdefault(pair.prompt.text, []).append(pair)
    for n, (winner, cell) in enumerate(zip(winners, cells, strict=True)):
        if cell is None:
            assert f"Q{n}?" not in found
        else:
            _check_row(found.get(f"Q{n}?", []), winner, answers[n])


def _check_row(pairs: list[PreferencePair], winner: int, answers: list[str]) -> None:
    if winner == TIE:
        assert {pair.preference for pair in pairs} == {0.5}
        return
    others = [text for n, text in enumerate(answers) if n != winner]
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [
        (answers[winner], o) for o in others
    ]
    assert {(pair.preference, pair.margin) for pair in pairs} == {(1.0, 0.0)}


def _check_reason(told: str, cells: list[Any], count: int, start: int | None, key: str) -> None:
    """Refused as a whole only if no row says anything, or if two readings are left open."""
    given_ = [cell for cell in cells if cell is not None]
    if not given_:
        assert "does not say which answer is better" in told
        return
    numbers = {float(cell) for cell in given_}  # a column of words is always understood
    shares = any(0 < one < 1 or 1 < one < 2 for one in numbers if not one.is_integer())
    assert not shares or {0.0, 2.0} & numbers, "a tie between the numbers shows the base"
    reason = next(r for r in ("may count from 0 or from 1", "or a tie") if r in told)
    if reason == "or a tie":
        assert 0.0 in numbers and (count in numbers or key not in CLASSES or numbers == {0.0})
    else:
        assert start is None and numbers <= set(map(float, range(1, count)))


# --- labels of single answers --------------------------------------------------------------------

SINGLE: list[Callable[[str, str], dict[str, Any]]] = [
    lambda q, a: {"prompt": q, "completion": a},
    lambda q, a: {"prompt": q, "response": a},
    lambda q, a: {"instruction": q, "input": "", "output": a},
    lambda q, a: {"question": q, "answer": a},
    lambda q, a: {"问题": q, "回答": a},
    lambda q, a: {"input": q, "target": a},
    lambda q, a: {"query": q, "response": a},
    lambda q, a: {
        "messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
    },
    lambda q, a: {"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]},
]
GOOD_BAD: list[tuple[Any, Any]] = [
    (True, False), (1, 0), (1.0, 0.0), ("1.0", "0.0"), ("True", "False"), ("good", "bad"),
    ("desirable", "undesirable"), ("thumbs_up", "thumbs_down"), ("positive", "negative"),
    (1, -1), ("chosen", "rejected"), ("好", "坏"), ("yes", "no"), ("👍", "👎"),
]  # fmt: skip
NO_LABEL: list[Any] = [None, "", "perhaps", float("nan"), [], "n/a"]


WORD_LABELS = [
    ("is_safe", True, False), ("is_correct", 1, 0), ("correct", True, False),
    ("verdict", "accept", "reject"), ("assessment", "pass", "fail"), ("quality", "good", "bad"),
    ("passed", "yes", "no"),
    ("是否安全", "是", "否"), ("判断", "正确", "错误"),
]  # fmt: skip


@pytest.mark.parametrize("key, good, bad", WORD_LABELS)
def test_a_verdict_by_another_name_keeps_bad_answers_out(
    tmp_path: Path, key: str, good: Any, bad: Any
) -> None:
    for number, make in enumerate(SINGLE):
        rows = [{**make("Q1", "A1"), key: good}, {**make("Q2", "A2"), key: bad}]
        path = write(tmp_path / f"{number}.jsonl", rows, as_csv=False)
        assert [made.response for made in read_demonstrations(path)] == ["A1"]
        rows.append({**make("Q3", "A3"), key: "who knows"})
        path = write(tmp_path / f"{number}-odd.jsonl", rows, as_csv=False)
        with pytest.raises(UserError, match="neither good nor bad"):
            read_demonstrations(path)


@pytest.mark.parametrize("values", [(4.5, 1, 2), (0, 1, 3), ("a fine text", "see below", "hm")])
def test_numbers_and_prose_under_such_names_are_no_labels(
    tmp_path: Path, values: tuple[Any, ...]
) -> None:
    for key in ("quality", "correct", "evaluation"):
        rows = [{**SINGLE[0](f"Q{v}", f"A{v}"), key: v} for v in values]
        path = write(tmp_path / f"{key}.jsonl", rows, as_csv=False)
        assert len(list(read_demonstrations(path))) == len(values)


def test_what_a_text_decides_is_no_label_of_the_answer(tmp_path: Path) -> None:
    """`decision` and the like hold what the question is about: yes, no, maybe."""
    rows = [{**SINGLE[0](f"Q{v}", f"A{v}"), "decision": v} for v in ("yes", "no")]
    assert len(list(read_demonstrations(write(tmp_path / "a.jsonl", rows, as_csv=False)))) == 2


@QUICK
@given(data=st.data())
def test_a_label_that_is_not_understood_makes_no_demonstration(tmp_path: Path, data: Any) -> None:
    make = data.draw(st.sampled_from(SINGLE))
    key = data.draw(st.sampled_from(["label", "kto_tag", "desirable", "thumbs_up", "标签"]))
    good, bad = data.draw(st.sampled_from(GOOD_BAD))
    said = data.draw(st.lists(st.sampled_from(["good", "bad", "none", "left out"]), min_size=1))
    cells = {"good": good, "bad": bad, "none": data.draw(st.sampled_from(NO_LABEL))}
    rows = [
        {**make(f"Q{n}", f"A{n}"), **({} if one == "left out" else {key: cells[one]})}
        for n, one in enumerate(said)
    ]
    path = write(tmp_path / "a.jsonl", rows, as_csv=False)
    judged = any(one != "left out" for one in said)
    expected = [f"A{n}" for n, one in enumerate(said) if one == "good" or not judged]
    if judged and bad == -1 and "good" not in said:
        expected = []  # -1 alone is refused
    try:
        found = [made.response for made in read_demonstrations(path, skip_refused=True)]
    except UserError as error:
        assert not expected
        known = (
            "neither good nor bad",
            "is missing",
            "no records in the file",
            "which numbers mean",
        )
        assert any(reason in str(error) for reason in known)
    else:
        assert found == expected


def rows_file(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    return write(tmp_path / "rows.jsonl", list(rows), as_csv=False)


TWO = {"question": "Q", "answer_a": "x", "answer_b": "y"}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1, 2], "which numbers mean good"),
        ([1, 5, 3], "which numbers mean good"),
        ([0.2, 0.9], "which numbers mean good"),
        ([-1, 0], "which numbers mean good"),
        (["math", "code"], "neither good nor bad"),
    ],
)
def test_labels_of_a_single_answer_that_say_nothing(
    tmp_path: Path, values: list[Any], reason: str
) -> None:
    rows = [{"prompt": "Q", "completion": f"A{n}", "label": v} for n, v in enumerate(values)]
    for read in (read_demonstrations, read_pairs):
        with pytest.raises(UserError, match=reason):
            read(rows_file(tmp_path, *rows), skip_refused=True)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ([1, 1], "may count from 0 or from 1"),
        ([0, 0], "or a tie"),
        ([0, 1, 2], "0 may be the first answer or a tie"),
        ([0, 1], "or a tie"),
        ([-1, 0, 1], "meaning of these is unclear"),
        ([1, 2, 4, 5], "meaning of these is unclear"),  # a scale from A to B
        ([0.9, 0.2], "the share of the first answer or of the second"),
        ([True, False], "names none of the answers"),
        (["A is worse", "not A"], "names none of the answers"),
        (["blue", "red"], "names none of the answers"),
        ([{"x": 1}], "names none of the answers"),
        ([None, ""], "does not say which answer is better"),
    ],
)
def test_columns_that_cannot_be_decided(tmp_path: Path, cells: list[Any], reason: str) -> None:
    rows = [{**TWO, "question": f"Q{n}", "winner": cell} for n, cell in enumerate(cells)]
    path = rows_file(tmp_path, *rows)
    with pytest.raises(UserError, match=reason):
        read_pairs(path, skip_refused=True)
    with pytest.raises(UserError, match=reason):
        read_pairs(path)


def test_a_person_says_what_a_column_counts_from(tmp_path: Path) -> None:
    path = rows_file(tmp_path, {**TWO, "winner": 1})
    assert [p.chosen for p in read_pairs(path, format="chosen-from-0")] == ["y"]
    assert [p.chosen for p in read_pairs(path, format="chosen-from-1")] == ["x"]


def test_words_beside_numbers_leave_the_words_readable(tmp_path: Path) -> None:
    rows = [{**TWO, "winner": "A"}, {**TWO, "winner": "1"}]
    (pair,) = read_pairs(rows_file(tmp_path, *rows), skip_refused=True)
    assert pair.chosen == "x"
    with pytest.raises(UserError, match="may count from 0 or from 1"):
        read_pairs(rows_file(tmp_path, *rows))
