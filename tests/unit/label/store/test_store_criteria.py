"""Scores, marks, flags, rationale and guideline: what the project asks for is checked and kept."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_support import SLUG, World, items
from pydantic import ValidationError
from sqlalchemy import select

from alignloop.label.store.criteria import Asked, SpanIn
from alignloop.label.store.criteria_checks import check_asked, check_contradiction, check_spans
from alignloop.label.store.guideline_openings import open_guideline
from alignloop.label.store.projects import add_guideline
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.refusals import Contradiction, Forbidden, Invalid, NotFound
from alignloop.label.store.tables import PromptRow
from alignloop.label.store.tasks import JudgementIn, LabelSchema
from alignloop.records import Span

MakeWorld = Callable[..., World]


def named(key: str, **fields: Any) -> dict[str, Any]:
    """A criterion, a kind of mark or a flag."""
    return {"key": key, "name_en": key, "name_zh": "名", **fields}


HELPFUL, CORRECT = named("helpful", levels=10), named("correct")
ASKED = Asked.model_validate(
    {
        "criteria": [HELPFUL, CORRECT, named("harmless", required=False)],
        "span_kinds": [named("wrong", colour="red")],
        "flags": [named("off_topic")],
    }
)
WHOLE = {"a": {"helpful": 6, "correct": 3}, "b": {"helpful": 9, "correct": 5}}


def sent(**said: Any) -> JudgementIn:
    """A judgement of answers "a" and "b"; "b" is better unless it says otherwise."""
    choice = "b" if said.get("verdict", "choice") == "choice" else None
    fields = {"key": "0123456789", "verdict": "choice", "choice": choice, "scores": WHOLE}
    return JudgementIn.model_validate({**fields, **said})


# --- pure ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"scores": {}}, "the score of helpful is missing for answer A"),
        ({"scores": {"a": WHOLE["a"]}}, "the score of helpful is missing for answer B"),
        ({"scores": {"a": {"helpful": 1}, "b": WHOLE["b"]}}, "correct is missing for answer A"),
        ({"scores": {**WHOLE, "z": {"helpful": 1}}}, "not shown"),
        ({"scores": {**WHOLE, "a": {"witty": 1}}}, "no criterion witty"),
        ({"scores": {**WHOLE, "a": {"helpful": 6, "correct": 6}}}, "6 is above the scale"),
        ({"flags": {"a": ["rude"]}}, "no flag rude"),
        ({"flags": {"z": ["off_topic"]}}, "not shown"),
        ({"verdict": "tie", "scores": {}}, "is missing"),
        ({"verdict": "both_bad", "scores": {}}, "is missing"),
    ],
)
def test_what_the_project_does_not_ask_or_lacks_is_refused(
    said: dict[str, Any], problem: str
) -> None:
    with pytest.raises(Invalid, match=problem):
        check_asked(sent(**said), ["a", "b"], ASKED)


def test_a_skip_needs_no_scores_and_no_rationale() -> None:
    asked = ASKED.model_copy(update={"rationale": "required", "rationale_min": 10})
    check_asked(sent(verdict="skip", skip_reason="?", scores={}), ["a", "b"], asked)


@pytest.mark.parametrize(
    ("words", "enough"), [("", False), ("因为它说的不对。", True), (" " * 20, False)]
)
def test_a_rationale_has_its_fewest_characters(words: str, enough: bool) -> None:
    asked = Asked(rationale="required", rationale_min=8)
    if enough:
        check_asked(sent(comment=words, scores={}), ["a", "b"], asked)
    else:
        with pytest.raises(Invalid, match="needs 8"):
            check_asked(sent(comment=words, scores={}), ["a", "b"], asked)
    if words.strip():
        with pytest.raises(Invalid, match="takes no rationale"):
            check_asked(sent(comment=words, scores={}), ["a", "b"], Asked(rationale="none"))


@pytest.mark.parametrize(
    ("said", "pair"),
    [
        ({"choice": "a"}, ("a", "b")),
        ({"choice": "b"}, None),
        # ahead on one criterion is enough to be consistent, and so is an equal score
        ({"choice": "a", "scores": {**WHOLE, "a": {"helpful": 6, "correct": 5}}}, None),
        ({"choice": "a", "scores": {"a": WHOLE["a"]}}, None),
        # of a tie: 3 of 9 and 2 of 4 steps are more than a quarter, 2 of 9 are not
        ({"verdict": "tie"}, ("a", "b")),
        ({"verdict": "tie", "scores": {**WHOLE, "b": {"helpful": 8, "correct": 5}}}, None),
        ({"verdict": "both_bad"}, None),
        ({"choice": None, "ranking": [["a"], ["b"]]}, ("a", "b")),
        ({"choice": None, "ranking": [["b"], ["a"]]}, None),
    ],
)
def test_a_choice_against_every_criterion_is_pointed_out(
    said: dict[str, Any], pair: tuple[str, str] | None
) -> None:
    if pair is None:
        return check_contradiction(sent(**said), ["a", "b"], ASKED)
    with pytest.raises(Contradiction) as found:
        check_contradiction(sent(**said), ["a", "b"], ASKED)
    assert (found.value.chosen, found.value.better, found.value.over) == (*pair, "criteria")
    return None


@given(text=st.text(min_size=1), data=st.data())
def test_any_part_of_any_text_can_be_marked(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    part = text[start:end]
    try:
        span = SpanIn(answer="a", start=start, end=end, text=part, kind="wrong")
    except ValidationError:
        assert "\0" in part  # what no database stores
        return
    check_spans([span], {"a": text}, ASKED)
    kept = Span(response_id="r", start=start, end=end, text=part, kind="wrong")
    assert Span.model_validate_json(kept.model_dump_json()) == kept
    # a slip by one is noticed, unless the characters there are the same
    moved = span.model_copy(update={"start": start + 1, "end": end + 1})
    if text[start + 1 : end + 1] != part:
        with pytest.raises(Invalid):
            check_spans([moved], {"a": text}, ASKED)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"kind": "rude"}, "no kind of mark"),
        ({"turn": 0}, "in an answer or in a turn"),
        ({"answer": None}, "in an answer or in a turn"),
        ({"answer": "z"}, "not shown"),
        ({"answer": None, "turn": 1}, "not shown"),
        ({"end": 9}, "not within 5 characters"),
        ({"start": 2, "end": 2}, "not within"),
        ({"text": "😀b"}, "not the one"),
        ({"start": 1, "end": 3}, "not the one"),  # UTF-16 counts the first character twice
    ],
)
def test_a_mark_that_does_not_fit_is_refused(fields: dict[str, Any], problem: str) -> None:
    good = {"answer": "a", "start": 0, "end": 2, "text": "😀a", "kind": "wrong"}
    texts: dict[str | int, str] = {"a": "😀abcd", 0: "question"}
    check_spans([SpanIn.model_validate(good)], texts, ASKED)
    with pytest.raises(Invalid, match=problem):
        check_spans([SpanIn.model_validate(good | fields)], texts, ASKED)


@pytest.mark.parametrize(
    "fields",
    [
        {"criteria": [HELPFUL, HELPFUL]},
        {"criteria": [named("prompt")]},
        {"criteria": [named("Bad Key")]},
        {"criteria": [named("x", levels=7)]},
        {"criteria": [named(f"c{n}") for n in range(9)]},
        {"flags": [named("x"), named("x")]},
        {"rationale_min": 0},
    ],
)
def test_criteria_that_would_not_work_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LabelSchema.model_validate(fields)


# --- in the database -----------------------------------------------------------------------------


def schema(**more: Any) -> LabelSchema:
    """The schema of a project with criteria."""
    return LabelSchema.model_validate({**ASKED.model_dump(), **more})


def test_everything_is_kept_and_comes_back(world: MakeWorld) -> None:
    here = world(items(1), schema=schema(strength=False))
    task = here.must_claim()
    first, second = (answer.id for answer in task.answers)
    scores = {first: {"helpful": 9, "correct": 5}, second: {"helpful": 3, "correct": 3}}
    text = task.answers[0].text
    spans = [
        {
            "answer": first,
            "start": 2,
            "end": 6,
            "text": text[2:6],
            "kind": "wrong",
            "comment": "no",
        },
        {"turn": 0, "start": 0, "end": 8, "text": "Question", "kind": "wrong"},
    ]
    said = {"scores": scores, "flags": {second: ["off_topic"]}, "spans": spans}
    here.submit(task, **said)
    with here.database.reading() as session:
        (judged,) = load_labels(session, here.project_id).judgements
    chosen = judged.choice
    assert chosen is not None
    assert judged.scores[chosen] == {"helpful": 9, "correct": 5}
    assert dict(judged.levels) == {"helpful": 10, "correct": 5, "harmless": 5}
    assert list(judged.flags.values()) == [("off_topic",)]
    assert judged.spans[0] == Span(
        response_id=chosen, start=2, end=6, text=text[2:6], kind="wrong", comment="no"
    )
    assert (judged.spans[1].response_id, judged.spans[1].turn) == ("", 0)
    back = here.undo()
    assert back is not None and back.previous is not None
    assert back.previous.scores == scores
    assert back.previous.flags == {second: ["off_topic"]}
    assert [span.model_dump(exclude_unset=True) for span in back.previous.spans] == [
        {"answer": None, "turn": None, "comment": "", **span} for span in spans
    ]


def test_a_retry_with_other_scores_is_another_judgement(world: MakeWorld) -> None:
    here = world(items(1), schema=schema())
    task = here.must_claim()
    scores = {answer.id: {"helpful": 4, "correct": 2} for answer in task.answers}
    said = {"key": "the-same-key", "scores": scores}
    assert here.submit(task, **said) == here.submit(task, **said)
    scores = {**scores, task.answers[0].id: {"helpful": 5, "correct": 2}}
    with pytest.raises(Exception, match="used for another judgement"):
        here.submit(task, key="the-same-key", scores=scores)


def test_a_mark_must_quote_the_stored_text(world: MakeWorld) -> None:
    here = world(items(1), schema=schema(criteria=[]))
    task = here.must_claim()
    with here.database.transaction() as session:
        row = session.scalars(select(PromptRow)).one()
        row.messages = [{"role": "user", "content": "😀\r\nok"}]
    span = {"turn": 0, "start": 1, "end": 4, "text": "\r\no", "kind": "wrong"}
    with pytest.raises(Invalid, match="not the one"):
        here.submit(task, spans=[span | {"text": "\n\no"}])
    here.submit(task, spans=[span])


def test_the_guideline_is_opened_once_for_each_version(world: MakeWorld) -> None:
    here = world(items(3), users=2, overlap=2, schema=LabelSchema(guideline_first=True))
    task = here.must_claim()
    assert task.guideline_due
    with pytest.raises(Forbidden, match="has to be opened"):
        here.submit(task)
    open_as(here, 0, 1)
    open_as(here, 0, 1)
    assert not here.must_claim().guideline_due
    here.submit(task)
    with pytest.raises(Forbidden):
        here.submit(here.must_claim(1), 1)  # everyone for themselves
    with here.database.transaction() as session:
        add_guideline(session, here.project_id, "new", "新")
    task = here.must_claim()
    assert (task.guideline.version, task.guideline_due) == (2, True)
    with pytest.raises(Forbidden):
        here.submit(task)
    open_as(here, 0, 2)
    here.submit(task)
    with pytest.raises(NotFound):
        open_as(here, 0, 3)


def open_as(here: World, user: int, version: int) -> None:
    """An annotator opens a version of the guideline."""
    with here.database.transaction() as session:
        open_guideline(session, SLUG, here.users[user], version)


def test_projects_that_do_not_ask_need_no_opening(world: MakeWorld) -> None:
    task = world(items(1)).must_claim()
    assert not task.guideline_due
