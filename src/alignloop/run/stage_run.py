"""One stage at work: from which step it goes on, what it logs, when it saves, how it is stopped."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
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

# What a terminal, a scheduler or a container sends before it stops a process for good.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """A signal to stop arrived, and everything is saved; the message says how to go on."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + number  # as a shell reports a process that a signal has ended


class Resumable(Protocol):
    """What a stage hands over to be saved: tensors, and its memory in JSON."""

    def tensors(self) -> Mapping[str, Tensor]:
        """All tensors that the stage needs to go on."""
        ...

    def remembered(self) -> dict[str, Any]:
        """What it keeps in mind from step to step, as JSON."""
        ...

    def load(self, tensors: Mapping[str, Tensor], memory: Mapping[str, Any]) -> None:
        """Put both back; raises ValueError for a memory that another version wrote."""
        ...


class StageRun:
    """One stage of a run folder while it works.

    `seconds` counts working time over all the times it was resumed. Of the processes of the
    folder's `world` the main one alone writes and speaks.
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
        self._stop_wanted = 0  # the number of the signal that wants it
        self._ended = False

    @property
    def seconds(self) -> float:
        """Working time so far, earlier sittings included."""
        return self._earlier_seconds + time.monotonic() - self._began

    def steps(self, total: int, state: Resumable, *, save_every: int) -> Iterator[int]:
        """Yield the steps 1..total that are still to do, after restoring the last checkpoint.

        After the body of a step it saves where `save_every` says so, at the end, and on Ctrl-C,
        SIGTERM (a scheduler, a container) and SIGHUP (a terminal that was closed).
        """
        first = self._resume(state)
        try:
            with self._watched(total, first), self._gentle_interrupt():
                if first:
                    self.say(f"{self.name}: going on after step {first}")
                for step in range(first + 1, total + 1):
                    if self._ended:
                        break
                    yield step
                    last = step == total or self._ended  # what follows may be long: keep it
                    stop = self.world.any(bool(self._stop_wanted))  # all at the same step
                    if stop or last or (save_every and step % save_every == 0):
                        self.save(step)
                    if stop:
                        raise Interrupted(
                            f"stopped after step {step} of {total} of the stage {self.name};"
                            " everything is saved: the same command goes on from here",
                            self._stop_wanted or signal.SIGTERM,
                        )
        finally:
            self._bar = None
            if self._metrics is not None:
                self._metrics.close()

    @contextmanager
    def _watched(self, total: int, first: int) -> Iterator[None]:
        """Logs and a progress bar, in the main process."""
        if not self.world.is_main:
            yield
            return
        self._metrics = MetricLog(self.folder.path, self.name, first)
        self._samples = SampleLog(self.folder.path, self.name, first)
        with progress_for(self.name, total, start=first) as self._bar:
            yield

    def end(self) -> None:
        """No further steps after this one; what the loop has done so far is its result."""
        self._ended = True

    def save(self, step: int) -> None:
        """Write a checkpoint now."""
        assert self._state is not None
        tensors = self._state.tensors()
        if self.world.is_main:
            state = {"memory": self._state.remembered(), "ended": self._ended}
            state["seconds"] = self.seconds
            save_checkpoint(self.stage.checkpoints, step, tensors, state)
        self.world.barrier()

    def log(self, step: int, metrics: Mapping[str, float], *, show: tuple[str, ...] = ()) -> None:
        """Append metrics; the progress line shows those named in `show`."""
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
        """A line for the person who watches."""
        if not self.world.is_main:
            return
        if self._bar is not None:
            self._bar.say(text)
        else:
            with progress_for(self.name, 1) as bar:
                bar.say(text)

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Declare the stage complete; its checkpoints are no longer needed."""
        self.world.barrier()  # all have written what they write
        if self.world.is_main:
            self.stage.finish({"seconds": round(self.seconds, 2), **facts})
            if self.stage.checkpoints.exists():
                remove_folder(self.stage.checkpoints)
        self.world.barrier()

    def write_folder(self, target: Path, write: Callable[[Path], object]) -> Path:
        """`write(folder)` fills a folder, whole or not at all; all processes return when it is."""
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
                "what this checkpoint remembers was written by another version of alignloop",
                where=str(self.stage.checkpoints),
                fix="go on with that version, or remove the folder: the stage then begins again",
            ) from error
        self._earlier_seconds = float(checkpoint.state["seconds"])
        self._ended = bool(checkpoint.state.get("ended"))
        return checkpoint.step

    @contextmanager
    def _gentle_interrupt(self) -> Iterator[None]:
        """The first signal to stop lets the step end and saves; the second one stops at once.

        A signal that was ignored stays so: `nohup` asks for that.
        """

        def on_signal(number: int, _frame: object) -> None:
            if number == signal.SIGHUP:
                _leave_terminal()
            if self._stop_wanted:
                raise KeyboardInterrupt
            self._stop_wanted = number
            again = "press Ctrl-C again" if number == signal.SIGINT else "a second signal is"
            self.say(f"stopping after this step and saving; {again} to stop at once")

        earlier: dict[int, Any] = {}
        try:
            for number in STOP_SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    earlier[number] = signal.signal(number, on_signal)
        except ValueError:  # not the main thread: its owner handles signals
            yield
            return
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)


def _is_state(state: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's state is what `save` writes."""
    seconds = state.get("seconds")
    return isinstance(state.get("memory"), dict) and isinstance(seconds, int | float)


def _leave_terminal() -> None:
    """A terminal that has hung up refuses what is written to it, which must not end a save."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        if os.isatty(descriptor):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)
