"""The simulated annotators at the annotation page: they claim, read and answer tasks.

They see what annotators see: the question, and the answers in the order shown. Their judgement
depends only on that and the seed, so it can be reproduced without a server.
"""

import math
import random
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

from alignloop.playground.annotators import Annotator, Seen, compare, person_value
from alignloop.playground.prompts import prompt_sets
from alignloop.records import Prompt


class Desk(Protocol):
    """Where tasks come from and judgements go: `alignloop.label.Client` is one."""

    def claim(self, project: str) -> Any:
        """The next task, or None if none is left."""
        ...

    def submit(self, task: Any, **fields: Any) -> int:
        """Submit a judgement."""
        ...


def work(
    desk: Desk, project: str, person: Annotator, *, seed: int, limit: int | None = None
) -> int:
    """Answer tasks until none is left, or `limit` of them; returns the number."""
    done = 0
    while limit is None or done < limit:
        task = desk.claim(project)
        if task is None:
            break
        desk.submit(task, **answer(person, task, seed))
        done += 1
    return done


def answer(person: Annotator, task: Any, seed: int) -> dict[str, Any]:
    """This annotator's judgement of a task, as arguments of the API."""
    prompt = prompt_of(task.prompt[-1].text)
    shown = [one.text for one in task.answers]
    ids = [one.id for one in task.answers]
    if task.kind == "ranking":
        groups = rank(person, prompt, shown, seed)
        seconds = 6 + sum(map(len, shown)) / 25
        ranking = [[ids[index] for index in equal] for equal in groups]
        return {"verdict": "choice", "ranking": ranking, "visible_ms": round(1000 * seconds)}
    seen = look(person, prompt, shown, seed)
    choice = {} if seen.better is None else {"choice": ids[seen.better], "strength": seen.strength}
    verdict = "tie" if seen.better is None else "choice"
    return {"verdict": verdict, "visible_ms": round(1000 * seen.seconds), **choice}


def look(person: Annotator, prompt: Prompt, shown: Sequence[str], seed: int) -> Seen:
    """An annotator's view of two answers in the order shown, both taken as finished."""
    return compare(person, prompt, shown, [True] * len(shown), _rng(person, prompt, shown, seed))


def rank(person: Annotator, prompt: Prompt, shown: Sequence[str], seed: int) -> list[list[int]]:
    """Indices of K answers, best first; answers of indistinguishable value are grouped.

    Each gets its value plus Gumbel noise, so the better of two wins with probability
    sigmoid(difference / noise), as in `compare` (Luce 1959).
    """
    rng = _rng(person, prompt, shown, seed)
    worth = [
        person_value(person, prompt, text, True)
        + person.first_bias * (index == 0)
        - person.noise * math.log(-math.log(rng.uniform(1e-12, 1 - 1e-12)))
        for index, text in enumerate(shown)
    ]
    order = sorted(range(len(shown)), key=lambda index: -worth[index])
    groups = [[order[0]]]
    for index in order[1:]:
        if worth[groups[-1][-1]] - worth[index] < person.tie_below:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def prompt_of(text: str) -> Prompt:
    """The playground's prompt with this question."""
    return _prompts()[text]


@cache
def _prompts() -> dict[str, Prompt]:
    return {prompt.text: prompt for prompts in prompt_sets().values() for prompt in prompts}


def _rng(person: Annotator, prompt: Prompt, shown: Sequence[str], seed: int) -> random.Random:
    return random.Random(f"at work/{seed}/{person.annotator_id}/{prompt.text}/{list(shown)}")
