"""Damaged files: rows or one clear error, never another exception, and never much memory."""

import gzip
import json
import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignloop.data import read_demonstrations, read_pairs, read_prompts
from alignloop.data.containers import tables_of
from alignloop.data.formats.columns import Columns
from alignloop.data.formats.reading import read_table
from alignloop.data.formats.registry import FORMATS, KINDS, formats_named
from alignloop.errors import UserError

pytestmark = pytest.mark.slow  # hundreds of damaged files

MOST_MEMORY = 32 * 2**20  # for files of a few kilobytes; a batch of a table, and Python's own

SAID = [{"role": "user", "content": "Q 中"}, {"role": "assistant", "content": "A"}]
SHARED = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
TREE = {"text": "Q", "role": "prompter", "replies": [{"text": "A", "role": "assistant", "rank": 0}]}
OWN = {"prompt_id": "p", "messages": SAID[:1]}
TEXTS = {"prompt": "Q", "answer1": "A", "answer2": "B"}
PAIRWISE = {"type": "pairwise", "from_name": "pw", "value": {"selected": "left"}}
ROWS: list[dict[str, Any]] = [
    {"prompt": OWN, "response": "A"},
    {"prompt": OWN, "chosen": "A", "rejected": "B", "margin": 1.0},
    OWN,
    {"prompt": "Q", "chosen": "A", "rejected": "B"},
    {"prompt": SAID[:1], "chosen": SAID[1:], "rejected": [{"role": "assistant", "content": "B"}]},
    {"prompt": SAID[:1], "completion": SAID[1:], "label": True},
    {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
    {"chosen": "The sky is blue", "rejected": "The sky is green"},
    {"messages": SAID},
    {"messages": SAID, "label": False},
    {"conversations": SHARED},
    {"conversations": SHARED[:1], "chosen": {"from": "gpt", "value": "A"}, "rejected": "B"},
    {"instruction": "Do", "input": "x", "output": "y", "history": [["Q", "A"]]},
    {"instruction": "Do", "instances": [{"input": "", "output": "y"}]},
    {"topic": "t", "turns": ["Q", "A"]},
    {"prompt": "Q", "chosen_safe": "A", "rejected_unsafe": "B"},
    {"question": "Q", "response_j": "A", "response_k": "B"},
    {"question": "Q", "chosen": "A", "rejected": "B", "system": "S"},
    {"question": "Q", "answer": "A"},
    {"问题": "Q", "回答": "A"},
    {"query": "Q", "response": "A"},
    {"input": "Q", "output_1": "A", "output_2": "B", "label": "1"},
    {"prompt": "Q", "answer_a": "A", "answer_b": "B", "winner": "a"},
    {"问题": "Q", "回答A": "x", "评分A": "6 分", "回答B": "y", "评分B": 9},
    {"text": "问题：Q\n回答A：x 6 分\n回答B：y 9 分"},
    {"text": "Some text"},
    {"prompt": "Q", "responses": ["a", "b", "c"], "ranking": "B > A = C"},
    {"question": "Q", "prediction 1": "a", "prediction 2": "b", "preference": [2]},
    {"message_tree_id": "t", "prompt": TREE},
    {"context": "C", "question": "Q", "ans0": "x", "ans1": "y", "ans2": "z", "label": 1},
    {"goal": "Q", "target": "A"},
    {"ID": 1, "问题": "Q"},
    {"prompt": "Q", "id": 7},
    {"turns": ["Q", "R"]},
    {"prompt": SAID[:1]},
    {"messages": SAID, "chosen": "A", "rejected": "B"},
    {"prompt": "Q", "chosen": SAID, "rejected": SAID[:1]},
    {"chosen": SAID, "rejected": [SAID[0], {"role": "assistant", "content": "B"}]},
    {"prompt": "Q", "response": "A"},
    {"prompt": "Q", "response": "A", "label": 0},
    {"instruction": "Do", "output": "y", "kto_tag": True},
    {"conversations": SHARED, "label": 1},
    {"question": "Q"},
    {"问题": "Q", "好回答": "A", "差回答": "B"},
    {"instruction": "Q", "output": ["A", "B"]},
    {"history": "Q", "human_ref_A": "A", "human_ref_B": "B", "labels": 1},
    {
        "prompt": "Q",
        "response_0": "A",
        "response_1": "B",
        "is_response_0_safe": True,
        "better_response_id": 1,
    },
    {"prompt": "Q", "response_1": "A", "response_2": "B", "preference_strength": -1},
    {
        "question": {"full_text": "Q"},
        "answer_0": "A",
        "answer_1": "B",
        "score_0": 0.5,
        "score_1": -0.5,
    },
    {"info": {"post": "P"}, "summaries": [{"text": "A"}, {"text": "B"}], "choice": 0},
    {
        "conversation_a": SAID,
        "conversation_b": [*SAID[:1], {"role": "assistant", "content": "B"}],
        "winner": "model_b",
    },
    {"prompt": '["Q"]', "response_a": '["A"]', "response_b": '["B"]', "winner_model_a": 1},
    {"input": "Q", "target": "A"},
    {"问题": "Q", "违规回答": "B", "安全有用回答": "A"},
    {"sent_more": "A", "sent_less": "B", "bias_type": "age"},
    {"question": "Q", "std_answer": "A"},
    {"Behavior": "Q", "ContextString": "C"},
    {"type": "homonyms", "prompt": "Q", "completion": "A", "final_label": "1_full_compliance"},
    {"prompt": SAID[:1], "response": "A", "levels": {"helpful": 5}, "helpful": 2.5},
    {
        "prompt": "Q",
        "response": "A",
        **dict.fromkeys(("helpfulness", "correctness", "coherence", "complexity", "verbosity"), 3),
    },
    {"chosen": ["Q", "A"], "rejected": ["Q", "B"]},
    {"chosen_messages": SAID, "rejected_messages": [SAID[0], {**SAID[1], "content": "B"}]},
    {"dialogue": ["Q", "A"]},
    {"question": "Q", "answer": [{**SAID[1], "weight": 1}]},
    {"data": TEXTS, "annotations": [{"completed_by": 2, "result": [PAIRWISE]}]},
    {**TEXTS, "annotator": 2, "annotation_id": 3, "comparison": "left"},
    {"fields": TEXTS, "responses": {"best": [{"value": "answer2", "user_id": "u"}]}},
    {**TEXTS, "best.responses": ["answer2"], "best.responses.users": ["u"]},
    {**TEXTS, "best": [{"value": "answer2", "user_id": "u", "status": "submitted"}]},
    {"text": "Q", "options": [{"id": 1, "text": "A"}, {"id": 2, "text": "B"}], "answer": "accept"},
    {"text": "Prompt: Q\nA: x\nB: y", "label": ["B"]},
    {"id": 1, "displayed_text": "Q: Q\nA: x\nB: y", "label_annotations": {"p": {"A": "true"}}},
    {"instruction": "Q", "output_1": "A", "output_2": "B", "preference": 1.9, "annotator": "x"},
    {"instruction": "Q", "response1": "A", "response2": "B", "annotator1": 1, "annotator2": 0},
    {"prompt": "Q", "answers": [{"text": "A", "chosen": True}, {"text": "B", "chosen": False}]},
    {"query": "Q", "response": "A", "label": "good"},
    {"问题": "Q", "回答A": "x（6 分）", "回答B": "y（9 分）"},
]
FLAT = [{"prompt": f"question {n} 中", "response": f"answer {n}"} for n in range(40)]


def as_csv(delimiter: str) -> bytes:
    lines = [delimiter.join(FLAT[0]), *(delimiter.join(row.values()) for row in FLAT)]
    return "\n".join(lines).encode()


def as_arrow(kind: str) -> bytes:
    import io

    import pyarrow as arrow
    from pyarrow import parquet

    table, stream = arrow.Table.from_pylist(FLAT), io.BytesIO()
    if kind == "parquet":
        parquet.write_table(table, stream)
        return stream.getvalue()
    new = arrow.ipc.new_file if kind == "file" else arrow.ipc.new_stream
    with new(stream, table.schema) as writer:
        writer.write_table(table, max_chunksize=16)
    return stream.getvalue()


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


WHOLE: dict[str, Callable[[], bytes]] = {
    "every format as JSONL": lambda: as_lines(ROWS),
    "every format as JSON": lambda: json.dumps(ROWS, indent=1, ensure_ascii=False).encode(),
    "GB18030": lambda: as_lines(ROWS).decode().encode("gb18030"),
    "CSV": lambda: as_csv(","),
    "TSV": lambda: as_csv("\t"),
    "Parquet": lambda: as_arrow("parquet"),
    "Arrow file": lambda: as_arrow("file"),
    "Arrow stream": lambda: as_arrow("stream"),
}
PACKED: dict[str, Callable[[], bytes]] = {
    f"{name}, gzipped": lambda make=make: gzip.compress(make(), mtime=0)
    for name, make in WHOLE.items()
}


@st.composite
def damaged(draw: Any, whole: bytes) -> bytes:
    """A few places where bytes are cut out, flipped, swapped, repeated or put in."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        size = draw(st.integers(1, 40))
        match draw(st.sampled_from(["cut", "end", "flip", "swap", "repeat", "insert"])):
            case "cut":
                del content[at : at + size]
            case "end":
                del content[at:]
            case "flip" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "swap":
                a, b = content[at : at + size], content[at + size : at + 2 * size]
                content[at : at + 2 * size] = b + a
            case "repeat":
                content[at:at] = content[at : at + size] * draw(st.integers(1, 20))
            case "insert":
                content[at:at] = draw(st.binary(max_size=size))
    return bytes(content)


def read_everything(path: Path) -> int:
    """Read a file in every way; the number of readings that gave rows."""
    worked = 0
    for read in (read_pairs, read_demonstrations, read_prompts, _all_rows):
        try:
            worked += bool(read(path))
        except UserError as error:
            assert str(path) in str(error), f"the error does not say where: {error}"
    return worked


def _all_rows(path: Path) -> list[Any]:
    return [
        one for table in tables_of(path) for one in read_table(table, formats_named(None, KINDS))
    ]


def _seen_alone(row: dict[str, Any]) -> Columns:
    """What a first pass over a file of this one row sees."""
    columns = Columns()
    columns.look(row)
    return columns


def test_the_rows_cover_every_format() -> None:
    seen = {
        (format_.name, format_.kind, tuple(format_.keys))
        for row in ROWS
        for columns in [_seen_alone(row)]
        for format_ in FORMATS
        if format_.holds(row, columns)
    }
    assert not {(f.name, f.kind, tuple(f.keys)) for f in FORMATS} - seen


@pytest.mark.parametrize("name", WHOLE)
def test_the_whole_file_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.data"
    path.write_bytes(WHOLE[name]())
    assert read_everything(path)


@pytest.mark.parametrize("name", [*WHOLE, *PACKED])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_file_gives_rows_or_one_clear_error(tmp_path: Path, name: str, data: Any) -> None:
    whole = {**WHOLE, **PACKED}[name]()
    path = tmp_path / "rows.data"
    path.write_bytes(data.draw(damaged(whole)))
    read_everything(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_value_under_the_keys_of_a_format(tmp_path: Path, data: Any) -> None:
    """Not damaged bytes but wrong values: a list in place of a text, a number, half a character."""
    row = dict(data.draw(st.sampled_from(ROWS)))
    for key in data.draw(st.lists(st.sampled_from(sorted(row)), min_size=1, max_size=2)):
        value = row[key]
        if isinstance(value, list) and value and data.draw(st.booleans()):
            row[key] = [*value[:-1], data.draw(JSON)]
        else:
            row[key] = data.draw(JSON)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    read_everything(path)


@pytest.mark.parametrize("name", [*WHOLE, *PACKED])
def test_damage_takes_no_memory(tmp_path: Path, name: str) -> None:
    """Every byte by itself set to its opposite, at some places: lengths that lie, above all."""
    whole = {**WHOLE, **PACKED}[name]()
    path = tmp_path / "rows.data"
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        read_everything(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_MEMORY
    # In KiB: what libraries take beside Python, the loading of pyarrow included.
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident
    assert grown * 2**10 < 8 * MOST_MEMORY
