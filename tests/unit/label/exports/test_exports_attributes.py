"""Scores by criterion as rows and as margins, by numbers worked out by hand, and read back."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alignloop.data.check import check
from alignloop.data.formats import read_attributes
from alignloop.errors import UserError
from alignloop.label.exports import export_rows
from alignloop.label.exports.shapes import check_format, lines_of
from alignloop.label.labels.project_labels import Item, ItemAnswer, ProjectLabels, StoredJudgement
from alignloop.label.labels.scores import margin_of
from alignloop.records import Judgement, Message, Prompt, Span

LEVELS = {"helpful": 10, "correct": 5}
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def item(number: int, *texts: str, prompt: str = "p", **fields: Any) -> Item:
    """A question; the answers' ids are their texts."""
    return Item(
        item_id=number,
        comparison_id=f"c{number}",
        prompt=Prompt(prompt_id=prompt, messages=(Message(role="user", content="Q?"),)),
        answers=tuple(ItemAnswer(response_id=text, text=text) for text in texts),
        **fields,
    )


def judged(number: int, item_id: int, who: str, scores: Any, **fields: Any) -> StoredJudgement:
    """A judgement in favour of answer x."""
    return StoredJudgement(
        judgement_id=number,
        item_id=item_id,
        annotator=who,
        scores=scores,
        levels=LEVELS,
        created_at=START + timedelta(minutes=number),
        **{"verdict": "choice", "choice": "x", **fields},
    )


def both(x: tuple[int, int], y: tuple[int, int]) -> dict[str, dict[str, float]]:
    """Helpful and correct, for x and for y."""
    return {"x": dict(zip(LEVELS, x, strict=True)), "y": dict(zip(LEVELS, y, strict=True))}


LABELS = ProjectLabels.of(
    [item(1, "x", "y"), item(2, "x", "z"), item(3, "x", "y", gold="tie", prompt="g")],
    [
        judged(1, 1, "ana", both((9, 5), (5, 2))),
        judged(2, 1, "bo", both((6, 5), (4, 2))),
        # ana sees x again in another item, where she gives 7 instead of 9
        judged(3, 2, "ana", {"x": {"helpful": 7.0}}),
        judged(4, 3, "ana", both((1, 1), (1, 1))),  # gold questions measure people
        judged(5, 2, "bo", {"x": {"helpful": 1.0}}, verdict="skip", choice=None),
    ],
)


def test_an_answer_has_its_mean_over_people() -> None:
    rows = {row.content["response"]: row for row in export_rows(LABELS, "attributes")}
    assert set(rows) == {"x", "y"}
    x = rows["x"].content
    # ana's mean is 8, bo's 6: 7, with a spread of sqrt(2)
    assert (x["helpful"], x["correct"]) == (7.0, 5.0)
    assert x["raters"] == {"helpful": 2, "correct": 2}
    assert x["spread"] == {"helpful": pytest.approx(2**0.5), "correct": 0.0}
    assert x["by_annotator"] == {
        "ana": {"helpful": 8.0, "correct": 5.0},
        "bo": {"helpful": 6.0, "correct": 5.0},
    }
    assert x["levels"] == {"helpful": 10.0, "correct": 5.0}
    assert rows["x"].provenance["judgements"] == [1, 2, 3]
    assert rows["x"].provenance["comparisons"] == ["c1", "c2"]
    assert rows["y"].content["helpful"] == 4.5


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_data_check_reads_them_back(tmp_path: Path, format: Any) -> None:
    rows = export_rows(LABELS, "attributes")
    path = tmp_path / f"attributes.{format}"
    path.write_text("".join(f"{line}\n" for line in lines_of(rows, format)), encoding="utf-8")
    found = {one.response: one for one in read_attributes(path)}
    assert found["x"].scores == {"helpful": 7.0, "correct": 5.0}
    assert found["x"].by_annotator["ana"] == {"helpful": 8.0, "correct": 5.0}
    assert found["x"].spread["helpful"] == pytest.approx(2**0.5)
    assert found["x"].prompt.prompt_id == "p"
    report = check([str(path)], lambda texts: [1] * len(texts))[0]
    assert (report.format, report.kind, report.num_refused) == ("attributes", "attributes", 0)
    assert report.labels == {"helpful": 2, "correct": 2}


def test_scores_outside_their_scale_are_refused(tmp_path: Path) -> None:
    good = {"prompt": "Q", "response": "A", "levels": {"helpful": 5}, "helpful": 5}
    for change in ({"helpful": 6}, {"helpful": "much"}, {"levels": {}}, {"helpful": None}):
        path = tmp_path / "bad.jsonl"
        path.write_text(json.dumps(good | change) + "\n", encoding="utf-8")
        with pytest.raises(UserError):
            read_attributes(path)


def test_attributes_are_no_pairs() -> None:
    with pytest.raises(UserError, match="not pairs"):
        check_format("attributes", "trl")


def test_the_margin_is_the_strength_or_else_the_scores_distance() -> None:
    one = LABELS.judgements[0]
    # (9 - 5) / 9 and (5 - 2) / 4: their mean is 0.597, of 3 steps
    assert margin_of(one, "x", "y") == pytest.approx(3 * (4 / 9 + 3 / 4) / 2)
    assert margin_of(one, "y", "x") == 0.0
    assert margin_of(judged(9, 1, "ana", both((9, 5), (5, 2)), strength=1), "x", "y") == 1.0
    assert margin_of(judged(9, 1, "ana", {}), "x", "y") == 0.0
    rows = export_rows(LABELS, "pairs")
    assert rows[0].pairs[0].margin == pytest.approx(3 * (4 / 9 + 3 / 4) / 2)
    assert rows[0].provenance["scores"] == {
        "chosen": {"helpful": 9, "correct": 5},
        "rejected": {"helpful": 5, "correct": 2},
    }
    (margins, _) = export_rows(LABELS, "margins")
    second = 3 * (2 / 9 + 3 / 4) / 2
    assert margins.pairs[0].margin == pytest.approx((rows[0].pairs[0].margin + second) / 2)


def test_judgements_carry_everything() -> None:
    span = Span(turn=0, start=0, end=1, text="Q", kind="wrong", comment="why")
    one = judged(1, 1, "ana", both((9, 5), (5, 2)), flags={"y": ("rude",)}, spans=(span,))
    labels = ProjectLabels.of([item(1, "x", "y")], [one])
    (row,) = export_rows(labels, "judgements")
    record = Judgement.model_validate(row.content)
    assert record.scores == both((9, 5), (5, 2))
    assert record.flags == {"y": ("rude",)}
    assert record.spans == (span,)
    assert json.loads(json.dumps(row.content)) == row.content
