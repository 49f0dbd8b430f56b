"""What a judgement says, checked against what was shown: pure functions, no session."""

from collections.abc import Mapping, Sequence
from typing import Any

from alignloop.label.store.refusals import Contradiction, Invalid
from alignloop.label.store.tasks import JudgementIn, LabelSchema

TIE_WITHIN = 2  # ratings further apart than this are no tie


def columns_of(sent: JudgementIn, ids: Mapping[str, int]) -> dict[str, Any]:
    """What a judgement says as columns of its row; `ids` gives the response of each answer."""
    return {
        "verdict": sent.verdict,
        "choice": None if sent.choice is None else ids[sent.choice],
        "strength": sent.strength,
        "ratings": {str(ids[one]): rating for one, rating in sent.ratings.items()},
        "ranking": [[ids[one] for one in group] for group in sent.ranking],
        "harmful": [ids[one] for one in sent.harmful],
        "skip_reason": sent.skip_reason,
        "comment": sent.comment,
    }


def content_of(row: Any, names: Mapping[int, str]) -> dict[str, Any]:
    """What a row of `judgements` says, each response under its name: back from `columns_of`."""
    return {
        "verdict": row.verdict,
        "choice": None if row.choice is None else names[row.choice],
        "strength": row.strength,
        "ratings": {names[int(one)]: rating for one, rating in row.ratings.items()},
        "ranking": [[names[one] for one in group] for group in row.ranking],
        "harmful": [names[one] for one in row.harmful],
        "skip_reason": row.skip_reason,
        "comment": row.comment,
    }


def check(sent: JudgementIn, shown: Sequence[str], kind: str, schema: LabelSchema) -> JudgementIn:
    """The judgement, complete and about the answers that were shown, or not at all.

    Where a ranking or ratings are asked for, the choice follows from them if it is left out.
    Raises Invalid, and Contradiction for ratings against the choice that are not confirmed.
    """
    _check_names(sent, shown)
    if sent.verdict != "choice" and sent.verdict not in schema.allow:
        raise Invalid(f"{sent.verdict} is no answer in this project")
    if sent.verdict == "skip" and not sent.skip_reason.strip():
        raise Invalid("a skip needs a reason", fix="say why it cannot be judged")
    if sent.verdict != "choice" and sent.choice is not None:
        raise Invalid(f"{sent.verdict} goes with no choice")
    if sent.ranking and (sent.verdict in ("both_bad", "skip") or _is_tie_of_unequal(sent)):
        raise Invalid(f"{sent.verdict} goes with no such ranking", fix="leave the ranking out")
    strength = sent.strength if sent.verdict == "choice" else None
    said = sent.model_copy(update={"strength": strength, "harmful": sorted(set(sent.harmful))})
    if sent.verdict == "choice":
        said = _with_choice(said, shown, kind, schema)
    if not sent.confirmed and (found := contradiction(said)):
        raise _explain(found, said, shown)
    return said


def contradiction(said: JudgementIn) -> tuple[str, str] | None:
    """(preferred, rated higher): two answers whose ratings say otherwise than the judgement.

    A choice or a ranking is contradicted by a higher rating of what lost, a tie by ratings more
    than two points apart; where several are, the pair furthest apart is given.
    """
    pairs = [
        (said.ratings[worse] - said.ratings[better], better, worse)
        for better, worse in _preferences(said)
        if better in said.ratings and worse in said.ratings
    ]
    least = TIE_WITHIN if said.verdict == "tie" else 0
    _, better, worse = max(pairs, default=(0, "", ""))
    return (better, worse) if better and max(pairs)[0] > least else None


def _preferences(said: JudgementIn) -> list[tuple[str, str]]:
    """Every (preferred, other) that the judgement says; of a tie both ways round."""
    if said.verdict == "tie":
        return [(a, b) for a in said.ratings for b in said.ratings if a != b]
    if said.verdict != "choice":
        return []
    rated, chosen = list(said.ratings), said.choice
    found = [] if chosen is None else [(chosen, other) for other in rated if other != chosen]
    for place, group in enumerate(said.ranking):
        below = [one for later in said.ranking[place + 1 :] for one in later]
        found += [(better, worse) for better in group for worse in below]
    return found


def _is_tie_of_unequal(sent: JudgementIn) -> bool:
    return sent.verdict == "tie" and len(sent.ranking) > 1


def _with_choice(
    said: JudgementIn, shown: Sequence[str], kind: str, schema: LabelSchema
) -> JudgementIn:
    """Fill in the choice from the ranking or the ratings, and refuse what is incomplete."""
    if kind == "ranking" and not said.ranking:
        raise Invalid("the ranking is missing", fix="put every answer in a group, the best first")
    if schema.kind == "rating" and set(said.ratings) != set(shown):
        raise Invalid("a rating is missing", fix="rate every answer from 1 to 10")
    groups = said.ranking or (_by_rating(said.ratings) if schema.kind == "rating" else [])
    if not groups:
        if said.choice is None:
            raise Invalid("the choice is missing", fix="name the better answer")
        return said
    if said.choice is None and len(groups) == 1:
        return said.model_copy(update={"verdict": "tie", "strength": None})
    best = groups[0][0] if len(groups[0]) == 1 else None
    if said.choice is not None and said.ranking and said.choice != best:
        raise Invalid("the choice is not the best of the ranking", fix="leave the choice out")
    return said.model_copy(update={"choice": said.choice or best})


def _by_rating(ratings: Mapping[str, int]) -> list[list[str]]:
    levels = sorted(set(ratings.values()), reverse=True)
    return [[one for one in sorted(ratings) if ratings[one] == level] for level in levels]


def _check_names(sent: JudgementIn, shown: Sequence[str]) -> None:
    ranked = [one for group in sent.ranking for one in group]
    named = {*sent.ratings, *sent.harmful, *ranked}
    named |= {sent.choice} if sent.choice is not None else set()
    if not named <= set(shown):
        raise Invalid("the judgement names an answer that was not shown", fix="load the item again")
    if ranked and sorted(ranked) != sorted(shown):
        raise Invalid("the ranking does not hold every answer once", fix="rank all of them")
    if not all(sent.ranking):
        raise Invalid("a group of the ranking is empty", fix="leave it out")


def _explain(found: tuple[str, str], said: JudgementIn, shown: Sequence[str]) -> Contradiction:
    preferred, better = found
    first, second = (chr(ord("A") + shown.index(one)) for one in found)
    verdict = f"{first} and {second} are called a tie" if said.verdict == "tie" else f"{first} wins"
    ratings = f"{first} is rated {said.ratings[preferred]} and {second} {said.ratings[better]}"
    return Contradiction(f"{ratings}, yet {verdict}", chosen=preferred, better=better)
