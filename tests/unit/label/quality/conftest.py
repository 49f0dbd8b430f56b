"""Labels in short: who said what of which item."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from alignloop.label.labels.project_labels import Item, ItemAnswer, ProjectLabels, StoredJudgement
from alignloop.records import Message, Prompt

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def make_item(number: int, texts: str = "ab", **fields: Any) -> Item:
    """An item whose answers are the letters of `texts`; each letter is its own response_id."""
    models = fields.pop("models", None) or [""] * len(texts)
    prompt = Prompt(
        prompt_id=fields.pop("prompt", f"p{number}"),
        messages=(Message(role="user", content="?"),),
        category=fields.pop("category", ""),
    )
    answers = tuple(
        ItemAnswer(response_id=text, text=text, model=model)
        for text, model in zip(texts, models, strict=True)
    )
    return Item(
        item_id=number, comparison_id=f"c{number}", prompt=prompt, answers=answers, **fields
    )


def make_judged(
    number: int, item: Item, annotator: str, said: str, **fields: Any
) -> StoredJudgement:
    """`said` is an answer ("a", with strength "a2"), "tie", "both_bad", "skip", or a ranking
    ("b>a=c")."""
    verdict, choice, strength, ranking = said, None, None, ()
    if ">" in said or "=" in said:
        verdict = "choice"
        ranking = tuple(tuple(step.split("=")) for step in said.split(">"))
    elif said not in ("tie", "both_bad", "skip"):
        verdict, choice, strength = "choice", said[0], int(said[1:]) if said[1:] else None
    fields.setdefault("created_at", START + timedelta(minutes=number))
    return StoredJudgement(
        judgement_id=number,
        item_id=item.item_id,
        annotator=annotator,
        verdict=verdict,  # type: ignore[arg-type]
        choice=choice,
        strength=strength,
        ranking=ranking,
        **fields,
    )


def make_labels(said: Mapping[str, Sequence[str]], items: Sequence[Item] = ()) -> ProjectLabels:
    """`make_labels({"ana": ["a", "tie"], "bo": ["a", ""]})`: a person's word on each item; "" is
    none."""
    count = max(len(words) for words in said.values())
    items = items or [make_item(number) for number in range(count)]
    judgements = [
        make_judged(number * 100 + row, items[number], name, word)
        for row, (name, words) in enumerate(said.items())
        for number, word in enumerate(words)
        if word
    ]
    return ProjectLabels.of(items, judgements)


@pytest.fixture
def item() -> Callable[..., Item]:
    return make_item


@pytest.fixture
def judged() -> Callable[..., StoredJudgement]:
    return make_judged


@pytest.fixture
def labels() -> Callable[..., ProjectLabels]:
    return make_labels
