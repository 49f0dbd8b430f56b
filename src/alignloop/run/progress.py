"""Progress of a stage: one bar on a terminal, a line every ten seconds elsewhere."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from alignloop.errors import harmless

_MAX_FIGURES = 5
_PLAIN_SECONDS = 10.0
_live_console: Console | None = None  # the console of the one active bar


Say = Callable[[str], None]
Item = TypeVar("Item")


def now_and_then(
    items: Sequence[Item],
    say: Say | None,
    words: str,
    *,
    sizes: Iterable[int] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Item]:
    """Iterate over items; every ten seconds `say` gets `words` with {done} and {total} filled in.

    `sizes` is how much each item counts, by default 1. For work without steps of its own.
    """
    counts = list(sizes) if sizes is not None else [1] * len(items)
    done, total, printed_at = 0, sum(counts), clock()
    for item, count in zip(items, counts, strict=True):
        yield item
        done += count
        if say is not None and clock() - printed_at >= _PLAIN_SECONDS:
            say(words.format(done=done, total=total))
            printed_at = clock()


class Progress(Protocol):
    """`with progress_for("ppo", 300) as bar: bar.update(12, reward=0.53, kl=0.02)`."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def update(self, step: int, **figures: float) -> None:
        """Show that `step` of the total is done, with up to five figures."""
        ...

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        ...


def progress_for(
    stage: str,
    total: int,
    console: Console | None = None,
    *,
    start: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> Progress:
    """A bar for `total` steps, of which `start` were done before (a resumed run); default: stderr.

    Plain lines if the console is not a terminal, or while another bar is active: they then appear
    above that bar.
    """
    console = _live_console or console or Console(stderr=True)
    if _live_console is None and console.is_interactive:
        return _Bar(stage, total, console, start, clock)
    return _PlainLines(stage, total, console, start, clock)


def say_line(text: str) -> None:
    """Print a line for the user outside of any stage; above the bar if there is one."""
    _print(_live_console or Console(stderr=True), text)


class _Clock:
    """Elapsed and remaining seconds, at the mean pace since this process started the stage."""

    def __init__(self, start: int, total: int, clock: Callable[[], float]) -> None:
        self.start, self.total, self.read = start, total, clock
        self.began = clock()

    def elapsed(self) -> float:
        return self.read() - self.began

    def left(self, step: int) -> float:
        if step <= self.start:
            return math.nan
        return self.elapsed() / (step - self.start) * (self.total - step)


class _PlainLines:
    def __init__(
        self, stage: str, total: int, console: Console, start: int, clock: Callable[[], float]
    ) -> None:
        self._stage, self._total, self._console = stage, total, console
        self._clock = _Clock(start, total, clock)
        self._printed_at = -math.inf
        self._waiting = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._waiting:  # stopped early: still show the last step
            self.say(self._waiting)

    def update(self, step: int, **figures: float) -> None:
        now = self._clock.elapsed()
        times = f"elapsed {_duration(now)}  left {_duration(self._clock.left(step))}"
        parts = (f"{self._stage} {step}/{self._total}", _figures(figures), times)
        self._waiting = "  ".join(part for part in parts if part)
        if step == self._total or now - self._printed_at >= _PLAIN_SECONDS:
            self.say(self._waiting)
            self._printed_at, self._waiting = now, ""

    def say(self, text: str) -> None:
        _print(self._console, text)


class _Bar:
    def __init__(
        self, stage: str, total: int, console: Console, start: int, clock: Callable[[], float]
    ) -> None:
        self._console = console
        self._clock = _Clock(start, total, clock)
        self._rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.completed:.0f}/{task.total:.0f}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeElapsedColumn(),
            # rich's own estimate forgets steps older than a minute; PPO's may take longer
            TextColumn("left {task.fields[left]}", markup=False),
            console=console,
        )
        self._task: TaskID = self._rich.add_task(
            stage, total=total, completed=start, figures="", left=_duration(math.nan)
        )

    def __enter__(self) -> Self:
        global _live_console
        assert _live_console is None, "another bar came alive first"
        self._rich.start()
        _live_console = self._console
        return self

    def __exit__(self, *_: object) -> None:
        global _live_console
        _live_console = None
        self._rich.stop()

    def update(self, step: int, **figures: float) -> None:
        left = _duration(self._clock.left(step))
        self._rich.update(self._task, completed=step, figures=_figures(figures), left=left)

    def say(self, text: str) -> None:
        _print(self._console, text)


def _print(console: Console, text: str) -> None:
    # As is: no markup, no colour, no line breaks at the console's width.
    console.print(harmless(text), markup=False, highlight=False, soft_wrap=True, emoji=False)


def _figures(figures: dict[str, float]) -> str:
    shown = list(figures.items())[:_MAX_FIGURES]
    return "  ".join(f"{name} {_number(value)}" for name, value in shown)


def _number(value: float) -> str:
    value = float(value)
    return f"{value:,.0f}" if 1000 <= abs(value) < math.inf else f"{value:.4g}"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "-:--:--"
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
