"""Exports for Label Studio and Argilla, read back by the data layer as the same verdicts."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignloop.data.formats.annotated import ANNOTATED, Annotated
from alignloop.data.judgements import annotated_rows
from alignloop.errors import UserError
from alignloop.label.exports.export_rows import export_rows
from alignloop.label.exports.shapes import check_format, lines_of
from alignloop.label.labels.project_labels import (
    Item,
    ItemAnswer,
    ProjectLabels,
    StoredJudgement,
)
from alignloop.label.store.tables import now
from alignloop.records import Message, Prompt

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1)
TEXTS = WORDS.filter(lambda text: text.strip() and not text.lstrip().startswith(("[", "{")))


@st.composite
def a_project(draw: st.DrawFn) -> ProjectLabels:
    """An item of two to four answers, and what up to three people said of it."""
    texts = draw(st.lists(TEXTS, min_size=2, max_size=4, unique_by=str.strip))
    answers = tuple(ItemAnswer(response_id=f"r{n}", text=text) for n, text in enumerate(texts))
    asked = (Message(role="user", content=draw(TEXTS)),)
    prompt = Prompt(prompt_id="p", messages=asked, category="c", language="en", source="s")
    item = Item(item_id=1, comparison_id="x", prompt=prompt, answers=answers)
    names = [answer.response_id for answer in answers]
    people = draw(st.lists(TEXTS.map(str.strip), max_size=3, unique=True))
    said = tuple(draw(a_judgement(n, person, names)) for n, person in enumerate(people, 1))
    return ProjectLabels(items={1: item}, judgements=said)


@st.composite
def a_judgement(draw: st.DrawFn, number: int, person: str, names: list[str]) -> StoredJudgement:
    """A choice with a strength, a tie, both bad, a skip with a reason, or a ranking."""
    verdict = draw(st.sampled_from(["choice", "tie", "both_bad", "skip"]))
    fields: dict[str, Any] = {"verdict": verdict, "comment": draw(st.just("") | TEXTS)}
    if verdict == "choice" and len(names) > 2 and draw(st.booleans()):
        ranks = draw(st.lists(st.integers(0, 2), min_size=len(names), max_size=len(names)))
        tiers = [[n for n, rank in zip(names, ranks, strict=True) if rank == r] for r in range(3)]
        fields["ranking"] = tuple(tuple(tier) for tier in tiers if tier)
    elif verdict == "choice":
        fields |= {"choice": draw(st.sampled_from(names)), "strength": draw(st.integers(0, 3))}
    if verdict == "skip":
        fields |= {"skip_reason": draw(TEXTS), "comment": ""}
    elif draw(st.booleans()):
        fields["ratings"] = {name: float(draw(st.integers(1, 10))) for name in names}
    return StoredJudgement(
        judgement_id=number,
        item_id=1,
        annotator=person,
        created_at=now() - timedelta(seconds=draw(st.integers(0, 10**6))),
        seconds=draw(st.integers(0, 10**6)) / 1000,
        **fields,
    )


def verdicts(labels: ProjectLabels) -> dict[str, Any]:
    """What each person said, in the answers' texts."""
    item = labels.items[1]
    texts = {answer.response_id: answer.text for answer in item.answers}
    return {
        one.annotator: (
            texts.get(one.answer, one.answer),
            one.strength or 0,
            {texts[name]: value for name, value in one.ratings.items()},
            one.comment or one.skip_reason,
            one.seconds,
            one.created_at,
        )
        for one in labels.judgements
    }


def read_back(path: Path) -> tuple[Annotated, dict[str, Any]]:
    (found,) = annotated_rows(str(path))
    assert isinstance(found, Annotated), found
    texts = {one.response_id: one.text for one in found.comparison.responses}
    said = {
        one.annotator_id: (
            texts.get(one.choice, one.choice),
            one.strength,
            {texts[name]: value for name, value in one.ratings.items()},
            one.rationale,
            one.seconds,
            one.created_at,
        )
        for one in found.judgements()
    }
    return found, said


@pytest.mark.parametrize("format", ["label-studio", "argilla"])
@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(labels=a_project())
def test_people_times_skips_and_verdicts_come_back(
    tmp_path: Path, format: Any, labels: ProjectLabels
) -> None:
    rows = [*export_rows(labels, "comparisons"), *export_rows(labels, "judgements")]
    path = tmp_path / "out.json"
    path.write_text("\n".join(lines_of(rows, format)) + "\n", encoding="utf-8")
    found, said = read_back(path)
    assert said == verdicts(labels)
    asked = labels.items[1].prompt
    assert found.comparison.prompt.messages == asked.messages
    about = found.comparison.prompt.model_dump(include={"category", "language", "prompt_id"})
    assert about == asked.model_dump(include={"category", "language", "prompt_id"})
    ranked = {one.annotator: one.ranking for one in labels.judgements if one.ranking}
    texts = {one.response_id: one.text for one in found.comparison.responses}
    old = {a.response_id: a.text for a in labels.items[1].answers}
    for vote in found.votes:
        if vote.annotator in ranked and not labels_rated(labels, vote.annotator):
            tiers = [{texts[name] for name in tier} for tier in vote.ranking]
            assert tiers == [{old[name] for name in tier} for tier in ranked[vote.annotator]]


def labels_rated(labels: ProjectLabels, person: str) -> bool:
    return any(one.ratings for one in labels.judgements if one.annotator == person)


def test_other_kinds_are_refused() -> None:
    for format in ("label-studio", "argilla"):
        with pytest.raises(UserError, match="keeps judgements"):
            check_format("pairs", format)
        check_format("judgements", format)


def test_a_task_is_label_studios_own(tmp_path: Path) -> None:
    """The layout of its task format and of the tags Pairwise and Ranker, as documented."""
    answers = (ItemAnswer(response_id="a", text="yes"), ItemAnswer(response_id="b", text="no"))
    prompt = Prompt(prompt_id="p", messages=(Message(role="user", content="Q"),))
    item = Item(item_id=1, comparison_id="x", prompt=prompt, answers=answers)
    said = StoredJudgement(
        judgement_id=7, item_id=1, annotator="ann", verdict="choice", choice="b", created_at=now()
    )
    labels = ProjectLabels(items={1: item}, judgements=(said,))
    rows = [*export_rows(labels, "comparisons"), *export_rows(labels, "judgements")]
    (task,) = json.loads("\n".join(lines_of(rows, "label-studio")))
    assert task["data"]["answer1"] == "yes" and task["predictions"] == []
    (annotation,) = task["annotations"]
    assert annotation["completed_by"] == {"email": "ann"}
    (result,) = annotation["result"]
    assert (result["type"], result["to_name"]) == ("pairwise", "answer1,answer2")
    assert result["value"] == {"selected": "right"}
    assert {"label-studio", "argilla"} <= ANNOTATED.keys()
