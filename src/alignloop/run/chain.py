"""The chain of a run: what each stage read and wrote, and whether both are still unchanged.

`<stage>/inputs.json` is written before a stage's work, checksums of the outputs with its done.json
afterwards. Files are compared by content (sha256), since a changed file may keep its time and size.
lineage.json is a readable view of these records and can be rewritten from them at any time.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignloop.errors import UserError
from alignloop.run.files import atomic_write, is_object, read_object
from alignloop.run.folder import PARTS, RunFolder, StageFolder, fingerprint
from alignloop.run.machine import changes_of, machine

INPUTS = "inputs.json"
LABELS = ("labels", "labels_dpo")
_ORDER = ("sft", *LABELS, *(part for part in PARTS if part != "sft"))
_STAGES = {(stage,) for stage in _ORDER}

Inputs = dict[str, dict[str, str | None]]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A reason why a stage's result is out of date."""

    stage: str
    text: str

    def __str__(self) -> str:
        return f"{self.stage}: {self.text}"


class Fingerprints:
    """Checksums of what a command reads, each computed once until `forget` is called."""

    def __init__(self, run_path: Path) -> None:
        self._run = run_path
        self._known, self._alone = (dict[Path, str | None]() for _ in range(2))

    def forget(self) -> None:
        """Drop all checksums: something was written."""
        self._known.clear()
        self._alone.clear()

    def of(self, path: Path) -> str | None:
        """The sha256 of a file or folder, with an adapter's base; None if it does not exist."""
        if path not in self._known:
            own = self.alone(path)
            self._known[path] = None if own is None else _with_base(path, own)
        return self._known[path]

    def alone(self, path: Path) -> str | None:
        """The same without an adapter's base: the stage's own output."""
        if path not in self._alone:
            there = path.is_dir() or path.is_file()
            self._alone[path] = fingerprint(path) if there else None
        return self._alone[path]

    def inputs(self, named: Mapping[str, str]) -> Inputs:
        """The record of a stage's inputs, by role; paths inside the run are relative to it."""
        return {
            role: {"path": name_in(self._run, text), "sha256": self.of(Path(text))}
            for role, text in named.items()
        }


def name_in(run_path: Path, text: str) -> str:
    """A path in a stage's folder, relative to the run; any other text unchanged."""
    for path, root in ((Path(text), run_path), (Path(text).absolute(), run_path.absolute())):
        if path.is_relative_to(root) and path.relative_to(root).parts[:1] in _STAGES:
            return path.relative_to(root).as_posix()
    return text


def begin(folder: RunFolder, stage: str, inputs: Inputs, threads: int) -> list[str]:
    """Record what a stage reads; returns how the machine differs from when the stage began.

    A resumed stage keeps its first entry and adds each machine that it has run on.
    """
    path, now = folder.stage(stage).path / INPUTS, machine(threads)
    earlier = _read(path) if folder.stage(stage).begun else {}
    machines = [one for one in earlier.get("machines", []) if is_object(one)]
    changes = changes_of(machines[-1], now) if machines else []
    if not machines or changes:
        machines.append(now)
    content = {"inputs": inputs, "machines": machines}
    atomic_write(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return changes


def problems(run_path: Path, stage: str, now: Inputs, prints: Fingerprints) -> list[Problem]:
    """Why a stage's finished or begun work is out of date.

    A missing input within the run is no problem: its own stage will make it again.
    """
    found: list[Problem] = []
    if StageFolder(run_path / stage).begun:
        recorded = inputs_of(run_path, stage)
        texts = _differences(recorded, now)
        if (run_path / stage / INPUTS).exists():
            more = (role for role in now if role not in recorded)
            texts += [f"it now also reads {role} {now[role]['path']}" for role in more]
        found = [Problem(stage=stage, text=text) for text in texts]
    return found + altered(run_path, stage, prints)


def altered(run_path: Path, stage: str, prints: Fingerprints) -> list[Problem]:
    """Files of a finished stage that have changed since; missing ones do not count."""
    found: list[Problem] = []
    for name, recorded in outputs_of(run_path, stage).items():
        present = prints.alone(run_path / name)
        if present is not None and present != recorded:
            text = f"{name} was changed or damaged after this stage wrote it"
            found.append(Problem(stage=stage, text=text))
    return found


def lost(run_path: Path, stage: str) -> list[str]:
    """Files that a finished stage wrote and that are missing now."""
    return [name for name in outputs_of(run_path, stage) if not (run_path / name).exists()]


def broken(run_path: Path) -> list[Problem]:
    """Every break in a run's chain, from its files alone, for the report.

    A missing file outside the run is ignored: the run may have been copied to another machine.
    """
    prints, found = Fingerprints(run_path), list[Problem]()
    for stage in _ORDER:
        folder = StageFolder(run_path / stage)
        if not folder.begun:
            continue
        recorded = inputs_of(run_path, stage)
        texts = {role: str(one["path"]) for role, one in recorded.items()}
        paths = {role: _path_of(run_path, text) for role, text in texts.items()}
        now = prints.inputs({role: str(path) for role, path in paths.items()})
        here = {r: one for r, one in recorded.items() if paths[r].exists() and one["sha256"]}
        for text in _differences(here, {role: now[role] for role in here}):
            found.append(Problem(stage=stage, text=text))
        found += altered(run_path, stage, prints)
        gone = [name for name in lost(run_path, stage) if folder.finished]
        found += [Problem(stage=stage, text=f"{name} is missing") for name in gone]
    return found


def inputs_of(run_path: Path, stage: str) -> Inputs:
    """What a stage read when it began, by role; {} if unknown.

    Earlier releases recorded it only in lineage.json, when the stage finished.
    """
    path = run_path / stage / INPUTS
    if path.exists():
        recorded = _read(path).get("inputs")
        return _well_formed(recorded) if is_object(recorded) else {}
    return inputs_in_lineage(run_path, stage)


def inputs_in_lineage(run_path: Path, stage: str) -> Inputs:
    """A stage's inputs by lineage.json, which also keeps those of a removed stage."""
    entry = _lineage(run_path).get(stage)
    if not is_object(entry) or not is_object(prints := entry.get("inputs")):
        return {}
    roles = {role: text for role, text in entry.items() if isinstance(text, str)}
    found = {
        role: {"path": name_in(run_path, text), "sha256": prints[name_in(run_path, text)]}
        for role, text in roles.items()
        if name_in(run_path, text) in prints
    }
    return _well_formed(found)


def outputs_of(run_path: Path, stage: str) -> dict[str, str]:
    """The checksums of a finished stage's outputs, by name relative to the run."""
    folder = StageFolder(run_path / stage)
    if not folder.finished:
        return {}
    recorded = folder.done().get("outputs")
    if is_object(recorded):
        return {f"{stage}/{name}": str(text) for name, text in recorded.items()}
    entry = _lineage(run_path).get(stage)
    earlier = entry.get("outputs") if is_object(entry) else None
    return {str(k): str(v) for k, v in earlier.items()} if is_object(earlier) else {}


def write_lineage(folder: RunFolder) -> None:
    """Write lineage.json from the stages' records; removed stages keep their last entry.

    An entry lost in a kill, or a torn file, is thus restored by the next command.
    """
    before = _lineage(folder.path)
    entries = dict(before)
    for stage in _ORDER:
        done = StageFolder(folder.path / stage)
        if done.finished and (done.path / INPUTS).exists():
            entries[stage] = _entry(folder.path, stage, done)
    if entries != before:
        text = json.dumps(entries, indent=2, ensure_ascii=False, allow_nan=False)
        atomic_write(folder.path / "lineage.json", text + "\n")


def _entry(run_path: Path, stage: str, done: StageFolder) -> dict[str, Any]:
    inputs, record = inputs_of(run_path, stage), _read(done.path / INPUTS)
    machines: list[object] = record.get("machines") or [{}]
    last = machines[-1] if is_object(machines[-1]) else {}
    facts = done.facts() if stage in LABELS else {}
    paths = {role: str(_path_of(run_path, str(one["path"]))) for role, one in inputs.items()}
    return {
        **paths,
        **facts,
        "recorded_at": done.done().get("finished_at", ""),
        "inputs": {str(one["path"]): one["sha256"] for one in inputs.values() if one["sha256"]},
        "outputs": outputs_of(run_path, stage),
        "versions": last.get("versions", {}),
        "threads": last.get("threads"),
        "processor": last.get("processor", ""),
        "machines": len(machines),
    }


def unlike_before(run_path: Path, stage: str, now: Inputs) -> list[str]:
    """How the inputs of a removed stage differ from those in lineage.json."""
    return _differences(inputs_in_lineage(run_path, stage), now)


def _differences(recorded: Inputs, now: Inputs) -> list[str]:
    """How present inputs differ from recorded ones, in words, for the roles in both."""
    found: list[str] = []
    for role in (role for role in recorded if role in now):
        old, new = recorded[role]["path"], str(now[role]["path"])
        was, present = recorded[role]["sha256"], now[role]["sha256"]
        if was == present and (was is not None or old == new):
            continue
        if old != new:
            found.append(f"its {role} was {old} and is now {new}, with different content")
        elif present is not None:
            found.append(f"its {role} {new} has changed since it was read")
        elif new.split("/")[0] not in _ORDER:  # a stage's output can be made again
            found.append(f"its {role} {new} is missing")
    return found


def _path_of(run_path: Path, name: str) -> Path:
    """The path of a recorded name: in the run if it starts with a stage, else as given."""
    within = run_path / name
    return within if name.split("/")[0] in _ORDER else Path(name)


def _with_base(path: Path, found: str) -> str:
    """A checksum; an adapter's also covers its base model."""
    settings = path / "adapter_config.json"
    if not settings.is_file():
        return found
    try:
        base = Path(str(json.loads(settings.read_text()).get("base_model_name_or_path") or ""))
    except (ValueError, AttributeError, RecursionError):
        return found
    return f"{found}+{fingerprint(base)}" if base.is_absolute() and base.is_dir() else found


def _well_formed(recorded: Mapping[str, Any]) -> Inputs:
    return {
        str(role): {"path": str(one.get("path")), "sha256": one.get("sha256")}
        for role, one in recorded.items()
        if is_object(one)
    }


def _lineage(run_path: Path) -> dict[str, Any]:
    try:
        return _read(run_path / "lineage.json")
    except UserError:  # torn: it will be rewritten from the stages' own records
        return {}


def _read(path: Path) -> dict[str, Any]:
    return read_object(path) if path.exists() else {}
