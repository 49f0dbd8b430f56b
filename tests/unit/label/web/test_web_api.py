"""The API as annotators and leads use it, over HTTP."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from label_support import SLUG, World, browser, comparison, items, make_account

CLAIM, UNDO = f"/api/v1/projects/{SLUG}/claim", f"/api/v1/projects/{SLUG}/undo"
IMPORT = f"/api/v1/projects/{SLUG}/import?batch=first"


def judge(client: Any, task: dict[str, Any], **said: Any) -> Any:
    """Judge a task: without `said` the first answer is better."""
    body = {"key": f"key-{task['assignment_id']:06d}", "verdict": "choice"}
    if said.get("verdict", "choice") == "choice":
        body["choice"] = task["answers"][0]["id"]
    return client.post(f"/api/v1/assignments/{task['assignment_id']}/judgement", json=body | said)


def test_a_whole_batch(app: FastAPI, people: World) -> None:
    client = browser(app, "ann")
    seen: list[int] = []
    while (answer := client.post(CLAIM)).status_code == 200:
        task = answer.json()
        assert client.post(CLAIM).json() == task
        assert judge(client, task).status_code == 201
        seen.append(task["item_id"])
    assert answer.status_code == 204
    assert answer.content == b""
    assert len(set(seen)) == 4
    progress = client.get(f"/api/v1/projects/{SLUG}/progress").json()
    assert (progress["today"], progress["done"]) == (4, 4)


def test_what_a_task_holds_and_nothing_else(app: FastAPI, people: World) -> None:
    task = browser(app, "ann").post(CLAIM).json()
    assert set(task) == {
        *("assignment_id", "item_id", "kind", "prompt", "answers", "schema", "guideline"),
        *("guideline_due", "progress", "detector", "previous"),
    }
    assert [set(answer) for answer in task["answers"]] == [{"id", "label", "text"}] * 2
    assert [answer["label"] for answer in task["answers"]] == ["A", "B"]


@pytest.mark.slow
def test_no_response_to_an_annotator_holds_a_model_or_a_reason(app: FastAPI, people: World) -> None:
    people.file(items(2, start=30, why="uncertain", why_detail={"difference": "leaky-reason"}))
    gold = items(2, start=40)
    people.file([one.model_copy(update={"gold": "tie"}) for one in gold])
    client = browser(app, "ann")
    texts: list[str] = []
    while (answer := client.post(CLAIM)).status_code == 200:
        texts.append(answer.text)
        texts.append(judge(client, answer.json(), comment="mine").text)
        texts.append(client.get(f"/p/{SLUG}/task/{answer.json()['assignment_id']}").text)
        texts.append(client.post(UNDO).text)
        again = judge(client, answer.json(), key=f"once-again-{answer.json()['assignment_id']}")
        assert again.status_code == 201
        texts.append(again.text)
    for path in ("/api/v1/projects", "/api/v1/me", f"/api/v1/projects/{SLUG}/progress"):
        texts.append(client.get(path).text)
    texts += [client.get(path).text for path in ("/", f"/p/{SLUG}", f"/p/{SLUG}/guideline")]
    assert len(texts) > 40
    leaks = ("secret-model", "leaky-reason", "uncertain", "gold", '"why"', "#0", "#1", "sampled")
    for text in texts:
        assert not [leak for leak in leaks if leak in text.lower().replace("/static", "")], text
    lead = browser(app, "lea")
    assert "secret-model" in lead.get(f"/api/v1/projects/{SLUG}/items").text  # it is there


def test_one_annotator_does_not_see_what_another_said(app: FastAPI, people: World) -> None:
    first = browser(app, "ann")
    task = first.post(CLAIM).json()
    judge(first, task, comment="a very private remark")
    other = people.must_claim(0)
    assert "private remark" not in other.model_dump_json()
    path = f"/api/v1/assignments/{other.assignment_id}"
    body = {"key": "12345678", "verdict": "tie"}
    assert first.post(f"{path}/judgement", json=body).status_code == 404
    assert first.post(f"{path}/release").status_code == 404
    assert first.get(f"/p/{SLUG}/task/{other.assignment_id}").status_code == 404


def test_a_contradiction_is_told_with_the_answers_it_is_about(app: FastAPI, people: World) -> None:
    client = browser(app, "ann")
    task = client.post(CLAIM).json()
    first, second = (answer["id"] for answer in task["answers"])
    said = {"choice": first, "ratings": {first: 6, second: 9}}
    answer = judge(client, task, **said)
    assert answer.status_code == 409
    body = answer.json()
    assert body["contradiction"] == "A is rated 6 and B 9, yet A wins"
    assert (body["chosen"], body["better"]) == (first, second)
    assert judge(client, task, **said, confirmed=True).status_code == 201


def test_undo_gives_the_item_back_with_the_answer_filled_in(app: FastAPI, people: World) -> None:
    client = browser(app, "ann")
    assert client.post(UNDO).status_code == 204
    task = client.post(CLAIM).json()
    judge(client, task, strength=3, comment="no, wait")
    back = client.post(UNDO).json()
    assert back["answers"] == task["answers"]
    assert (back["previous"]["strength"], back["previous"]["comment"]) == (3, "no, wait")
    assert client.post(CLAIM).json()["item_id"] == task["item_id"]


def test_an_upload_is_filed_and_again_is_harmless(app: FastAPI, people: World) -> None:
    client = browser(app, "lea")
    lines = [comparison(n).model_dump_json() for n in range(100, 103)]
    body = "\n".join([*lines, "{broken", '{"prompt": "Q", "chosen": "a", "rejected": "b"}'])
    done = client.post(IMPORT, content=body)
    assert done.status_code == 200, done.text
    told = done.json()
    assert (told["added"], told["duplicates"], told["num_refused"]) == (4, 0, 1)
    assert told["refused"][0].startswith("upload:4: ")
    assert client.post(IMPORT, content=body).json()["duplicates"] == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", [b"\x1f\x8b\x08\x00\x00", b"PK\x03\x04", b"\x80\x04\x95.", b"\xff\xfe{"]
)
def test_archives_and_pickles_are_lines_that_are_refused(
    app: FastAPI, people: World, content: bytes
) -> None:
    done = browser(app, "lea").post(IMPORT, content=content)
    assert done.status_code == 200
    assert (done.json()["added"], done.json()["num_refused"]) == (0, 1)


def test_an_upload_has_a_limit_and_no_path_of_the_senders(
    app: FastAPI, people: World, tmp_path: Path
) -> None:
    client = browser(app, "lea")
    limit = app.state.settings.max_upload
    headers = {"Content-Length": str(limit + 1)}
    assert client.post(IMPORT, content=b"{}", headers=headers).status_code == 413
    wanted = f"/api/v1/projects/{SLUG}/import?batch=../../etc"
    assert client.post(wanted, content=b"{}").status_code == 404
    secret = tmp_path / "secret.jsonl"
    secret.write_text(comparison(0).model_dump_json(), encoding="utf-8")
    done = client.post(IMPORT, content=json.dumps({"file": str(secret)}).encode())
    assert done.json()["added"] == 0


def test_no_url_is_ever_fetched(
    app: FastAPI, people: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def refuse(*_: object) -> None:
        raise AssertionError("the server opened a connection")

    client = browser(app, "lea")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for source in ("http://127.0.0.1:1/x", "hub:org/name", "file:///etc/passwd"):
        rows = [{"prompt": source, "chosen": f"![]({source})", "rejected": source}]
        done = client.post(IMPORT, content="\n".join(map(json.dumps, rows)))
        assert done.status_code == 200
        wanted = f"/api/v1/projects/{SLUG}/import"
        assert client.post(wanted, params={"batch": source}, content=b"{}").status_code == 404
    annotating = browser(app, "ann")
    while (answer := annotating.post(CLAIM)).status_code == 200:
        shown = annotating.get(f"/p/{SLUG}/task/{answer.json()['assignment_id']}")
        assert shown.status_code == 200
        assert judge(annotating, answer.json()).status_code == 201


def test_an_export_is_made_and_downloaded(app: FastAPI, people: World) -> None:
    people.work()
    client = browser(app, "lea")
    made = client.post(f"/api/v1/projects/{SLUG}/exports", json={"kind": "pairs"})
    assert made.status_code == 201, made.text
    lines = client.get(f"/api/v1/exports/{made.json()['id']}").text.splitlines()
    assert len(lines) == 4
    assert json.loads(lines[0])["chosen"].startswith("Answer")


def test_leads_see_everything(app: FastAPI, people: World) -> None:
    people.work()
    people.undo()
    client = browser(app, "lea")
    said = client.get(f"/api/v1/projects/{SLUG}/judgements").json()
    assert [one["standing"] for one in said] == [True, True, True, False, False]
    assert {one["annotator"] for one in said} == {"ann0"}
    shown = client.get(f"/api/v1/projects/{SLUG}/items?limit=3").json()
    assert len(shown) == 3
    rest = client.get(f"/api/v1/projects/{SLUG}/items?after={shown[-1]['id']}").json()
    assert len(rest) == 1
    assert {one["model"] for one in shown[0]["responses"]} == {"secret-model-7b"}
    decided = {"item_id": shown[0]["id"], "verdict": "choice"}
    decided |= {"choice": shown[0]["responses"][1]["id"]}
    path = f"/api/v1/projects/{SLUG}/adjudications"
    assert client.post(path, json=decided).status_code == 201
    assert client.post(path, json=decided | {"choice": "foreign"}).status_code == 422
    assert client.post(path, json=decided | {"item_id": 99}).status_code == 404
    assert "overall" in client.get(f"/api/v1/projects/{SLUG}/quality").json()


def test_a_wrong_body_is_told_by_its_fields(app: FastAPI, people: World) -> None:
    client = browser(app, "ann")
    task = client.post(CLAIM).json()
    answer = judge(client, task, strength=7, colour="red")
    assert answer.status_code == 422
    assert "strength" in answer.json()["detail"]
    assert "colour" in answer.json()["detail"]
    assert set(answer.json()) == {"detail", "fix"}


def test_a_name_with_a_slash_can_be_disabled(app: FastAPI, people: World) -> None:
    make_account(people.database, "ann/second", "annotator")
    answer = browser(app, "lea").patch("/api/v1/users/ann/second", json={"active": False})
    assert (answer.status_code, answer.json()["active"]) == (200, False)
