"""Answers with their mean score on each criterion: columns like HelpSteer's."""

from collections.abc import Iterable, Mapping

from alignloop.label.labels.project_labels import Item, ItemAnswer, ProjectLabels, StoredJudgement
from alignloop.label.labels.scores import scores_of
from alignloop.records import AttributeScores

Judged = list[tuple[Item, StoredJudgement]]


def scored_answers(labels: ProjectLabels) -> Iterable[tuple[AttributeScores, Judged]]:
    """Each answer that was scored, once even if several items show it, and its judgements."""
    found: dict[tuple[str, str], tuple[Item, ItemAnswer, Judged]] = {}
    for judged in labels.judgements:
        item = labels.items[judged.item_id]
        for answer in item.answers:
            if judged.scores.get(answer.response_id):
                key = (item.prompt.prompt_id, answer.response_id)
                found.setdefault(key, (item, answer, []))[2].append((item, judged))
    for item, answer, behind in found.values():
        yield _record(item, answer, [judged for _, judged in behind]), behind


def _record(item: Item, answer: ItemAnswer, judged: list[StoredJudgement]) -> AttributeScores:
    scores = scores_of(judged, answer.response_id)
    people: dict[str, dict[str, float]] = {}
    for name, one in scores.items():
        for who, value in one.by_annotator.items():
            people.setdefault(who, {})[name] = value
    levels = {name: float(top) for one in judged for name, top in one.levels.items()}
    return AttributeScores(
        prompt=item.prompt,
        response=answer.text,
        scores={name: one.mean for name, one in scores.items()},
        levels={name: levels[name] for name in scores},
        raters={name: len(one.by_annotator) for name, one in scores.items()},
        spread={name: one.spread for name, one in scores.items()},
        by_annotator=dict(sorted(people.items())),
        source=item.prompt.source,
    )


def as_columns(record: AttributeScores) -> Mapping[str, object]:
    """The record as a row with one column for each criterion."""
    whole = record.model_dump(mode="json")
    asked = whole["prompt"]
    columns = {key: asked[key] for key in ("prompt_id", "category", "language")}
    more = {key: asked[key] for key in ("tools", "reference", "metadata") if key in asked}
    kept = ("levels", "raters", "spread", "by_annotator", "source")
    return {
        "prompt_id": columns.pop("prompt_id"),
        "prompt": asked["messages"],
        "response": record.response,
        **whole["scores"],
        **{key: whole[key] for key in kept},
        **columns,
        **more,
    }
