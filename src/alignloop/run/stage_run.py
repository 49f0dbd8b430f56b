"""One running stage: where it resumes, what it logs, when it saves, how it is stopped."""

import os
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from alignloop.errors import UserError
from alignloop.records import Sample
from alignloop.run.checkpoints import load_latest, save_checkpoint
from alignloop.run.files import atomic_folder, remove_folder
from alignloop.run.folder import RunFolder, StageFolder
from alignloop.run.metrics import MetricLog, SampleLog
from alignloop.run.progress import Progress, progress_for

# What a terminal, a scheduler or a container sends before it kills a process.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """A stop signal arrived and everything is saved; the message says how to resume."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + number  # the shell's code for a process ended by a signal


class Resumable(Protocol):
    """The state of a stage to be saved: tensors, and a memory in JSON."""

    def tensors(self) -> Mapping[str, Tensor]:
        """All tensors that the stage needs to resume."""
        ...

    def remembered(self) -> dict[str, Any]:
        """What it remembers from step to step, as JSON."""
        ...

    def load(self, tensors: Mapping[str, Tensor], memory: Mapping[str, Any]) -> None:
        """Restore both; raises ValueError for a memory written by another version."""
        ...


class StageRun:
    """One stage of a run folder while it runs.

    `seconds` is its total working time over all resumptions. In a `world` of several processes only
    the main one writes and prints.
    """

    def __init__(self, folder: RunFolder, name: str, seed: int) -> None:
        self.folder, self.name, self.seed = folder, name, seed
        self.world = folder.world
        self.stage: StageFolder = folder.stage(name)
        self.path = self.stage.path
        self._earlier_seconds = 0.0
        self._began = time.monotonic()
        self._state: Resumable | None = None
        self._bar: Progress | None = None
        self._metrics: MetricLog | None = None
        self._samples: SampleLog | None = None
        self._stop_wanted = 0  # the number of the signal that asks to stop
        self._ended = False

    @property
    def seconds(self) -> float:
        """Working time so far, including before it was resumed."""
        return self._earlier_seconds + time.monotonic() - self._began

    def steps(self, total: int, state: Resumable, *, save_every: int) -> Iterator[int]:
        """Restore the last checkpoint and yield the remaining steps of 1..total.

        It saves after the steps that `save_every` chooses, at the end, and on Ctrl-C, SIGTERM (a
        scheduler, a container) and SIGHUP (a closed terminal).
        """
        first = self._resume(state)
        try:
            with self._logging(total, first), self._graceful_interrupt():
                if first:
                    self.say(f"{self.name}: resuming after step {first}")
                for step in range(first + 1, total + 1):
                    if self._ended:
                        break
                    yield step
                    last = step == total or self._ended  # save: the work after the loop may be long
                    stop = self.world.any(bool(self._stop_wanted))  # all at the same step
                    if stop or last or (save_every and step % save_every == 0):
                        self.save(step)
                    if stop:
                        raise Interrupted(
                            f"stopped after step {step} of {total} of the stage {self.name};"
                            " everything is saved: run the same command to resume",
                            self._stop_wanted or signal.SIGTERM,
                        )
        finally:
            self._bar = None
            if self._metrics is not None:
                self._metrics.close()

    @contextmanager
    def _logging(self, total: int, first: int) -> Generator[None]:
        """Open the logs and a progress bar, in the main process."""
        if not self.world.is_main:
            yield
            return
        self._metrics = MetricLog(self.folder.path, self.name, first)
        self._samples = SampleLog(self.folder.path, self.name, first)
        with progress_for(self.name, total, start=first) as self._bar:
            yield

    def end(self) -> None:
        """Make this the last step; the loop's result so far is final."""
        self._ended = True

    def save(self, step: int) -> None:
        """Write a checkpoint now."""
        assert self._state is not None
        tensors = self._state.tensors()
        if self.world.is_main:
            state = {
                "memory": self._state.remembered(),
                "ended": self._ended,
                "seconds": self.seconds,
            }
            save_checkpoint(self.stage.checkpoints, step, tensors, state)
        self.world.barrier()

    def log(self, step: int, metrics: Mapping[str, float], *, show: tuple[str, ...] = ()) -> None:
        """Append metrics; the progress line shows those in `show`."""
        if not self.world.is_main:
            return
        assert self._metrics is not None, "log belongs inside the loop over steps()"
        self._metrics.log(step, metrics)
        if self._bar is not None:
            self._bar.update(step, **{name: metrics[name] for name in show if name in metrics})

    def log_samples(self, samples: list[Sample]) -> None:
        """Append samples to samples.jsonl."""
        if not self.world.is_main:
            return
        assert self._samples is not None, "log_samples belongs inside the loop over steps()"
        self._samples.log(samples)

    def say(self, text: str) -> None:
        """Print a line for the user."""
        if not self.world.is_main:
            return
        if self._bar is not None:
            self._bar.say(text)
        else:
            with progress_for(self.name, 1) as bar:
                bar.say(text)

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Mark the stage complete and delete its checkpoints."""
        self.world.barrier()  # until all processes have written their files
        if self.world.is_main:
            self.stage.finish({"seconds": round(self.seconds, 2), **facts})
            if self.stage.checkpoints.exists():
                remove_folder(self.stage.checkpoints)
        self.world.barrier()

    def write_folder(self, target: Path, write: Callable[[Path], object]) -> Path:
        """Let `write(folder)` fill a folder atomically; all processes return when it is done."""
        if self.world.is_main:
            with atomic_folder(target) as folder:
                write(folder)
        self.world.barrier()
        return target

    def _resume(self, state: Resumable) -> int:
        self._state = state
        checkpoint = load_latest(self.stage.checkpoints, sound=_is_state)
        if checkpoint is None:
            return 0
        try:
            state.load(checkpoint.tensors, checkpoint.state["memory"])
        except ValueError as error:
            raise UserError(
                "this checkpoint was written by another version of alignloop",
                where=str(self.stage.checkpoints),
                fix="resume with that version, or delete the folder to start the stage over",
            ) from error
        # times in reports cover all sittings
        self._earlier_seconds = float(checkpoint.state["seconds"])
        self._ended = bool(checkpoint.state.get("ended"))
        return checkpoint.step

    @contextmanager
    def _graceful_interrupt(self) -> Generator[None]:
        """The first stop signal lets the step end and saves; the second one stops at once.

        An ignored signal stays ignored: `nohup` relies on that.
        """

        def on_signal(number: int, _frame: object) -> None:
            if number == signal.SIGHUP:
                _detach_from_terminal()
            if self._stop_wanted:
                raise KeyboardInterrupt
            self._stop_wanted = number
            again = "press Ctrl-C again" if number == signal.SIGINT else "a second signal is"
            self.say(f"saving after this step; {again} to stop at once")

        earlier: dict[int, Any] = {}
        try:
            for number in STOP_SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    earlier[number] = signal.signal(number, on_signal)
        except ValueError:  # not the main thread, which alone may set handlers
            yield
            return
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)


def _is_state(state: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's state has the shape that `save` writes."""
    seconds = state.get("seconds")
    return isinstance(state.get("memory"), dict) and isinstance(seconds, int | float)


def _detach_from_terminal() -> None:
    """Redirect output from a terminal that has hung up: a failing write must not break a save."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        if os.isatty(descriptor):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)
