"""The same rows in every container and encoding, and what is refused with which words."""

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignloop.data import read_demonstrations
from alignloop.data.containers import BadRow, Row, Table, tables_of, training_tables
from alignloop.data.containers.limits import MAX_ROW_BYTES, nests_too_deep
from alignloop.data.containers.text import looks_like_gb18030
from alignloop.errors import UserError

ROWS = [
    {"prompt": "什么是租约？", "response": "一份合同，\n两方签字。"},
    {"prompt": 'A "quoted" one\twith a tab', "response": "yes, it is"},
]


def delimited(delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["prompt", "response"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def parquet() -> bytes:
    import pyarrow as arrow
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(ROWS), stream)
    return stream.getvalue()


def arrow_bytes(kind: str) -> bytes:
    import pyarrow as arrow

    table, stream = arrow.Table.from_pylist(ROWS), io.BytesIO()
    new = arrow.ipc.new_file if kind == "file" else arrow.ipc.new_stream
    with new(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


CONTAINERS: dict[str, Callable[[], bytes]] = {
    "jsonl": lambda: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode(),
    "json": lambda: json.dumps(ROWS, indent=2, ensure_ascii=False).encode(),
    "json on one line": lambda: json.dumps(ROWS).encode(),
    "json objects": lambda: "\n".join(json.dumps(row, indent=1) for row in ROWS).encode(),
    "csv": lambda: delimited(","),
    "csv;": lambda: delimited(";"),
    "tsv": lambda: delimited("\t"),
    "parquet": parquet,
    "arrow": lambda: arrow_bytes("file"),
    "arrow stream": lambda: arrow_bytes("stream"),
}


def values(table: Table) -> list[Any]:
    return [row.value if isinstance(row, Row) else row.problem for row in table.rows()]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", CONTAINERS)
def test_the_same_rows_from_every_container(tmp_path: Path, name: str, packed: bool) -> None:
    content = CONTAINERS[name]()
    path = tmp_path / (f"rows.{name[:3]}" if name.startswith(("csv", "tsv")) else "rows.data")
    path.write_bytes(gzip.compress(content) if packed else content)
    (table,) = tables_of(path)
    assert table.container == name.split()[0].strip(";")
    assert values(table) == ROWS
    assert values(table) == ROWS  # again, from the start
    assert [demo.response for demo in read_demonstrations(path)] == [r["response"] for r in ROWS]


def test_lines_of_a_csv_count_those_within_cells(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\n" + delimited(",") + b"one,two,three\r\n")
    (table,) = tables_of(path)
    assert [row.line for row in table.rows()] == [3, 5, 6]
    assert values(table)[-1] == "the row has 3 cells, but the first line names 2 columns"


def test_a_cell_of_turns_is_json(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["messages"], [json.dumps(turns)]])
    assert [demo.response for demo in read_demonstrations(path)] == ["A"]


@pytest.mark.parametrize(
    ("encoding", "reported"),
    [("utf-8", "UTF-8"), ("utf-8-sig", "UTF-8 with BOM"), ("gb18030", "GB18030")],
)
@pytest.mark.parametrize("name", ["jsonl", "json", "csv", "tsv"])
def test_encodings(tmp_path: Path, name: str, encoding: str, reported: str) -> None:
    path = tmp_path / f"rows.{name}"
    # The first non-ASCII character may come late, long after the first chunk.
    text = CONTAINERS[name]().decode()
    path.write_bytes(
        (text.replace("\n", "\n" + " " * 70_000, 1) if name == "json" else text).encode(encoding)
    )
    (table,) = tables_of(path)
    assert values(table) == ROWS
    assert table.encoding.name == reported


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("今天天气很好，我们去公园。", "gb18030", True),
        ("Müßige Größe für Übungen", "latin-1", False),
        ("déjà vu, garçon", "latin-1", False),
        ("今天", "utf-16-le", False),
        ("plain", "ascii", False),
    ],
)
def test_what_looks_like_gb18030(text: str, encoding: str, expected: bool) -> None:
    assert looks_like_gb18030(text.encode(encoding)) is expected


def refusal(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        for table in tables_of(path):
            list(table.rows())
    return caught.value


def test_a_bad_byte_in_utf8_is_not_taken_for_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = json.dumps({"a": "中"}, ensure_ascii=False).encode() + b"\n"
    path.write_bytes(good + '{"a": "中"}'.encode("gb18030") + b"\n")
    error = refusal(path)
    assert error.where == f"{path}:2"
    assert error.problem == "the text is not UTF-8 (byte 0xd6)"


def test_utf16_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("a,b\n1,2\n".encode("utf-16"))
    assert refusal(path).problem == "the text is UTF-16"


def test_a_broken_line_costs_no_other_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    (table,) = tables_of(path)
    good, bad, last = table.rows()
    assert (good, last) == (Row(line=1, value={"a": 1}), Row(line=3, value={"a": 3}))
    assert isinstance(bad, BadRow) and bad.line == 2 and bad.content == '{"a": '


# --- folders and data sets ---------------------------------------------------------------------


def test_a_folder_gives_its_data_files(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for name in ("b.jsonl", "more/a.json.gz", ".hidden.jsonl", "README.md", "dataset_infos.json"):
        content = b'{"prompt": "Q"}\n'
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert [table.name for table in tables_of(tmp_path)] == [
        str(tmp_path / "b.jsonl"),
        str(tmp_path / "more" / "a.json.gz"),
    ]


def test_a_folder_without_data(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("x")
    assert refusal(tmp_path).problem == "the folder contains no data files"


def test_a_hub_layout_trains_on_its_split_train(tmp_path: Path) -> None:
    for split in ("train", "test", "validation"):
        rows = [{"prompt": f"{split}?", "response": "A"}]
        path = tmp_path / "data" / f"{split}-00000-of-00001.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(rows[0]) + "\n")
    (tmp_path / "README.md").write_text("---\n---\n")
    splits = [table.split for table in tables_of(tmp_path)]
    assert sorted(splits) == ["test", "train", "validation"]
    assert [table.split for table in training_tables(tmp_path)] == ["train"]
    assert [d.prompt.text for d in read_demonstrations(tmp_path)] == ["train?"]


def test_a_training_set_by_another_name_is_no_split(tmp_path: Path) -> None:
    for name in ("constraints.jsonl", "contest.jsonl"):
        (tmp_path / name).write_text('{"prompt": "Q", "response": "A"}\n')
    assert [table.split for table in training_tables(tmp_path)] == ["", ""]


def test_directories_of_the_datasets_library(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    train, test = Dataset.from_list(ROWS), Dataset.from_list(ROWS[:1])
    train.save_to_disk(tmp_path / "one")
    DatasetDict({"train": train, "test": test}).save_to_disk(tmp_path / "two")
    (one,) = tables_of(tmp_path / "one")
    assert (one.container, values(one)) == ("datasets", ROWS)
    found = {table.split: values(table) for table in tables_of(tmp_path / "two")}
    assert found == {"train": ROWS, "test": ROWS[:1]}
    assert len(read_demonstrations(tmp_path / "two")) == 2
    # The folder above holds both, and its arrow files are no tables of their own.
    assert len(tables_of(tmp_path)) == 3


def test_a_damaged_data_set(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{}")
    (tmp_path / "dataset_info.json").write_text("{}")
    assert refusal(tmp_path).problem.startswith("the data set is damaged")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "dataset_dict.json").write_text("[]")
    assert refusal(tmp_path / "two").problem.startswith("dataset_dict.json is damaged")


# --- the Hub -----------------------------------------------------------------------------------


def test_the_hub_is_asked_only_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "get_dataset_split_names", asked)
    error = refusal(Path("org/name"))
    assert error.problem == "file not found, nor its folder"
    assert "hub:org/name" in error.fix


def test_offline_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def offline(_: str) -> list[str]:
        raise ConnectionError("Cannot reach https://huggingface.co\nmore")

    monkeypatch.setattr(datasets, "get_dataset_split_names", offline)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set, so"):
        tables_of("hub:org/name")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(
        UserError, match="cannot get the data set from the Hub: Cannot reach"
    ) as caught:
        tables_of("hub:org/name")
    assert caught.value.where == "hub:org/name"


def test_a_data_set_of_the_hub_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load(name: str, *, split: str, streaming: bool) -> list[dict[str, str]]:
        assert (name, streaming) == ("org/name", True)
        return [{"prompt": split, "response": "A"}]

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda _: ["train", "test"])
    monkeypatch.setattr(datasets, "load_dataset", load)
    assert [table.name for table in tables_of("hub:org/name")] == [
        "hub:org/name:train",
        "hub:org/name:test",
    ]
    assert [d.prompt.text for d in read_demonstrations("hub:org/name")] == ["train"]
    assert [d.prompt.text for d in read_demonstrations("hub:org/name:test")] == ["test"]
    with pytest.raises(UserError, match=r'no split named "dev".*train, test'):
        tables_of("hub:org/name:dev")


# --- bounded memory ----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_gzip_bomb_is_refused_without_being_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=9) as stream:
        for _ in range(90):
            stream.write(b'{"prompt": "' + b"Q" * 2**20 + b'"}\n')
    tracemalloc.start()
    error = refusal_of_stream(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.problem == "the gzip file unpacks to more than 200 times its size"
    assert peak < 8 * 2**20


def refusal_of_stream(path: Path) -> UserError:
    (table,) = tables_of(path)
    with pytest.raises(UserError) as caught:
        for _ in table.rows():
            pass
    return caught.value


@pytest.mark.parametrize("start", [b'{"prompt": "', b'[{"prompt": "', b'a,b\n"', b"a,b\nc"])
def test_one_endless_line_or_cell(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "rows.txt"
    with path.open("wb") as stream:
        stream.write(start)
        for _ in range(2 * MAX_ROW_BYTES // 2**20 + 2):
            stream.write(b"x" * 2**20)
    error = refusal_of_stream(path)
    assert any(word in error.problem for word in ("longer than 16 MiB", "field larger than"))
    assert str(path) in error.where


def test_deep_nesting(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for depth in (101, 5000, 200_000):
        path.write_text('{"a": ' + "[" * depth + "]" * depth + '}\n{"a": 1}\n')
        (table,) = tables_of(path)
        bad, good = table.rows()
        assert isinstance(bad, BadRow) and bad.problem.startswith("nested more than 100 deep")
        assert isinstance(good, Row)
    assert not nests_too_deep([[]], 2) and nests_too_deep([[[]]], 1)
    path.write_text("[" * 100_000)
    assert "nested more than 100 deep" in refusal_of_stream(path).problem


def test_a_number_of_too_many_digits(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": ' + "1" * 5000 + "}\n")
    (table,) = tables_of(path)
    (bad,) = table.rows()
    assert isinstance(bad, BadRow) and "digits" in bad.problem


@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_under_a_single_key_gives_its_rows(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "rows.json"
    rows = [{"prompt": "a"}, {"prompt": "b"}]
    path.write_text(json.dumps({"data": rows}, indent=indent))
    (table,) = tables_of(path)
    assert [row.value for row in table.rows() if isinstance(row, Row)] == rows


def test_a_row_with_more_than_a_list_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    value = {"data": [{"prompt": "a"}], "prompt": "b"}
    path.write_text(json.dumps(value))
    (table,) = tables_of(path)
    assert [row.value for row in table.rows() if isinstance(row, Row)] == [value]


def test_a_text_that_ends_within_a_character(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"问题": "天空为什么是蓝色的"}'.encode("gb18030") + b"\xce")
    (table,) = tables_of(path)
    with pytest.raises(UserError, match="byte 0xce"):
        list(table.rows())


@pytest.mark.slow
def test_a_large_array_is_read_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    with path.open("w") as stream:
        stream.write("[")
        stream.write(",".join(f'{{"prompt": "question number {n}"}}' for n in range(60_000)))
        stream.write("]")
    (table,) = tables_of(path)
    tracemalloc.start()
    count = sum(1 for _ in table.rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60_000
    assert 4 * peak < path.stat().st_size


def test_damaged_tables(tmp_path: Path) -> None:
    for name in ("parquet", "arrow", "arrow stream"):
        content = CONTAINERS[name]()
        path = tmp_path / "rows.data"
        path.write_bytes(content[:-20])
        assert " file is damaged: " in refusal(path).problem
