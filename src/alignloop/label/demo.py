"""`alignloop label demo`: a ready-made project with comparisons and a week of judgements."""

import argparse
import secrets
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from alignloop.errors import UserError
from alignloop.label.store import accounts, judging, projects, queue
from alignloop.label.store.database import FILE, Database, Session, open_database
from alignloop.label.store.importing import import_file
from alignloop.label.store.seats import change_rules
from alignloop.label.store.tables import now
from alignloop.label.store.tasks import JudgementIn, LabelSchema, Task

DAYS = 6  # of simulated past work
PER_DAY = 8  # judgements per annotator and project
BREAK = timedelta(seconds=20)  # between two items

GUIDELINE_EN = """\
# Which answer would you rather have been given?

Read the **whole** of both answers before you choose.

1. **True and useful.** Does it answer what was asked, and is it right?
2. **Kind.** A person who is sad wants to be heard first.
3. **Safe and fair.** A request that would hurt someone is declined, with a reason. A harmless \
question that only sounds dangerous is answered.
4. **Clear.** Length alone counts for nothing.

Choose *tie* where you see no difference that matters, *both bad* where you would want neither, \
and *skip* where you cannot judge.
"""
GUIDELINE_ZH = """\
# 您更愿意得到哪一个回答？

请把两个回答都**读完**再选择。

1. **真实有用。** 是否回答了问题，内容是否正确？
2. **体贴。** 难过的人首先希望有人倾听。
3. **安全公正。** 会伤害他人的请求应当说明理由并拒绝；只是听起来危险的无害问题应当回答。
4. **清楚。** 篇幅长短本身不算优点。

看不出有意义的差别时选“平手”，两个都不想要时选“都不好”，无法判断时选“跳过”。
"""


class Works(Protocol):
    """An annotator who answers up to `limit` of a project's tasks at a `SimulatedDesk`."""

    def __call__(self, desk: Any, project: str, *, limit: int) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Part:
    """One project of the demo."""

    slug: str
    title: str
    file: str
    schema: LabelSchema
    overlap: int
    repeats: float = 0.0


PARTS = (
    Part(
        slug="demo",
        title="Which answer is better? · 哪个回答更好？",
        file="comparisons.jsonl",
        schema=LabelSchema(kind="comparison"),
        overlap=3,
        repeats=0.1,
    ),
    Part(
        slug="demo-ranking",
        title="Rank four answers · 给四个回答排序",
        file="rankings.jsonl",
        schema=LabelSchema(kind="ranking", strength=False),
        overlap=2,
    ),
)


class SimulatedDesk:
    """One annotator working in the past, without a server, with a separate clock.

    The clock starts `DAYS` days ago and moves to the next day after `PER_DAY` judgements.
    """

    def __init__(self, session: Session, user_id: int, began: datetime) -> None:
        self._session, self._user_id, self._began = session, user_id, began
        self._done, self._today = 0, timedelta()

    def claim(self, project: str) -> Task | None:
        """The next task of a project."""
        return queue.claim(self._session, project, self._user_id, at=self._moment())

    def submit(self, task: Task, **fields: Any) -> int:
        """Store a judgement with the clock's date."""
        sent = JudgementIn.model_validate({"key": secrets.token_hex(16), **fields})
        self._today += timedelta(milliseconds=sent.visible_ms)
        at = self._moment()
        made = judging.submit(
            self._session, task.assignment_id, self._user_id, sent, source="api", at=at
        )
        self._done += 1
        self._today = self._today + BREAK if self._done % PER_DAY else timedelta()
        return made

    def _moment(self) -> datetime:
        return self._began + timedelta(days=self._done // PER_DAY) + self._today


def make_demo(
    folder: Path, content: Path, people: Mapping[str, Works], *, at: datetime | None = None
) -> None:
    """Fill a new project's folder: `content` holds the files of `PARTS`, `people` do the work.

    Raises UserError if there is a project already.
    """
    if (folder / FILE).exists():
        raise UserError(
            "there is a project here already",
            where=str(folder),
            fix=f"name another folder, or open this one: alignloop label serve --project {folder}",
        )
    began = (at or now()) - timedelta(days=DAYS)
    with closing(open_database(folder)) as database:
        for part in PARTS:
            _file(database, part, content / part.file)
        for number, (name, work) in enumerate(people.items()):
            # one transaction per annotator: each commit waits for the disk
            with database.transaction() as session:
                desk = SimulatedDesk(session, accounts.add_simulated(session, name, began), began)
                # unequal amounts, and some items are left for the visitor
                work(desk, "demo", limit=PER_DAY * (DAYS - 1 - number % 3))
                work(desk, "demo-ranking", limit=PER_DAY // 2)


def _file(database: Database, part: Part, source: Path) -> None:
    with database.transaction() as session:
        project = projects.create_project(
            session,
            part.slug,
            part.title,
            part.schema,
            text_en=GUIDELINE_EN,
            text_zh=GUIDELINE_ZH,
        )
        change_rules(session, project, {"pause_on": []})  # alarms are shown, and all go on
        batch = projects.create_batch(
            session, project.id, "first", overlap=part.overlap, repeats=part.repeats
        )
    import_file(database, project.id, batch.id, source)


def run_demo(
    content: Path,
    people: Mapping[str, Works],
    folder: str | None,
    port: int,
    *,
    serve: Callable[[argparse.Namespace], None] | None = None,
) -> None:
    """Create the demo if it does not exist yet, serve it, and print the link."""
    if serve is None:
        from alignloop.label.commands import serve
    with tempfile.TemporaryDirectory(prefix="alignloop-demo-") as temporary:
        target = Path(folder or temporary)
        if not (target / FILE).exists():
            make_demo(target, content, people)
        options = {"host": "127.0.0.1", "port": port, "project": str(target), "database": None}
        serve(argparse.Namespace(**options, behind_tls=False, public_host=[]))
