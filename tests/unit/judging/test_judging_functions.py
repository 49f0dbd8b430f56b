"""Reward functions of a person's own: what they are given, and how each way to fail is told."""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from alignloop.errors import UserError
from alignloop.judging.functions import load_function
from alignloop.records import Prompt

REPOSITORY = Path(__file__).parents[3]
GSM8K = REPOSITORY.parent / "shared" / "data" / "demos" / "gsm8k_train_first2000.jsonl"
ANSWERS = ["yes", "no tea", "good"]
SOURCE = """\
import time
import numpy

def length(prompts, responses):
    return [len(r) - len(p) for p, r in zip(prompts, responses)]

def array(prompts, responses):
    return numpy.array([len(r) for r in responses], dtype=numpy.float32)

def ids(prompts, responses, metadata):
    assert all(m["messages"][-1]["content"] == p for m, p in zip(metadata, prompts))
    return [float(m["prompt_id"].count("o")) for m in metadata]

def picky(prompts, responses):
    for response in responses:
        if "tea" in response:
            raise ValueError("no tea, please")
    return [0.0] * len(responses)

def alone(prompts, responses):
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
    return []

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
        ("short", "gave 0 numbers for 1 responses"),
        ("nan", "gave nan, which is no finite number"),
        ("word", "gave 'good' in place of a number"),
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
    with pytest.raises(UserError, match=r"one at a time .* for 3 answers together") as caught:
        load_function("mine:alone").scores(asked, ANSWERS)
    assert '"p:why"' in caught.value.where
    with pytest.raises(UserError, match="gave NoneType in place of a list"):
        load_function("mine:nothing").scores(asked, ANSWERS)


def test_the_time_limit_names_the_prompt_and_keeps_nobody_waiting(
    here: Path, asked: list[Prompt]
) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match=r"gave no answer within 0\.3 s") as caught:
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
        ("mine:wants_more", re.escape("it takes (prompts, responses, judge)")),
        ("broken:f", r"importing it raised NameError: .*\(broken\.py, line 2\)"),
        ("needs:f", "raised ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_a_name_that_leads_nowhere(name: str, problem: str, here: Path) -> None:
    (here / "broken.py").write_text("import json\nundefined\n")
    (here / "needs.py").write_text("import nowhere\n")
    with pytest.raises(UserError, match=problem):
        load_function(name)


@pytest.mark.skipif(not GSM8K.exists(), reason="the shared data is not there")
def test_the_gsm8k_example_on_real_answers(
    monkeypatch: pytest.MonkeyPatch, make_prompt: Callable[..., Prompt]
) -> None:
    monkeypatch.chdir(REPOSITORY / "examples")
    monkeypatch.setenv("GSM8K", str(GSM8K))
    monkeypatch.setattr(sys, "path", list(sys.path))
    rows = [json.loads(line) for line in GSM8K.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 2000
    prompts = [make_prompt(row["question"]) for row in rows]
    final = [row["answer"].rpartition("#### ")[2] for row in rows]
    right = load_function("gsm8k_reward:reward")
    assert set(right.scores(prompts, [row["answer"] for row in rows])) == {1.0}
    said = [f"First 3 and 4, so the answer is ${number}.00." for number in final]
    assert set(right.scores(prompts, said)) == {1.0}
    wrong = [f"The answer is {float(number.replace(',', '')) + 1:g}1" for number in final]
    assert set(right.scores(prompts, wrong)) == {0.0}
    assert set(right.scores(prompts, ["I do not know."] * len(rows))) == {0.0}
