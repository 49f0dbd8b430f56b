"""Facts about whole columns: collected in a first pass over a table, used by formats in the second.

One row cannot show whether 1 is the first answer or the second, or what a label's words mean. An
observer looks at a row and reports facts, of which there are few, however long the file.
"""

from collections.abc import Callable, Hashable, Iterable

from alignloop.data.narrow import Object

Fact = tuple[Hashable, Hashable]  # the column, and what was seen in it
Observer = Callable[[Object], Iterable[Fact]]
MOST_FACTS = 200  # per column, so that no file can fill the memory

OBSERVERS: list[Observer] = []


class Columns:
    """The facts about a table's columns: `columns.seen("winner")` is a set, maybe empty."""

    def __init__(self) -> None:
        self._facts: dict[Hashable, set[Hashable]] = {}

    def note(self, column: Hashable, fact: Hashable) -> None:
        """Add a fact; those beyond a column's limit are dropped."""
        facts = self._facts.setdefault(column, set())
        if len(facts) < MOST_FACTS:
            facts.add(fact)

    def look(self, row: Object) -> None:
        """Add the facts that all observers report for a row."""
        for observer in OBSERVERS:
            for column, fact in observer(row):
                self.note(column, fact)

    def seen(self, column: Hashable) -> set[Hashable]:
        """All facts about a column."""
        return self._facts.get(column, set())


# for callers that read single rows without a first pass
NOTHING_SEEN = Columns()


def observes(observer: Observer) -> Observer:
    """Decorator that registers a function from a row to facts."""
    OBSERVERS.append(observer)
    return observer
