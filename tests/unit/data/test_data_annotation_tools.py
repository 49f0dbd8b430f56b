"""What annotation tools export: comparisons, with one judgement of each person."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from alignloop.cli import main
from alignloop.data import read_pairs, read_prompts
from alignloop.data.convert import convert
from alignloop.data.files import read_records
from alignloop.data.formats.annotated import ANNOTATED, choice_of
from alignloop.data.formats.tools_of_annotation import answers_in_lines
from alignloop.data.preferences import labels_by_comparison
from alignloop.errors import UserError
from alignloop.records import Comparison, Judgement

TEXTS = {"prompt": "What is rent?", "answer1": "Money.", "answer2": "A monthly payment."}


def rows_file(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def won(path: Path, **settings: Any) -> list[tuple[str, str, float]]:
    """Who said that which answer is better; of ties the first one stands as chosen."""
    found = read_pairs(path, **settings)
    return [(pair.source, pair.chosen, pair.preference) for pair in found]


# --- Label Studio ------------------------------------------------------------------------------


def result(selected: str, **more: Any) -> dict[str, Any]:
    return {"type": "pairwise", "from_name": "pw", "to_name": "pw", "value": {"selected": selected}}


def annotation(person: Any, *results: Any, **more: Any) -> dict[str, Any]:
    return {"completed_by": person, "was_cancelled": False, "result": list(results), **more}


def task(*annotations: Any, data: dict[str, Any] = TEXTS) -> dict[str, Any]:
    return {
        "id": 1,
        "data": data,
        "annotations": list(annotations),
        "predictions": [result("left")],
    }


def test_every_person_of_a_task_gives_one_judgement(tmp_path: Path) -> None:
    said = task(
        annotation(2, result("left"), lead_time=8.5, created_at="2026-03-01T10:00:00.000000Z"),
        annotation(3, result("right")),
        annotation(4, was_cancelled=True),
        annotation({"id": 5, "email": "e@x.org"}, result("right")),
    )
    pairs = read_pairs(rows_file(tmp_path / "a.jsonl", said))
    assert [(p.source, p.chosen) for p in pairs] == [
        ("2", "Money."),
        ("3", "A monthly payment."),
        ("e@x.org", "A monthly payment."),
    ]
    assert len({pair.comparison_id for pair in pairs}) == 1 and pairs[0].comparison_id
    # agreement is computed of these: three labels of one comparison
    assert labels_by_comparison(pairs) == [["Money.", "A monthly payment.", "A monthly payment."]]


def test_the_last_annotation_of_a_person_counts(tmp_path: Path) -> None:
    early = annotation(2, result("left"), created_at="2026-03-01T10:00:00Z")
    late = annotation(2, result("right"), created_at="2026-03-02T10:00:00Z")
    path = rows_file(tmp_path / "a.jsonl", task(late, early))
    assert won(path) == [("2", "A monthly payment.", 1.0)]


def test_the_ground_truth_makes_the_pair_and_agreement_keeps_everybody(tmp_path: Path) -> None:
    truth = annotation(1, result("right"), ground_truth=True)
    path = rows_file(tmp_path / "a.jsonl", task(truth, annotation(2, result("left"))))
    assert won(path) == [("1", "A monthly payment.", 1.0)]
    out = tmp_path / "out.jsonl"
    main(["data", "convert", str(path), str(out), "--to", "judgements"])
    said = {one.annotator_id: one.choice for one in read_records(out, Judgement)}
    assert said == {"1": "answer2", "2": "answer1"}


def test_a_pairwise_says_which_text_is_left(tmp_path: Path) -> None:
    named = {**result("left"), "to_name": "answer2,answer1"}
    path = rows_file(tmp_path / "a.jsonl", task(annotation(2, named)))
    assert won(path) == [("2", "A monthly payment.", 1.0)]


def choices(*said: str) -> dict[str, Any]:
    return {"type": "choices", "from_name": "best", "to_name": "x", "value": {"choices": [*said]}}


def rating(answer: str, points: float) -> dict[str, Any]:
    return {"type": "rating", "from_name": "r", "to_name": answer, "value": {"rating": points}}


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([choices("Response B is better")], [("A monthly payment.", 1.0, 0.0)]),
        ([choices("tie")], [("Money.", 0.5, 0.0)]),
        ([choices("Both bad")], []),
        ([rating("answer1", 2), rating("answer2", 4)], [("A monthly payment.", 1.0, 2.0)]),
        ([rating("answer1", 3), rating("answer2", 3)], [("Money.", 0.5, 0.0)]),
        # an explicit choice decides, whatever the ratings
        ([rating("answer1", 1), rating("answer2", 5), choices("A")], [("Money.", 1.0, 0.0)]),
    ],
)
def test_other_controls_of_label_studio(
    tmp_path: Path, results: list[Any], expected: list[tuple[str, float, float]]
) -> None:
    path = rows_file(
        tmp_path / "a.jsonl", task(annotation(2, *results)), task(annotation(3, choices("A")))
    )
    pairs = [pair for pair in read_pairs(path) if pair.source == "2"]
    assert [(p.chosen, p.preference, p.margin) for p in pairs] == expected


def test_a_ranker_of_three(tmp_path: Path) -> None:
    data = {"prompt": "Q", "items": [{"id": n, "body": f"text {n}"} for n in "xyz"]}
    ranked = {"type": "ranker", "from_name": "rank", "value": {"ranker": {"rank": ["z", "x", "y"]}}}
    path = rows_file(tmp_path / "a.jsonl", task(annotation(2, ranked), data=data))
    pairs = read_pairs(path)
    order = [(pair.chosen[-1], pair.rejected[-1]) for pair in pairs]
    assert sorted(order) == [("x", "y"), ("z", "x"), ("z", "y")]
    assert sum(pair.weight for pair in pairs) == pytest.approx(1)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (task(annotation(2, choices("Fluent"))), "no control names one of the answers"),
        (
            task(annotation(2, choices("A"), {**choices("B"), "from_name": "safe"})),
            "several controls name different answers (best: answer1, safe: answer2)",
        ),
        (
            task(annotation(2, result("left")), data={"text": "x"}),
            "fewer than two answers in the task",
        ),
        (
            task(annotation(2, result("left")), data={"text1": "x", "text2": "y"}),
            "but no question",
        ),
    ],
)
def test_a_task_that_is_not_understood_is_refused(
    tmp_path: Path, row: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UserError) as caught:
        read_pairs(rows_file(tmp_path / "a.jsonl", row))
    assert problem in caught.value.problem


def test_tasks_that_nobody_judged_say_so_and_are_prompts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled = task(annotation(2, was_cancelled=True))
    path = rows_file(tmp_path / "a.jsonl", task(annotation(2, result("left"))), cancelled, task())
    assert len(read_pairs(path)) == 1
    assert "2 rows contain nothing to train on" in caplog.text
    assert [prompt.text for prompt in read_prompts(path)] == ["What is rent?"]


MIN = {**TEXTS, "id": 1, "annotator": 2, "annotation_id": 3, "lead_time": 12.5}


@pytest.mark.parametrize(
    "said",
    ["left", "answer1", "A", [{"selected": "left"}], {"choices": ["left"]}, {"selected": "left"}],
)
def test_json_min_and_csv(tmp_path: Path, said: Any) -> None:
    other = {**MIN, "annotator": "3", "comparison": "right"}
    path = rows_file(tmp_path / "a.jsonl", {**MIN, "comparison": said}, other)
    expected = [("2", "Money.", 1.0), ("3", "A monthly payment.", 1.0)]
    assert won(path) == expected
    assert len(labels_by_comparison(read_pairs(path))) == 1  # the two rows are one comparison
    table = tmp_path / "a.csv"
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*MIN, "comparison"])
        writer.writeheader()
        cell = said if isinstance(said, str) else json.dumps(said)
        writer.writerows([{**MIN, "comparison": cell}, other])
    assert won(table) == expected


def test_json_min_of_nobody_who_names_a_winner(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no control names one of the answers"):
        read_pairs(rows_file(tmp_path / "a.jsonl", {**MIN, "quality": "good"}))
    assert won(rows_file(tmp_path / "b.jsonl", {**MIN, "comparison": "tie"})) == [
        ("2", "Money.", 0.5)
    ]


# --- Argilla -----------------------------------------------------------------------------------

FIELDS = {"prompt": "What is rent?", "response_1": "Money.", "response_2": "A monthly payment."}


def response(value: Any, person: str, status: str | None = None) -> dict[str, Any]:
    return {"value": value, "user_id": person, **({"status": status} if status else {})}


def test_argilla_counts_what_was_submitted(tmp_path: Path) -> None:
    said = [
        response("response_1", "ann", "submitted"),
        response("response_2", "bob"),  # some versions export no status
        response("response_2", "cid", "draft"),
        response("response_2", "dan", "discarded"),
    ]
    record = {"id": "r", "fields": FIELDS, "responses": {"preference": said}, "suggestions": {}}
    path = rows_file(tmp_path / "a.jsonl", record)
    assert won(path) == [("ann", "Money.", 1.0), ("bob", "A monthly payment.", 1.0)]


def test_argilla_rankings_ratings_and_the_servers_own_form(tmp_path: Path) -> None:
    ranked = [{"value": "response_2", "rank": 1}, {"value": "response_1", "rank": 2}]
    rated = {"rating_1": [response(4, "bob")], "rating_2": [response(1, "bob")]}
    by_person = [
        {"user_id": "cid", "status": "submitted", "values": {"best": {"value": "response_2"}}},
        {"user_id": "dan", "status": "discarded", "values": None},
    ]
    rows = [
        {"fields": FIELDS, "responses": {"order": [response(ranked, "ann")]}},
        {"fields": FIELDS, "responses": rated},
        {"fields": FIELDS, "responses": by_person},
    ]
    assert won(rows_file(tmp_path / "a.jsonl", *rows)) == [
        ("ann", "A monthly payment.", 1.0),
        ("bob", "Money.", 1.0),
        ("cid", "A monthly payment.", 1.0),
    ]


FLAT = {
    **FIELDS,
    "id": "r1",
    "status": "completed",
    "preference.responses": ["response_1", "response_2", "response_2"],
    "preference.responses.users": ["ann", "bob", "cid"],
    "preference.responses.status": ["submitted", "submitted", "discarded"],
    "preference.suggestion": "response_2",
}


def test_flat_argilla_in_json_and_in_a_table_of_pandas(tmp_path: Path) -> None:
    expected = [("ann", "Money.", 1.0), ("bob", "A monthly payment.", 1.0)]
    assert won(rows_file(tmp_path / "a.jsonl", FLAT)) == expected
    # pandas writes lists as Python prints them, and arrays of numpy without commas
    for texts in (repr, lambda value: repr(value).replace(",", "")):
        row = {k: texts(v) if isinstance(v, list) else v for k, v in FLAT.items()}
        table = tmp_path / "a.csv"
        with table.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(row))
            writer.writeheader()
            writer.writerow(row)
        assert won(table) == expected
    short = {**FLAT, "preference.responses.users": ["ann"]}
    with pytest.raises(UserError, match="3 values, 1 users, 3 statuses"):
        read_pairs(rows_file(tmp_path / "b.jsonl", short))


def test_argilla_1(tmp_path: Path) -> None:
    row = {
        "prompt": "What is rent?",
        "response-1": "Money.",
        "response-2": "A monthly payment.",
        "preference": [response(2, "ann", "submitted"), response(1, "bob", "draft")],
        "metadata": "{}",
    }
    assert won(rows_file(tmp_path / "a.jsonl", row)) == [("ann", "A monthly payment.", 1.0)]
    # the answers count from 1 by their names, and 0 names none of them
    none = {**row, "preference": [response(0, "ann", "submitted")]}
    with pytest.raises(UserError, match="no control names one of the answers"):
        read_pairs(rows_file(tmp_path / "b.jsonl", none))


# --- Prodigy, doccano, Potato ------------------------------------------------------------------

OPTIONS = [{"id": "x", "text": "Money."}, {"id": "y", "text": "A monthly payment."}]


@pytest.mark.parametrize(
    ("answer", "accepted", "expected"),
    [
        ("accept", ["y"], [("A monthly payment.", 1.0)]),
        ("accept", ["x", "y"], [("Money.", 0.5)]),
        ("accept", [], []),
        ("reject", ["y"], []),
        ("ignore", ["y"], []),
    ],
)
def test_prodigy(tmp_path: Path, answer: str, accepted: list[str], expected: list[Any]) -> None:
    row = {"text": "What is rent?", "options": OPTIONS, "accept": accepted, "answer": answer}
    other = {**row, "accept": ["x"], "answer": "accept", "_annotator_id": "zoe"}
    path = rows_file(tmp_path / "a.jsonl", {**row, "_annotator_id": "ann"}, other)
    said = [(chosen, preference) for who, chosen, preference in won(path) if who == "ann"]
    assert said == expected


LINES = "Prompt: What is rent?\n\nA: Money.\nOr more.\n\nB: A monthly payment."


def test_doccano_is_one_persons_file(tmp_path: Path) -> None:
    path = rows_file(
        tmp_path / "ann.jsonl", {"id": 1, "text": LINES, "label": ["B"], "Comments": []}
    )
    assert won(path) == [("ann", "A monthly payment.", 1.0)]
    assert read_pairs(path)[0].rejected == "Money.\nOr more."
    both = rows_file(tmp_path / "b.jsonl", {"id": 1, "text": LINES, "label": ["A", "B"]})
    with pytest.raises(UserError, match="names several"):
        read_pairs(both)


@pytest.mark.parametrize(
    "said",
    [
        {"label_annotations": {"preference": {"B": "true", "A": None}}},
        {"label_annotations": {"preference": {"selection": "B"}}},
        {"preference:::A": "", "preference:::B": "true"},
    ],
)
def test_potato(tmp_path: Path, said: dict[str, Any]) -> None:
    shown = "<b>Prompt:</b> What is rent?<br>A: Money.<br/>B: A monthly &amp; regular payment."
    row = {"id": "1", "instance_id": "1", "user": "ann", "displayed_text": shown, **said}
    path = rows_file(tmp_path / "p.jsonl", row)
    assert won(path) == [("ann", "A monthly & regular payment.", 1.0)]
    with pytest.raises(UserError, match="no question with two answers"):
        read_pairs(rows_file(tmp_path / "q.jsonl", {**row, "displayed_text": "..."}))


@pytest.mark.parametrize(
    ("told", "question", "answers"),
    [
        ("Why?\nA) x\nB) y", "Why?", ["x", "y"]),
        ("问题：为什么？\n回答A：甲\n回答B：乙", "为什么？", ["甲", "乙"]),
        ("Question: Why?\nAnswer 1: x\nAnswer 2: y\nAnswer 3: z", "Why?", ["x", "y", "z"]),
        ("Why?\nB: y\nA: x", "", []),  # out of order: A alone
        ("A: x\nB: y", "", []),  # nothing is asked
        ("Why?\nA: x", "", []),
        ("I like Plan A: it works.\nPlan B: too.", "", []),
    ],
)
def test_answers_within_a_text(told: str, question: str, answers: list[str]) -> None:
    found = answers_in_lines(told)
    assert (found[0], list(found[1].values())) == (question, answers)


@pytest.mark.parametrize(
    "data",
    [
        {**TEXTS, "model1": "gpt-x", "model2": "llama-y", "text1": "t", "text2": "u"},
        {**TEXTS, "model_answer1": "gpt-x", "model_answer2": "llama-y"},
        {
            "chat": [{"role": "user", "content": "What is rent?"}],
            "回答A": "Money.",
            "回答B": "Mine.",
        },
        {
            "prompt": "What is rent?",
            "response_a": [{"role": "assistant", "content": "Money."}],
            "response_b": [{"role": "assistant", "content": "Mine."}],
        },
        {"prompt": "What is rent?", "left": "Money.", "right": "Mine."},
    ],
)
def test_which_texts_are_the_answers(tmp_path: Path, data: dict[str, Any]) -> None:
    path = rows_file(tmp_path / "a.jsonl", task(annotation(2, result("left")), data=data))
    (pair,) = read_pairs(path)
    assert (pair.prompt.text, pair.chosen) == ("What is rent?", "Money.")


# --- names of answers, and records -------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "said", "expected"),
    [
        (("answer1", "answer2"), "left", "answer1"),
        (("answer1", "answer2"), "B", "answer2"),
        (("answer1", "answer2"), "Answer 2", "answer2"),
        (("answer1", "answer2"), "2.0", ""),
        (("answer1", "answer2"), 2.0, "answer2"),
        (("answer1", "answer2"), 3, ""),
        (("response_0", "response_1"), 1, "response_1"),  # by its name, not by its place
        (("response_0", "response_1"), 0, "response_0"),
        (("response_a", "response_b"), 1, ""),  # counted from 0 or from 1: nobody knows
        (("response_a", "response_b"), "Model B", "response_b"),
        (("left", "right"), "right", "right"),
        (("answer1", "answer2", "answer3"), "left", ""),
        (("answer1", "answer2", "answer3"), "C", "answer3"),
        (("answer1", "answer2"), "No preference", "tie"),
        (("answer1", "answer2"), "tie (bothbad)", "both_bad"),
        (("answer1", "answer2"), "unsure", "skip"),
        (("answer1", "answer2"), True, ""),
        (("answer1", "answer2"), "text of answer2", "answer2"),
        (("answer1", "answer2"), "A long comment about B", ""),
    ],
)
def test_what_a_word_names(names: tuple[str, ...], said: Any, expected: str) -> None:
    assert choice_of(said, {name: f"text of {name}" for name in names}) == expected


def test_judgements_and_their_comparisons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    time = "2026-03-01T10:00:00.000000Z"
    said = task(
        annotation(2, result("left"), lead_time=8.5, created_at=time),
        annotation(3, choices("tie")),
    )
    path = rows_file(tmp_path / "a.jsonl", said)
    out = tmp_path / "labels.jsonl"
    words = ["data", "convert", str(path), str(out), "--to", "judgements"]
    main(words)
    assert capsys.readouterr().out == (
        "comparisons: 1, judgements: 2, annotators: 2, judged by two or more: 1\n"
    )
    first, second = read_records(out, Judgement)
    (comparison,) = read_records(tmp_path / "labels.comparisons.jsonl", Comparison)
    assert comparison.comparison_id == first.comparison_id == second.comparison_id
    assert [one.text for one in comparison.responses] == ["Money.", "A monthly payment."]
    assert (first.choice, second.choice, first.seconds) == ("answer1", "tie", 8.5)
    assert first.created_at.isoformat() == "2026-03-01T10:00:00+00:00"
    with pytest.raises(SystemExit):  # the comparisons are there already
        main([*words[:3], str(out), *words[4:]])
    assert "nothing is overwritten" in capsys.readouterr().err


def test_judgements_need_a_format_that_says_who_judged(tmp_path: Path) -> None:
    plain = rows_file(tmp_path / "a.jsonl", {"prompt": "Q", "chosen": "A", "rejected": "B"})
    for format_ in (None, "trl-preference"):
        with pytest.raises(UserError, match="do not say who judged what"):
            convert(str(plain), tmp_path / "x.jsonl", "judgements", format=format_)
    assert {"label-studio", "argilla", "prodigy", "doccano", "potato"} <= ANNOTATED.keys()
