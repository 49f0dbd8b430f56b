"""Reward functions of a person's own: what they are given, and how each way to fail is told."""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from alignloop.errors import UserError
from alignloop.records import Prompt
from alignloop.scoring.functions import load_function

ANSWERS = ["yes", "no tea", "good"]
SOURCE = """\
import time
import numpy

def length(prompts, responses):
    return [len(r) - len(p) for p, r in zip(prompts, responses)]

def array(prompts, responses):
    return numpy.array([len(r) for r in responses], dtype=numpy.float32)

def ids(prompts, responses, messages, prompt_id):
    assert all(m[-1]["content"] == p for m, p in zip(messages, prompts))
    return [float(one.count("o")) for one in prompt_id]

def picky(prompts, responses):
    for response in responses:
        if "tea" in response:
            raise ValueError("no tea, please")
    return [0.0] * len(responses)

def one_by_one(prompts, responses):
    if len(responses) > 1:
        raise RuntimeError("one at a time")
    return [0.0]

def short(prompts, responses):
    return [0.0 for r in responses if "tea" not in r]

def nan(prompts, responses):
    return [float("nan") if "tea" in r else 1.0 for r in responses]

def word(prompts, responses):
    return ["good" if "tea" in r else 1.0 for r in responses]

def nothing(prompts, responses):
    pass

def slow(prompts, responses):
    if any("tea" in r for r in responses):
        time.sleep(60)
    return [0.0] * len(responses)

def wants_more(prompts, responses, judge):
    return [0.0] * len(responses)

def alone(response):
    return 0.0

def all_of_it(prompts, responses, references, metadata, level, unit="kg"):
    seen = zip(references, metadata, level, unit, strict=True)
    return [100 * (r == ["a", "b"]) + 10 * m["level"] + n + (u == "kg") for r, m, n, u in seen]

def like_trl(prompts, completions, **columns):
    assert sorted(columns) == ["level", "metadata", "references", "unit"]
    for row in columns["metadata"]:
        row.clear()  # a copy
    return [float(level) for level in columns["level"]]

def with_default(prompts, responses, scale=3.0):
    return [scale] * len(responses)

def of_a_row(answer, reference):
    return len(answer) / len(reference)

number = 3

def leaves(prompts, responses):
    if any("tea" in r for r in responses):
        raise SystemExit(0)
    return [0.0] * len(responses)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory with a module `mine`, of which nothing remains."""
    (tmp_path / "mine.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path


@pytest.fixture
def asked(make_prompt: Callable[..., Prompt]) -> list[Prompt]:
    return [make_prompt("why"), make_prompt("how is the moon"), make_prompt("tea")]


def test_a_function_of_the_current_directory_is_called(here: Path, asked: list[Prompt]) -> None:
    assert load_function("mine:length").scores(asked, ANSWERS) == [0.0, -9.0, 1.0]
    assert load_function("mine:array", time_limit=9).scores(asked, ANSWERS) == [3.0, 6.0, 4.0]
    assert load_function("mine:ids").scores(asked, ANSWERS) == [0.0, 3.0, 0.0]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("picky", r"raised ValueError: no tea, please \(mine\.py, line 17\)"),
        ("short", "returned 0 numbers for 1 responses"),
        ("nan", "returned nan, which is not finite"),
        ("word", "returned 'good' instead of a number"),
        ("leaves", "raised SystemExit: 0"),
    ],
)
def test_the_prompt_that_caused_it_is_named(
    name: str, problem: str, here: Path, asked: list[Prompt]
) -> None:
    with pytest.raises(UserError, match=f"the reward function {problem}") as caught:
        load_function(f"mine:{name}").scores(asked, ANSWERS)
    where = f"mine:{name}, prompt_id \"p:how is the moon\" ('how is the moon')"
    assert caught.value.where == where


def test_what_fails_only_together_is_said_so(here: Path, asked: list[Prompt]) -> None:
    with pytest.raises(UserError, match=r"one at a time .* for a batch of 3 answers") as caught:
        load_function("mine:one_by_one").scores(asked, ANSWERS)
    assert '"p:why"' in caught.value.where
    with pytest.raises(UserError, match="returned NoneType instead of a list"):
        load_function("mine:nothing").scores(asked, ANSWERS)


def test_the_time_limit_names_the_prompt_and_keeps_nobody_waiting(
    here: Path, asked: list[Prompt]
) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match=r"did not return within 0\.3 s") as caught:
        load_function("mine:slow", time_limit=0.3).scores(asked, ANSWERS)
    assert '"p:how is the moon"' in caught.value.where
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nobody:f", "there is no module 'nobody'"),
        ("mine.inner:f", "there is no module 'mine.inner'"),
        ("mine:length.x", "has no function 'length.x'"),
        ("mine:number", "has no function 'number'"),
        ("mine:alone", re.escape("it takes (response)")),
        ("broken:f", r"importing it raised NameError: .*\(broken\.py, line 2\)"),
        ("needs:f", "raised ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_a_name_that_leads_nowhere(name: str, problem: str, here: Path) -> None:
    (here / "broken.py").write_text("import json\nundefined\n")
    (here / "needs.py").write_text("import nowhere\n")
    with pytest.raises(UserError, match=problem):
        load_function(name)


ROWS = [
    {"reference": ("a", "b"), "metadata": {"level": 1, "unit": "g"}},
    {"reference": "a", "metadata": {"level": 2, "unit": "kg"}},
]


@pytest.fixture
def kept(make_prompt: Callable[..., Prompt]) -> list[Prompt]:
    prompts = [make_prompt("why"), make_prompt("how")]
    return [one.model_copy(update=row) for one, row in zip(prompts, ROWS, strict=True)]


def test_what_parameters_ask_for_comes_in_the_order_of_rows(here: Path, kept: list[Prompt]) -> None:
    assert load_function("mine:all_of_it").scores(kept, ["x", "y"]) == [111.0, 23.0]
    assert load_function("mine:like_trl").scores(kept, ["x", "y"]) == [1.0, 2.0]
    assert [one.metadata for one in kept] == [row["metadata"] for row in ROWS]
    assert load_function("mine:with_default").scores(kept, ["x", "y"]) == [3.0, 3.0]
    assert load_function("mine:of_a_row").scores(kept, ["xy", "xyz"]) == [2.0, 3.0]
    assert load_function("mine:of_a_row(four)").scores(kept, ["xy", "xyz"]) == [0.5, 0.75]


def test_a_key_that_a_row_lacks_is_named_with_its_prompt(here: Path, kept: list[Prompt]) -> None:
    function = load_function("mine:wants_more")
    rows = [kept[0].model_copy(update={"metadata": {"judge": 1}}), kept[1]]
    for ask in (lambda: function.scores(rows, ["x", "y"]), lambda: function.check(rows)):
        with pytest.raises(UserError, match="needs 'judge', which the prompt's metadata") as caught:
            ask()
        assert '"p:how"' in caught.value.where and "a column 'judge'" in caught.value.fix
    assert function.scores(rows[:1], ["x"]) == [0.0]
