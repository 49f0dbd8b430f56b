"""From sampled answers to comparisons that could be asked: pure, and the same for the same answers.

Ids come from the content alone. So asking twice files nothing twice, and no id tells an annotator
which model has answered.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from alignloop.records import Comparison, Prompt, Response


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One answer to one prompt, and who gave it with which settings."""

    prompt: Prompt
    text: str
    model: str
    settings: Mapping[str, Any]

    @property
    def response_id(self) -> str:
        """Named by its text: two models that say the same have given one answer."""
        return f"{self.prompt.prompt_id}#{_digest(self.text)}"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A comparison that could be asked; `answers` are in the order of its responses.

    `scores` has, for each reward model asked, one number per answer.
    """

    comparison: Comparison
    answers: tuple[Answered, ...]
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])

    @property
    def prompt(self) -> Prompt:
        """What is asked."""
        return self.comparison.prompt


def candidates(answers: Iterable[Answered], *, ranking: bool) -> list[Candidate]:
    """Every two different answers of each prompt, or with `ranking` all of them at once.

    White space around an answer is no part of it. Empty ones are left out; of equal ones the first
    counts.
    """
    by_prompt: dict[str, dict[str, Answered]] = {}
    for answer in answers:
        text = answer.text.strip()
        if text:
            said = by_prompt.setdefault(answer.prompt.prompt_id, {})
            said.setdefault(text, replace(answer, text=text))
    found: list[Candidate] = []
    for distinct in by_prompt.values():
        # in an order that only the texts decide: no model is always the first
        order = sorted(distinct.values(), key=lambda answer: answer.response_id)
        groups = [tuple(order)] if ranking else list(combinations(order, 2))
        found += [_candidate(group) for group in groups if len(group) > 1]
    return found


def _candidate(answers: Sequence[Answered]) -> Candidate:
    prompt = answers[0].prompt
    names = [answer.response_id for answer in answers]
    comparison = Comparison(
        comparison_id=f"{prompt.prompt_id}~{_digest(names)}",
        prompt=prompt,
        responses=tuple(Response(response_id=a.response_id, text=a.text) for a in answers),
        sampled_from=", ".join(sorted({answer.model for answer in answers})),
    )
    return Candidate(comparison=comparison, answers=tuple(answers))


def _digest(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
