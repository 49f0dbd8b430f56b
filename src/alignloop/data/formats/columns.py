"""What a whole column holds: seen in a first pass over a table, asked by the formats in the second.

Whether 1 is the first answer or the second, or what a label's words mean, cannot be told from one
row. An observer looks at a row and names facts, of which there is a small number whatever the
length of the file.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import Any

Fact = tuple[Hashable, Hashable]  # the column, and what was seen in it
Observer = Callable[[dict[str, Any]], Iterable[Fact]]
MOST_FACTS = 200  # of one column, so that no file can fill the memory

OBSERVERS: list[Observer] = []


class Columns:
    """The facts about a table's columns: `columns.seen("winner")` is a set, empty for no fact."""

    def __init__(self) -> None:
        self._facts: dict[Hashable, set[Hashable]] = {}

    def note(self, column: Hashable, fact: Hashable) -> None:
        """One more fact; those beyond a column's limit are passed over."""
        facts = self._facts.setdefault(column, set())
        if len(facts) < MOST_FACTS:
            facts.add(fact)

    def look(self, row: dict[str, Any]) -> None:
        """What all observers see in one more row."""
        for observer in OBSERVERS:
            for column, fact in observer(row):
                self.note(column, fact)

    def seen(self, column: Hashable) -> set[Hashable]:
        """All facts about a column."""
        return self._facts.get(column, set())


NOTHING_SEEN = Columns()


def observes(observer: Observer) -> Observer:
    """The decorator of a function that sees facts in a row."""
    OBSERVERS.append(observer)
    return observer
