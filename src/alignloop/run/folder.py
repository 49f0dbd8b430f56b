"""A run's folder: who holds it, which stages are finished, which settings and inputs made it."""

import fcntl
import hashlib
import json
import os
import platform
import re
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from alignloop.errors import UserError
from alignloop.run.files import atomic_write, explain_full_disk

_STAGE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_PACKAGES = ("alignloop", "torch", "transformers", "tokenizers", "safetensors", "numpy", "pydantic")
_held_locks: set[int] = set()

# What is finished by itself, and the stage whose time it counts towards.
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
    # A forked worker inherits the lock; it would keep the folder locked after its parent's death.
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
        """Where the stage keeps its checkpoints while it runs."""
        return self.path / "checkpoints"

    @property
    def finished(self) -> bool:
        """True once `finish` has been called: everything the stage writes is complete."""
        return (self.path / "done.json").exists()

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Declare the stage complete, with the facts (JSON) that later stages and reports read."""
        content = {"finished_at": _now(), "facts": dict(facts)}
        atomic_write(self.path / "done.json", _pretty(content))

    def facts(self) -> dict[str, Any]:
        """What `finish` was given; raises `UserError` when the stage is not finished."""
        if not self.finished:
            raise UserError(
                f"the stage {self.path.name} is not finished",
                where=str(self.path),
                fix="run the stage again: it goes on where it stopped",
            )
        return _read_json(self.path / "done.json")["facts"]


class RunFolder:
    """The folder of one run: `RunFolder(path)` to read it, `RunFolder.create(path)` to write it.

    >>> with RunFolder.create("runs/first") as run:  # doctest: +SKIP
    ...     run.write_config(text)
    ...     stage = run.stage("sft")
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock: int | None = None

    @classmethod
    def create(cls, path: Path | str) -> "RunFolder":
        """Make the folder, or open it again, and hold it alone until `close` or the process's end.

        The lock is the kernel's (flock), so that it goes with a killed process.
        Raises `UserError` when another process holds the folder or `path` is a file.
        """
        run = cls(path)
        if run.path.exists() and not run.path.is_dir():
            raise UserError(
                "this is a file, and a run needs a folder",
                where=str(run.path),
                fix="name another folder",
            )
        with explain_full_disk(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
            run._lock = _take_lock(run.path)
        return run

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the folder go; calling it twice does no harm."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            _held_locks.discard(self._lock)
            os.close(self._lock)
            self._lock = None

    def stage(self, name: str) -> StageFolder:
        """The folder of one stage; it is made when this process holds the run."""
        assert _STAGE_NAME.fullmatch(name), f"not a stage's name: {name!r}"
        folder = StageFolder(self.path / name)
        if self._lock is not None:
            folder.path.mkdir(exist_ok=True)
        return folder

    def write_config(self, text: str) -> None:
        """Keep the resolved settings as config.toml; a run has one set of settings for its life.

        Raises `UserError` naming the first line that differs from what the folder holds already.
        """
        path = self.path / "config.toml"
        if not path.exists():
            atomic_write(path, text)
            return
        difference = _first_difference(path.read_text(encoding="utf-8"), text)
        if difference is not None:
            number, old, new = difference
            raise UserError(
                f"this run was started with other settings: it has {old!r}, now asked {new!r}",
                where=f"{path}:{number}",
                fix="name another run folder, or go back to the settings of this one",
            )

    def lineage(
        self,
        stage: str,
        facts: Mapping[str, Any],
        *,
        inputs: Iterable[Path] = (),
        outputs: Iterable[Path] = (),
    ) -> None:
        """Put a stage's entry in lineage.json: facts, versions, time, sha256 of inputs and outputs.

        Paths inside the run are kept relative to it. An earlier entry of the stage is replaced.
        """
        path = self.path / "lineage.json"
        entries = _read_json(path) if path.exists() else {}
        entries[stage] = {
            **facts,
            "recorded_at": _now(),
            "inputs": {self._name(item): fingerprint(item) for item in inputs},
            "outputs": {self._name(item): fingerprint(item) for item in outputs},
            "versions": _versions(),
        }
        atomic_write(path, _pretty(entries))

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.path) if path.is_relative_to(self.path) else path)


def seconds_by_stage(run_path: Path) -> dict[str, float]:
    """The time of every finished stage, that of its parts included, in the order of `PARTS`."""
    found: dict[str, float] = {}
    for part, stage in PARTS.items():
        folder = StageFolder(run_path / part)
        if folder.finished:
            found[stage] = found.get(stage, 0.0) + float(folder.facts().get("seconds") or 0.0)
    return found


def holds_model(folder: Path) -> bool:
    """Whether a directory holds a model, or an adapter that belongs to one."""
    return any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))


def fingerprint(path: Path | str) -> str:
    """The sha256 of a file, or of a folder's sorted (relative name, sha256) lines.

    Raises `UserError` when there is nothing at `path`.
    """
    source = Path(path)
    if source.is_dir():
        files = sorted(file for file in source.rglob("*") if file.is_file())
        lines = [f"{file.relative_to(source).as_posix()} {fingerprint(file)}\n" for file in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    if not source.exists():
        raise UserError("there is no such file", where=str(source), fix="give an existing path")
    with source.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


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
            f"another run holds this folder ({holder or 'it is just starting'})",
            where=str(folder),
            fix="wait for it or stop that process, or name another run folder",
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    _held_locks.add(descriptor)
    return descriptor


def _first_difference(old: str, new: str) -> tuple[int, str, str] | None:
    """Line number (from 1) and both lines where two texts first differ; "" past a text's end."""
    if old == new:
        return None
    before, after = old.split("\n"), new.split("\n")
    number = next(
        (n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b),
        min(len(before), len(after)),
    )
    return number + 1, "".join(before[number : number + 1]), "".join(after[number : number + 1])


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # run from a source tree, or a room used without the model libraries
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            "this file is not JSON", where=str(path), fix="restore it or start another run folder"
        ) from error


def _pretty(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
