"""Filing items: formats, duplicates, idempotence, gold, repeats, refusals."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_support import World, comparison, items
from sqlalchemy import select

from alignloop.data import read_pairs, write_records
from alignloop.data.refusals import Refusal
from alignloop.label.new_items import NewItem, items_of_file, items_of_lines
from alignloop.label.store.importing import ALL_ANNOTATORS, Imported, import_file
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.refusals import Invalid
from alignloop.label.store.tables import ItemResponse, ItemRow, PromptRow, ResponseRow
from alignloop.records import Message, PreferencePair, Response

MakeWorld = Callable[..., World]


def pair(number: int, **fields: object) -> PreferencePair:
    """Answer 1 of question `number` beats answer 0."""
    asked = comparison(number)
    fields = {"chosen": asked.responses[1].text, "rejected": asked.responses[0].text, **fields}
    return PreferencePair.model_validate({"prompt": asked.prompt, **fields})


def test_again_adds_nothing(world: MakeWorld) -> None:
    here = world()
    assert here.file(items(250)) == Imported(added=250, duplicates=0)
    assert here.file(items(250)) == Imported(added=0, duplicates=250)
    assert here.file(items(260)) == Imported(added=10, duplicates=250)
    assert here.num_items() == 260


def test_the_same_content_under_another_id_is_a_duplicate(world: MakeWorld) -> None:
    here = world(items(1))
    copy = comparison(0).model_copy(update={"comparison_id": "another"})
    turned = copy.model_copy(update={"responses": tuple(reversed(copy.responses))})
    assert here.file([NewItem(comparison=copy), NewItem(comparison=turned)]).duplicates == 2


@pytest.mark.parametrize("kind", ["comparison_id", "prompt_id", "response_id"])
def test_one_id_of_two_different_things_is_refused_and_the_rest_filed(
    world: MakeWorld, tmp_path: Path, kind: str
) -> None:
    here = world()
    other, first = comparison(1), comparison(0)
    if kind == "comparison_id":
        wrong = other.model_copy(update={"comparison_id": "c0"})
    elif kind == "prompt_id":
        wrong = other.model_copy(
            update={"prompt": other.prompt.model_copy(update={"prompt_id": "p0"})}
        )
    else:
        answers = (
            Response(response_id="p0#0", text="new"),
            Response(response_id="x", text="newer"),
        )
        wrong = other.model_copy(update={"prompt": first.prompt, "responses": answers})
    write_records(tmp_path / "rows.jsonl", [first, wrong, comparison(2)])
    for added in (2, 0):  # in one transaction, and against what is there
        done = import_file(here.database, here.project_id, here.batch_id, tmp_path / "rows.jsonl")
        assert (done.added, done.num_refused, here.num_items()) == (added, 1, 2)
        assert re.search(f"rows.jsonl:2: {kind} .* names two different", done.refused[0])


def test_progress_is_told_and_each_transaction_is_short(world: MakeWorld) -> None:
    here, told = world(), list[int]()
    from alignloop.label.store.importing import import_items

    import_items(
        here.database, here.project_id, here.batch_id, items(2450), on_progress=told.append
    )
    assert told == [1000, 2000, 2450]


def test_models_and_settings_stay_with_each_response(world: MakeWorld) -> None:
    here = world()
    new = NewItem(
        comparison=comparison(0, model="base"),
        models={"p0#1": "tuned"},
        settings={"p0#1": {"temperature": 0.7}},
        why="uncertain",
        why_detail={"difference": 0.1},
    )
    here.file([new])
    with here.database.reading() as session:
        models = {r.record_id: (r.model, r.settings) for r in session.scalars(select(ResponseRow))}
        item = session.scalars(select(ItemRow)).one()
    assert models == {"p0#0": ("base", {}), "p0#1": ("tuned", {"temperature": 0.7})}
    assert (item.why, item.why_detail) == ("uncertain", {"difference": 0.1})


def test_gold_names_the_right_answer(world: MakeWorld, tmp_path: Path) -> None:
    here = world()
    write_records(tmp_path / "gold.jsonl", [pair(0), pair(1, preference=0.5)])
    import_file(here.database, here.project_id, here.batch_id, tmp_path / "gold.jsonl", gold=True)
    with here.database.reading() as session:
        rows = session.execute(
            select(ItemRow, ResponseRow.text).outerjoin(
                ResponseRow, ResponseRow.id == ItemRow.gold_choice
            )
        ).all()
    told = {item.gold_verdict: text for item, text in rows}
    assert told == {"choice": "Answer 1 to question 0.", "tie": None}
    assert {item.wanted for item, _ in rows} == {ALL_ANNOTATORS}


def test_a_gold_question_has_to_say_what_is_right(tmp_path: Path) -> None:
    """A comparison says nothing, and two pairs may say the opposite of each other."""
    first, second = pair(0), pair(1)
    turned = second.model_copy(update={"chosen": second.rejected, "rejected": second.chosen})
    both = [one.model_copy(update={"comparison_id": "c"}) for one in (second, turned)]
    write_records(tmp_path / "plain.jsonl", [comparison(0)])
    write_records(tmp_path / "pairs.jsonl", [first, *both])
    plain = list(items_of_file(tmp_path / "plain.jsonl", gold=True))
    pairs = list(items_of_file(tmp_path / "pairs.jsonl", gold=True))
    assert [type(found) for found in (*plain, *pairs)] == [Refusal, NewItem, Refusal]
    assert "needs a right answer" in plain[0].problem
    assert isinstance(next(iter(items_of_file(tmp_path / "plain.jsonl"))), NewItem)


def test_pairs_are_asked_without_saying_who_won(world: MakeWorld, tmp_path: Path) -> None:
    here = world()
    write_records(tmp_path / "pairs.jsonl", [pair(n) for n in range(40)])
    import_file(here.database, here.project_id, here.batch_id, tmp_path / "pairs.jsonl")
    with here.database.reading() as session:
        first = session.scalars(
            select(ResponseRow.text)
            .join(ItemResponse, ItemResponse.response_id == ResponseRow.id)
            .where(ItemResponse.position == 0)
        ).all()
        assert {item.gold_choice for item in session.scalars(select(ItemRow))} == {None}
    assert 8 < sum(text.startswith("Answer 1") for text in first) < 32


FORMATS = {
    "comparisons": [json.loads(comparison(n).model_dump_json()) for n in range(2)],
    "items": [json.loads(one.model_dump_json()) for one in items(2)],
    "trl": [{"prompt": f"Q{n}", "chosen": "yes", "rejected": "no"} for n in range(2)],
    "hh": [
        {
            "chosen": f"\n\nHuman: Q{n}\n\nAssistant: yes",
            "rejected": f"\n\nHuman: Q{n}\n\nAssistant: no",
        }
        for n in range(2)
    ],
    "rated": [
        {"question": f"Q{n}", "answers": ["a", "b", "c"], "scores": [3, 9, 5]} for n in range(2)
    ],
}


@pytest.mark.parametrize("name", FORMATS)
def test_whatever_the_data_layer_reads_can_be_asked(
    world: MakeWorld, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in FORMATS[name]), encoding="utf-8")
    found = list(items_of_file(file))
    assert all(isinstance(one, NewItem) for one in found), found
    here = world()
    done = import_file(here.database, here.project_id, here.batch_id, file)
    judged = 0 if name in ("comparisons", "items") else 2
    assert done == Imported(added=2, duplicates=0, judged=judged)
    tasks = here.work()
    assert {task.kind for task in tasks} == {"ranking" if name == "rated" else "comparison"}
    assert {len(task.answers) for task in tasks} == {3 if name == "rated" else 2}


def test_refused_rows_are_told_with_their_lines_and_the_others_filed(
    world: MakeWorld, tmp_path: Path
) -> None:
    good = comparison(0).model_dump_json()
    same = comparison(1).model_dump_json().replace("Answer 1", "Answer 0")
    rows = [good, "{broken", '{"what": 1}', same, '{"comparison_id": "x", "responses": []}']
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(rows), encoding="utf-8")
    here = world()
    done = import_file(here.database, here.project_id, here.batch_id, file)
    assert (done.added, done.num_refused) == (1, 4)
    places = [told.split(": ")[0].rsplit(":", 1)[1] for told in done.refused]
    assert places == ["2", "3", "4", "5"]


@pytest.mark.parametrize("character", ["\0", "\ud800"])
@pytest.mark.parametrize("place", ["text", "reference", "metadata"])
def test_what_no_database_keeps_is_refused_by_its_line(character: str, place: str) -> None:
    bad = json.loads(comparison(0).model_dump_json())
    if place == "text":
        bad["responses"][1]["text"] = f"half {character}"
    else:
        words = f"half {character}"
        bad["prompt"][place] = words if place == "reference" else {"a": [{words: 1}]}
    lines = [(1, json.dumps(bad)), (2, comparison(1).model_dump_json())]
    refused, good = items_of_lines(lambda: lines, "upload")
    assert isinstance(refused, Refusal) and isinstance(good, NewItem)
    assert (refused.line, "half a character" in refused.problem) == (1, True)


def test_one_row_of_pairs_that_cannot_be_asked_stops_no_import(world: MakeWorld) -> None:
    too_many = [str(n) for n in range(10)]
    rows = [
        {"question": f"Q{n}", "answers": said, "scores": list(range(1, len(said) + 1))}
        for n, said in enumerate([["a", "b"], too_many, ["c", "d"]])
    ]
    lines = [(n, json.dumps(row)) for n, row in enumerate(rows, 1)]
    done = world().file(items_of_lines(lambda: lines, "upload"))
    assert (done.added, done.num_refused) == (2, 1)
    assert done.refused[0].startswith("upload:2: ")


@pytest.mark.parametrize("provenance", ["by hand", None, ["x"], {"models": None}])
def test_anybodys_provenance_is_passed_over(provenance: object) -> None:
    row = json.loads(comparison(0).model_dump_json()) | {"provenance": provenance}
    assert list(items_of_lines(lambda: [(1, json.dumps(row))], "upload")) == [
        NewItem(comparison=comparison(0))
    ]


def test_an_item_that_cannot_be_asked_is_refused(world: MakeWorld) -> None:
    many = comparison(0, answers=10)
    with pytest.raises(Invalid, match="more than 9"):
        world([NewItem(comparison=many)])


def test_a_conversation_keeps_its_turns(world: MakeWorld) -> None:
    turns = tuple(
        Message(role=role, content=text)
        for role, text in (("system", "Be brief."), ("user", "你好"), ("assistant", "Hi"))
    )
    asked = comparison(0)
    prompt = asked.prompt.model_copy(update={"messages": (*turns, *asked.prompt.messages)})
    here = world([NewItem(comparison=asked.model_copy(update={"prompt": prompt}))])
    shown = here.must_claim().prompt
    assert [(turn.role, turn.text) for turn in shown[:3]] == [(t.role, t.content) for t in turns]
    with here.database.reading() as session:
        assert session.scalars(select(PromptRow)).one().category == "even"


def test_reference_and_metadata_are_kept_and_not_shown(world: MakeWorld, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Q{n}", "chosen": "a", "rejected": "b", "comparison_id": f"c{n}"}
        | {"reference": ["secret", "5"], "level": n, "tools": '[{"name": "f"}]'}
        for n in range(2)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    here = world(list(items_of_file(path)))
    assert "secret" not in repr(here.must_claim())
    with here.database.reading() as session:
        labels = load_labels(session, here.project_id)
    found = {item.prompt.text: item.prompt for item in labels.items.values()}
    expected = {pair.prompt.text: pair.prompt for pair in read_pairs(path)}
    assert found == expected
    assert found["Q1"].reference == ("secret", "5") and found["Q1"].metadata == {"level": 1}
    assert found["Q1"].tools == ({"name": "f"},)


def test_rows_of_one_comparison_meet_whatever_else_they_hold(tmp_path: Path) -> None:
    same = {"prompt": "Q", "chosen": "a", "comparison_id": "c"}
    rows = [{**same, "rejected": said, "by": said} for said in ("b", "d")]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    (item,) = items_of_file(path)
    assert isinstance(item, NewItem) and len(item.comparison.responses) == 3


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)


@settings(deadline=None)
@given(st.lists(WORDS.filter(str.strip), min_size=2, max_size=9, unique_by=str.strip))
def test_a_line_of_an_item_reads_back_as_it_was(texts: list[str]) -> None:
    answers = tuple(Response(response_id=str(n), text=text) for n, text in enumerate(texts))
    item = NewItem(
        comparison=comparison(0).model_copy(update={"responses": answers}),
        models={"0": "m"},
        gold="1",
    )
    found = list(items_of_lines(lambda: [(1, item.model_dump_json())], "upload"))
    assert found == [item]
