"""Imports that a server runs beside its requests: begun by an upload, watched, cancelled.

They are kept in memory only. A server that is killed leaves whole chunks, and the same upload again
files the rest.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from alignloop.errors import UserError
from alignloop.label.new_items import ItemFile
from alignloop.label.store.database import Database
from alignloop.label.store.importing import Imported, import_items
from alignloop.label.store.refusals import Conflict, NotFound

logger = logging.getLogger(__name__)

KEPT = 100  # finished imports that can still be asked about
ROWS_PER_LOOK = 256
NOTHING = Imported(added=0, duplicates=0)
# The container is found by the content; a name only breaks ties between these.
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow")
State = Literal["reading", "filing", "done", "cancelled", "failed"]


class Upload:
    """A temporary file for an upload; its name is ours, so no path comes from a user."""

    def __init__(self, name: str) -> None:
        self.name = name[:200] or "upload"
        plain = name.lower().removesuffix(".gz")
        suffix = next((one for one in SUFFIXES if plain.endswith(one)), "")
        self._folder = TemporaryDirectory(prefix="alignloop-upload-")
        self.path = Path(self._folder.name) / f"upload{suffix}"

    def file(self, *, gold: bool) -> ItemFile:
        """What is read of it, called by the user's name."""
        return ItemFile(self.path, gold=gold, name=self.name)

    def remove(self) -> None:
        """Delete the file."""
        self._folder.cleanup()


@dataclass(kw_only=True)
class ImportJob:
    """One import. `rows` of `num_rows` are read or filed; `result` is there at the end."""

    id: int
    project_id: int
    batch: str
    name: str
    state: State = "reading"
    rows: int = 0
    num_rows: int = 0
    result: Imported | None = None
    problem: str = ""
    fix: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def runs(self) -> bool:
        """Whether it is not over."""
        return self.state in ("reading", "filing")


class _Cancelled(Exception):
    """Raised in the first pass, of which nothing is kept."""


class Imports:
    """The imports of a server, each in a thread of its own; one at a time for each project."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._numbers = count(1)
        self._jobs: dict[int, ImportJob] = {}
        self._changing = threading.Lock()

    def begin(
        self,
        project_id: int,
        batch: tuple[int, str],
        upload: Upload,
        *,
        gold: bool,
        when_over: Callable[[Imported], object],
    ) -> ImportJob:
        """Begin an import of an upload, which is removed at the end.

        `when_over` gets the result, also of a cancelled import. Raises Conflict if the project has
        one running.
        """
        with self._changing:
            if any(one.runs and one.project_id == project_id for one in self._jobs.values()):
                fix = "wait until it is finished, or cancel it"
                raise Conflict("another import into this project is running", fix=fix)
            job = ImportJob(
                id=next(self._numbers), project_id=project_id, batch=batch[1], name=upload.name
            )
            over = [key for key, one in self._jobs.items() if not one.runs]
            for key in over[: len(self._jobs) + 1 - KEPT]:
                del self._jobs[key]
            self._jobs[job.id] = job
        given = job, batch[0], upload, gold, when_over
        threading.Thread(target=self._run, args=given, daemon=True).start()
        return job

    def find(self, project_id: int, job_id: int) -> ImportJob:
        """One import of a project. Raises NotFound."""
        job = self._jobs.get(job_id)
        if job is None or job.project_id != project_id:
            fix = "the server may have started anew: send the file again, which adds only the rest"
            raise NotFound("there is no such import", where=str(job_id), fix=fix)
        return job

    def _run(
        self,
        job: ImportJob,
        batch_id: int,
        upload: Upload,
        gold: bool,
        when_over: Callable[[Imported], object],
    ) -> None:
        try:
            job.result = self._import(job, batch_id, upload.file(gold=gold))
            when_over(job.result)
            job.state = "cancelled" if job.cancelled.is_set() else "done"
        except _Cancelled:
            job.result, job.state = NOTHING, "cancelled"
        except UserError as error:
            where = f"{error.where}: " if error.where else ""
            job.problem, job.fix = f"{where}{error.problem}", error.fix
            job.state = "failed"
        except Exception:
            logger.exception("import %d failed", job.id)
            job.problem, job.fix = "the server failed to read this file", "the log says why"
            job.state = "failed"
        finally:
            upload.remove()

    def _import(self, job: ImportJob, batch_id: int, file: ItemFile) -> Imported:
        def on_row(rows: int) -> None:
            if rows % ROWS_PER_LOOK == 0:
                job.rows = rows
                if job.cancelled.is_set():
                    raise _Cancelled

        def on_filed(rows: int) -> None:
            job.rows = rows

        file.survey(on_row)
        job.rows, job.num_rows, job.state = 0, file.num_rows, "filing"
        return import_items(
            self._database,
            job.project_id,
            batch_id,
            file.items(),
            on_progress=on_filed,
            is_cancelled=job.cancelled.is_set,
        )
