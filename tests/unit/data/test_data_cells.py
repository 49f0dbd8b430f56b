"""Values that a program wrote into cells: read as what they are, or refused; never as texts."""

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignloop.data import read_demonstrations, read_pairs
from alignloop.data.containers import Row, tables_of
from alignloop.data.containers.cells import MAX_PRINTED, value_in
from alignloop.data.formats.cells import opened
from alignloop.data.formats.registry import Refused
from alignloop.errors import UserError

TURNS = [
    {"role": "user", "content": "What's {x} of ['a' 'b']?\nA \"line\" 中"},
    {"role": "assistant", "content": "It's {'b': 1}\n {2}"},
]
WRITINGS: dict[str, Callable[[Any], str]] = {
    "json": json.dumps,
    "json of one line": lambda value: json.dumps(value, ensure_ascii=False, indent=1),
    "python": repr,
    "numpy": lambda value: str(np.array(value, dtype=object)),
    "a list in a list": lambda value: repr([value]),
    "an object around it": lambda value: json.dumps({"messages": value}),
    "an object of lists": lambda value: repr(
        {key: [turn[key] for turn in value] for key in ("role", "content")}
    ),
    "other keys first": lambda value: json.dumps([{"id": 1, **turn} for turn in value]),
}


def plain(turns: Any) -> list[dict[str, str]]:
    return [{key: turn[key] for key in ("role", "content")} for turn in turns]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("name", WRITINGS)
def test_a_conversation_in_a_cell_is_its_turns(name: str, strict: bool) -> None:
    row = {"chosen": WRITINGS[name](TURNS), "other": "[{text}]"}
    found = opened(row, strict=strict)
    assert plain(found["chosen"]) == TURNS
    assert found["other"] == "[{text}]"


def test_sharegpt_in_a_cell_and_a_turn_alone() -> None:
    shared = [{"from": "Human", "value": "Q"}, {"from": "gpt", "value": "A"}]
    assert opened({"c": repr(shared)}) == {"c": shared}
    assert opened({"c": json.dumps(TURNS[:1])}) == {"c": TURNS[0]["content"]}
    assert opened({"c": json.dumps(TURNS[1])}) == {"c": TURNS[1]["content"]}
    # what is more than a text stays a turn
    more = [{**TURNS[1], "weight": 0}]
    assert opened({"c": json.dumps(more)}) == {"c": more}
    assert opened({"messages": json.dumps(TURNS[:1])}) == {"messages": TURNS[:1]}


@pytest.mark.parametrize(
    "cell",
    [
        json.dumps(TURNS)[:60],  # a spreadsheet cuts cells at 32,767 characters
        repr(TURNS)[:-1],
        "[{'role': array(['user'], dtype=object), 'content': 'x'}]",
        json.dumps([[TURNS[0]], [TURNS[1]]]),
        "[{'role': 'user', 'content': 'x'}" + "]" * 300,
    ],
)
def test_half_a_conversation_is_refused_in_a_table_and_a_text_in_json(cell: str) -> None:
    with pytest.raises(Refused, match="starts like a conversation"):
        opened({"prompt": cell})
    assert opened({"prompt": cell}, strict=False) == {"prompt": cell}


@pytest.mark.parametrize(
    "cell",
    [
        "plain text",
        '{"from": "Paris", "to": "London", "value": 3}',
        '[{"city": "Paris"}]',
        "[1, 2, 3]",
        "Fix this: [{'role': 'user'}]",
        "{",
        "",
    ],
)
def test_other_texts_stay_texts(cell: str) -> None:
    assert opened({"response": cell}) == {"response": cell}


def test_our_own_records_stay_as_they_are() -> None:
    own = {"prompt": {"prompt_id": "p", "messages": TURNS[:1]}, "response": json.dumps(TURNS)}
    assert opened(own) is own


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("['a', 'b']", ["a", "b"]),
        ("['a' 'b'\n 'c']", ["a", "b", "c"]),  # numpy; Python would join the texts
        ("[1 2.5]", [1, 2.5]),
        ('["a", null]', ["a", None]),
        ("['a', None, True]", ["a", None, True]),
        ("{'a': ('b', {1})}", {"a": ("b", {1})}),
    ],
)
def test_values_that_python_prints(cell: str, value: Any) -> None:
    assert value_in(cell) == value


@pytest.mark.parametrize(
    "cell",
    [
        "[__import__('os').getcwd()]",
        "[f'{1}']",
        "['a'",
        "[" * 5000,
        "[" * 102 + "]" * 102,
        "[" * 150 + "'a'" + "]" * 150,
        "[" + "9" * 5000 + "]",
        "not a list",
    ],
)
def test_what_is_no_value_stays_a_text(cell: str) -> None:
    began = time.perf_counter()
    assert value_in(cell) == cell
    assert time.perf_counter() - began < 5


def test_a_printed_value_of_more_than_its_limit_is_not_read() -> None:
    assert value_in(f"['{'x' * MAX_PRINTED}']").startswith("['xx")
    assert value_in(json.dumps(["x" * MAX_PRINTED])) == ["x" * MAX_PRINTED]


# --- in files ----------------------------------------------------------------------------------

ASKED = [{"role": "user", "content": "What is a lease?"}]
GOOD, BAD = (
    [*ASKED, {"role": "assistant", "content": text}] for text in ("A contract.", "Go away.")
)


def table_of(path: Path, container: str, row: dict[str, Any]) -> Path:
    if container == "csv":
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(row))
            writer.writeheader()
            writer.writerow(row)
        return path
    if container == "jsonl":
        path.write_text(json.dumps(row) + "\n")
        return path
    import pyarrow as arrow
    from pyarrow import parquet

    parquet.write_table(arrow.Table.from_pylist([row]), path)
    return path


@pytest.mark.parametrize("container", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("written", [json.dumps, repr])
@pytest.mark.parametrize("asked", [True, False])
def test_pairs_in_cells(
    tmp_path: Path, container: str, written: Callable[[Any], str], asked: bool
) -> None:
    row = {"prompt": "What is a lease?"} if asked else {}
    row |= {"chosen": written(GOOD), "rejected": written(BAD)}
    (pair,) = read_pairs(table_of(tmp_path / "rows", container, row))
    assert (pair.prompt.text, pair.chosen, pair.rejected) == (
        "What is a lease?",
        "A contract.",
        "Go away.",
    )


@pytest.mark.parametrize("key", ["completion", "response", "answer", "output", "target"])
@pytest.mark.parametrize("question", ["prompt", "question", "instruction", "input", "问题"])
def test_demonstrations_in_cells(tmp_path: Path, question: str, key: str) -> None:
    system = [{"role": "system", "content": "Be brief."}, *ASKED]
    row = {question: json.dumps(system), key: json.dumps([{**GOOD[1], "id": 1}])}
    (made,) = read_demonstrations(table_of(tmp_path / "rows.csv", "csv", row))
    assert [turn.role for turn in made.prompt.messages] == ["system", "user"]
    assert made.response == "A contract."


def test_a_cell_of_an_unknown_role_is_refused(tmp_path: Path) -> None:
    odd = json.dumps([{"role": "teacher", "content": "x"}, GOOD[1]])
    row = {"prompt": odd, "completion": "y"}
    with pytest.raises(UserError, match='the role "teacher"'):
        read_demonstrations(table_of(tmp_path / "rows.csv", "csv", row))
    cut = {"prompt": json.dumps(ASKED)[:-4], "completion": "y"}
    with pytest.raises(UserError, match='"prompt" starts like a conversation'):
        read_demonstrations(table_of(tmp_path / "cut.csv", "csv", cut))


# --- what `datasets` says of its columns -------------------------------------------------------


def saved(tmp_path: Path, rows: list[dict[str, Any]], container: str, **settings: Any) -> Path:
    from datasets import Dataset

    data = Dataset.from_list(rows, **settings)
    if container == "parquet":
        data.to_parquet(str(tmp_path / "rows.parquet"))
        return tmp_path / "rows.parquet"
    data.save_to_disk(str(tmp_path / "rows"))
    return next((tmp_path / "rows").glob("*.arrow")) if container == "arrow" else tmp_path / "rows"


def values(path: Path) -> list[Any]:
    return [row.value for table in tables_of(path) for row in table.rows() if isinstance(row, Row)]


@pytest.mark.parametrize("container", ["parquet", "arrow", "folder"])
def test_columns_that_datasets_keeps_as_json(tmp_path: Path, container: str) -> None:
    datasets = pytest.importorskip("datasets")
    if not hasattr(datasets, "Json"):
        pytest.skip("this version of datasets knows no Json")
    rows = [
        {"prompt": "Q", "chosen": GOOD, "rejected": BAD, "more": {"deep": [1, "x"]}},
        {
            "prompt": "Q",
            "chosen": "two\nlines",
            "rejected": 'a "quoted" one',
            "more": {"deep": {"a": 1}},
        },
    ]
    path = saved(tmp_path, rows, container, on_mixed_types="use_json")
    assert values(path) == rows
    assert [pair.chosen for pair in read_pairs(path)] == ["A contract.", "two\nlines"]


@pytest.mark.parametrize("container", ["parquet", "arrow", "folder"])
def test_json_within_lists_of_objects(tmp_path: Path, container: str) -> None:
    datasets = pytest.importorskip("datasets")
    if not hasattr(datasets, "Json"):
        pytest.skip("this version of datasets knows no Json")
    turn = {"role": datasets.Value("string"), "content": datasets.Json()}
    features = datasets.Features({"messages": datasets.List(turn)})
    parts = [{"type": "text", "text": "A contract."}]
    rows = [{"messages": [ASKED[0], {"role": "assistant", "content": parts}]}]
    path = saved(tmp_path, rows, container, features=features)
    assert values(path) == rows
    (made,) = read_demonstrations(path)
    assert (made.prompt.text, made.response) == ("What is a lease?", "A contract.")


@pytest.mark.parametrize("container", ["parquet", "arrow", "folder"])
def test_classes_are_their_names(tmp_path: Path, container: str) -> None:
    datasets = pytest.importorskip("datasets")
    kinds = datasets.ClassLabel(names=["worse", "better"])
    features = datasets.Features(
        {"a": datasets.Value("string"), "label": kinds, "all": datasets.List(kinds)}
    )
    rows = [{"a": "x", "label": 1, "all": [0, 1]}, {"a": "y", "label": None, "all": None}]
    path = saved(tmp_path, rows, container, features=features)
    assert values(path) == [{"a": "x", "label": "better", "all": ["worse", "better"]}, {"a": "y"}]


def test_json_that_is_none_is_a_bad_row(tmp_path: Path) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    told = {"info": {"features": {"x": {"_type": "Json"}, "y": {"_type": "Value"}}}}
    table = arrow.table({"x": ['{"a": 1}', "{broken"], "y": ["{kept", "[kept"]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(told)})
    parquet.write_table(table, tmp_path / "rows.parquet")
    first, second = tables_of(tmp_path / "rows.parquet")[0].rows()
    assert isinstance(first, Row) and first.value == {"x": {"a": 1}, "y": "{kept"}
    assert "a column declared as JSON contains something else" in getattr(second, "problem", "")
    # a file whose schema says nonsense is read as it is
    parquet.write_table(
        table.replace_schema_metadata({"huggingface": "[1"}), tmp_path / "n.parquet"
    )
    assert values(tmp_path / "n.parquet")[0] == {"x": '{"a": 1}', "y": "{kept"}
