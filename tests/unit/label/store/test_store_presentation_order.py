"""The order of the answers: stable, secret, and balanced per annotator."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from label_support import World, items
from sqlalchemy import select

from alignloop.label.store.presentation_order import shown_order
from alignloop.label.store.tables import Assignment, ItemResponse, Presentation

MakeWorld = Callable[..., World]
SECRET = "ab" * 32
SIZES = st.integers(2, 9)


@settings(deadline=None)
@given(st.integers(1, 10**6), SIZES, st.integers(0, 200))
def test_places_differ_by_one_at_most_at_any_moment(user: int, size: int, dealt: int) -> None:
    answers = list(range(100, 100 + size))
    counts = {one: Counter[int]() for one in answers}
    for number in range(dealt):
        for place, one in enumerate(shown_order(SECRET, user, answers, number)):
            counts[one][place] += 1
    for one in answers:
        shown = [counts[one][place] for place in range(size)]
        assert max(shown) - min(shown) <= 1


@settings(deadline=None)
@given(st.integers(1, 10**6), SIZES, st.integers(0, 10**6))
def test_every_answer_is_shown_once_and_always_at_the_same_place(
    user: int, size: int, dealt: int
) -> None:
    answers = list(range(size))
    order = shown_order(SECRET, user, answers, dealt)
    assert sorted(order) == answers
    assert order == shown_order(SECRET, user, answers, dealt)


def test_the_order_depends_on_the_secret_and_on_the_annotator() -> None:
    def flips(secret: str, user: int) -> list[int]:
        return [shown_order(secret, user, [0, 1], number)[0] for number in range(200)]

    assert flips(SECRET, 1) != flips("cd" * 32, 1)
    assert flips(SECRET, 1) != flips(SECRET, 2)
    # No simple alternation either: the same answer is first twice running about as often as not.
    same = sum(one == other for one, other in pairwise(flips(SECRET, 1)))
    assert 25 < same < 75


def test_a_worked_example() -> None:
    # Block 0 of annotator 1 with two answers: once as stored, once turned round.
    pair = [shown_order(SECRET, 1, [7, 8], number) for number in (0, 1)]
    assert sorted(pair) == [[7, 8], [8, 7]]


def test_what_an_annotator_was_shown_is_balanced_in_the_database(world: MakeWorld) -> None:
    here = world(items(21), users=3, overlap=3)
    counts = (21, 10, 7)
    for user, count in enumerate(counts):
        here.work(user, at_most=count)
    with here.database.reading() as session:
        stored = select(ItemResponse.response_id).where(ItemResponse.position == 0)
        first = set(session.scalars(stored))
        rows = session.execute(
            select(Assignment.user_id, Presentation.order).join(
                Presentation, Presentation.assignment_id == Assignment.id
            )
        ).all()
    for user, count in zip(here.users, counts, strict=True):
        orders = [order for user_id, order in rows if user_id == user]
        assert len(orders) == count
        assert abs(2 * sum(order[0] in first for order in orders) - count) <= 1
