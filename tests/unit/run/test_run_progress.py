"""Progress: plain lines when nobody watches, one live bar when somebody does."""

from io import StringIO

import pytest
from rich.console import Console

from alignloop.run.progress import now_and_then, progress_for


class _Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _plain() -> Console:
    return Console(file=StringIO(), force_terminal=False, width=40)


def _text(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_plain_lines_are_the_first_the_last_and_one_in_ten_seconds():
    console, clock = _plain(), _Time()
    with progress_for("sft", 30, console, clock=clock) as bar:
        for step in range(1, 31):
            clock.now += 1
            bar.update(step)
    assert [line.split("  ")[0] for line in _text(console).splitlines()] == [
        "sft 1/30",
        "sft 11/30",
        "sft 21/30",
        "sft 30/30",
    ]


def test_plain_line_shows_five_figures_and_times_unbroken():
    console, clock = _plain(), _Time()
    with progress_for("ppo", 300, console, clock=clock) as bar:
        clock.now += 36.0
        bar.update(3, reward=0.53218, kl=0.02, tokens=12345.6, loss=float("nan"), e=-1e-7, f=1)
    # 12 s a step, 297 steps left: 3564 s.
    assert _text(console) == (
        "ppo 3/300  reward 0.5322  kl 0.02  tokens 12,346  loss nan  e -1e-07"
        "  elapsed 0:00:36  left 0:59:24\n"
    )


def test_a_resumed_run_counts_only_its_own_steps_for_the_time_left():
    console, clock = _plain(), _Time()
    with progress_for("ppo", 300, console, start=200, clock=clock) as bar:
        bar.update(200)
        clock.now += 100.0
        bar.update(250)
    first, second = _text(console).splitlines()
    assert first == "ppo 200/300  elapsed 0:00:00  left -:--:--"
    assert second == "ppo 250/300  elapsed 0:01:40  left 0:01:40"


def test_a_run_that_stops_early_still_shows_its_last_step():
    console, clock = _plain(), _Time()
    with pytest.raises(RuntimeError), progress_for("sft", 30, console, clock=clock) as bar:
        bar.update(1)
        clock.now += 4
        bar.update(2)
        raise RuntimeError
    assert _text(console).splitlines()[-1] == "sft 2/30  elapsed 0:00:04  left 0:00:56"


def test_what_is_said_is_not_markup():
    console = _plain()
    with progress_for("sft", 3, console) as bar:
        bar.say("[bold]kept :smile: as it is[/bold], however long the line may become in the end")
    assert _text(console) == (
        "[bold]kept :smile: as it is[/bold], however long the line may become in the end\n"
    )


def _terminal() -> Console:
    return Console(file=StringIO(), force_terminal=True, width=120, _environ={"TERM": "xterm"})


def test_terminal_shows_a_bar():
    console, clock = _terminal(), _Time()
    with progress_for("ppo", 10, console, clock=clock) as bar:
        clock.now += 5
        bar.update(5, reward=0.25)
        bar.say("a note")
    text = _text(console)
    assert "━" in text and "5/10" in text and "reward 0.25" in text and "left 0:00:05" in text
    assert "a note\n" in text


def test_a_second_bar_becomes_lines_above_the_first():
    console = _terminal()
    with progress_for("ppo", 10, console) as outer:
        outer.update(1)
        with progress_for("evaluate", 4, _terminal()) as inner:
            inner.update(1, win_rate=0.5)
    assert "evaluate 1/4  win_rate 0.5" in _text(console)
    with progress_for("sft", 2, _plain()) as after:
        after.update(1)
    assert "sft" not in _text(console), "the bar that ended must not take later lines"


def test_long_work_without_steps_says_how_far_it_is():
    clock = _Time()
    heard: list[str] = []
    for _ in now_and_then(
        ["a", "b", "c"], heard.append, "{done} of {total}", sizes=[10, 20, 30], clock=clock
    ):
        clock.now += 7.0
    assert heard == ["30 of 60"]  # after 14 seconds; the last 7 are less than ten


def test_without_anybody_who_listens_it_is_the_items():
    assert list(now_and_then([3, 1, 2], None, "")) == [3, 1, 2]
