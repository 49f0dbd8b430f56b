"""Counts, alarms and pauses after judgements, and the times that are believed."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from label_support import SLUG, World, gold_items, items

from alignloop.label.events import events_after
from alignloop.label.store import projects, seats
from alignloop.label.store.checks import (
    Bars,
    Counts,
    agreement_counts,
    alarms,
    bars_of,
    evidence_of,
    is_in_doubt,
)
from alignloop.label.store.refusals import Paused
from alignloop.label.store.rules import QueueRules
from alignloop.label.store.seat_tables import Seat
from alignloop.label.store.tables import now
from alignloop.label.store.watching import believed_ms

MakeWorld = Callable[..., World]
RULES = QueueRules()


def seat(here: World, user: int = 0) -> Seat:
    """An annotator's seat."""
    with here.database.reading() as session:
        found = seats.find_seat(session, here.project_id, here.users[user])
    assert found is not None
    return found


def kinds_of_events(here: World) -> list[str]:
    """What happened, oldest first."""
    with here.database.reading() as session:
        return [event.kind for event in events_after(session, 0)]


# --- pure ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "server", "believed"),
    [
        (4000, 5000, 4000),
        (0, 5000, 5000),  # no time at all is no time that was measured
        (60_000, 300, 300),  # more than has passed
        (5500, 5000, 5500),  # clocks differ a little
        (4000, 3_600_000, 4000),  # a page that was open but not looked at
        (0, 10**10, 24 * 3600 * 1000),
    ],
)
def test_impossible_times_are_not_believed(client: int, server: int, believed: int) -> None:
    assert believed_ms(client, server) == believed


def test_votes_count_where_two_others_agree() -> None:
    assert agreement_counts({1: "a", 2: "a", 3: "b"}) == {3: (1, 0)}
    assert agreement_counts({1: "a", 2: "a", 3: "a"}) == {1: (1, 1), 2: (1, 1), 3: (1, 1)}
    assert agreement_counts({1: "a", 2: "a"}) == {}
    assert agreement_counts({1: "a", 2: "", 3: "a"}) == {}  # a tie is no vote for an answer


def test_a_wrong_key_alarms_about_nobody() -> None:
    everyone = [Counts(gold=40, gold_right=24)] * 6
    bars = bars_of(everyone[1:], RULES)
    assert bars_of([], RULES).gold == pytest.approx(0.8)
    assert bars.gold < 0.6
    for one in everyone:
        assert alarms(evidence_of(one, bars, RULES), RULES) == []
    assert alarms(evidence_of(everyone[0], Bars(gold=0.85, peers=0.8), RULES), RULES)


def test_each_check_has_its_alarm() -> None:
    bars = Bars(gold=0.85, peers=0.8)

    def raised(**counts: int) -> set[str]:
        return set(alarms(evidence_of(Counts(**counts), bars, RULES), RULES))

    assert "gold" in raised(gold=20, gold_right=10)
    assert raised(gold=6, gold_right=3, peers=40, peers_agree=22) == {"accuracy", "all"}
    assert raised(sides=60, sides_left=52) == {"side", "all"}
    assert raised(timed=20, too_fast=15) == {"speed"}
    assert (
        raised(gold=50, gold_right=47, peers=200, peers_agree=175, sides=400, sides_left=205)
        == set()
    )


def test_doubt_ends_with_answers_that_speak_for_somebody() -> None:
    bars = Bars(gold=0.85, peers=0.8)

    def doubted(**counts: int) -> bool:
        return is_in_doubt(Counts(**counts), bars, RULES)

    assert not doubted(gold=1)  # nobody is told apart by their first question
    assert doubted(gold=3, gold_right=3)
    assert not doubted(gold=10, gold_right=10)
    assert doubted(gold=10, gold_right=8)
    assert not doubted(gold=3, gold_right=3, peers=8, peers_agree=8)
    assert doubted(gold=8, gold_right=8, sides=30, sides_left=27)


# --- in the database ---


def test_who_is_below_the_bar_is_flagged_and_paused(world: MakeWorld) -> None:
    here = world([*items(80), *gold_items(60)], users=2, overlap=2)
    asked = 0
    with pytest.raises(Paused):
        while (task := here.claim()) is not None:
            here.wrong(task)
            asked += 1
    assert asked < 40
    assert kinds_of_events(here).count("annotator paused") == 1
    assert "annotator flagged" in kinds_of_events(here)
    for _ in range(30):  # another one, who is right, is not
        here.right(here.must_claim(1), 1)
    with here.database.transaction() as session:
        seats.resume(session, here.project_id, "ann0")
    assert seat(here).gold == 0
    here.right(here.must_claim())
    here.must_claim()


def test_pauses_are_as_the_rules_say(world: MakeWorld) -> None:
    here = world([*items(60), *gold_items(60)])
    here.rule(pause_on=[])
    for _ in range(50):
        here.wrong(here.must_claim())
    assert "gold" in seat(here).flags
    assert kinds_of_events(here).count("annotator flagged") == len(seat(here).flags)
    assert "annotator paused" not in kinds_of_events(here)


def test_one_side_pauses_if_the_rules_say_so(world: MakeWorld) -> None:
    here = world(items(80))
    here.rule(pause_on=["side"])
    with pytest.raises(Paused):
        while True:
            here.submit(here.must_claim())  # always the first answer shown
    assert seat(here).pause_reason == "side"
    assert seat(here).turn < 40


def test_a_changed_answer_counts_once_and_as_changed(world: MakeWorld) -> None:
    here = world([*items(30), *gold_items(30)])
    here.rule(gold_early=20)
    task = here.must_claim()
    here.wrong(task)
    assert (seat(here).gold, seat(here).gold_right) == (1, 0)
    back = here.undo()
    assert back is not None
    here.right(back)
    found = seat(here)
    assert (found.gold, found.gold_right, found.sides, found.timed) == (1, 1, 1, 1)
    back = here.undo()
    assert back is not None
    here.submit(back, verdict="skip", skip_reason="?")
    found = seat(here)
    assert (found.gold, found.gold_right, found.sides) == (0, 0, 0)


def test_agreement_is_counted_when_the_third_vote_is_there(world: MakeWorld) -> None:
    here = world(items(1), users=3, overlap=3)
    here.right(here.must_claim(0), 0)
    here.wrong(here.must_claim(1), 1)
    assert [seat(here, user).peers for user in (0, 1)] == [0, 0]
    here.right(here.must_claim(2), 2)
    counted = [(seat(here, user).peers, seat(here, user).peers_agree) for user in range(3)]
    assert counted == [(0, 0), (1, 0), (0, 0)]
    back = here.undo(2)
    assert back is not None
    here.wrong(back, 2)
    counted = [(seat(here, user).peers, seat(here, user).peers_agree) for user in range(3)]
    assert counted == [(1, 0), (0, 0), (0, 0)]


def test_times_are_kept_as_sent_and_as_measured(world: MakeWorld) -> None:
    here = world(items(3))
    at = now()
    for sent, passed in ((0, 20.0), (12_000, 20.0), (60_000, 0.4)):
        task = here.must_claim(at=at)
        later = at + timedelta(seconds=passed)
        here.submit(task, visible_ms=sent, at=later)
        at = later
    times = [
        (row.client_ms, row.server_ms, row.visible_ms, row.too_fast) for row in here.standing()
    ]
    assert times == [
        (0, 20_000, 20_000, False),
        (12_000, 20_000, 12_000, False),
        (60_000, 400, 400, True),
    ]
    assert (seat(here).timed, seat(here).too_fast) == (3, 1)
    from alignloop.label.store.overview import own_progress

    with here.database.reading() as session:
        project = projects.get_project(session, SLUG)
        told = own_progress(session, project.id, here.users[0])
    assert told.median_seconds == 12.0  # the fastest one is among them
