"""Validation of judgements against what was shown: pure functions, no session."""

from collections.abc import Mapping, Sequence
from typing import Any

from alignloop.label.store.refusals import Contradiction, Invalid
from alignloop.label.store.tasks import CANNOT_BE_SHOWN, JudgementIn, LabelSchema

TIE_WITHIN = 2  # ratings further apart than this contradict a tie


def columns_of(sent: JudgementIn, ids: Mapping[str, int]) -> dict[str, Any]:
    """A judgement as columns of its row; `ids` maps answers to response ids."""
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
    """The content of a `judgements` row, with named responses: the inverse of `columns_of`."""
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
    """The judgement, completed and checked against the answers shown.

    If a ranking or ratings are required, a missing choice is derived from them.
    Raises Invalid, and Contradiction for unconfirmed ratings against the choice.
    """
    _check_names(sent, shown)
    if not _is_allowed(sent, schema):
        raise Invalid(f"{sent.verdict} is not allowed in this project")
    if sent.verdict == "skip" and not sent.skip_reason.strip():
        raise Invalid("a skip needs a reason", fix="say why it cannot be judged")
    if sent.verdict != "choice" and sent.choice is not None:
        raise Invalid(f"{sent.verdict} cannot have a choice")
    if sent.ranking and (sent.verdict in ("both_bad", "skip") or _is_tie_of_unequal(sent)):
        raise Invalid(f"{sent.verdict} contradicts this ranking", fix="omit the ranking")
    strength = sent.strength if sent.verdict == "choice" else None
    judgement = sent.model_copy(update={"strength": strength, "harmful": sorted(set(sent.harmful))})
    if sent.verdict == "choice":
        judgement = _with_choice(judgement, shown, kind, schema)
    if not sent.confirmed and (found := contradiction(judgement)):
        raise _explain(found, judgement, shown)
    return judgement


def _is_allowed(sent: JudgementIn, schema: LabelSchema) -> bool:
    """Whether the project has this verdict; what cannot be shown may be skipped in every one."""
    broken = sent.verdict == "skip" and sent.skip_reason == CANNOT_BE_SHOWN
    return sent.verdict in ("choice", *schema.allow) or broken


def contradiction(judgement: JudgementIn) -> tuple[str, str] | None:
    """(preferred, rated higher): two answers whose ratings contradict the judgement, or None.

    A choice or a ranking is contradicted by a higher rating of the loser, a tie by ratings more
    than two points apart; if there are several, the pair furthest apart.
    """
    pairs = [
        (judgement.ratings[worse] - judgement.ratings[better], better, worse)
        for better, worse in _preferences(judgement)
        if better in judgement.ratings and worse in judgement.ratings
    ]
    # small differences of ratings are compatible with a tie
    least = TIE_WITHIN if judgement.verdict == "tie" else 0
    _, better, worse = max(pairs, default=(0, "", ""))
    return (better, worse) if better and max(pairs)[0] > least else None


def _preferences(judgement: JudgementIn) -> list[tuple[str, str]]:
    """Every (preferred, other) pair of the judgement; for a tie in both directions."""
    if judgement.verdict == "tie":
        return [(a, b) for a in judgement.ratings for b in judgement.ratings if a != b]
    if judgement.verdict != "choice":
        return []
    rated, chosen = list(judgement.ratings), judgement.choice
    found = [] if chosen is None else [(chosen, other) for other in rated if other != chosen]
    for rank, group in enumerate(judgement.ranking):
        below = [one for later in judgement.ranking[rank + 1 :] for one in later]
        found += [(better, worse) for better in group for worse in below]
    return found


def _is_tie_of_unequal(sent: JudgementIn) -> bool:
    return sent.verdict == "tie" and len(sent.ranking) > 1


def _with_choice(
    judgement: JudgementIn, shown: Sequence[str], kind: str, schema: LabelSchema
) -> JudgementIn:
    """Fill in the choice from the ranking or the ratings, and refuse incomplete judgements."""
    if kind == "ranking" and not judgement.ranking:
        raise Invalid("the ranking is missing", fix="put every answer in a group, the best first")
    if schema.kind == "rating" and set(judgement.ratings) != set(shown):
        raise Invalid("a rating is missing", fix="rate every answer from 1 to 10")
    groups = judgement.ranking or (_by_rating(judgement.ratings) if schema.kind == "rating" else [])
    if not groups:
        if judgement.choice is None:
            raise Invalid("the choice is missing", fix="name the better answer")
        return judgement
    if judgement.choice is None and len(groups) == 1:
        return judgement.model_copy(update={"verdict": "tie", "strength": None})
    best = groups[0][0] if len(groups[0]) == 1 else None
    if judgement.choice is not None and judgement.ranking and judgement.choice != best:
        raise Invalid("the choice is not the best of the ranking", fix="omit the choice")
    return judgement.model_copy(update={"choice": judgement.choice or best})


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
        raise Invalid("the ranking does not contain every answer once", fix="rank all of them")
    if not all(sent.ranking):
        raise Invalid("a group of the ranking is empty", fix="omit it")


def _explain(found: tuple[str, str], judgement: JudgementIn, shown: Sequence[str]) -> Contradiction:
    preferred, better = found
    first, second = (chr(ord("A") + shown.index(one)) for one in found)
    verdict = (
        f"{first} and {second} are called a tie" if judgement.verdict == "tie" else f"{first} wins"
    )
    ratings = (
        f"{first} is rated {judgement.ratings[preferred]} and {second} {judgement.ratings[better]}"
    )
    return Contradiction(f"{ratings}, yet {verdict}", chosen=preferred, better=better)
