"""Quality of each annotator's labels: gold, repeats, Dawid-Skene, speed, and habits."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from alignloop.label.labels.project_labels import Item, ProjectLabels, StoredJudgement
from alignloop.label.labels.votes import votes_of
from alignloop.stats import Estimate, cluster_share, dawid_skene


@dataclass(frozen=True, kw_only=True)
class Quality:
    """One annotator. Shares have an interval clustered by prompt; None if nothing counts.

    `gold` is the share of gold questions answered correctly, `self_agreement` of repeats answered
    as before, `first_shown` of choices between two answers that went to the left one (0.5 without
    side bias). `dawid_skene` is the probability of the true label, estimated from the labels of
    all; `median_seconds` the time an item was on the screen.
    """

    annotator: str
    judgements: int
    gold: Estimate | None
    self_agreement: Estimate | None
    dawid_skene: float | None
    first_shown: Estimate | None
    median_seconds: float | None
    tie_share: float
    both_bad_share: float
    skip_share: float


def annotator_quality(labels: ProjectLabels) -> list[Quality]:
    """All annotators with judgements, by name."""
    accuracies = dawid_skene_accuracy(labels)
    by_person: dict[str, list[StoredJudgement]] = {}
    for judged in labels.judgements:
        by_person.setdefault(judged.annotator, []).append(judged)
    return [
        _quality(name, by_person[name], labels, accuracies.get(name)) for name in sorted(by_person)
    ]


def dawid_skene_accuracy(labels: ProjectLabels) -> dict[str, float]:
    """Each annotator's probability of the true label, for those who share items with others.

    The classes are the indices in the items' content order, a tie, and both bad. Gold questions
    and repeats are excluded.
    """
    votes = votes_of(labels.about_answers)
    people: dict[object, set[str]] = {}
    for vote in votes:
        people.setdefault(vote.unit, set()).add(vote.annotator)
    # single votes carry no information about accuracy
    shared = [vote for vote in votes if len(people[vote.unit]) > 1]
    if not shared:
        return {}
    names = sorted({vote.label for vote in shared})
    classes = {name: number for number, name in enumerate(names)}
    found = dawid_skene(
        [(vote.annotator, vote.unit, classes[vote.label]) for vote in shared], len(classes)
    )
    return {str(name): share for name, share in found.accuracy().items()}


def _quality(
    name: str, judgements: Sequence[StoredJudgement], labels: ProjectLabels, accuracy: float | None
) -> Quality:
    seconds = [judged.seconds for judged in judgements if judged.seconds > 0]
    return Quality(
        annotator=name,
        judgements=len(judgements),
        gold=_share(_gold_hits(judgements, labels)),
        self_agreement=_share(_repeats(judgements, labels)),
        dawid_skene=accuracy,
        first_shown=_share(_first_shown(judgements, labels)),
        median_seconds=statistics.median(seconds) if seconds else None,
        tie_share=_part(judgements, "tie"),
        both_bad_share=_part(judgements, "both_bad"),
        skip_share=_part(judgements, "skip"),
    )


Hit = tuple[bool, str]  # (correct, prompt_id)


def _share(hits: Sequence[Hit]) -> Estimate | None:
    if not hits:
        return None
    return cluster_share([float(hit) for hit, _ in hits], [prompt for _, prompt in hits])


def _part(judgements: Sequence[StoredJudgement], verdict: str) -> float:
    return sum(judged.verdict == verdict for judged in judgements) / len(judgements)


def _gold_hits(judgements: Sequence[StoredJudgement], labels: ProjectLabels) -> list[Hit]:
    answered = [
        (labels.items[judged.item_id], judged) for judged in judgements if judged.verdict != "skip"
    ]
    return [
        (judged.answer == item.gold, item.prompt.prompt_id)
        for item, judged in answered
        if item.gold is not None
    ]


def _repeats(judgements: Sequence[StoredJudgement], labels: ProjectLabels) -> list[Hit]:
    """Whether each repeat was answered like its original, by content, not by position."""
    first = {judged.item_id: judged for judged in judgements}
    found: list[Hit] = []
    for judged in judgements:
        item = labels.items[judged.item_id]
        before = first.get(item.repeat_of) if item.repeat_of is not None else None
        if before is not None and "skip" not in (before.verdict, judged.verdict):
            earlier = labels.items[before.item_id]
            same = _text_chosen(item, judged) == _text_chosen(earlier, before)
            found.append((same, item.prompt.prompt_id))
    return found


def _text_chosen(item: Item, judged: StoredJudgement) -> str:
    answer = judged.answer
    return next((a.text for a in item.answers if a.response_id == answer), answer)


def _first_shown(judgements: Sequence[StoredJudgement], labels: ProjectLabels) -> list[Hit]:
    return [
        (judged.choice == judged.shown[0], labels.items[judged.item_id].prompt.prompt_id)
        for judged in judgements
        if judged.verdict == "choice" and len(judged.shown) == 2
    ]
