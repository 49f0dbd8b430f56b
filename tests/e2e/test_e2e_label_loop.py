"""The loop with people in it: models answer, people judge over HTTP, the reward model learns."""

import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from sqlalchemy import func, select

from alignloop import cli
from alignloop.data import read_pairs, read_records
from alignloop.data.preferences import pairs_from_judgements
from alignloop.label import Client
from alignloop.label.server_settings import ServerSettings
from alignloop.label.store import tokens
from alignloop.label.store.database import open_database
from alignloop.label.store.tables import ItemRow, User, now
from alignloop.label.web.app import create_app
from alignloop.playground import BASE_MODEL
from alignloop.playground.annotators import PEOPLE
from alignloop.playground.at_work import look, work
from alignloop.playground.prompts import prompt_sets
from alignloop.records import Comparison, Judgement, PreferencePair
from alignloop.stats import wilson

pytestmark = pytest.mark.slow
SEED = 0
PROMPTS = 240

RECIPE = """\
name = "loop"
num_threads = 1

[reward]
model = "{model}"
learning_rate = 1e-3
batch_size = 32
num_epochs = 2
micro_batch_tokens = 2048
max_tokens = 256
labels = "shares"
held_out_model = false
test_share = 0.35
"""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """What one round of the loop has left behind."""

    project: Path
    run: Path
    export: Path


@contextmanager
def served(project: Path) -> Iterator[str]:
    """The page on a free port of this machine, in a thread; its address."""
    with closing(open_database(project)) as database, socket.create_server(("127.0.0.1", 0)) as at:
        settings = ServerSettings(folder=project)
        config = uvicorn.Config(create_app(database, settings), log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [at]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{at.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    folder = tmp_path_factory.mktemp("loop")
    recipe, project = folder / "recipe.toml", folder / "label"
    recipe.write_text(RECIPE.format(model=BASE_MODEL), encoding="utf-8")
    prompts = folder / "prompts.jsonl"
    every = prompt_sets()["comparisons"]
    asked = every[:: len(every) // PROMPTS][:PROMPTS]  # all kinds, both languages
    prompts.write_text("".join(p.model_dump_json() + "\n" for p in asked), encoding="utf-8")
    sample = ["label", "sample", "--project", str(project), "--prompts", str(prompts)]
    sample += ["--policy", f"base={BASE_MODEL}", "--answers", "3", "--temperature", "0.7"]
    cli.main([*sample, "--max-new-tokens", "64", "--per-prompt", "2"])
    label_over_http(project)
    export = folder / "export"
    cli.main(["label", "export", str(project), str(export), "--kind", "judgements"])
    words = ["reward", str(recipe), "--folder", str(folder / "run"), "--pairs", f"label:{project}"]
    cli.main(words)
    return Loop(project=project, run=folder / "run", export=export)


def label_over_http(project: Path) -> None:
    """Everybody does a fifth of the work, each through a client of their own."""
    secrets: dict[str, str] = {}
    with closing(open_database(project)) as database, database.transaction() as session:
        share = math.ceil((session.scalar(select(func.count(ItemRow.id))) or 0) / len(PEOPLE))
        for person in PEOPLE:
            user = User(name=person.annotator_id, role="annotator", active=True, created_at=now())
            session.add(user)
            session.flush()
            made = tokens.create_token(session, user.id, "work", ["judge"])
            secrets[person.annotator_id] = made[1]
    with served(project) as address:
        for person in PEOPLE:
            with Client(address, secrets[person.annotator_id]) as client:
                work(client, "comparisons", person, seed=SEED, limit=share)


def records(loop: Loop) -> tuple[dict[str, Comparison], list[Judgement]]:
    comparisons = read_records(loop.export / "comparisons.jsonl", Comparison)
    judgements = read_records(loop.export / "judgements.jsonl", Judgement)
    return {one.comparison_id: one for one in comparisons}, judgements


def test_everything_asked_was_answered_by_somebody(loop: Loop) -> None:
    comparisons, judgements = records(loop)
    assert len(judgements) == len(comparisons) > PROMPTS / 2  # overlap 1; equal answers give none
    assert {one.annotator_id for one in judgements} == {one.annotator_id for one in PEOPLE}


def test_the_records_are_what_the_people_would_have_written_themselves(loop: Loop) -> None:
    comparisons, judgements = records(loop)
    people = {one.annotator_id: one for one in PEOPLE}
    for one in judgements:
        asked = comparisons[one.comparison_id]
        texts = {response.response_id: response.text for response in asked.responses}
        seen = look(
            people[one.annotator_id], asked.prompt, [texts[r] for r in one.order_shown], SEED
        )
        better = "tie" if seen.better is None else one.order_shown[seen.better]
        assert (one.choice, one.strength) == (better, seen.strength)
        assert 0 <= one.seconds < seen.seconds  # what they claim has not passed


def test_the_run_has_learnt_from_exactly_these(loop: Loop) -> None:
    comparisons, judgements = records(loop)
    direct = pairs_from_judgements(comparisons.values(), judgements)
    kept = read_pairs(loop.run / "labels" / "pairs.jsonl")
    assert sorted(map(PreferencePair.model_dump_json, kept)) == sorted(
        map(PreferencePair.model_dump_json, direct)
    )
    lineage = json.loads((loop.run / "lineage.json").read_text(encoding="utf-8"))
    assert len(lineage["labels"]["content_hash"]) == 64
    assert lineage["labels"]["num_pairs"] == len(kept)
    assert lineage["reward"]["pairs"].endswith("labels/pairs.jsonl")


def test_the_reward_model_is_better_than_chance(loop: Loop) -> None:
    card = json.loads((loop.run / "reward" / "report_card.json").read_text(encoding="utf-8"))
    accuracy = card["accuracy"]
    # the card's own interval, clustered by prompt, lies above a coin's throw; so does Wilson's
    assert accuracy["low"] > 0.5, accuracy
    assert wilson(accuracy["value"] * accuracy["n"], accuracy["n"]).low > 0.5
