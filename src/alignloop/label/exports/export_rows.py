"""Labels as training rows: pure, in an order that depends only on the labels.

Gold questions and repeats are excluded by construction: every function here reads only
`ProjectLabels.about_answers`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, get_args

from alignloop.data.formats.parts import MAX_STRENGTH
from alignloop.label.labels.pairs import in_order, learnable, pair_of, pairs_of, without_skips
from alignloop.label.labels.project_labels import Item, ProjectLabels, StoredJudgement
from alignloop.label.labels.votes import ranked_pairs
from alignloop.records import Comparison, Judgement, PreferencePair, Prompt, Record, Response

Kind = Literal["pairs", "soft", "margins", "rankings", "ratings", "judgements", "comparisons"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True)
class ExportRow:
    """One row. `content` is the question and its labels; the hash covers it.

    `pairs` are what a reward model learns from it. `provenance` names the item, judgements and
    guideline: ids of this database, hence not part of the hash.
    """

    prompt: Prompt
    content: Mapping[str, Any]
    pairs: tuple[PreferencePair, ...]
    provenance: Mapping[str, Any]


def export_rows(labels: ProjectLabels, kind: Kind) -> list[ExportRow]:
    """The rows of one kind; those of one prompt, and of one comparison, are adjacent.

    A skip says nothing about the answers, whatever was filled in before, so it appears only in
    "judgements".
    """
    make: dict[Kind, Callable[[ProjectLabels], Iterable[ExportRow]]] = {
        "pairs": _pair_rows,
        "soft": _soft_rows,
        "margins": _margin_rows,
        "rankings": _ranking_rows,
        "ratings": _rating_rows,
        "judgements": _judgement_rows,
        "comparisons": _comparison_rows,
    }
    about = in_order(labels.about_answers)
    return list(
        make[kind](about if kind in ("judgements", "comparisons") else without_skips(about))
    )


# --- records -----------------------------------------------------------------------------------


def comparison_record(item: Item) -> Comparison:
    """The item as the record it was imported from; several models are named in order."""
    return Comparison(
        comparison_id=item.comparison_id,
        prompt=item.prompt,
        responses=tuple(
            Response(response_id=answer.response_id, text=answer.text) for answer in item.answers
        ),
        sampled_from=", ".join(dict.fromkeys(a.model for a in item.answers if a.model)),
    )


def judgement_record(item: Item, judged: StoredJudgement) -> Judgement:
    """The judgement as a record; a ranking names its best answer."""
    return Judgement(
        comparison_id=item.comparison_id,
        annotator_id=judged.annotator,
        choice=judged.answer,
        strength=judged.strength or 0,
        ratings=dict(judged.ratings),
        order_shown=judged.shown,
        seconds=judged.seconds,
        rationale=judged.comment,
        created_at=judged.created_at,
    )


def _provenance(item: Item, judgements: Sequence[StoredJudgement], **more: Any) -> dict[str, Any]:
    return {
        "item": item.item_id,
        "judgements": [judged.judgement_id for judged in judgements],
        "guideline_versions": sorted({judged.guideline for judged in judgements}),
        **more,
    }


def _of_record(record: Record) -> dict[str, Any]:
    return record.model_dump(mode="json")


# --- the kinds ---------------------------------------------------------------------------------


def _pair_rows(labels: ProjectLabels) -> Iterable[ExportRow]:
    for judged in labels.judgements:
        item = labels.items[judged.item_id]
        for pair in pairs_of(item, judged):
            yield _pair_row(pair, _provenance(item, [judged]))


def _pair_row(pair: PreferencePair, provenance: Mapping[str, Any]) -> ExportRow:
    return ExportRow(
        prompt=pair.prompt, content=_of_record(pair), pairs=(pair,), provenance=provenance
    )


@dataclass(frozen=True, kw_only=True)
class _Tally:
    """The votes on two answers of an item: the first one's share, and its mean margin."""

    first: str
    second: str
    share: float
    margin: float
    judgements: tuple[StoredJudgement, ...]


def _tallies(item: Item, judgements: Sequence[StoredJudgement]) -> list[_Tally]:
    """Each pair of answers that was compared, in content order."""
    votes_by_pair: dict[tuple[str, str], list[tuple[float, float, StoredJudgement]]] = {}
    for judged in judgements:
        for first, second, better in _compared(item, judged):
            share = 0.5 if better is None else float(better == first)
            margin = float(judged.strength or 0) * (2 * share - 1)
            votes_by_pair.setdefault((first, second), []).append((share, margin, judged))
    return [
        _Tally(
            first=first,
            second=second,
            share=sum(share for share, _, _ in votes) / len(votes),
            margin=sum(margin for _, margin, _ in votes) / len(votes),
            judgements=tuple(judged for _, _, judged in votes),
        )
        for (first, second), votes in sorted(votes_by_pair.items())
    ]


def _compared(item: Item, judged: StoredJudgement) -> list[tuple[str, str, str | None]]:
    """Every pair of answers that a judgement compares: both in content order, and the better."""
    if judged.ranking:
        return list(ranked_pairs(item, judged.ranking))
    couples = list(combinations(item.in_content_order, 2))
    if judged.verdict == "tie":
        return [(first, second, None) for first, second in couples]
    if judged.verdict == "choice":
        return [(a, b, judged.choice) for a, b in couples if judged.choice in (a, b)]
    return []


def _soft_rows(labels: ProjectLabels) -> Iterable[ExportRow]:
    """One row per pair: the share of votes for the preferred answer; a tie counts half."""
    for item, tally in _all_tallies(labels):
        pair = _tallied(item, tally, preference=max(tally.share, 1 - tally.share), margin=0.0)
        yield from _row_of_tally(item, tally, pair)


def _margin_rows(labels: ProjectLabels) -> Iterable[ExportRow]:
    """One row per pair: the preferred answer, and the mean strength in its favour."""
    for item, tally in _all_tallies(labels):
        if tally.share != 0.5:
            margin = max(0.0, tally.margin if tally.share > 0.5 else -tally.margin)
            yield from _row_of_tally(
                item, tally, _tallied(item, tally, preference=1.0, margin=margin)
            )


def _all_tallies(labels: ProjectLabels) -> Iterable[tuple[Item, _Tally]]:
    for item_id, judgements in _by_item(labels).items():
        item = labels.items[item_id]
        yield from ((item, tally) for tally in _tallies(item, judgements))


def _by_item(labels: ProjectLabels) -> dict[int, list[StoredJudgement]]:
    found: dict[int, list[StoredJudgement]] = {}
    for judged in labels.judgements:
        found.setdefault(judged.item_id, []).append(judged)
    return found


def _tallied(item: Item, tally: _Tally, *, preference: float, margin: float) -> PreferencePair:
    count = len(item.answers)
    names = (tally.first, tally.second) if tally.share >= 0.5 else (tally.second, tally.first)
    return pair_of(
        item,
        *names,
        preference=preference,
        margin=margin,
        weight=2 / (count * (count - 1)),
        source=item.prompt.source,
    )


def _row_of_tally(item: Item, tally: _Tally, pair: PreferencePair) -> Iterable[ExportRow]:
    votes = {"votes": len(tally.judgements)}
    for kept in learnable([pair]):
        yield _pair_row(kept, _provenance(item, tally.judgements, **votes))


def _ranking_rows(labels: ProjectLabels) -> Iterable[ExportRow]:
    """A prompt with its K answers and their ranks, 1 the best."""
    for judged in labels.judgements:
        if judged.ranking:
            rank = {name: tier for tier, equal in enumerate(judged.ranking, 1) for name in equal}
            item = labels.items[judged.item_id]
            yield _answers_row(item, judged, "ranks", rank, pairs_of(item, judged))


def _rating_rows(labels: ProjectLabels) -> Iterable[ExportRow]:
    """A prompt with its answers and their ratings; ratings of 6 and 9 also make a pair."""
    for judged in labels.judgements:
        if len(judged.ratings) > 1:
            item = labels.items[judged.item_id]
            pairs = learnable(_rated_pairs(item, judged))
            yield _answers_row(item, judged, "scores", judged.ratings, pairs)


def _rated_pairs(item: Item, judged: StoredJudgement) -> list[PreferencePair]:
    """Pairs as the data layer reads ratings: the margin is the difference, at most 3."""
    rated = [name for name in item.in_content_order if name in judged.ratings]
    couples = list(combinations(rated, 2))
    made: list[PreferencePair] = []
    for first, second in couples:
        apart = judged.ratings[first] - judged.ratings[second]
        made.append(
            pair_of(
                item,
                *((first, second) if apart >= 0 else (second, first)),
                preference=0.5 if apart == 0 else 1.0,
                margin=min(MAX_STRENGTH, abs(apart)),
                weight=1 / len(couples),
                source=judged.annotator,
            )
        )
    return made


def _answers_row(
    item: Item,
    judged: StoredJudgement,
    key: str,
    numbers: Mapping[str, float],
    pairs: Sequence[PreferencePair],
) -> ExportRow:
    """A row as the data layer reads several answers: question, answers, a number for each."""
    answers = [answer for answer in item.answers if answer.response_id in numbers]
    content: dict[str, Any] = {
        "prompt_id": item.prompt.prompt_id,
        "prompt": [_of_record(message) for message in item.prompt.messages],
        "answers": [answer.text for answer in answers],
        key: [numbers[answer.response_id] for answer in answers],
        "category": item.prompt.category,
        "language": item.prompt.language,
        "source": item.prompt.source,
        "annotator": judged.annotator,
        "comparison_id": item.comparison_id,
        **item.prompt.model_dump(mode="json", include={"tools", "reference", "metadata"}),
    }
    return ExportRow(
        prompt=item.prompt,
        content=content,
        pairs=tuple(pairs),
        provenance=_provenance(item, [judged]),
    )


def _judgement_rows(labels: ProjectLabels) -> Iterable[ExportRow]:
    for judged in labels.judgements:
        item = labels.items[judged.item_id]
        more = {
            "batch": item.batch,
            "ranking": [list(equal) for equal in judged.ranking],
            "harmful": list(judged.harmful),
            "skip_reason": judged.skip_reason,
        }
        yield ExportRow(
            prompt=item.prompt,
            content=_of_record(judgement_record(item, judged)),
            pairs=(),
            provenance=_provenance(item, [judged], **more),
        )


def _comparison_rows(labels: ProjectLabels) -> Iterable[ExportRow]:
    by_item = _by_item(labels)
    for item in labels.items.values():
        judged = by_item.get(item.item_id, [])
        more = {
            "batch": item.batch,
            "why": item.why,
            "why_detail": dict(item.why_detail),
            "models": {a.response_id: a.model for a in item.answers if a.model},
        }
        yield ExportRow(
            prompt=item.prompt,
            content=_of_record(comparison_record(item)),
            pairs=(),
            provenance=_provenance(item, judged, **more),
        )
