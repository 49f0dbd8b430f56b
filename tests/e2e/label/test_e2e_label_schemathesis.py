"""Schemathesis asks everything that the API describes: no 5xx, no answer that is not described."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from label_support import items, make_account, make_token, make_world

from alignloop.label.server_settings import ServerSettings
from alignloop.label.store.database import open_database
from alignloop.label.web.app import create_app

EXAMPLES = 8  # for each of some thirty operations

# A name may fit the description and still be taken, or a link be used: such rules are no schema.
schemathesis.checks.load_all_checks()
positive_data_acceptance = schemathesis.checks.CHECKS.get_by_names(["positive_data_acceptance"])[0]

pytestmark = pytest.mark.slow


@schemathesis.serializer("application/x-ndjson")
def lines(_context: Any, value: Any) -> bytes:
    """An upload's body, as it was drawn."""
    return str(value).encode()


@pytest.fixture(scope="module")
def lead(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[FastAPI, str]]:
    """The API on a small project, and an admin's token for it."""
    folder: Path = tmp_path_factory.mktemp("schemathesis")
    database = open_database(folder)
    world = make_world(database, items(40))
    world.work(at_most=5)
    token = make_token(database, make_account(database, "ada", "admin"), "judge", "lead")
    yield create_app(database, ServerSettings(folder=folder)), token
    database.close()


def test_every_operation_answers_as_it_is_described(lead: tuple[FastAPI, str]) -> None:
    app, token = lead
    here = {"Host": "localhost"}
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app, headers=here)
    asked: dict[str, int] = {}
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            asked[case.operation.label] = asked.get(case.operation.label, 0) + 1
            sent = {**here, "Authorization": f"Bearer {token}"}
            case.call_and_validate(headers=sent, excluded_checks=[positive_data_acceptance])

        ask()
    assert len(asked) == sum(len(methods) for methods in app.openapi()["paths"].values())
