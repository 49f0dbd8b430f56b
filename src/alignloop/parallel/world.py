"""The processes that work on one run, and what this one of them does.

Every process knows a whole step: its rows, its lengths, its random numbers. What is shared is the
work, so that a step is planned once, alike in all of them, and sums give what one process computes.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

Row = TypeVar("Row")
PLACE_VARIABLE = "LOCAL_RANK"  # launchers such as torchrun set it


def place_on_machine() -> int:
    """Which process of its machine this one is, from 0; 0 if no launcher says."""
    return int(os.environ.get(PLACE_VARIABLE, "0"))


@dataclass(frozen=True, kw_only=True)
class Pass(Generic[Row]):
    """One forward and backward pass; `weight` is 0 where it only keeps step with the others."""

    rows: list[Row]
    weight: float


@dataclass(frozen=True, kw_only=True)
class World:
    """Who this process is; `sum` adds a tensor up over all, with the same result in each.

    All processes call `sum` and `barrier` in the same order.
    """

    rank: int
    size: int
    sum: "Callable[[Tensor], Tensor]"
    barrier: Callable[[], None]

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run's files and speaks to the person who watches."""
        return self.rank == 0

    @property
    def draws(self) -> tuple[int, ...]:
        """What the seed of random numbers has in addition where each process draws its own."""
        return () if self.is_main else (self.rank,)

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process."""
        return bool(self.totals({"": float(flag)})[""])

    def totals(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Each number added up over the processes, which all have the same names."""
        if self.size == 1:
            return dict(sums)
        import torch

        found = self.sum(torch.tensor(list(sums.values()), dtype=torch.float64))
        return dict(zip(sums, found.tolist(), strict=True))

    def add_gradients(self, parameters: "Sequence[Tensor]") -> None:
        """Let each process have the sum of all gradients; None stays where none has one."""
        if self.size == 1:
            return
        import torch

        has = self.sum(torch.tensor([float(p.grad is not None) for p in parameters]))
        for parameter, count in zip(parameters, has.tolist(), strict=True):
            if count:
                own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.sum(own)

    def share(self, cuts: Sequence[list[Row]]) -> list[Pass[Row]]:
        """This process's passes of a step's micro-batches: in each process as many as in another.

        Collectives inside a pass (FSDP) would wait forever for a process that has fewer. Where the
        micro-batches do not go round, the largest are halved; where nothing is left to halve, some
        run the last one again, with weight 0.
        """
        planned = [list(cut) for cut in cuts]
        while len(planned) % self.size and max(map(len, planned)) > 1:
            place = max(range(len(planned)), key=lambda index: len(planned[index]))
            half = (len(planned[place]) + 1) // 2
            planned[place : place + 1] = [planned[place][:half], planned[place][half:]]
        passes = [Pass(rows=cut, weight=1.0) for cut in planned]
        passes += [Pass(rows=planned[-1], weight=0.0)] * (-len(planned) % self.size)
        return passes[self.rank :: self.size]


# One process: nothing to add up, nobody to wait for.
SINGLE = World(rank=0, size=1, sum=lambda tensor: tensor, barrier=lambda: None)
