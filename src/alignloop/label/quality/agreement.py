"""Agreement of annotators: raw, Cohen's and Fleiss' kappa, Krippendorff's alpha, by slice."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from alignloop.errors import UserError
from alignloop.label.labels.votes import UnitVote
from alignloop.stats import (
    Estimate,
    cluster_share,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_interval,
)

TIE, BOTH_BAD = "tie", "both_bad"
OTHERS = "\0"  # stands for all other annotators; no account can have this name


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement on some of the votes; None if undefined.

    `units` counts items judged by two or more annotators. `raw` is the share of pairs of annotators
    with the same label, `alpha` Krippendorff's for nominal labels, `alpha_strength` for the signed
    strength (ordinal). `cohen` is defined for two annotators, `fleiss` if all units have the same
    number of votes. Intervals are clustered by prompt.
    """

    name: str
    units: int
    votes: int
    raw: Estimate | None = None
    alpha: Estimate | None = None
    alpha_strength: Estimate | None = None
    cohen: float | None = None
    fleiss: float | None = None


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Labels of two annotators for the same units: `counts[i][j]` of label i by the first, j by the
    second, in the order of `labels`. A label such as "0" is an index in the content order."""

    first: str
    second: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    kappa: float | None

    @property
    def total(self) -> int:
        """How many units both judged."""
        return sum(map(sum, self.counts))


def agreement(name: str, votes: Sequence[UnitVote]) -> Agreement:
    """All measures of one slice of the votes."""
    units = _units(votes)
    people = sorted({vote.annotator for unit in units for vote in unit})
    shared = [vote for unit in units for vote in unit]
    strengths = [(v.annotator, v.unit, v.signed) for v in shared if v.signed is not None]
    prompts: dict[Hashable, Hashable] = {v.unit: v.item.prompt.prompt_id for v in shared}
    return Agreement(
        name=name,
        units=len(units),
        votes=len(shared),
        raw=_raw(units),
        alpha=_alpha([(v.annotator, v.unit, v.label) for v in shared], prompts),
        alpha_strength=_alpha(strengths, prompts, ordered=True),
        cohen=_confusion(*people, votes=shared).kappa if len(people) == 2 else None,
        fleiss=_fleiss(units),
    )


def by_annotator(votes: Sequence[UnitVote]) -> list[Agreement]:
    """Each annotator against the others: the units are pairs of their vote with one other."""
    people = sorted({vote.annotator for vote in votes})
    return [agreement(one, _dyads(one, votes)) for one in people]


def by_category(votes: Sequence[UnitVote]) -> list[Agreement]:
    """The votes on the prompts of each category."""
    return _sliced(votes, lambda vote: vote.item.prompt.category)


def by_models(votes: Sequence[UnitVote]) -> list[Agreement]:
    """Agreement by pair of models: "a ~ b"."""
    return _sliced(votes, _models)


def by_pair(votes: Sequence[UnitVote]) -> list[Agreement]:
    """Agreement of each pair of annotators with common items, named "a ~ b"."""
    found: list[Agreement] = []
    for first, second in combinations(sorted({vote.annotator for vote in votes}), 2):
        both = [vote for vote in votes if vote.annotator in (first, second)]
        if _units(both):
            found.append(agreement(f"{first} ~ {second}", both))
    return found


def confusions(votes: Sequence[UnitVote]) -> list[Confusion]:
    """The confusion tables of each pair of annotators with common items."""
    people = sorted({vote.annotator for vote in votes})
    tables = [_confusion(a, b, votes=votes) for a, b in combinations(people, 2)]
    return [table for table in tables if table.total]


def _sliced(votes: Sequence[UnitVote], name_of: Callable[[UnitVote], str]) -> list[Agreement]:
    slices: dict[str, list[UnitVote]] = {}
    for vote in votes:
        if name := name_of(vote):
            slices.setdefault(name, []).append(vote)
    return [agreement(name, slices[name]) for name in sorted(slices)]


def _models(vote: UnitVote) -> str:
    answers = [a for a in vote.item.answers if not vote.unit[1] or a.response_id in vote.unit[1:]]
    models = sorted(answer.model for answer in answers)
    return " ~ ".join(models) if len(models) == 2 and all(models) else ""


def _units(votes: Iterable[UnitVote]) -> list[list[UnitVote]]:
    """The votes of each unit with two or more annotators."""
    found: dict[Hashable, list[UnitVote]] = {}
    for vote in votes:
        found.setdefault(vote.unit, []).append(vote)
    return [unit for unit in found.values() if len({vote.annotator for vote in unit}) > 1]


def _dyads(person: str, votes: Sequence[UnitVote]) -> list[UnitVote]:
    """An annotator's votes, each paired with one other's: three others make three units of two."""
    dyads: list[UnitVote] = []
    for unit in _units(votes):
        own = [vote for vote in unit if vote.annotator == person]
        for other in unit if own else ():
            if other.annotator != person:
                name = (other.unit[0], *other.unit[1:2], f"{other.unit[2]} {other.annotator}")
                dyads += [_renamed(own[0], name), _renamed(other, name, annotator=OTHERS)]
    return dyads


def _renamed(vote: UnitVote, unit: tuple[int, str, str], annotator: str = "") -> UnitVote:
    return UnitVote(
        unit=unit,
        annotator=annotator or vote.annotator,
        label=vote.label,
        signed=vote.signed,
        item=vote.item,
    )


def _raw(units: Sequence[Sequence[UnitVote]]) -> Estimate | None:
    """Pooled over the pairs of annotators on each unit, like `stats.raw_agreement`."""
    pairs = [pair for unit in units for pair in combinations(unit, 2)]
    if not pairs:
        return None
    same = [float(one.label == other.label) for one, other in pairs]
    prompts = [one.item.prompt.prompt_id for one, _ in pairs]
    return cluster_share(same, prompts)


def _alpha(
    triples: Sequence[tuple[str, Hashable, int | str]],
    prompts: Mapping[Hashable, Hashable],
    *,
    ordered: bool = False,
) -> Estimate | None:
    try:
        found = krippendorff_interval(
            triples,
            "ordinal" if ordered else "nominal",
            clusters=prompts,
        )
    except UserError:  # no unit has two votes
        return None
    return None if math.isnan(found.value) else found


def _fleiss(units: Sequence[Sequence[UnitVote]]) -> float | None:
    if not units or len({len(unit) for unit in units}) > 1:
        return None
    labels = sorted({vote.label for unit in units for vote in unit})
    counts = [Counter(vote.label for vote in unit) for unit in units]
    return _defined(fleiss_kappa([[count[label] for label in labels] for count in counts]))


def _confusion(first: str, second: str, *, votes: Sequence[UnitVote]) -> Confusion:
    label_of: dict[str, dict[Hashable, str]] = {first: {}, second: {}}
    for vote in votes:
        if vote.annotator in label_of:
            label_of[vote.annotator][vote.unit] = vote.label
    common = [unit for unit in label_of[first] if unit in label_of[second]]
    seen = {label_of[person][unit] for person in label_of for unit in common}
    labels = tuple(sorted(seen, key=_label_order))
    pairs = Counter((label_of[first][unit], label_of[second][unit]) for unit in common)
    counts = tuple(tuple(pairs[row, column] for column in labels) for row in labels)
    kappa = _defined(cohen_kappa(counts)) if common else None
    return Confusion(first=first, second=second, labels=labels, counts=counts, kappa=kappa)


def _label_order(label: str) -> tuple[bool, bool, int]:
    number = int(label) if label.isdigit() else 0
    # positions first, then tie, then both bad
    return label == BOTH_BAD, label == TIE, number


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
