"""A run's folder: its lock, which stages are finished, and the settings and inputs behind them."""

import fcntl
import hashlib
import json
import os
import re
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alignloop.errors import UserError
from alignloop.parallel import SINGLE, World
from alignloop.run.files import (
    atomic_write,
    explain_full_disk,
    explain_shape,
    is_object,
    read_object,
    remove_folder,
)
from alignloop.run.machine import available_cores

_STAGE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
# Files of a stage's folder that are not results.
_WORKING = {"checkpoints", "best", "done.json", "inputs.json"}
# A run folder has at least one of these.
_OURS = ("config.toml", "metrics.jsonl", "lineage.json", "evaluate/results.json")
# descriptors, so that a forked child can close them
_held_locks: set[int] = set()

# Parts that finish on their own, and the stage that their time counts towards.
PARTS = {
    "sft": "sft",
    "comparisons": "reward",
    "reward_held_out": "reward",
    "reward_judge": "reward",
    "reward": "reward",
    "rl": "rl",
    "dpo": "dpo",
    "evaluate": "evaluate",
}


def _close_locks_in_child() -> None:
    # A forked worker inherits the lock and would keep it after its parent's death.
    for descriptor in _held_locks:
        os.close(descriptor)
    _held_locks.clear()


os.register_at_fork(after_in_child=_close_locks_in_child)


class StageFolder:
    """One stage's part of a run folder, `runs/<name>/<stage>`; `done.json` is written last."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints while the stage runs."""
        return self.path / "checkpoints"

    @property
    def finished(self) -> bool:
        """True once `finish` has been called: all the stage's files are complete."""
        return (self.path / "done.json").exists()

    @property
    def begun(self) -> bool:
        """Whether there is work to lose: the stage is finished, or has a checkpoint."""
        return self.finished or any(self.checkpoints.glob("step-*"))

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Mark the stage complete, with the facts (JSON) that later stages and reports read.

        Checksums of its files are stored, to notice later changes.
        """
        made = sorted(path for path in self.path.iterdir() if not path.name.startswith("."))
        outputs = {path.name: fingerprint(path) for path in made if path.name not in _WORKING}
        content = {"finished_at": _now(), "facts": dict(facts), "outputs": outputs}
        atomic_write(self.path / "done.json", _pretty(content))

    def done(self) -> dict[str, Any]:
        """The whole of done.json; raises `UserError` if it is torn."""
        return read_object(self.path / "done.json", fix=self._redo_hint)

    def facts(self) -> dict[str, Any]:
        """The facts given to `finish`; raises `UserError` if the stage is not finished."""
        if not self.finished:
            raise UserError(
                f"the stage {self.path.name} is not finished",
                where=str(self.path),
                fix="run the stage again: it resumes where it stopped",
            )
        facts = self.done().get("facts")
        if not is_object(facts):
            raise UserError(
                "no facts in this file", where=str(self.path / "done.json"), fix=self._redo_hint
            )
        return facts

    def discard(self) -> None:
        """Delete the stage's files, so that it starts over."""
        if self.path.exists():
            remove_folder(self.path)
            self.path.mkdir()

    @property
    def _redo_hint(self) -> str:
        return f"delete {self.path} to redo its stage"


class RunFolder:
    """The folder of one run: `RunFolder(path)` to read it, `RunFolder.create(path)` to write it.

    >>> with RunFolder.create("runs/first") as run:  # doctest: +SKIP
    ...     run.write_config(text)
    ...     stage = run.stage("sft")
    """

    def __init__(self, path: Path | str) -> None:
        self.path, self.world = Path(path), SINGLE
        self._lock: int | None = None

    @classmethod
    def create(cls, path: Path | str, world: World = SINGLE) -> "RunFolder":
        """Create or reopen the folder, and lock it until `close` or the end of the process.

        The lock is the kernel's (flock), so a killed process releases it. Of the processes of a
        `world`, only the main one takes it. Raises `UserError` if another process holds the folder
        or `path` is a file.
        """
        run = cls(path)
        run.world = world
        if run.path.exists() and not run.path.is_dir():
            raise UserError(
                "this is a file, but a run needs a folder",
                where=str(run.path),
                fix="choose another folder",
            )
        try:
            with explain_full_disk(run.path):
                run.path.mkdir(parents=True, exist_ok=True)
                if world.is_main:
                    run._lock = _take_lock(run.path)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"cannot create this folder: {reason.lower()}",
                where=repr(str(run.path)),
                fix="choose another folder",
            ) from error
        return run

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the folder; safe to call twice."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            _held_locks.discard(self._lock)
            os.close(self._lock)
            self._lock = None

    def stage(self, name: str) -> StageFolder:
        """The folder of one stage, created if this process or its world holds the run."""
        assert _STAGE_NAME.fullmatch(name), f"not a stage's name: {name!r}"
        folder = StageFolder(self.path / name)
        if self._lock is not None or not self.world.is_main:
            folder.path.mkdir(exist_ok=True)
        return folder

    def write_config(self, text: str) -> None:
        """Write the resolved settings to config.toml, unless they are unchanged."""
        path = self.path / "config.toml"
        if not path.exists() or path.read_bytes() != text.encode():
            atomic_write(path, text)


def is_run(path: Path) -> bool:
    """Whether a folder contains any file that a run writes."""
    if any((path / name).exists() for name in _OURS):
        return True
    return any((path / part / "inputs.json").exists() for part in PARTS)


def seconds_by_stage(run_path: Path) -> dict[str, float]:
    """Seconds of every finished stage, including its parts, in the order of `PARTS`."""
    found: dict[str, float] = {}
    for part, stage in PARTS.items():
        folder = StageFolder(run_path / part)
        if folder.finished:
            seconds = folder.facts().get("seconds") or 0.0
            with explain_shape(folder.path / "done.json"):
                found[stage] = found.get(stage, 0.0) + float(seconds)
    return found


def holds_model(folder: Path) -> bool:
    """Whether a directory contains a model, or an adapter of one."""
    return any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))


def fingerprint(path: Path | str) -> str:
    """The sha256 of a file, or of a folder's sorted (relative name, sha256) lines.

    A folder's files are hashed in parallel: at about 0.6 GB/s a core, hashing is the bottleneck.
    Raises `UserError` if `path` does not exist.
    """
    source = Path(path)
    if source.is_dir():
        files = sorted(file for file in source.rglob("*") if file.is_file())
        with ThreadPoolExecutor(available_cores()) as pool:
            sums = list(pool.map(_sha256, files))
        names = (file.relative_to(source).as_posix() for file in files)
        lines = [f"{name} {digest}\n" for name, digest in zip(names, sums, strict=True)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    if not source.exists():
        raise UserError("file not found", where=str(source), fix="give an existing path")
    return _sha256(source)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


# non-blocking: a second run should fail at once and say who holds the folder
def _take_lock(folder: Path) -> int:
    path = folder / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder = f"pid {os.getpid()} on {socket.gethostname()}\n"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise UserError(
            f"another run is using this folder ({holder or 'it is just starting'})",
            where=str(folder),
            fix="wait for it, stop that process, or use another run folder",
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    _held_locks.add(descriptor)
    return descriptor


def _pretty(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
