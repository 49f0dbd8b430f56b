"""A run's curves and samples, one JSON object per line, with a copy of the curves for TensorBoard.

A resumed run leaves the same curves as an uninterrupted one: when it resumes from step k, the
stage's lines after k are dropped first.
"""

import math
import shutil
import time
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat

from pydantic import ValidationError

from alignloop.errors import UserError
from alignloop.extras import needs
from alignloop.records import Sample
from alignloop.run.files import (
    append_jsonl,
    atomic_write,
    parse_line,
    read_jsonl,
    whole_lines,
)
from alignloop.run.progress import say_line

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

_RESERVED = frozenset({"stage", "step", "time"})


class MetricLog:
    """Appends a stage's numbers to `<run>/metrics.jsonl` and `<run>/tensorboard/<stage>`.

    `resume_from_step=k` keeps the stage's lines up to and including step k; None or 0 starts
    afresh. Other stages' lines are kept. Raises `UserError` on a line that is not JSON.
    """

    def __init__(self, run_path: Path | str, stage: str, resume_from_step: int | None) -> None:
        self.stage = stage
        self.path = Path(run_path) / "metrics.jsonl"
        _drop_after(self.path, stage, resume_from_step or 0)
        folder = Path(run_path) / "tensorboard" / stage
        self._board = _open_board(folder, resume_from_step or 0)

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Flush and close the TensorBoard file."""
        if self._board is not None:
            self._board.close()

    def log(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Append one line; NaN and infinity become null, with `"<name>_not_finite": true`.

        Raises `UserError` if the disk is full.
        """
        assert not _RESERVED & metrics.keys(), f"reserved: {_RESERVED & metrics.keys()}"
        values = {name: float(value) for name, value in metrics.items()}
        line = {"stage": self.stage, "step": int(step), "time": time.time(), **_as_json(values)}
        append_jsonl(self.path, [line])
        if self._board is None:
            return
        for name, value in values.items():
            if math.isfinite(value):  # tensorboardX would warn at each; metrics.jsonl records it
                self._board.add_scalar(f"{self.stage}/{name}", value, step)


class SampleLog:
    """Appends a stage's samples to `<run>/samples.jsonl`; `resume_from_step` as for `MetricLog`."""

    def __init__(self, run_path: Path | str, stage: str, resume_from_step: int | None) -> None:
        self.stage = stage
        self.path = Path(run_path) / "samples.jsonl"
        _drop_after(self.path, stage, resume_from_step or 0)

    def log(self, samples: Iterable[Sample]) -> None:
        """Append samples of this log's stage; raises `UserError` if the disk is full."""
        kept = list(samples)
        assert all(sample.stage == self.stage for sample in kept), f"not all are {self.stage}'s"
        append_jsonl(self.path, kept)


def read_metrics(run_path: Path | str, stage: str | None = None) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl in order, of one stage or of all; [] if there is no file.

    Raises `UserError` with file and line if a line is not a JSON object.
    """
    lines = read_jsonl(Path(run_path) / "metrics.jsonl")
    return [line for line in lines if stage is None or line.get("stage") == stage]


def read_samples(run_path: Path | str, stage: str | None = None) -> list[Sample]:
    """The samples of samples.jsonl in order, of one stage or of all; [] if there is no file.

    Raises `UserError` with file and line if a line is not a sample.
    """
    path = Path(run_path) / "samples.jsonl"
    samples = [_sample(path, n, line) for n, line in enumerate(whole_lines(path), 1) if line]
    return [sample for sample in samples if stage is None or sample.stage == stage]


def _sample(path: Path, number: int, line: bytes) -> Sample:
    try:
        return Sample.model_validate_json(line)
    except ValidationError as error:
        raise UserError(
            f"this line is not a sample ({error.errors()[0]['msg']})",
            where=f"{path}:{number}",
            fix="fix or delete the line",
        ) from error


def _as_json(values: Mapping[str, float]) -> dict[str, float | bool | None]:
    fields: dict[str, float | bool | None] = {}
    for name, value in values.items():
        fields[name] = value if math.isfinite(value) else None
        if not math.isfinite(value):
            fields[f"{name}_not_finite"] = True
    return fields


def _drop_after(path: Path, stage: str, last_step: int) -> None:
    """Rewrite a log without the stage's lines after `last_step` and without a torn last line."""
    kept = [
        line
        for number, line in enumerate(whole_lines(path), 1)
        if line and _stays(parse_line(path, number, line), stage, last_step)
    ]
    content = b"".join(line + b"\n" for line in kept)
    if path.exists() and path.read_bytes() != content:
        atomic_write(path, content)


def _stays(line: Mapping[str, Any], stage: str, last_step: int) -> bool:
    # A fresh start drops step 0 too: it will be written again.
    return line.get("stage") != stage or (last_step > 0 and line["step"] <= last_step)


@cache
def _say_once(text: str) -> None:
    say_line(text)


def _open_board(folder: Path, last_step: int) -> "SummaryWriter | None":
    # Imported here: tensorboardX imports torch, and readers of metrics need neither.
    try:
        with needs("tensorboard", "TensorBoard's view of metrics.jsonl"):
            from tensorboardX import SummaryWriter
    except UserError as error:
        _say_once(str(error))  # metrics.jsonl has the numbers: no reason to stop
        return None

    if last_step == 0:
        shutil.rmtree(folder, ignore_errors=True)
        return SummaryWriter(str(folder))
    return SummaryWriter(str(folder), purge_step=last_step + 1)
