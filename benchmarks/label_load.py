"""Thirty people at the annotation page, and a server that is killed three times meanwhile.

    python benchmarks/label_load.py [--people 30] [--items 300] [--overlap 3] [--kills 3]
                                    [--think 1.0] [--database sqlite postgresql]

Everybody claims, thinks and submits over HTTP on the loopback until nothing is left. Printed as
JSON, one line for each database: milliseconds of claim and submit (without the first seconds after
a start, when everybody comes back at once), what the kills lost or doubled, the server's processor
time by request and its memory, and the machine's load average, without which the times mean little.
PostgreSQL is started in a folder of its own.
"""

import argparse
import http.client
import json
import os
import random
import secrets
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from label_support import SLUG, items, make_token, make_world, postgres_cluster, serving
from sqlalchemy import select

from alignloop.label.store.database import Database, open_database
from alignloop.label.store.judging import standing
from alignloop.label.store.tables import ItemRow, judgements

PATIENCE = 120.0  # seconds that somebody waits for a killed server
CATCHING_UP = 5.0  # seconds after a start whose times are not counted


@dataclass
class Work:
    """What all people share: where the server is, what took how long, what was acknowledged."""

    port: int = 0
    started: float = 0.0  # when the server was last started
    answered: int = 0
    think: float = 1.0
    times: dict[str, list[float]] = field(default_factory=lambda: {"claim": [], "submit": []})
    acknowledged: dict[str, int] = field(default_factory=dict[str, int])
    retried: int = 0
    failed: list[str] = field(default_factory=list[str])


class Person:
    """Somebody with a token and one connection, who tries again until the server is back."""

    def __init__(self, work: Work, number: int, token: str) -> None:
        self.work, self.number = work, number
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self.pauses = random.Random(f"label_load/{number}")
        self.connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        """Claim and submit until nothing is left."""
        try:
            time.sleep(self.work.think * self.number / 30)
            while task := self.ask("claim", f"/api/v1/projects/{SLUG}/claim"):
                time.sleep(self.work.think * self.pauses.uniform(0.5, 1.5))
                key = secrets.token_hex(8)
                body = {"key": key, "verdict": "choice", "choice": task["answers"][0]["id"]}
                path = f"/api/v1/assignments/{task['assignment_id']}/judgement"
                done = self.ask("submit", path, body | {"strength": 2})
                assert done is not None
                self.work.acknowledged[key] = done["judgement_id"]
        except BaseException as error:
            self.work.failed.append(repr(error))
            raise

    def ask(
        self, kind: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any] | None:
        """One request, repeated while the server is away; only what is answered is timed."""
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                if self.connection is None:
                    self.connection = http.client.HTTPConnection(
                        "127.0.0.1", self.work.port, timeout=30
                    )
                    self.connection.connect()
                began = time.perf_counter()
                self.connection.request("POST", path, json.dumps(body or {}), self.headers)
                answer = self.connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                self.connection = None
                self.work.retried += 1
                assert time.monotonic() < give_up, "the server does not come back"
                time.sleep(0.05)
                continue
            self.work.answered += 1
            if began > self.work.started + CATCHING_UP:
                self.work.times[kind].append(1000 * (time.perf_counter() - began))
            assert answer.status < 300, f"{answer.status} {content[:300]!r}"
            return None if answer.status == 204 else json.loads(content)


def measure(where: list[str], database: Database, options: argparse.Namespace) -> dict[str, Any]:
    """One run on one database."""
    world = make_world(
        database, items(options.items), users=options.people, overlap=options.overlap
    )
    tokens = [make_token(database, user, "judge") for user in world.users]
    wanted = options.items * options.overlap
    work = Work(think=options.think)
    people = [threading.Thread(target=Person(work, n, token).run) for n, token in enumerate(tokens)]
    loads, memory, spent, answered = [os.getloadavg()[0]], [], [], 0
    for life in range(options.kills + 1):
        with serving(*where, port=work.port) as server:
            assert server.port is not None
            work.port, work.started, before = server.port, time.perf_counter(), work.answered
            at_start = cpu_seconds(server.process.pid)
            if life == 0:
                memory.append(resident(server.process.pid))
                for one in people:
                    one.start()
            goal = wanted * (life + 1) // (options.kills + 1)
            while len(work.acknowledged) < goal and any(one.is_alive() for one in people):
                time.sleep(0.02)
            if life == options.kills:
                for one in people:
                    one.join()
                memory.append(resident(server.process.pid))
            spent.append(cpu_seconds(server.process.pid) - at_start)
            answered += work.answered - before
            loads.append(os.getloadavg()[0])
            server.kill()
    assert not work.failed, work.failed
    return {
        **{name: summary(found) for name, found in work.times.items()},
        **check(database, work, wanted, options.overlap),
        "kills": options.kills,
        "cpu_ms_per_request": round(1000 * sum(spent) / answered, 1),
        "requests_repeated": work.retried,
        "memory_mib": {"at_start": memory[0], "at_end": memory[1]},
        "load_average": [round(one, 1) for one in loads],
    }


def summary(times: list[float]) -> dict[str, float]:
    """Milliseconds."""
    parts = statistics.quantiles(times, n=100)
    return {"p50_ms": round(parts[49], 1), "p95_ms": round(parts[94], 1), "n": len(times)}


def check(database: Database, work: Work, wanted: int, overlap: int) -> dict[str, Any]:
    """What is stored against what was acknowledged."""
    with database.reading() as session:
        rows = session.execute(select(judgements.c.idempotency_key, judgements.c.id)).all()
        stands = session.execute(standing()).all()
        all_items = session.scalars(select(ItemRow)).all()
    stored = {row[0]: row[1] for row in rows}
    by_item = Counter(one.item_id for one in stands)
    return {
        "judgements": len(stands),
        "wanted": wanted,
        "lost": sum(stored.get(key) != one for key, one in work.acknowledged.items()),
        "doubled": len(stands) - len({(one.item_id, one.user_id) for one in stands}),
        "overlap_wrong": sum(by_item[one.id] != overlap for one in all_items),
    }


def cpu_seconds(pid: int) -> float:
    """The processor time of a process so far."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(") ", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> dict[str, float]:
    """A process's memory in MiB: now, and the most so far."""
    words = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = {line.split(":")[0]: line.split()[1] for line in words.splitlines() if "kB" in line}
    return {
        name: round(int(found[key]) / 1024, 1)
        for name, key in (("now", "VmRSS"), ("most", "VmHWM"))
    }


@contextmanager
def opened(kind: str) -> Iterator[tuple[list[str], Database]]:
    """A database of this kind, and how the command line names it."""
    with tempfile.TemporaryDirectory(prefix="alignloop-load-") as folder:
        if kind == "sqlite":
            database = open_database(folder)
            yield ["--project", folder], database
            database.close()
            return
        with postgres_cluster() as url:
            database = open_database(url)
            yield ["--database", url], database
            database.close()


def main() -> None:
    """Run, and print one line for each database."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--people", type=int, default=30)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--overlap", type=int, default=3)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--think", type=float, default=1.0, help="seconds between two items")
    kinds = ("sqlite", "postgresql")
    parser.add_argument("--database", nargs="+", choices=kinds, default=list(kinds))
    options = parser.parse_args()
    for kind in options.database:
        with opened(kind) as (where, database):
            told = {"database": kind, "people": options.people}
            print(json.dumps(told | measure(where, database, options)), flush=True)


if __name__ == "__main__":
    main()
