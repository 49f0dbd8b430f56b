"""Labels of all kinds: drawn by Hypothesis, written by hand, and put into a database."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from alignloop.label.labels.project_labels import Item, ItemAnswer, ProjectLabels, StoredJudgement
from alignloop.label.store import tables
from alignloop.label.store.database import Database, open_database
from alignloop.records import Message, Prompt

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
# What files and spreadsheets trip over: formulas, separators, quotes, line ends, other scripts.
TEXTS = st.text(
    alphabet=st.sampled_from([*"ab =+-@,;\"'\t\n\r", "你", "\u2028", "\U0001f600"]),
    min_size=1,
    max_size=6,
).filter(lambda text: bool(text.strip()))


@st.composite
def draw_labels(draw: st.DrawFn) -> ProjectLabels:
    """One to four items of two to four different answers, each judged by up to three people."""
    items = [_draw_item(draw, number) for number in range(draw(st.integers(1, 4)))]
    judgements: list[StoredJudgement] = []
    for item in items:
        for name in draw(st.sets(st.sampled_from(["ana", "bo", "陈"]))):
            judgements.append(_draw_judged(draw, len(judgements) + 1, item, name))
    return ProjectLabels.of(items, judgements)


def _draw_item(draw: st.DrawFn, number: int) -> Item:
    texts = draw(st.lists(TEXTS, min_size=2, max_size=4, unique_by=str.strip))
    asked = draw(st.lists(TEXTS, min_size=1, max_size=2))
    turns = [Message(role="user", content=asked[0])]
    if len(asked) > 1:
        turns += [Message(role="assistant", content="yes?"), Message(role="user", content=asked[1])]
    return Item(
        item_id=number + 1,
        comparison_id=f"c{number}",
        prompt=Prompt(
            prompt_id=f"p{number}",
            messages=tuple(turns),
            source="s",
            category="tips",
            reference=draw(st.sampled_from([None, "-5", "[1]", ("a", "b")])),
            metadata=draw(st.sampled_from([{}, {"level": 1, "answer": [None, {"c": "d"}]}])),
        ),
        answers=tuple(
            ItemAnswer(response_id=f"p{number}#{place}", text=text, model=f"m{place % 2}")
            for place, text in enumerate(texts)
        ),
        gold=draw(st.sampled_from([None, None, None, "tie"])),
    )


def _draw_judged(draw: st.DrawFn, number: int, item: Item, name: str) -> StoredJudgement:
    names = [answer.response_id for answer in item.answers]
    kind = draw(st.sampled_from(["choice", "tie", "both_bad", "skip", "ranking", "rated"]))
    ratings = {one: float(draw(st.integers(1, 10))) for one in names} if kind == "rated" else {}
    verdict: Any = "choice" if kind in ("ranking", "rated") else kind
    choice = None if verdict != "choice" or kind == "ranking" else draw(st.sampled_from(names))
    return StoredJudgement(
        judgement_id=number,
        item_id=item.item_id,
        annotator=name,
        verdict=verdict,
        choice=choice,
        strength=draw(st.integers(0, 3)) if verdict == "choice" else None,
        ratings=ratings,
        ranking=_draw_ranking(draw, names) if kind == "ranking" else (),
        shown=tuple(draw(st.permutations(names))),
        seconds=draw(st.integers(0, 999)) / 8,
        comment=draw(st.one_of(st.just(""), TEXTS)),
        created_at=START + timedelta(seconds=number),
        guideline=1,
        key=f"key-{number:05d}",
    )


def _draw_ranking(draw: st.DrawFn, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    places = [draw(st.integers(0, 2)) for _ in names]
    groups = [tuple(n for n, p in zip(names, places, strict=True) if p == q) for q in range(3)]
    return tuple(group for group in groups if group)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "project")
    yield opened
    opened.close()


@pytest.fixture
def store() -> Callable[..., int]:
    return store_labels


def store_labels(
    database: Database, labels: ProjectLabels, *, slug: str = "demo", reverse: bool = False
) -> int:
    """Put labels into tables as they are; `reverse` files everything in the other order."""
    items = list(labels.items.values())
    said = list(labels.judgements)
    if reverse:
        items, said = items[::-1], said[::-1]
    with database.transaction() as session:
        project = tables.Project(
            slug=slug, title=slug, secret="s", schema={}, created_at=START, locale=""
        )
        session.add(project)
        session.flush()
        batch = tables.Batch(project_id=project.id, name="first", overlap=1, created_at=START)
        session.add(batch)
        session.flush()
        stored = {item.item_id: _store_item(session, project.id, batch.id, item) for item in items}
        users: dict[str, tables.User] = {}
        for judged in said:
            _store_judged(session, users, stored[judged.item_id], judged)
        return project.id


Stored = tuple[tables.ItemRow, dict[str, int]]


def _store_item(session: Any, project_id: int, batch_id: int, item: Item) -> Stored:
    prompt = tables.PromptRow(
        project_id=project_id,
        prompt_key=item.prompt.prompt_id,
        messages=[message.model_dump() for message in item.prompt.messages],
        source=item.prompt.source,
        category=item.prompt.category,
        language=item.prompt.language,
        more=item.prompt.model_dump(mode="json", include={"reference", "metadata"}),
    )
    session.add(prompt)
    session.flush()
    ids: dict[str, int] = {}
    for answer in item.answers:
        row = tables.ResponseRow(
            prompt_id=prompt.id,
            public_id=f"{project_id}-{item.item_id}-{answer.response_id}",
            record_id=answer.response_id,
            text=answer.text,
            text_hash="",
            length=len(answer.text),
            model=answer.model,
            settings={},
        )
        session.add(row)
        session.flush()
        ids[answer.response_id] = row.id
    made = tables.ItemRow(
        project_id=project_id,
        batch_id=batch_id,
        prompt_id=prompt.id,
        comparison_key=item.comparison_id,
        fingerprint=item.comparison_id,
        kind=item.kind,
        why=item.why,
        why_detail=dict(item.why_detail),
        gold_verdict="tie" if item.gold == "tie" else None,
        wanted=item.wanted,
        position=item.item_id,
    )
    session.add(made)
    session.flush()
    for place, answer in enumerate(item.answers):
        row = tables.ItemResponse(
            item_id=made.id, response_id=ids[answer.response_id], position=place
        )
        session.add(row)
    return made, ids


def _store_judged(
    session: Any, users: dict[str, tables.User], stored: Stored, judged: StoredJudgement
) -> None:
    item, ids = stored
    if judged.annotator not in users:
        users[judged.annotator] = tables.User(
            name=judged.annotator, role="annotator", locale="", active=True, created_at=START
        )
        session.add(users[judged.annotator])
        session.flush()
    user = users[judged.annotator].id
    given = tables.Assignment(
        item_id=item.id,
        user_id=user,
        state="done",
        turn=judged.judgement_id,
        lease_until=START,
        created_at=START,
    )
    session.add(given)
    session.flush()
    order = [ids[name] for name in judged.shown]
    shown = tables.Presentation(
        assignment_id=given.id, order=order, seed="", guideline_version=1, shown_at=START
    )
    said = {
        "assignment_id": given.id,
        "item_id": item.id,
        "user_id": user,
        "idempotency_key": judged.key or f"key-{judged.judgement_id}",
        "choice": ids[judged.choice] if judged.choice is not None else None,
        "verdict": judged.verdict,
        "strength": judged.strength,
        "ratings": {str(ids[name]): int(value) for name, value in judged.ratings.items()},
        "ranking": [[ids[name] for name in equal] for equal in judged.ranking],
        "harmful": [ids[name] for name in judged.harmful],
        "comment": judged.comment,
        "skip_reason": judged.skip_reason,
        "visible_ms": round(judged.seconds * 1000),
        "guideline_version": judged.guideline,
        "source": "user",
        "created_at": judged.created_at,
    }
    session.add(shown)
    session.execute(tables.judgements.insert(), said)


@pytest.fixture(scope="session")
def any_labels() -> st.SearchStrategy[ProjectLabels]:
    return draw_labels()


@pytest.fixture
def some_labels() -> ProjectLabels:
    """Twelve prompts: mostly two answers judged by two people, and a ranking each fourth time."""
    items: list[Item] = []
    said: list[StoredJudgement] = []
    for number in range(1, 13):
        asked = Message(role="user", content=f"question {number}")
        names = [f"p{number}#{place}" for place in range(3 if number % 4 == 0 else 2)]
        items.append(
            Item(
                item_id=number,
                comparison_id=f"c{number}",
                prompt=Prompt(prompt_id=f"p{number}", messages=(asked,), source="mine"),
                answers=tuple(ItemAnswer(response_id=n, text=f"answer {n}") for n in names),
                batch="first",
            )
        )
        for row, name in enumerate(("ana", "bo")):
            ranking = tuple((n,) for n in names[::-1]) if len(names) > 2 else ()
            said.append(
                StoredJudgement(
                    judgement_id=len(said) + 1,
                    item_id=number,
                    annotator=name,
                    verdict="choice",
                    choice=None if ranking else names[(number + row) % 2],
                    ranking=ranking,
                    strength=number % 4,
                    shown=tuple(names[::-1]),
                    seconds=1.5,
                    guideline=1,
                    created_at=START + timedelta(minutes=number),
                )
            )
    return ProjectLabels.of(items, said)
