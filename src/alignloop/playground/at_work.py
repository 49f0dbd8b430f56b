"""The simulated people at the annotation page: they claim, read and answer as anybody does.

They see what a person sees: the question, and the answers in the order shown. What they say of it
depends on nothing else but the seed, so that it can be said again without a server.
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
        """The next task, or None where nothing is left."""
        ...

    def submit(self, task: Any, **said: Any) -> int:
        """Hand a judgement in."""
        ...


def work(
    desk: Desk, project: str, person: Annotator, *, seed: int, limit: int | None = None
) -> int:
    """Answer what the desk hands out until nothing is left, or `limit` times; how many it was."""
    done = 0
    while limit is None or done < limit:
        task = desk.claim(project)
        if task is None:
            break
        desk.submit(task, **answer(person, task, seed))
        done += 1
    return done


def answer(person: Annotator, task: Any, seed: int) -> dict[str, Any]:
    """What this person says of a task, in the words of the API."""
    prompt = prompt_of(task.prompt[-1].text)
    shown = [one.text for one in task.answers]
    ids = [one.id for one in task.answers]
    if task.kind == "ranking":
        places = rank(person, prompt, shown, seed)
        seconds = 6 + sum(map(len, shown)) / 25
        ranking = [[ids[place] for place in equal] for equal in places]
        return {"verdict": "choice", "ranking": ranking, "visible_ms": round(1000 * seconds)}
    seen = look(person, prompt, shown, seed)
    choice = {} if seen.better is None else {"choice": ids[seen.better], "strength": seen.strength}
    verdict = "tie" if seen.better is None else "choice"
    return {"verdict": verdict, "visible_ms": round(1000 * seen.seconds), **choice}


def look(person: Annotator, prompt: Prompt, shown: Sequence[str], seed: int) -> Seen:
    """What a person makes of two answers in the order shown; it is finished if it ends so."""
    return compare(person, prompt, shown, [True] * len(shown), _rng(person, prompt, shown, seed))


def rank(person: Annotator, prompt: Prompt, shown: Sequence[str], seed: int) -> list[list[int]]:
    """The places of K answers, best first; those that a person cannot tell apart are together.

    Each is worth its value plus noise from Gumbel's distribution, so that of two answers the
    better wins with probability sigmoid(difference / noise), as in `compare` (Luce 1959).
    """
    rng = _rng(person, prompt, shown, seed)
    worth = [
        person_value(person, prompt, text, True)
        + person.first_bias * (place == 0)
        - person.noise * math.log(-math.log(rng.uniform(1e-12, 1 - 1e-12)))
        for place, text in enumerate(shown)
    ]
    order = sorted(range(len(shown)), key=lambda place: -worth[place])
    groups = [[order[0]]]
    for place in order[1:]:
        if worth[groups[-1][-1]] - worth[place] < person.tie_below:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def prompt_of(text: str) -> Prompt:
    """The playground's prompt with this question."""
    return _prompts()[text]


@cache
def _prompts() -> dict[str, Prompt]:
    return {prompt.text: prompt for prompts in prompt_sets().values() for prompt in prompts}


def _rng(person: Annotator, prompt: Prompt, shown: Sequence[str], seed: int) -> random.Random:
    return random.Random(f"at work/{seed}/{person.annotator_id}/{prompt.text}/{list(shown)}")
