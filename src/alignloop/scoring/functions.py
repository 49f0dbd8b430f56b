"""Rewards by a function of a person's own: found by name, called with care, errors explained."""

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

BUILT_IN = "verifiable"  # the module of this room, by its short name
_MEND = "mend the function; the same command goes on from what is saved"


class _FailedError(Exception):
    """What is wrong with an answer of the function, and whose answer where that is known."""

    def __init__(self, problem: str, index: int | None = None, fix: str = _MEND) -> None:
        super().__init__(problem)
        self.problem, self.index, self.fix = problem, index, fix


@dataclass(frozen=True, kw_only=True)
class RewardFunction:
    """`function(prompts, responses, ...)` gives a number for each response, in order.

    A prompt's text is its last message; `named_lists` says what else may be asked for. A function
    of (answer, reference) is asked row by row, and the best number over a row's references counts;
    one of (answer, references) gets them together. `text` takes the place of all references.
    """

    name: str
    function: Callable[..., Any]
    time_limit: float | None = None
    text: str | None = None

    def scores(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[float]:
        """One finite number per response.

        Raises UserError, naming the prompt, where the function raises, takes too long, or gives
        something else. What a whole batch does not tell is found by asking one by one.
        """
        try:
            return self._ask(prompts, responses, self.time_limit)
        except _FailedError as error:
            failed = error if error.index is not None else self._alone(prompts, responses, error)
        raise self._error(failed, prompts[failed.index or 0])

    def check(self, prompts: Iterable[Prompt]) -> None:
        """Raise UserError, naming the prompt, for one without what the function asks for."""
        for prompt in prompts:
            try:
                if getattr(self.function, "__module__", "") == f"{__package__}.{BUILT_IN}":
                    self._ask([prompt], [""], None)  # says whether the reference can be used
                elif by_row(self.function):
                    references_of(prompt, 0, self.text)
                else:
                    named_lists(self.function, [prompt], self.text)
            except (MissingError, _FailedError) as error:
                raise self._error(_FailedError(error.problem, 0, error.fix), prompt) from None

    def _error(self, failed: _FailedError, prompt: Prompt) -> UserError:
        text = prompt.text if len(prompt.text) <= 80 else f"{prompt.text[:77]}..."
        said = f"the reward function {failed.problem}" if failed.fix == _MEND else failed.problem
        where = f'{self.name}, prompt_id "{prompt.prompt_id}" ({text!r})'
        return UserError(said, where=where, fix=failed.fix)

    def _alone(
        self, prompts: Sequence[Prompt], responses: Sequence[str], whole: _FailedError
    ) -> _FailedError:
        """The first answer that fails by itself too, sought no longer than the time limit."""
        until = time.monotonic() + (self.time_limit or math.inf)
        for index, pair in enumerate(zip(prompts, responses, strict=True)):
            left = None if self.time_limit is None else max(0.0, until - time.monotonic())
            try:
                self._ask(pair[:1], pair[1:], left)
            except _FailedError as error:
                problem = error.problem if left == self.time_limit else whole.problem
                return _FailedError(problem, index)
        together = (
            f"{whole.problem} for {len(prompts)} answers together, of which this is the first"
        )
        return _FailedError(together, 0)

    def _ask(
        self, prompts: Sequence[Prompt], responses: Sequence[str], limit: float | None
    ) -> list[float]:
        def task() -> Any:
            if by_row(self.function):
                return score_by_row(self.function, prompts, responses, self.text)
            named = named_lists(self.function, prompts, self.text)
            return self.function([prompt.text for prompt in prompts], list(responses), **named)

        return _numbers(_within(limit, task), len(prompts))


def load_function(name: str, time_limit: float | None = None) -> RewardFunction:
    """The function "package.module:function", looked for in the current directory too.

    "verifiable:NAME" is one of ours. "package.module:function(TEXT)" gives it TEXT in place of
    each row's reference. Raises UserError where there is none, where importing it fails, or where
    it cannot be called.
    """
    named, text = split_text(name)
    module_name, _, path = named.partition(":")
    if module_name == BUILT_IN:
        module_name = f"{__package__}.{BUILT_IN}"
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does
    importlib.invalidate_caches()
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(_raised(error), where=module_name) from None
        raise UserError(
            f"there is no module {error.name!r} in this folder or among the installed packages",
            where=name,
            fix="run the command in the folder in which it stands, or install it",
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
    """What `task` returns; with a limit in seconds, on a thread that is left behind if late."""
    if limit is None:
        try:
            return task()
        except (Exception, SystemExit) as error:  # sys.exit(0) would end the run as if it were done
            raise _failed(error) from None
    returned: list[Any] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            returned.append(task())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)  # one that hangs must not keep us alive
    thread.start()
    thread.join(limit)
    if raised:
        raise _failed(raised[0])
    if not returned:
        raise _FailedError(f"gave no answer within {limit:g} s")
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
        raise _FailedError(f"gave {type(found).__name__} in place of a list of numbers")
    values = cast("Sequence[object]", found)
    if len(values) != count:
        raise _FailedError(f"gave {len(values)} numbers for {count} responses")
    for index, value in enumerate(values):
        if not isinstance(value, Real):
            raise _FailedError(f"gave {value!r} in place of a number", index)
        if not math.isfinite(float(value)):
            raise _FailedError(f"gave {float(value)}, which is no finite number", index)
    return [float(cast("Any", value)) for value in values]


def _raised(error: BaseException) -> str:
    """ "raised ValueError: no digits (rewards.py, line 12)", by the last line that it came from."""
    text = (str(error).strip().splitlines() or [""])[0]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"raised {type(error).__name__}{': ' if text else ''}{text}{place}"
