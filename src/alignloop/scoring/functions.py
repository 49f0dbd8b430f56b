"""Custom reward functions: found by name, called defensively, with explained errors."""

import importlib
import math
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, cast

from alignloop.errors import UserError
from alignloop.records import Prompt
from alignloop.scoring.arguments import (
    MissingError,
    by_row,
    check_parameters,
    named_lists,
    references_of,
    score_by_row,
)

BUILT_IN = "verifiable"  # short name of the module in this package
_FIX = "fix the function; the same command resumes from the last checkpoint"
_REFERENCE = "correct the prompt's reference or the text in brackets, or remove the row"


class _FailedError(Exception):
    """What is wrong with a result of the function, and for which answer if known."""

    def __init__(self, problem: str, index: int | None = None, fix: str = _FIX) -> None:
        super().__init__(problem)
        self.problem, self.index, self.fix = problem, index, fix


@dataclass(frozen=True, kw_only=True)
class RewardFunction:
    """`function(prompts, responses, ...)` returns a number per response, in order.

    A prompt's text is its last message; see `named_lists` for further parameters. A function of
    (answer, reference) is called per row, and the best result over the row's references counts; one
    of (answer, references) gets them together. `text` replaces all references.
    """

    name: str
    function: Callable[..., Any]
    time_limit: float | None = None
    text: str | None = None

    def scores(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[float]:
        """One finite number per response.

        Raises UserError, naming the prompt, if the function raises, takes too long, or returns
        anything else. The failing prompt is found by calling it for one answer at a time.
        """
        try:
            return self._call(prompts, responses, self.time_limit)
        except _FailedError as error:
            failed = error if error.index is not None else self._locate(prompts, responses, error)
        raise self._error(failed, prompts[failed.index or 0])

    def check(self, prompts: Iterable[Prompt]) -> None:
        """Raise UserError, naming the prompt, if one lacks an argument of the function."""
        for prompt in prompts:
            try:
                if getattr(self.function, "__module__", "") == f"{__package__}.{BUILT_IN}":
                    self._call([prompt], [""], None)  # raises if the reference is unusable
                elif by_row(self.function):
                    references_of(prompt, 0, self.text)
                else:
                    named_lists(self.function, [prompt], self.text)
            except (MissingError, _FailedError) as error:
                failed = _FailedError(error.problem, 0, error.fix)
                if error.fix == _FIX:  # one of ours: what it was given is at fault, not it
                    problem = f"this cannot check answers to the prompt: it {error.problem}"
                    failed = _FailedError(problem, 0, _REFERENCE)
                raise self._error(failed, prompt) from None

    def _error(self, failed: _FailedError, prompt: Prompt) -> UserError:
        text = prompt.text if len(prompt.text) <= 80 else f"{prompt.text[:77]}..."
        problem = f"the reward function {failed.problem}" if failed.fix == _FIX else failed.problem
        where = f'{self.name}, prompt_id "{prompt.prompt_id}" ({text!r})'
        return UserError(problem, where=where, fix=failed.fix)

    def _locate(
        self, prompts: Sequence[Prompt], responses: Sequence[str], whole: _FailedError
    ) -> _FailedError:
        """The first answer that also fails alone, searched for within the time limit."""
        until = time.monotonic() + (self.time_limit or math.inf)
        for index, pair in enumerate(zip(prompts, responses, strict=True)):
            left = None if self.time_limit is None else max(0.0, until - time.monotonic())
            try:
                self._call(pair[:1], pair[1:], left)
            except _FailedError as error:
                problem = error.problem if left == self.time_limit else whole.problem
                return _FailedError(problem, index)
        together = (
            f"{whole.problem} for a batch of {len(prompts)} answers, of which this is the first"
        )
        return _FailedError(together, 0)

    def _call(
        self, prompts: Sequence[Prompt], responses: Sequence[str], limit: float | None
    ) -> list[float]:
        def task() -> Any:
            if by_row(self.function):
                return score_by_row(self.function, prompts, responses, self.text)
            named = named_lists(self.function, prompts, self.text)
            return self.function([prompt.text for prompt in prompts], list(responses), **named)

        return _numbers(_within(limit, task), len(prompts))


def load_function(name: str, time_limit: float | None = None) -> RewardFunction:
    """The function "package.module:function", also searched in the current directory.

    "verifiable:NAME" is a built-in one. "package.module:function(TEXT)" replaces each row's
    reference by TEXT. Raises UserError if it does not exist, fails to import or cannot be called.
    """
    named, text = split_text(name)
    module_name, _, path = named.partition(":")
    if module_name == BUILT_IN:
        module_name = f"{__package__}.{BUILT_IN}"
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # like `python -m`
    # a module written a moment ago may be missing from the import system's directory cache
    importlib.invalidate_caches()
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(_raised(error), where=module_name) from None
        raise UserError(
            f"there is no module {error.name!r} in this folder or among the installed packages",
            where=name,
            fix="run the command in the module's folder, or install it",
        ) from None
    except (Exception, SystemExit) as error:
        raise UserError(f"importing it {_raised(error)}", where=module_name) from None
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise UserError(f"this module has no function {path!r}", where=module_name)
    check_parameters(found, name)
    return RewardFunction(name=name, function=found, time_limit=time_limit, text=text)


def split_text(name: str) -> tuple[str, str | None]:
    """("module:function", TEXT) of "module:function(TEXT)"; None if there are no brackets."""
    found = re.fullmatch(r"([^(]*)\((.*)\)", name, re.S)
    return (found[1], found[2]) if found else (name, None)


def _within(limit: float | None, task: Callable[[], Any]) -> Any:
    """Run `task`; with a limit in seconds, on a thread that is abandoned if late."""
    if limit is None:
        try:
            return task()
        except (Exception, SystemExit) as error:  # sys.exit(0) would end the run as if successful
            raise _failed(error) from None
    returned: list[Any] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            returned.append(task())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)  # a hanging one must not block our exit
    thread.start()
    thread.join(limit)
    if raised:
        raise _failed(raised[0])
    if not returned:
        raise _FailedError(f"did not return within {limit:g} s")
    return returned[0]


def _failed(error: BaseException) -> _FailedError:
    if isinstance(error, MissingError):
        return _FailedError(error.problem, error.index, error.fix)
    return _FailedError(_raised(error))


def _numbers(found: Any, count: int) -> list[float]:
    """The numbers in a list, a tuple, or an array of one dimension."""
    if hasattr(found, "tolist"):
        found = found.tolist()
    if not isinstance(found, list | tuple):
        raise _FailedError(f"returned {type(found).__name__} instead of a list of numbers")
    values = cast("Sequence[object]", found)
    if len(values) != count:
        raise _FailedError(f"returned {len(values)} numbers for {count} responses")
    for index, value in enumerate(values):
        if not isinstance(value, Real):
            raise _FailedError(f"returned {value!r} instead of a number", index)
        if not math.isfinite(float(value)):
            raise _FailedError(f"returned {float(value)}, which is not finite", index)
    return [float(cast("Any", value)) for value in values]


def _raised(error: BaseException) -> str:
    """Like "raised ValueError: no digits (rewards.py, line 12)", with the innermost line."""
    text = (str(error).strip().splitlines() or [""])[0]
    frames = traceback.extract_tb(error.__traceback__)
    location = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"raised {type(error).__name__}{': ' if text else ''}{text}{location}"
