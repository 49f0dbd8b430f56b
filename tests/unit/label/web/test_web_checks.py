"""The checks over HTTP: rules, pauses, feedback, scores, and the lead's screen of them."""

from typing import Any

from fastapi import FastAPI
from label_support import SLUG, World, browser, gold_items, items

PROJECT = f"/api/v1/projects/{SLUG}"


def judge_first(client: Any) -> dict[str, Any]:
    """Claim an item and judge it; what the server says to the judgement."""
    task = client.post(f"{PROJECT}/claim").json()
    body = {"key": f"key-{task['assignment_id']:06d}", "verdict": "choice"}
    body |= {"choice": task["answers"][0]["id"], "strength": 1}
    path = f"/api/v1/assignments/{task['assignment_id']}/judgement"
    return client.post(path, json=body).json() | {"task": task}


def test_rules_are_read_and_changed_by_leads(app: FastAPI, people: World) -> None:
    lead = browser(app, "lea")
    assert lead.get(f"{PROJECT}/rules").json()["gold_rate"] == 0.1
    changed = lead.patch(f"{PROJECT}/rules", json={"gold_rate": 0.2, "quota": 3})
    assert (changed.json()["gold_rate"], changed.json()["quota"]) == (0.2, 3)
    assert lead.get(f"{PROJECT}/rules").json()["quota"] == 3
    for wrong in ({"gold_rate": 2}, {"no_such": 1}, {"pause_on": ["mood"]}, {"entry_items": 5}):
        assert lead.patch(f"{PROJECT}/rules", json=wrong).status_code == 422, wrong
    assert browser(app, "ann").get(f"{PROJECT}/rules").status_code == 403
    assert "rules changed" in {row["action"] for row in lead.get("/api/v1/audit").json()}


def test_a_pause_is_told_kindly_and_ended_by_the_lead(app: FastAPI, people: World) -> None:
    ann, lead = browser(app, "ann"), browser(app, "lea")
    judge_first(ann)
    assert lead.patch(f"{PROJECT}/people/ann", json={"action": "pause"}).status_code == 204
    told = ann.post(f"{PROJECT}/claim", headers={"Accept-Language": "zh"})
    assert (told.status_code, told.json()["paused"]) == (403, True)
    assert "暂停" in told.json()["detail"]
    assert ann.get(f"{PROJECT}/progress").json()["paused"]
    (person,) = lead.get(f"{PROJECT}/people").json()
    assert (person["annotator"], person["pause_reason"]) == ("ann", "lead")
    page = lead.get(f"/lead/{SLUG}/checks").text
    assert "Let them go on" in page
    assert lead.patch(f"{PROJECT}/people/ann", json={"action": "resume"}).status_code == 204
    assert ann.post(f"{PROJECT}/claim").status_code == 200
    kinds = [event["kind"] for event in lead.get(f"{PROJECT}/events").json()]
    assert kinds == ["annotator resumed", "annotator paused"]
    assert lead.patch(f"{PROJECT}/people/nobody", json={"action": "pause"}).status_code == 404


def test_feedback_comes_with_training_and_never_with_checks(app: FastAPI, people: World) -> None:
    people.file(gold_items(1, use="training", explanation="It answers the question."))
    people.file(gold_items(4, start=600))
    ann = browser(app, "ann")
    told = judge_first(ann)
    task, feedback = told["task"], told["feedback"]
    assert (task["stage"], feedback["explanation"]) == ("training", "It answers the question.")
    assert feedback["choice"] in {answer["id"] for answer in task["answers"]}
    assert feedback["right"] is (feedback["choice"] == task["answers"][0]["id"])
    for _ in range(4):
        assert judge_first(ann)["feedback"] is None


def test_only_gold_questions_have_a_use(app: FastAPI, people: World) -> None:
    people.file(gold_items(1))
    lead = browser(app, "lea")
    rows = lead.get(f"{PROJECT}/items").json()
    plain = next(one for one in rows if one["gold_verdict"] is None)
    gold = next(one for one in rows if one["gold_verdict"] is not None)
    body = {"gold_use": "entry"}
    assert lead.patch(f"{PROJECT}/items/{plain['id']}", json=body).status_code == 409
    assert lead.patch(f"{PROJECT}/items/{gold['id']}", json=body).status_code == 204
    assert lead.patch(f"{PROJECT}/rules", json={"entry_items": 1}).status_code == 200


def test_scores_order_what_comes_next(app: FastAPI, people: World) -> None:
    people.file(items(20, start=50))
    lead = browser(app, "lea")
    ids = [one["id"] for one in lead.get(f"{PROJECT}/items").json()]
    body = {"scores": {str(item): item for item in ids}, "why": "uncertain", "control": 0.0}
    assert lead.post(f"{PROJECT}/scores", json=body).json() == {"ranked": 24, "control": 0}
    assert people.item_of(people.must_claim()) == max(ids)
    assert lead.post(f"{PROJECT}/scores", json={"scores": {"x": 1.0}}).status_code == 422
    for wrong in ("null", "1e999", "NaN"):
        content = f'{{"scores": {{"1": {wrong}}}}}'
        assert lead.post(f"{PROJECT}/scores", content=content).status_code == 422
