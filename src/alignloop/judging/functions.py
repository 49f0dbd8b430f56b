"""Rewards by a function of a person's own: found by name, called with care, errors explained."""

import importlib
import inspect
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, cast

from alignloop.errors import UserError
from alignloop.records import Prompt

TAKES = "prompts and responses (lists of str) and, if it likes, metadata (a list of dict)"


class _FailedError(Exception):
    """What is wrong with an answer of the function, and whose answer where that is known."""

    def __init__(self, problem: str, index: int | None = None) -> None:
        super().__init__(problem)
        self.problem, self.index = problem, index


@dataclass(frozen=True, kw_only=True)
class RewardFunction:
    """`function(prompts, responses)` gives a number for each response; it may ask for `metadata`.

    A prompt's text is its last message; `metadata` has the whole record, with `messages`.
    """

    name: str
    function: Callable[..., Any]
    wants_metadata: bool
    time_limit: float | None = None

    def scores(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[float]:
        """One finite number per response.

        Raises UserError, naming the prompt, where the function raises, takes too long, or gives
        something else. What a whole batch does not tell is found by asking one by one.
        """
        try:
            return self._ask(prompts, responses, self.time_limit)
        except _FailedError as error:
            failed = error if error.index is not None else self._alone(prompts, responses, error)
        prompt = prompts[failed.index or 0]
        text = prompt.text if len(prompt.text) <= 80 else f"{prompt.text[:77]}..."
        raise UserError(
            f"the reward function {failed.problem}",
            where=f'{self.name}, prompt_id "{prompt.prompt_id}" ({text!r})',
            fix="mend the function; the same command goes on from what is saved",
        )

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
        named: dict[str, Any] = {}
        if self.wants_metadata:
            named["metadata"] = [prompt.model_dump(mode="json") for prompt in prompts]
        texts = [prompt.text for prompt in prompts]
        found = _within(limit, lambda: self.function(texts, list(responses), **named))
        return _numbers(found, len(prompts))


def load_function(name: str, time_limit: float | None = None) -> RewardFunction:
    """The function "package.module:function", looked for in the current directory too.

    Raises UserError where there is none, where importing it fails, or where it cannot be called.
    """
    module_name, _, path = name.partition(":")
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
    return RewardFunction(
        name=name,
        function=found,
        wants_metadata=_wants_metadata(found, name),
        time_limit=time_limit,
    )


def _wants_metadata(function: Callable[..., Any], name: str) -> bool:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C do not say
        return False
    for named in ({"metadata": []}, {}):
        try:
            signature.bind([], [], **named)
            return bool(named)
        except TypeError:
            continue
    raise UserError(f"it takes {signature}", where=name, fix=f"let it take {TAKES}")


def _within(limit: float | None, task: Callable[[], Any]) -> Any:
    """What `task` returns; with a limit in seconds, on a thread that is left behind if late."""
    if limit is None:
        try:
            return task()
        except (Exception, SystemExit) as error:  # sys.exit(0) would end the run as if it were done
            raise _FailedError(_raised(error)) from None
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
        raise _FailedError(_raised(raised[0]))
    if not returned:
        raise _FailedError(f"gave no answer within {limit:g} s")
    return returned[0]


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
