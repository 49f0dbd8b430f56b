"""From judgements to preference pairs for training, in a deterministic order."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from alignloop.data.preferences import pairs_of_choice
from alignloop.label.labels.project_labels import Item, ProjectLabels, StoredJudgement
from alignloop.label.labels.votes import ranked_pairs
from alignloop.records import PreferencePair


def preference_pairs(labels: ProjectLabels) -> list[PreferencePair]:
    """The pairs of all valid judgements, without gold questions and repeats."""
    about = in_order(without_skips(labels.about_answers))
    return [pair for one in about.judgements for pair in pairs_of(about.items[one.item_id], one)]


def without_skips(labels: ProjectLabels) -> ProjectLabels:
    """Without skips, which say nothing about the answers, whatever was filled in before."""
    judgements = tuple(one for one in labels.judgements if one.verdict != "skip")
    return ProjectLabels(items=labels.items, judgements=judgements)


def in_order(labels: ProjectLabels) -> ProjectLabels:
    """Items by prompt and comparison, judgements by item, annotator and time."""
    items = sorted(labels.items.values(), key=lambda i: (i.prompt.prompt_id, i.comparison_id))
    rank = {item.item_id: number for number, item in enumerate(items)}
    judgements = sorted(
        labels.judgements, key=lambda j: (rank[j.item_id], j.annotator, j.created_at)
    )
    return ProjectLabels(items={item.item_id: item for item in items}, judgements=tuple(judgements))


def pairs_of(item: Item, judgement: StoredJudgement) -> list[PreferencePair]:
    """The training pairs of one judgement; a ranking gives all C(K, 2) pairs.

    Each has weight 1 / C(K, 2), so a judgement has the same weight for any K.
    """
    if not judgement.ranking:
        pairs = pairs_of_choice(
            item.prompt,
            texts_of(item),
            judgement.answer,
            margin=float(judgement.strength or 0),
            source=judgement.annotator,
            comparison_id=item.comparison_id,
        )
    else:
        ranked = list(ranked_pairs(item, judgement.ranking))
        weight, source = 1 / max(1, len(ranked)), judgement.annotator
        pairs = [
            pair_of(
                item,
                better or first,
                second if better in (None, first) else first,
                preference=0.5 if better is None else 1.0,
                weight=weight,
                source=source,
            )
            for first, second, better in ranked
        ]
    return learnable(pairs)


def pair_of(item: Item, chosen: str, rejected: str, **fields: Any) -> PreferencePair:
    """A pair of an item's answers, given by their response_ids."""
    texts = texts_of(item)
    return PreferencePair(
        prompt=item.prompt,
        chosen=texts[chosen],
        rejected=texts[rejected],
        comparison_id=item.comparison_id,
        **fields,
    )


def texts_of(item: Item) -> dict[str, str]:
    """The text of each answer by its response_id."""
    return {answer.response_id: answer.text for answer in item.answers}


def learnable(pairs: Iterable[PreferencePair]) -> list[PreferencePair]:
    """Without pairs of equal answers, which carry no preference."""
    return [pair for pair in pairs if pair.chosen.strip() != pair.rejected.strip()]


def content_hash(kind: str, contents: Iterable[Mapping[str, Any]]) -> str:
    """sha256 over the kind and contents, independent of order and database.

    Each content is one line of JSON with sorted keys; the lines are sorted.
    """
    lines = sorted(
        json.dumps(one, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        for one in contents
    )
    return hashlib.sha256("\n".join([kind, *lines]).encode()).hexdigest()
