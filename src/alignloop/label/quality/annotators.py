"""Quality of each annotator's labels: gold, repeats, Dawid-Skene, speed, and habits."""

import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from alignloop.label.labels.project_labels import Item, ProjectLabels, StoredJudgement
from alignloop.label.labels.votes import votes_of
from alignloop.stats import (
    DawidSkene,
    Estimate,
    accuracy_intervals,
    cluster_share,
    dawid_skene,
)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """One annotator. Shares have an interval clustered by prompt; None if nothing counts.

    `gold` is the share of gold questions answered correctly, `self_agreement` of repeats answered
    as before, `first_shown` of choices between two answers that went to the left one (0.5 without
    side bias), `decided` of judgements that say what a lead decided. `dawid_skene` is the
    probability of the true label, estimated from the labels of all; `median_seconds` the time an
    item was on the screen, and `no_time` how many judgements took none.
    """

    annotator: str
    judgements: int
    gold: Estimate | None
    self_agreement: Estimate | None
    decided: Estimate | None
    dawid_skene: Estimate | None
    first_shown: Estimate | None
    median_seconds: float
    no_time: int
    tie_share: float
    both_bad_share: float
    skip_share: float


def is_unknown(share: Estimate) -> bool:
    """Whether the data say nothing of a share: its interval is 0 to 1."""
    return share.low <= 0 and share.high >= 1


def annotator_quality(labels: ProjectLabels) -> list[Quality]:
    """All annotators with judgements, by name."""
    accuracies = dawid_skene_accuracy(labels)
    by_person: dict[str, list[StoredJudgement]] = {}
    for judged in labels.judgements:
        by_person.setdefault(judged.annotator, []).append(judged)
    return [
        _quality(name, by_person[name], labels, accuracies.get(name)) for name in sorted(by_person)
    ]


@dataclass(frozen=True, kw_only=True)
class SharedLabels:
    """The labels of items that two or more judged, and Dawid and Skene's model of them.

    The first `num_answers` classes are answers by their index in the content order.
    """

    responses: Sequence[tuple[str, Hashable, int]]
    prompts: Mapping[Hashable, str]
    num_answers: int
    model: DawidSkene


def shared_labels(labels: ProjectLabels) -> SharedLabels | None:
    """Dawid-Skene of all shared items, without gold questions and repeats; None without any.

    Answers differ in name alone, so the model treats them alike. Single votes carry no information
    about accuracy.
    """
    votes = votes_of(labels.about_answers)
    people: dict[Hashable, set[str]] = {}
    for vote in votes:
        people.setdefault(vote.unit, set()).add(vote.annotator)
    shared = [vote for vote in votes if len(people[vote.unit]) > 1]
    if not shared:
        return None
    num_answers = max(2 if vote.unit[1] else len(vote.item.answers) for vote in shared)
    named = [str(place) for place in range(num_answers)]
    others = sorted({vote.label for vote in shared} - set(named))
    classes = {name: number for number, name in enumerate([*named, *others])}
    responses = [(vote.annotator, vote.unit, classes[vote.label]) for vote in shared]
    return SharedLabels(
        responses=responses,
        prompts={vote.unit: vote.item.prompt.prompt_id for vote in shared},
        num_answers=num_answers,
        model=dawid_skene(responses, len(classes), exchangeable=num_answers),
    )


def dawid_skene_accuracy(labels: ProjectLabels) -> dict[str, Estimate]:
    """Each annotator's probability of the true label, for those who share items with others.

    The classes are the answers, a tie, and both bad. Gold questions and repeats are excluded. The
    interval is 0 to 1 if the labels do not determine the accuracy, as with two annotators.
    """
    found = shared_labels(labels)
    if found is None:
        return {}
    prompts = [found.prompts[unit] for unit in found.model.items]
    ends = accuracy_intervals(found.responses, found.model, prompts, exchangeable=found.num_answers)
    return {str(name): estimate for name, estimate in ends.items()}


def _quality(
    name: str,
    judgements: Sequence[StoredJudgement],
    labels: ProjectLabels,
    accuracy: Estimate | None,
) -> Quality:
    seconds = [judged.seconds for judged in judgements]
    return Quality(
        annotator=name,
        judgements=len(judgements),
        gold=_share(_gold_hits(judgements, labels)),
        self_agreement=_share(_repeats(judgements, labels)),
        decided=_share(_as_decided(judgements, labels)),
        dawid_skene=accuracy,
        first_shown=_share(_first_shown(judgements, labels)),
        median_seconds=statistics.median(seconds),
        no_time=sum(one <= 0 for one in seconds),
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


def _as_decided(judgements: Sequence[StoredJudgement], labels: ProjectLabels) -> list[Hit]:
    """Whether each judgement of a decided item names the same best answer, tie or both bad."""
    verdicts = {one.item_id: one.answer for one in labels.settled.judgements if one.decision}
    return [
        (judged.answer == verdicts[judged.item_id], labels.items[judged.item_id].prompt.prompt_id)
        for judged in judgements
        if judged.item_id in verdicts and judged.verdict != "skip"
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
