"""Decisions of leads: kept by new rows, changed, withdrawn, and refused if they name nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from label_support import World, items, make_lead

from alignloop.label.store import adjudicating, overview
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.refusals import Conflict, Invalid, NotFound
from alignloop.label.store.tasks import JudgementIn, LabelSchema

MakeWorld = Callable[..., World]


class Bench:
    """A lead who decides items of a world."""

    def __init__(self, world: World) -> None:
        self.world, self.lead = world, make_lead(world.database)

    def answers(self, item_id: int = 1) -> list[str]:
        """The public ids of an item's answers."""
        with self.world.database.reading() as session:
            return [one.public_id for one in overview.responses_of(session, [item_id])[item_id]]

    def decide(self, item_id: int = 1, **said: Any) -> int:
        """Store a verdict."""
        decided = JudgementIn.model_validate({"key": "decision", **said})
        with self.world.database.transaction() as session:
            where = session, self.world.project_id, self.lead, item_id
            return adjudicating.adjudicate(*where, decided).id

    def withdraw(self, item_id: int = 1) -> None:
        """Withdraw the verdict."""
        with self.world.database.transaction() as session:
            where = session, self.world.project_id, self.lead, item_id
            adjudicating.withdraw_decision(*where)

    def seen(self) -> list[Any]:
        """Each row: its verdict, and whether it counts."""
        with self.world.database.reading() as session:
            found = adjudicating.list_decisions(session, self.world.project_id)
        return [(one.verdict, one.counts) for one in found]


def test_decisions_are_added_and_the_newest_counts(world: MakeWorld) -> None:
    bench = Bench(world(items(2)))
    first, second = bench.answers()
    bench.decide(verdict="choice", choice=first, strength=2, comment="true")
    bench.decide(verdict="choice", choice=second)
    assert bench.seen() == [("choice", False), ("choice", True)]
    bench.withdraw()
    assert bench.seen() == [("choice", False), ("choice", False), ("withdrawn", False)]
    with pytest.raises(Conflict, match="not decided"):
        bench.withdraw()
    bench.decide(verdict="tie")
    with bench.world.database.reading() as session:
        labels = load_labels(session, bench.world.project_id)
    assert [one.verdict for one in labels.adjudications] == ["choice", "choice", "withdrawn", "tie"]
    assert labels.adjudications[0].strength == 2
    assert labels.decisions[1].verdict == "tie"


def test_a_lead_may_say_what_annotators_may_not(world: MakeWorld) -> None:
    bench = Bench(world(items(1), schema=LabelSchema(allow=())))
    bench.decide(verdict="both_bad")
    assert bench.seen() == [("both_bad", True)]


def test_more_than_two_answers_are_ranked(world: MakeWorld) -> None:
    bench = Bench(world(items(1, answers=3)))
    a, b, c = bench.answers()
    with pytest.raises(Invalid, match="the ranking is missing"):
        bench.decide(verdict="choice", choice=a)
    bench.decide(verdict="choice", ranking=[[b], [a, c]])
    with bench.world.database.reading() as session:
        (decided,) = load_labels(session, bench.world.project_id).adjudications
    assert decided.ranking == (("p0#1",), ("p0#0", "p0#2"))
    assert decided.choice == "p0#1"
    bench.decide(verdict="choice", ranking=[[a, b, c]])
    assert bench.seen()[-1] == ("tie", True)


@pytest.mark.parametrize("said", [{"choice": "nobody"}, {}])
def test_a_verdict_that_names_no_answer_is_refused(world: MakeWorld, said: dict[str, str]) -> None:
    bench = Bench(world(items(1)))
    with pytest.raises(Invalid):
        bench.decide(verdict="choice", **said)
    with pytest.raises(NotFound):
        bench.decide(item_id=99, verdict="tie")
    assert bench.seen() == []
