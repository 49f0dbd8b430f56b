"""Reading and writing files of JSON objects."""

import gzip
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from alignloop.data.files import read_objects, read_records, write_records
from alignloop.errors import UserError
from alignloop.records import Judgement, Message, Prompt

LINES = '{"a": 1}\n\n{"a": "é 中"}\n'
ARRAY = '[\n  {"a": 1},\n  {\n    "a": "é 中"\n  }\n]\n'


def file_with(tmp_path: Path, content: str | bytes, name: str = "rows.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        list(read_objects(path))
    return caught.value


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(("text", "second_line"), [(LINES, 3), (ARRAY, 3)])
def test_reads_lines_and_arrays(
    tmp_path: Path, text: str, second_line: int, bom: bytes, packed: bool
) -> None:
    content = bom + text.encode()
    path = file_with(tmp_path, gzip.compress(content) if packed else content)
    first_line = 1 if text is LINES else 2
    assert list(read_objects(path)) == [(first_line, {"a": 1}), (second_line, {"a": "é 中"})]


def test_array_lines_count_blank_lines_before_it(tmp_path: Path) -> None:
    assert list(read_objects(file_with(tmp_path, '\n\n[{"a": 1},\n{"a": 2}]'))) == [
        (3, {"a": 1}),
        (4, {"a": 2}),
    ]


def test_windows_line_ends_and_separators_inside_texts(tmp_path: Path) -> None:
    path = file_with(tmp_path, '{"a": "x\u2028y"}\r\n{"a": 2}\r\n')
    assert list(read_objects(path)) == [(1, {"a": "x\u2028y"}), (2, {"a": 2})]


def test_missing_file_suggests_a_close_name(tmp_path: Path) -> None:
    file_with(tmp_path, LINES, "pairs_train.jsonl")
    error = refusal(tmp_path / "pair_train.jsonl")
    assert error.problem == "file not found"
    assert error.where == str(tmp_path / "pair_train.jsonl")
    assert error.fix == "did you mean pairs_train.jsonl?"


def test_missing_folder_and_a_folder_for_a_file(tmp_path: Path) -> None:
    assert "nor its folder" in refusal(tmp_path / "no" / "x.jsonl").problem
    assert "this is a folder" in refusal(tmp_path).problem
    assert refusal(tmp_path / "zzz").fix == f"look in {tmp_path}"


@pytest.mark.parametrize("content", ["", "\n  \n", b"\xef\xbb\xbf"])
def test_empty_file(tmp_path: Path, content: str | bytes) -> None:
    error = refusal(file_with(tmp_path, content))
    assert error.problem == "the file is empty"
    assert "JSONL" in error.fix


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"a": 1}\n{"a": }\n', 2),
        ('{"a": 1}\n{"a": 1} {"a": 2}\n', 2),
        ('[{"a": 1},\n{"a" 2}]', 2),
        ('[{"a": 1}\n{"a": 2}]', 2),
        ('[{"a": 1},\n{"a": 2},\n]', 2),
        ('\n[{"a": 1},\n{"a": 2}', 3),
        ('[{"a": 1}]\nmore', 2),
        ("[", 1),
    ],
)
def test_broken_json_names_file_and_line(tmp_path: Path, content: str, line: int) -> None:
    path = file_with(tmp_path, content)
    error = refusal(path)
    assert error.where == f"{path}:{line}"
    assert error.problem.startswith("broken JSON")


def test_excerpt_is_at_most_80_characters_around_the_place(tmp_path: Path) -> None:
    path = file_with(tmp_path, '{"a": "' + "x" * 500 + '", HERE' + "y" * 500 + "}")
    excerpt = refusal(path).problem.split(" near: ")[1]
    assert len(excerpt) == 80
    assert '", HERE' in excerpt


@pytest.mark.parametrize(
    ("content", "line", "shown"),
    [('{"a": 1}\n"text"\n', 2, '"text"'), ('[{"a": 1},\n\n[2]]', 3, "[2]"), ("17\n", 1, "17")],
)
def test_a_value_that_is_no_object(tmp_path: Path, content: str, line: int, shown: str) -> None:
    path = file_with(tmp_path, content)
    error = refusal(path)
    assert error.where == f"{path}:{line}"
    assert error.problem == f"not a JSON object: {shown}"


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = file_with(tmp_path, b'{"a": 1}\n{"a": "\xe9"}\n')
    error = refusal(path)
    assert error.where == f"{path}:2"
    assert error.problem == "the text is not UTF-8 (byte 0xe9)"


def test_damaged_gzip(tmp_path: Path) -> None:
    path = file_with(tmp_path, gzip.compress(b'{"a": 1}\n' * 1000)[:-10], "rows.jsonl.gz")
    assert "gzip file is damaged" in refusal(path).problem


def judgement(seconds: float) -> Judgement:
    return Judgement(
        comparison_id="c",
        annotator_id="a",
        choice="tie",
        seconds=seconds,
        order_shown=("x", "y"),
        rationale="两个都好",
        created_at=datetime(2024, 5, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize("name", ["j.jsonl", "new/folder/j.jsonl.gz"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    records = [judgement(1.5), judgement(2.0)]
    write_records(tmp_path / name, records)
    assert read_records(tmp_path / name, Judgement) == records
    packed = (tmp_path / name).read_bytes().startswith(b"\x1f\x8b")
    assert packed == name.endswith(".gz")


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j.jsonl"
    write_records(path, [judgement(1.0)])

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_records(path, [judgement(2.0)])
    assert read_records(path, Judgement) == [judgement(1.0)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["j.jsonl"]


def test_a_refused_record_names_line_key_and_type(tmp_path: Path) -> None:
    good = Prompt(prompt_id="p", messages=(Message(role="user", content="x"),))
    bad = json.dumps({"prompt_id": "q", "mesages": []})
    path = file_with(tmp_path, good.model_dump_json() + "\n" + bad)
    with pytest.raises(UserError) as caught:
        read_records(path, Prompt)
    assert caught.value.where == f"{path}:2"
    assert "not a valid Prompt: messages: Field required; mesages: Extra" in caught.value.problem
    assert "prompt_id, messages" in caught.value.fix


def test_importing_the_room_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, alignloop.data, alignloop.data.templates, alignloop.data.tokenise; "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
