"""Processes that share one run, played by threads: the same sums, and nobody is forgotten."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from alignloop.parallel import World

Result = TypeVar("Result")
# transformers keeps global state while it loads a model, which two threads would leave broken.
LOADING = threading.Lock()
SECONDS = 120.0  # after which a process that waits for the others gives up


def one_by_one(load: Callable[..., Result]) -> Callable[..., Result]:
    """The same, but never in two threads at once."""

    def loaded(*given: Any, **named: Any) -> Result:
        with LOADING:
            return load(*given, **named)

    return loaded


def together(size: int, work: Callable[[World], Result]) -> list[Result]:
    """What `work(world)` gives in each of `size` processes; the first error of any is raised."""
    meeting, given = threading.Barrier(size, timeout=SECONDS), [None] * size
    found: list[Any] = [None] * size
    errors: list[BaseException] = []

    def world_of(rank: int) -> World:
        def total(tensor: Tensor) -> Tensor:
            given[rank] = tensor.detach().clone()  # type: ignore[call-overload]
            meeting.wait()
            result = sum(given[1:], start=given[0])  # type: ignore[arg-type]
            meeting.wait()
            return result.clone()  # type: ignore[union-attr]

        return World(rank=rank, size=size, sum=total, barrier=lambda: meeting.wait() and None)

    def run(rank: int) -> None:
        try:
            found[rank] = work(world_of(rank))
        except BaseException as error:
            errors.append(error)
            meeting.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [error for error in errors if not isinstance(error, threading.BrokenBarrierError)]
    if told or errors:
        raise (told or errors)[0]
    return found
