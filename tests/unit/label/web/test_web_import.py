"""Uploads: every format, progress, reports, cancelling, limits, and batches that change."""

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from label_support import SLUG, World, browser, comparison

from alignloop.label.import_jobs import Imports, Upload
from alignloop.label.new_items import items_of_file
from alignloop.label.server_settings import ServerSettings
from alignloop.label.store.importing import Imported, import_file
from alignloop.label.store.refusals import Conflict
from alignloop.label.web.app import create_app

ROWS = [{"prompt": f"Ask {n}", "answer1": f"yes {n}", "answer2": f"no {n}"} for n in range(30)]
IMPORTS = f"/api/v1/projects/{SLUG}/imports"


def as_csv(rows: list[dict[str, str]]) -> bytes:
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    return "\n".join(lines).encode()


def as_parquet(rows: list[dict[str, str]]) -> bytes:
    import io

    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), out)
    return out.getvalue()


CONTENTS: dict[str, Callable[[list[dict[str, str]]], bytes]] = {
    "rows.jsonl": lambda rows: "\n".join(map(json.dumps, rows)).encode(),
    "rows.json": lambda rows: json.dumps(rows, indent=1).encode(),
    "wrapped.json": lambda rows: json.dumps({"data": rows}).encode(),
    "rows.csv": as_csv,
    "rows.tsv": lambda rows: as_csv(rows).replace(b",", b"\t"),
    "rows.jsonl.gz": lambda rows: gzip.compress("\n".join(map(json.dumps, rows)).encode()),
    "rows.parquet": as_parquet,
    "what is this": lambda rows: json.dumps(rows).encode(),
}


def upload(client: Any, content: bytes, **query: Any) -> dict[str, Any]:
    """Begin an import and watch it to its end."""
    begun = client.post(IMPORTS, params={"batch": "first", **query}, content=content)
    assert begun.status_code == 202, begun.text
    return watch(client, begun.json()["id"])


def watch(client: Any, number: int) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        job = client.get(f"{IMPORTS}/{number}").json()
        if job["state"] not in ("reading", "filing"):
            return job
        time.sleep(0.02)
    raise AssertionError("the import does not end")


@pytest.mark.parametrize("name", CONTENTS)
def test_what_the_command_line_reads_the_page_reads(
    app: FastAPI, people: World, tmp_path: Path, name: str
) -> None:
    content = CONTENTS[name](ROWS)
    job = upload(browser(app, "lea"), content, name=name)
    expected = {"added": 30, "duplicates": 0, "num_refused": 0}
    assert {key: job["result"][key] for key in expected} == expected
    assert (job["state"], job["rows"], job["num_rows"], job["problem"]) == ("done", 30, 30, "")
    path = tmp_path / name.replace(" ", "-")
    path.write_bytes(content)
    again = import_file(people.database, people.project_id, people.batch_id, path)
    assert again == Imported(added=0, duplicates=30)
    assert len(list(items_of_file(path))) == 30


def test_the_report_has_lines_and_reasons_under_the_files_name(app: FastAPI, people: World) -> None:
    bad: list[Any] = [{"what": 1}, {**ROWS[1], "answer2": "yes 1"}, {**ROWS[2], "winner": "blue"}]
    lines = "\n".join(map(json.dumps, [ROWS[0], *bad])).encode()
    job = upload(browser(app, "lea"), lines, name="my <b>.json")
    result = job["result"]
    assert (result["added"], result["num_refused"], job["state"]) == (1, 3, "done")
    places = [told.split(": ")[0] for told in result["refused"]]
    assert places == [f"my <b>.json:{line}" for line in (2, 3, 4)]


def test_a_file_that_cannot_be_read_says_why(app: FastAPI, people: World) -> None:
    client = browser(app, "lea")
    for content in (b"", b'[{"prompt": "Q"', b"\x1f\x8b\x08broken"):
        job = upload(client, content, name="mine.json")
        assert job["state"] == "failed" and job["problem"] and job["result"] is None
        assert "alignloop-upload" not in job["problem"]
        direct = client.post(
            f"/api/v1/projects/{SLUG}/import",
            params={"batch": "first", "name": "mine.json"},
            content=content,
        )
        assert direct.status_code in (400, 422) and "alignloop-upload" not in direct.text


def test_cancelling_keeps_what_is_filed_and_the_rest_comes_later(
    people: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alignloop.label.store import importing

    monkeypatch.setattr(importing, "CHUNK_SIZE", 10)
    imports, over = Imports(people.database), list[Imported]()
    sent = Upload("rows.jsonl")
    sent.path.write_bytes(CONTENTS["rows.jsonl"](ROWS))
    real = importing._file

    def cancel_after_one(*given: Any) -> Any:
        job.cancelled.set()
        return real(*given)

    monkeypatch.setattr(importing, "_file", cancel_after_one)
    where = people.project_id, (people.batch_id, "first")
    job = imports.begin(*where, sent, gold=False, when_over=over.append)
    deadline = time.monotonic() + 30
    while job.runs and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (job.state, over[0].added, over[0].duplicates) == ("cancelled", 10, 0)
    assert not sent.path.exists()
    monkeypatch.setattr(importing, "_file", real)
    path = Upload("rows.jsonl")
    path.path.write_bytes(CONTENTS["rows.jsonl"](ROWS))
    rest = import_file(people.database, *where[:1], people.batch_id, path.path)
    assert (rest.added, rest.duplicates) == (20, 10)
    path.remove()


def test_one_import_of_a_project_at_a_time(people: World) -> None:
    imports = Imports(people.database)
    job = imports.begin
    first = Upload("a")
    first.path.write_bytes(CONTENTS["rows.jsonl"](ROWS))
    with people.database.transaction():  # the first one waits here for its turn to write
        running = job(
            people.project_id, (people.batch_id, "first"), first, gold=False, when_over=id
        )
        with pytest.raises(Conflict, match="another import"):
            job(people.project_id, (people.batch_id, "first"), first, gold=False, when_over=id)
    deadline = time.monotonic() + 30
    while running.runs and time.monotonic() < deadline:
        time.sleep(0.01)
    assert running.state == "done"


def test_too_much_is_refused_before_it_is_stored(people: World) -> None:
    small = create_app(people.database, ServerSettings(max_upload=1000))
    client = browser(small, "lea")
    refused = client.post(IMPORTS, params={"batch": "first"}, content=b"x" * 1001)
    assert refused.status_code == 413 and "1000 bytes" in refused.text
    page = client.get(f"/lead/{SLUG}/batches").text
    assert "at most 0 MiB" in page and 'data-limit="1000"' in page


def test_what_is_not_there(app: FastAPI, people: World) -> None:
    client = browser(app, "lea")
    assert client.get(f"{IMPORTS}/77").status_code == 404
    assert client.delete(f"{IMPORTS}/77").status_code == 404
    assert client.post(IMPORTS, params={"batch": "none"}, content=b"[]").status_code == 404


def test_further_opinions_by_the_api(app: FastAPI, people: World) -> None:
    client = browser(app, "lea")
    path = f"/api/v1/projects/{SLUG}/batches/{people.batch_id}"
    people.work(0)
    assert people.claim(1) is None
    changed = client.patch(path, json={"overlap": 3})
    assert (changed.status_code, changed.json()["overlap"]) == (200, 3)
    assert people.claim(1) is not None
    assert client.patch(path, json={"closed": True}).json()["closed"] is True
    assert client.patch(path, json={"overlap": 0}).status_code == 422
    client.patch(path, json={"repeats": 0.5})
    refused = client.patch(path, json={"repeats": 0.1}, headers={"Accept-Language": "zh"})
    assert refused.status_code == 409 and "重复题" in refused.text
    actions = [row["action"] for row in client.get("/api/v1/audit").json()]
    assert actions[:3] == ["batch changed", "batch closed", "batch changed"]


def test_one_default_of_the_overlap(app: FastAPI, people: World) -> None:
    client = browser(app, "lea")
    made = client.post(f"/api/v1/projects/{SLUG}/batches", json={"name": "new"})
    assert made.json()["overlap"] == 1
    page = client.get(f"/lead/{SLUG}/batches").text
    assert 'name="overlap" type="number" data-as="number" value="1" min="1"' in page


def test_both_ways_of_an_upload_add_the_same(app: FastAPI, people: World) -> None:
    lines = "\n".join(comparison(n).model_dump_json() for n in range(10, 20)).encode()
    client = browser(app, "lea")
    path = f"/api/v1/projects/{SLUG}/import"
    done = client.post(path, params={"batch": "first"}, content=lines).json()
    assert (done["added"], done["judged"]) == (10, 0)
    assert upload(client, lines)["result"]["duplicates"] == 10
