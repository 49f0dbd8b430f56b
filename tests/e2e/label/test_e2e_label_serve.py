"""The server as people start it: the first link, a whole judgement, and PostgreSQL by its URL."""

import signal
from pathlib import Path

import httpx2
import pytest
from label_support import PASSWORD, SLUG, items, make_token, make_world, serving

from alignloop.label import Client
from alignloop.label.store.database import open_database

pytestmark = pytest.mark.slow


def test_the_first_link_makes_the_admin_and_is_not_given_again(tmp_path: Path) -> None:
    folder = str(tmp_path / "project")
    with serving("--project", folder) as server:
        assert server.url.startswith("http://127.0.0.1:")
        with httpx2.Client(base_url=server.url, headers={"Origin": server.url}) as http:
            assert http.get(f"/invite/{server.invitation}").status_code == 200
            body = {"token": server.invitation, "name": "ada", "password": PASSWORD}
            made = http.post("/api/v1/invitations/accept", json=body)
            assert made.json()["role"] == "admin"
            assert http.post("/api/v1/invitations/accept", json=body).status_code == 404
            assert http.get("/lead/users").status_code == 200
            assert "server" not in made.headers
    with serving("--project", folder) as server:
        assert server.invitation == ""


def test_it_stops_when_it_is_told(tmp_path: Path) -> None:
    with serving("--project", str(tmp_path / "project")) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=20) == 0


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    import subprocess
    import sys

    with serving("--project", str(tmp_path / "project")) as server:
        port = str(httpx2.URL(server.url).port)
        words = [sys.executable, "-m", "alignloop", "label", "serve", "--port", port]
        where = ["--project", str(tmp_path / "other")]
        done = subprocess.run([*words, *where], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "choose another one with --port" in done.stderr


def test_postgresql_by_its_url(postgres_url: str) -> None:
    database = open_database(postgres_url)
    world = make_world(database, items(3))
    token = make_token(database, world.users[0], "judge")
    with serving("--database", postgres_url) as server, Client(server.url, token) as client:
        while (task := client.claim(SLUG)) is not None:
            client.submit(task, verdict="choice", choice=task.answers[0].id)
    assert len(world.standing()) == 3
    database.close()
