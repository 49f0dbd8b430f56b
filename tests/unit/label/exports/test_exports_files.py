"""Files and back: every shape is read again as what was written, from any database."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from alignloop.data import read_pairs, read_records
from alignloop.data.trl import TIES
from alignloop.errors import UserError
from alignloop.label.exports import Query, export_project, export_rows
from alignloop.label.exports.shapes import as_hh, guarded, left_out, lines_of
from alignloop.label.labels.project_labels import ProjectLabels
from alignloop.label.store.database import FILE, Database, open_database
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.tables import ExportSnapshot
from alignloop.label.training_pairs import keep_pairs, project_pairs
from alignloop.records import Comparison, Judgement, Message, PreferencePair, Prompt
from alignloop.run import RunFolder

Strategy = st.SearchStrategy[ProjectLabels]
ordinary = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)


def write(path: Path, rows: Any, format: Any) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines_of(rows, format)), encoding="utf-8")
    return path


@pytest.mark.slow
@ordinary
@given(data=st.data())
def test_pairs_come_back_from_jsonl_and_from_trl(
    any_labels: Strategy, tmp_path: Path, data: st.DataObject
) -> None:
    labels = data.draw(any_labels)
    for kind in ("pairs", "soft", "margins"):
        rows = export_rows(labels, kind)
        pairs = [pair for row in rows for pair in row.pairs]
        if pairs:
            assert read_pairs(write(tmp_path / "pairs.jsonl", rows, "jsonl")) == pairs
        if decided := without_ties(pairs):
            assert read_pairs(write(tmp_path / "trl.jsonl", rows, "trl")) == decided
        assert left_out(rows, "trl")[TIES] == len(pairs) - len(decided)
        assert not left_out(rows, "jsonl")


def without_ties(pairs: list[PreferencePair]) -> list[PreferencePair]:
    """TRL and hh-rlhf know no tie; whoever reads one there takes it for a preference."""
    return [pair for pair in pairs if pair.preference != 0.5]


@ordinary
@given(data=st.data())
def test_pairs_come_back_from_hh(any_labels: Strategy, tmp_path: Path, data: st.DataObject) -> None:
    rows = export_rows(data.draw(any_labels), "pairs")
    if decided := without_ties([pair for row in rows for pair in row.pairs]):
        found = read_pairs(write(tmp_path / "hh.jsonl", rows, "hh"))
        # a transcript keeps no white space at the ends of a turn
        assert found == [stripped(pair) for pair in decided]


def stripped(pair: PreferencePair) -> PreferencePair:
    turns = tuple(m.model_copy(update={"content": m.content.strip()}) for m in pair.prompt.messages)
    prompt = pair.prompt.model_copy(update={"messages": turns})
    texts = {"chosen": pair.chosen.strip(), "rejected": pair.rejected.strip()}
    return pair.model_copy(update={"prompt": prompt, **texts})


@pytest.mark.slow
@ordinary
@given(data=st.data())
def test_rankings_and_ratings_are_read_as_their_pairs(
    any_labels: Strategy, tmp_path: Path, data: st.DataObject
) -> None:
    labels = data.draw(any_labels)
    for kind in ("rankings", "ratings"):
        rows = export_rows(labels, kind)
        if not rows:
            continue
        found = read_pairs(write(tmp_path / f"{kind}.jsonl", rows, "jsonl"))
        expected = [pair for row in rows for pair in row.pairs]
        assert sorted(map(said, found)) == sorted(map(said, expected))


def said(pair: PreferencePair) -> tuple[Any, ...]:
    """A pair without who said it; of a tie neither side is the first."""
    sides = (pair.chosen, pair.rejected)
    sides = tuple(sorted(sides)) if pair.preference == 0.5 else sides
    return pair.prompt.prompt_id, *sides, pair.preference, pair.margin, pair.weight


@ordinary
@given(data=st.data())
def test_records_come_back(any_labels: Strategy, tmp_path: Path, data: st.DataObject) -> None:
    labels = data.draw(any_labels)
    rows = export_rows(labels, "judgements")
    if rows:
        found = read_records(write(tmp_path / "judgements.jsonl", rows, "jsonl"), Judgement)
        assert [one.model_dump(mode="json") for one in found] == [row.content for row in rows]
    rows = export_rows(labels, "comparisons")
    if rows:
        found = read_records(write(tmp_path / "comparisons.jsonl", rows, "jsonl"), Comparison)
        assert [one.model_dump(mode="json") for one in found] == [row.content for row in rows]


@ordinary
@given(data=st.data())
def test_no_cell_of_a_csv_is_a_formula(any_labels: Strategy, data: st.DataObject) -> None:
    labels = data.draw(any_labels)
    for kind in ("pairs", "rankings", "judgements", "comparisons"):
        rows = export_rows(labels, kind)
        text = "".join(f"{line}\r\n" for line in lines_of(rows, "csv"))
        cells = [cell for line in csv.reader(io.StringIO(text, newline="")) for cell in line]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
        if rows:
            # nothing else is changed
            read = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
            assert len(read) == len(rows)
            if kind == "pairs":
                chosen = [guarded(row.pairs[0].chosen) for row in rows]
                assert [one["chosen"] for one in read] == chosen


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@sum", "\tx", "\rx", "＝1"])
def test_formulas_are_guarded(cell: str) -> None:
    assert guarded(cell) == f"'{cell}"
    assert guarded(f"a{cell}") == f"a{cell}"


def test_hh_by_hand_and_what_it_cannot_say() -> None:
    asked = Prompt(prompt_id="p", messages=(Message(role="user", content="Hi"),))
    pair = PreferencePair(prompt=asked, chosen="Hello", rejected="What")
    assert as_hh(pair)["chosen"] == "\n\nHuman: Hi\n\nAssistant: Hello"
    assert as_hh(pair)["rejected"] == "\n\nHuman: Hi\n\nAssistant: What"
    with pytest.raises(UserError, match="mark of a turn"):
        as_hh(pair.model_copy(update={"chosen": "a\n\nHuman: b"}))
    system = (Message(role="system", content="Be kind"), *asked.messages)
    with pytest.raises(UserError, match="system, user"):
        as_hh(pair.model_copy(update={"prompt": asked.model_copy(update={"messages": system})}))


# --- projects ----------------------------------------------------------------------------------


@pytest.fixture
def project(database: Database, store: Callable[..., int], some_labels: ProjectLabels) -> Database:
    store(database, some_labels)
    return database


def test_a_project_is_read_as_it_was_stored(project: Database, some_labels: ProjectLabels) -> None:
    with project.reading() as session:
        found = load_labels(session, 1)
    assert content(found, "judgements") == content(some_labels, "judgements")
    assert content(found, "comparisons") == content(some_labels, "comparisons")
    assert [one.guideline for one in found.judgements] == [1] * len(found.judgements)


def content(labels: ProjectLabels, kind: Any) -> list[Any]:
    return [row.content for row in export_rows(labels, kind)]


def test_an_export_and_its_manifest(
    project: Database, some_labels: ProjectLabels, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    made = export_project(project, "", out, Query(kind="pairs"))
    pairs = [pair for row in export_rows(some_labels, "pairs") for pair in row.pairs]
    assert read_pairs(out / "pairs.jsonl") == pairs
    assert read_pairs(out) == pairs  # the folder is a source of its own: the manifest is no data
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["content_hash"] == made.hash
    assert manifest["counts"]["rows of pairs.jsonl"] == len(pairs)
    assert manifest["query"] == {"kind": "pairs", "format": "jsonl", "shares": None, "batch": ""}
    with project.reading() as session:
        (row,) = session.scalars(select(ExportSnapshot))
    assert (row.id, row.hash, row.kind, row.path) == (
        made.snapshot_id, made.hash, "pairs", str(out)
    )  # fmt: skip
    assert project_pairs(str(tmp_path / "project")) == (pairs, made.hash)


def test_the_same_labels_have_the_same_hash_in_another_database(
    project: Database, store: Callable[..., int], some_labels: ProjectLabels, tmp_path: Path
) -> None:
    other = open_database(tmp_path / "other")
    store(other, some_labels, slug="else", reverse=True)
    for kind in ("pairs", "judgements", "rankings"):
        one = export_project(project, "demo", tmp_path / f"one-{kind}", Query(kind=kind))
        two = export_project(other, "else", tmp_path / f"two-{kind}", Query(kind=kind))
        assert one.hash == two.hash
        assert one.counts == two.counts
    other.close()


def test_splits_are_by_prompt_and_hash_alike(project: Database, tmp_path: Path) -> None:
    whole = export_project(project, "", tmp_path / "whole", Query())
    shares = {"train": 0.5, "test": 0.5}
    made = export_project(project, "", tmp_path / "split", Query(shares=shares))
    assert made.hash == whole.hash
    train, test = (
        {pair.prompt.prompt_id for pair in read_pairs(tmp_path / "split" / f"{name}.jsonl")}
        for name in shares
    )
    assert train and test and not train & test
    everything = {pair.prompt.prompt_id for pair in read_pairs(tmp_path / "whole")}
    assert train | test == everything
    # a stage that is given the folder learns from train alone
    assert {pair.prompt.prompt_id for pair in read_pairs(tmp_path / "split")} == train


def test_exports_replace_exports_and_nothing_else(project: Database, tmp_path: Path) -> None:
    export_project(project, "", tmp_path / "out", Query())
    export_project(project, "", tmp_path / "out", Query(kind="judgements"))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"judgements.jsonl", "comparisons.jsonl", "manifest.json"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds something else"):
        export_project(project, "", tmp_path / "mine", Query())
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_what_cannot_be_exported_is_said(project: Database, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="are not pairs"):
        export_project(project, "", tmp_path / "a", Query(kind="judgements", format="trl"))
    with pytest.raises(UserError, match=r"no batch 'second'.*first"):
        export_project(project, "", tmp_path / "a", Query(batch="second"))
    with pytest.raises(UserError, match="x: there is no such project"):
        export_project(project, "x", tmp_path / "a", Query())
    with pytest.raises(UserError, match="no labelling project"):
        project_pairs(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_a_run_keeps_the_pairs_that_it_began_with(
    project: Database, store: Callable[..., int], some_labels: ProjectLabels, tmp_path: Path
) -> None:
    where = f"{tmp_path / 'project'}#demo"
    with RunFolder.create(tmp_path / "run") as run:
        first = keep_pairs(where, run, "labels")
        kept = first.read_bytes()
        lineage = run.stage("labels").facts()
        assert lineage["content_hash"] == project_pairs(where)[1]
        with project.transaction() as session:  # somebody changes what was said
            session.connection().exec_driver_sql(
                "UPDATE judgement SET verdict = 'skip', choice = NULL"
            )
        assert project_pairs(where)[1] != lineage["content_hash"]
        assert keep_pairs(where, run, "labels") == first
        assert first.read_bytes() == kept


@pytest.mark.parametrize("where", ["sqlite:///{}/none.db", "sqlite:///{}/empty.db", "{}/folder"])
def test_a_database_without_our_tables_is_told_and_not_made(tmp_path: Path, where: str) -> None:
    (tmp_path / "empty.db").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / FILE).touch()
    with pytest.raises(UserError, match=r"no database here|not have the tables"):
        project_pairs(where.format(tmp_path))
    assert not (tmp_path / "none.db").exists()


def test_a_server_that_does_not_answer_is_told() -> None:
    with pytest.raises(UserError, match="does not answer"):
        project_pairs("postgresql://127.0.0.1:1/x")
