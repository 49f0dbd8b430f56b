"""Gold questions, repeats, the entry test: who gets them when, and that nobody can tell them."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from label_support import SLUG, World, browser, gold_items, items
from sqlalchemy import select

from alignloop.label.store import projects, seats
from alignloop.label.store.refusals import Conflict, Invalid, Paused
from alignloop.label.store.rules import QueueRules
from alignloop.label.store.tables import Assignment, ItemRow, PromptRow
from alignloop.label.store.tasks import Task
from alignloop.label.store.turns import (
    BLOCK,
    REPEAT_AFTER,
    REPEAT_WITHIN,
    is_gold_turn,
    schedule_repeats,
)

MakeWorld = Callable[..., World]


def kinds(here: World, tasks: list[Task]) -> str:
    """One letter each: g for gold, r for a repeat, o for others."""
    with here.database.reading() as session:
        rows = {one.id: one for one in session.scalars(select(ItemRow))}
        found = [session.get_one(Assignment, task.assignment_id).item_id for task in tasks]
    letter = {(True, False): "g", (False, True): "r", (False, False): "o"}
    return "".join(
        letter[rows[one].gold_verdict is not None, rows[one].repeat_of is not None] for one in found
    )


# --- gold ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.33])
def test_gold_comes_at_its_rate_and_early(rate: float) -> None:
    rules = QueueRules(gold_rate=rate, gold_early=4)
    shares: list[float] = []
    for user in range(40):
        turns = [is_gold_turn("ab" * 32, user, t, rules, in_doubt=False) for t in range(10 * BLOCK)]
        assert sum(turns[:BLOCK]) >= 4
        shares += turns[BLOCK:]
    assert sum(shares) / len(shares) == pytest.approx(rate, abs=0.02)


def test_no_turn_is_more_likely_gold_than_another_in_its_block() -> None:
    rules = QueueRules(gold_rate=0.2)
    turns = range(BLOCK, 2 * BLOCK)
    users = range(500)
    counts = [
        sum(is_gold_turn("cd" * 32, user, turn, rules, in_doubt=False) for user in users)
        for turn in turns
    ]
    # 100 expected; five standard deviations of a binomial share of 500
    assert all(abs(count - 100) < 5 * (500 * 0.2 * 0.8) ** 0.5 for count in counts)


def test_doubt_adds_gold_turns_and_takes_none_away() -> None:
    rules = QueueRules()
    for user in range(50):
        for turn in range(3 * BLOCK):
            if is_gold_turn("ef" * 32, user, turn, rules, in_doubt=False):
                assert is_gold_turn("ef" * 32, user, turn, rules, in_doubt=True)
    none = QueueRules(gold_rate=0.0)
    assert not any(is_gold_turn("ef" * 32, 1, t, none, in_doubt=True) for t in range(BLOCK))


def test_everybody_gets_early_gold_and_no_block_of_it_at_the_end(world: MakeWorld) -> None:
    here = world([*items(60), *gold_items(30)], users=3, overlap=3)
    for user in range(3):
        seen: list[Task] = []
        while (task := here.claim(user)) is not None:
            here.right(task, user)
            seen.append(task)
        order = kinds(here, seen)
        assert order.count("o") == 60
        assert order[:BLOCK].count("g") >= 3
        assert "gggggg" not in order[BLOCK:]
        assert len({task.item_id for task in seen}) == len(seen)


def test_a_project_of_gold_alone_gives_it_all(world: MakeWorld) -> None:
    here = world(gold_items(4))
    assert kinds(here, here.work()) == "gggg"


# --- repeats -------------------------------------------------------------------------------------


def test_repeats_follow_their_originals_at_drawn_distances(world: MakeWorld) -> None:
    here = world(items(120), repeats=0.3)
    seen = here.work()
    order = kinds(here, seen)
    with here.database.reading() as session:
        of = {one.id: one.repeat_of for one in session.scalars(select(ItemRow))}
    place = {here.item_of(task): number for number, task in enumerate(seen)}
    gaps = [at - place[of[item]] for item, at in place.items() if of[item] is not None]
    assert order.count("r") >= 20
    assert min(gaps) >= REPEAT_AFTER
    assert max(gaps) <= REPEAT_WITHIN + 5  # several may be due at once
    assert len(set(gaps)) > 8
    halves = order[:75].count("r"), order[75:].count("r")
    assert min(halves) >= 0.25 * sum(halves)
    assert not order.endswith("rr")


def test_only_who_judged_the_original_gets_the_repeat(world: MakeWorld) -> None:
    here = world(items(80), users=2, overlap=1, repeats=0.5)
    mine: dict[int, list[Task]] = {0: [], 1: []}
    for _ in range(60):
        for user in (0, 1):
            mine[user] += here.work(user, at_most=1)
    with here.database.reading() as session:
        of = {one.id: one.repeat_of for one in session.scalars(select(ItemRow))}
    for tasks in mine.values():
        own = [here.item_of(task) for task in tasks]
        repeats = [item for item in own if of[item] is not None]
        assert repeats
        assert all(own.index(of[item]) < own.index(item) for item in repeats)
    assert all(told == counted for told, counted in here.counted().values())


def test_what_was_skipped_is_neither_repeated_nor_asked_again(world: MakeWorld) -> None:
    here = world(items(30), repeats=0.5)
    seen: list[int] = []
    while (task := here.claim()) is not None:
        seen.append(here.item_of(task))
        here.submit(task, verdict="skip", skip_reason="upsetting")
    assert len(seen) == len(set(seen)) == 30


def test_repeats_that_are_added_later_come_too(world: MakeWorld) -> None:
    here = world(items(60), repeats=0.5)
    here.work(at_most=10)
    with here.database.transaction() as session:
        for one in session.scalars(select(Assignment)):
            one.repeat_due = None
    with here.database.transaction() as session:
        schedule_repeats(session, here.project_id)
    assert "r" in kinds(here, here.work(at_most=10))


# --- nobody can tell -----------------------------------------------------------------------------


def test_ids_are_drawn_for_each_assignment_and_stay(world: MakeWorld) -> None:
    here = world(items(40), users=2, overlap=2, repeats=0.5)
    ids: set[str] = set()
    for user in (0, 1):
        for _ in range(30):
            task = here.must_claim(user)
            again = here.must_claim(user)
            assert (task.item_id, task.answers) == (again.item_id, again.answers)
            mine = {task.item_id, *(answer.id for answer in task.answers)}
            assert not ids & mine  # not even for a repeat, or for somebody else
            ids |= mine
            here.submit(task, user)


def test_nothing_that_is_sent_tells_gold_and_repeats_apart(app: FastAPI, people: World) -> None:
    people.file([*items(60, start=50), *gold_items(30)])
    with people.database.transaction() as session:
        batch = projects.create_batch(session, people.project_id, "gold questions", repeats=0.5)
    other = World(people.database, people.project_id, batch.id, people.users, people.names)
    other.file([*items(40, start=300), *gold_items(20, start=700)])
    people.rule(pause_on=[])  # this one always takes the first answer
    client = browser(app, "ann")
    sent: dict[str, list[Any]] = {"g": [], "r": [], "o": []}
    before: dict[str, int] = {}
    number = renewed = 0
    while (answer := client.post(f"/api/v1/projects/{SLUG}/claim")).status_code == 200:
        task = Task.model_validate_json(answer.content)
        page = client.get(f"/p/{SLUG}/task/{task.assignment_id}")
        body = {"key": f"key-{task.assignment_id:06d}", "verdict": "choice"}
        body |= {"choice": task.answers[0].id, "strength": 1}
        path = f"/api/v1/assignments/{task.assignment_id}/judgement"
        judged = client.post(path, json=body)
        back = client.post(f"/api/v1/projects/{SLUG}/undo").json()
        assert client.post(path, json=body | {"key": f"new-{task.assignment_id:06d}"}).is_success
        told = client.get(f"/api/v1/projects/{SLUG}/progress").json()
        first, change = not before, told["left"] - before.get("left", 0)
        if not first and change != -1:  # the estimate is renewed, whatever the item was
            assert before["left"] <= 1 or number - renewed >= BLOCK
            renewed = number
        number += 1
        assert told["done"] == number
        before = told
        (kind,) = kinds(people, [task])
        if first:
            continue
        headers = sorted(set(answer.headers) | set(page.headers) | set(judged.headers))
        assert "gold" not in f"{answer.text} {page.text} {answer.headers}".lower()
        sent[kind].append((sorted(answer.json()), sorted(judged.json()), headers, sorted(back)))
    assert min(len(sent["g"]), len(sent["r"])) >= 8
    for kind in "gr":
        for shape in sent[kind]:
            assert shape in sent["o"], kind
    with people.database.reading() as session:
        keys = set(session.scalars(select(PromptRow.prompt_key)))
    assert not [key for key in keys if key in page.text]


# --- entry test and training ---


def test_who_has_not_passed_gets_nothing_real(world: MakeWorld) -> None:
    here = world([*items(5), *gold_items(6, use="entry")], users=2)
    here.rule(entry_items=3, entry_bar=0.6, entry_tries=2)
    for _ in range(6):
        task = here.must_claim()
        assert task.stage == "entry"
        here.wrong(task)
    with pytest.raises(Paused, match="entry test"):
        here.claim()
    with here.database.transaction() as session:
        seats.resume(session, here.project_id, "ann0")
    seen = []
    for number in range(3):  # the pool is used up: the oldest are asked again
        task = here.must_claim()
        seen.append(here.item_of(task))
        assert task.previous is None
        (here.right if number else here.wrong)(task)
    assert len(set(seen)) == 3
    assert here.must_claim().stage == "work"
    assert here.must_claim().progress.done == 0  # the test is no work


def test_training_explains_and_cannot_be_changed(world: MakeWorld) -> None:
    from alignloop.label.store.task_view import feedback_of

    here = world([*items(3), *gold_items(1, use="training", explanation="Facts first.")])
    task = here.must_claim()
    assert task.stage == "training"
    here.wrong(task)
    with here.database.reading() as session:
        told = feedback_of(session, task.assignment_id)
    assert told is not None
    assert (told.right, told.verdict, told.explanation) == (False, "choice", "Facts first.")
    assert told.choice is not None
    assert here.response_of(task, told.choice) == min(
        here.response_of(task, answer.id) for answer in task.answers
    )
    assert here.undo() is None
    work = here.must_claim()
    assert work.stage == "work"
    here.submit(work)
    with here.database.reading() as session:
        assert feedback_of(session, work.assignment_id) is None


def test_more_questions_than_there_are_cannot_be_asked(world: MakeWorld) -> None:
    here = world([*items(3), *gold_items(2, use="entry")])
    with pytest.raises(Invalid, match="2 questions"):
        here.rule(entry_items=3)


# --- quotas, and items that cannot be shown ---


def test_a_quota_ends_ones_work(world: MakeWorld) -> None:
    here = world(items(10))
    here.rule(quota=4)
    assert [task.progress.left for task in here.work()] == [4, 3, 2, 1]
    assert here.claim() is None
    here.rule(quota=None)
    assert len(here.work()) == 6


def test_what_is_left_is_ones_own_part(world: MakeWorld) -> None:
    here = world(items(20), users=2, overlap=1)
    assert here.must_claim(0).progress.left == 20
    assert here.must_claim(1).progress.left == 10 + 1 - 1  # half of what is left, and this one
    seen = here.work(1, at_most=4)
    assert [task.progress.left for task in seen] == [10, 9, 8, 7]
    assert [task.progress.done for task in seen] == [0, 1, 2, 3]
    assert seen[-1].progress.minutes_left is not None


def test_an_item_that_cannot_be_shown_is_skipped_in_every_project(world: MakeWorld) -> None:
    from alignloop.label.store.events import latest_events
    from alignloop.label.store.tasks import LabelSchema

    here = world(items(2), schema=LabelSchema(allow=()))
    task = here.must_claim()
    with pytest.raises(Invalid, match="not allowed"):
        here.submit(task, verdict="skip", skip_reason="no idea")
    here.submit(task, verdict="skip", skip_reason="cannot_be_shown")
    other = here.must_claim()
    assert here.item_of(other) != here.item_of(task)
    here.submit(other)
    assert here.claim() is None
    with here.database.reading() as session:
        events = latest_events(session, here.project_id)
    assert [one.kind for one in events] == ["item not shown"]
    assert events[0].data["item"] == here.item_of(task)


def test_a_claim_passes_by_what_it_cannot_show(world: MakeWorld) -> None:
    here = world(items(3))
    with here.database.transaction() as session:
        first = session.scalars(select(ItemRow).order_by(ItemRow.position)).first()
        assert first is not None
        session.get_one(PromptRow, first.prompt_id).messages = [{"role": "oracle", "content": ""}]
        broken = first.id
    seen = [here.item_of(task) for task in here.work()]
    assert len(seen) == 2
    assert broken not in seen
    assert all(told == counted for told, counted in here.counted().values())


def test_a_paused_annotator_gets_nothing_until_the_lead_lets_them(world: MakeWorld) -> None:
    here = world(items(3))
    task = here.must_claim()
    with here.database.transaction() as session:
        seats.pause_by_lead(session, here.project_id, "ann0")
    with pytest.raises(Paused, match="paused"):
        here.claim()
    here.submit(task)  # what they have before them is welcome
    with pytest.raises(Paused):
        here.undo()
    with pytest.raises(Conflict):
        here.release(task)
    with here.database.transaction() as session:
        seats.resume(session, here.project_id, "ann0")
    assert here.claim() is not None
