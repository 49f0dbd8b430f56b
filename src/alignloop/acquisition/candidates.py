"""From sampled answers to candidate comparisons: pure and deterministic.

Ids come from the content alone, so nothing is filed twice and no id reveals to an annotator which
model answered.
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
    """One answer to one prompt, with its model and settings."""

    prompt: Prompt
    text: str
    model: str
    settings: Mapping[str, Any]

    @property
    def response_id(self) -> str:
        """An id from the text: equal texts from two models are one answer."""
        return f"{self.prompt.prompt_id}#{_digest(self.text)}"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A comparison to consider; `answers` are in the order of its responses.

    `scores` has one number per answer for each reward model.
    """

    comparison: Comparison
    answers: tuple[Answered, ...]
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])

    @property
    def prompt(self) -> Prompt:
        """The comparison's prompt."""
        return self.comparison.prompt


def candidates(answers: Iterable[Answered], *, ranking: bool) -> list[Candidate]:
    """All pairs of different answers to each prompt, or with `ranking` all answers at once.

    Surrounding white space is ignored. Empty answers are dropped; of equal ones the first counts.
    """
    by_prompt: dict[str, dict[str, Answered]] = {}
    for answer in answers:
        text = answer.text.strip()
        if text:
            distinct = by_prompt.setdefault(answer.prompt.prompt_id, {})
            distinct.setdefault(text, replace(answer, text=text))
    found: list[Candidate] = []
    for distinct in by_prompt.values():
        # ordered by text alone, so that no model is always first
        order = sorted(distinct.values(), key=lambda answer: answer.response_id)
        groups = [tuple(order)] if ranking else list(combinations(order, 2))
        found += [_candidate(group) for group in groups if len(group) > 1]
    return found


def _candidate(answers: Sequence[Answered]) -> Candidate:
    prompt = answers[0].prompt
    # the id depends on prompt and texts only: models and settings may change between runs
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
