"""The simulated people at a desk: what they say depends on what they see, and on nothing else."""

import random
from dataclasses import dataclass
from typing import Any

import pytest

from alignloop.playground.annotators import PEOPLE, Annotator
from alignloop.playground.at_work import answer, look, prompt_of, rank, work
from alignloop.playground.demonstrations import full_answer
from alignloop.playground.prompts import intent_of, prompt_sets
from alignloop.playground.world import join_sentences, phrases
from alignloop.records import Prompt

PROMPT = next(p for p in prompt_sets()["comparisons"] if p.category == "howto")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An answer, or a turn, as a task has it."""

    id: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """As much of a task as people look at."""

    prompt: tuple[Shown, ...]
    answers: tuple[Shown, ...]
    kind: str = "comparison"


def texts(prompt: Prompt) -> tuple[str, str, str]:
    """A whole answer, half of one, and one that says nothing."""
    intent = intent_of(prompt)
    sentences = full_answer(intent, random.Random(0))
    filler = join_sentences(phrases(intent.language)["filler"], intent.language)
    whole, half = (join_sentences(s, intent.language) for s in (sentences, sentences[:2]))
    return whole, half, filler


def task(*shown: str, kind: str = "comparison") -> Task:
    asked = (Shown(id="", text=PROMPT.text),)
    answers = tuple(Shown(id=f"id{n}", text=text) for n, text in enumerate(shown))
    return Task(prompt=asked, answers=answers, kind=kind)


def sure(**changes: Any) -> Annotator:
    """A person without noise."""
    return Annotator(**{**vars(PEOPLE[2]), "noise": 1e-9, "slips": 0.0, **changes})


def test_a_prompt_is_found_by_its_text() -> None:
    assert prompt_of(PROMPT.text) == PROMPT


def test_a_person_names_the_better_answer_wherever_it_stands() -> None:
    whole, _, filler = texts(PROMPT)
    assert answer(sure(), task(whole, filler), seed=0)["choice"] == "id0"
    said = answer(sure(), task(filler, whole), seed=0)
    assert (said["verdict"], said["choice"], said["strength"]) == ("choice", "id1", 3)
    assert said["visible_ms"] >= 4000
    assert answer(sure(), task(whole, whole), seed=0)["verdict"] == "tie"


def test_the_same_seed_says_the_same_and_another_one_may_not() -> None:
    whole, half, _ = texts(PROMPT)
    doubtful = sure(noise=50.0, tie_below=0.0)
    said = [look(doubtful, PROMPT, [whole, half], seed).better for seed in range(20)]
    assert said == [look(doubtful, PROMPT, [whole, half], seed).better for seed in range(20)]
    assert set(said) == {0, 1}


def test_a_ranking_goes_from_the_best_to_the_worst() -> None:
    whole, half, filler = texts(PROMPT)
    assert rank(sure(), PROMPT, [filler, whole, half], seed=0) == [[1], [2], [0]]
    assert rank(sure(tie_below=99.0), PROMPT, [filler, whole, half], seed=0) == [[1, 2, 0]]
    said = answer(sure(), task(filler, whole, half, kind="ranking"), seed=0)
    assert said["ranking"] == [["id1"], ["id2"], ["id0"]]


def test_noise_in_a_ranking_is_that_of_two_answers() -> None:
    # of two equally good answers one wins with probability sigmoid(first_bias / noise)
    whole = texts(PROMPT)[0]
    person = sure(noise=1.0, first_bias=1.0, tie_below=0.0)
    first = [rank(person, PROMPT, [whole, whole], seed)[0] == [0] for seed in range(400)]
    # sigmoid(1) = 0.731; four standard errors of 400 draws are 0.089
    assert sum(first) / 400 == pytest.approx(0.731, abs=0.089)


def test_work_ends_where_nothing_is_left_or_at_the_limit() -> None:
    whole, half, _ = texts(PROMPT)

    class Desk:
        def __init__(self) -> None:
            self.said: list[dict[str, Any]] = []

        def claim(self, project: str) -> Task | None:
            return task(whole, half) if len(self.said) < 3 else None

        def submit(self, task: Task, **said: Any) -> int:
            self.said.append(said)
            return len(self.said)

    assert work(Desk(), "p", PEOPLE[0], seed=0) == 3
    desk = Desk()
    assert work(desk, "p", PEOPLE[0], seed=0, limit=2) == len(desk.said) == 2
