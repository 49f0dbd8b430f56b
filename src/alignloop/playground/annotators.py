"""Five simulated annotators who compare answers, each with a strictness, a taste for length, a bias
for the answer shown first, and noise. They see roughly what the gold judge sees.
"""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from alignloop.playground.prompts import intent_of
from alignloop.playground.reading import Reading, read_answer
from alignloop.playground.world import Intent
from alignloop.records import Comparison, Judgement, Prompt

# A fixed start date, so that a seed always gives the same records.
FIRST_DAY = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """One simulated annotator.

    Their value of an answer is
        content + length_taste * characters / 100 - strictness * flaws - safety * harm,
    and the first of two answers wins with probability
        sigmoid((value_first - value_second + first_bias) / noise),
    but in a share `slips` of the cases they choose at random.
    """

    annotator_id: str
    strictness: float
    safety: float
    length_taste: float
    first_bias: float
    noise: float
    slips: float
    tie_below: float

    def value(self, intent: Intent, reading: Reading, length: int) -> float:
        """Their value of an answer, without noise; about 0 to 1 for a decent one."""
        content = 0.22 * min(len(reading.facts), 6)
        flaws = (
            0.5 * reading.count("unknown")
            + 0.5 * reading.count("fragment")
            + 0.7 * reading.count("foreign")
            + 0.3 * reading.count("off_topic")
            + 0.4 * reading.count("filler")
            + 0.8 * reading.repeats
            + 1.5 * reading.count("cold")
            + (0.0 if reading.finished else 1.0)
        )
        harm = 2.0 * reading.count("unfair")
        if intent.kind == "harmful":
            harm += 1.5 * bool(reading.count("comply"))
            content += 0.6 * bool(reading.count("refusal"))
        elif reading.count("refusal") or reading.count("blame"):
            harm += 1.0
        return (
            content
            + self.length_taste * length / 100
            - self.strictness * flaws
            - self.safety * harm
        )


# Who, strictness, safety, taste for length, bias for the first, noise, slips, ties below.
_TRAITS = (
    ("ana", 0.6, 1.0, 0.05, 0.05, 0.18, 0.04, 0.08),
    ("bo", 0.3, 0.9, 0.15, 0.10, 0.23, 0.06, 0.06),
    ("chen", 0.8, 1.2, 0.00, 0.00, 0.15, 0.02, 0.12),
    ("dara", 0.4, 0.7, 0.10, 0.15, 0.26, 0.08, 0.05),
    ("emil", 0.5, 1.0, -0.05, 0.08, 0.20, 0.05, 0.10),
)
PEOPLE = tuple(
    Annotator(
        annotator_id=name,
        strictness=strictness,
        safety=safety,
        length_taste=length_taste,
        first_bias=first_bias,
        noise=noise,
        slips=slips,
        tie_below=tie_below,
    )
    for name, strictness, safety, length_taste, first_bias, noise, slips, tie_below in _TRAITS
)


def annotate(
    comparisons: Iterable[Comparison],
    finished: dict[str, bool],
    *,
    overlap_share: float,
    seed: int,
    people: Sequence[Annotator] = PEOPLE,
) -> list[Judgement]:
    """Judgements of all comparisons: by one annotator each, by all for a share of them.

    `finished` says by response_id whether an answer ended with EOS.
    """
    judgements: list[Judgement] = []
    now = FIRST_DAY
    for comparison in comparisons:
        rng = random.Random(f"annotators/{seed}/{comparison.comparison_id}")
        overlaps = rng.random() < overlap_share
        for person in people if overlaps else [rng.choice(people)]:
            judgement = judge(person, comparison, finished, rng, now)
            judgements.append(judgement)
            now += timedelta(seconds=judgement.seconds)
    return judgements


def judge(
    person: Annotator,
    comparison: Comparison,
    finished: dict[str, bool],
    rng: random.Random,
    now: datetime,
) -> Judgement:
    """One annotator's judgement of two answers, shown in a random order."""
    shown = list(comparison.responses)
    rng.shuffle(shown)
    ended = [finished.get(response.response_id, True) for response in shown]
    seen = compare(person, comparison.prompt, [r.text for r in shown], ended, rng)
    return Judgement(
        comparison_id=comparison.comparison_id,
        annotator_id=person.annotator_id,
        choice="tie" if seen.better is None else shown[seen.better].response_id,
        strength=seen.strength,
        order_shown=tuple(r.response_id for r in shown),
        seconds=seen.seconds,
        created_at=now,
    )


@dataclass(frozen=True, kw_only=True)
class Seen:
    """An annotator's view of two answers: the index of the better one (None: a tie)."""

    better: int | None
    strength: int
    seconds: float


def compare(
    person: Annotator,
    prompt: Prompt,
    shown: Sequence[str],
    finished: Sequence[bool],
    rng: random.Random,
) -> Seen:
    """One annotator's view of two answers, in the order shown."""
    values = [
        person_value(person, prompt, text, ended)
        for text, ended in zip(shown, finished, strict=True)
    ]
    difference = values[0] - values[1] + person.first_bias
    chance = 1 / (1 + math.exp(-max(-60.0, min(60.0, difference / person.noise))))
    first_wins = rng.random() < (0.5 if rng.random() < person.slips else chance)
    tie = abs(values[0] - values[1]) < person.tie_below
    strength = min(3, int(abs(values[0] - values[1]) / 0.35))
    return Seen(
        better=None if tie else int(not first_wins),
        strength=0 if tie else strength,
        seconds=round(4 + sum(len(text) for text in shown) / 25 + 3 * rng.random(), 1),
    )


def person_value(person: Annotator, prompt: Prompt, text: str, finished: bool) -> float:
    """An annotator's value of one answer."""
    intent = intent_of(prompt)
    # A Chinese character carries about as much as three English letters.
    length = len(text) * (3 if intent.language == "zh" else 1)
    return person.value(intent, read_answer(intent, text, finished=finished), length)
