"""The processes of one run, and this one's share of the work.

Every process knows the whole step: its rows, lengths and random numbers. Only the work is divided,
so all processes plan a step alike, and sums give what a single process would compute.
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
    """Local rank of this process on its machine, from 0; 0 without a launcher."""
    return int(os.environ.get(PLACE_VARIABLE, "0"))


@dataclass(frozen=True, kw_only=True)
class Pass(Generic[Row]):
    """One forward and backward pass; `weight` is 0 if it only keeps pace with other processes."""

    rows: list[Row]
    weight: float


@dataclass(frozen=True, kw_only=True)
class World:
    """This process's rank and collectives; `sum` is an all-reduce with the same result in each.

    All processes call `sum` and `barrier` in the same order.
    """

    rank: int
    size: int
    sum: "Callable[[Tensor], Tensor]"
    barrier: Callable[[], None]

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run's files and the console."""
        return self.rank == 0

    @property
    def draws(self) -> tuple[int, ...]:
        """Extra parts of a seed whose numbers each process draws for itself."""
        return () if self.is_main else (self.rank,)

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process."""
        return bool(self.totals({"": float(flag)})[""])

    def totals(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Each number summed over the processes; all must have the same names."""
        if self.size == 1:
            return dict(sums)
        import torch

        from alignloop.tensors import floats

        found = self.sum(torch.tensor(list(sums.values()), dtype=torch.float64))
        return dict(zip(sums, floats(found), strict=True))

    def add_gradients(self, parameters: "Sequence[Tensor]") -> None:
        """Replace gradients by their sum over processes; stays None if no process has one."""
        if self.size == 1:
            return
        import torch

        from alignloop.tensors import floats

        has = self.sum(torch.tensor([float(p.grad is not None) for p in parameters]))
        for parameter, count in zip(parameters, floats(has), strict=True):
            if count:
                own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.sum(own)

    def share(self, micro_batches: Sequence[list[Row]]) -> list[Pass[Row]]:
        """This process's passes over a step's micro-batches; every process gets the same number.

        Collectives inside a pass (FSDP) would wait forever for a process with fewer. If the
        micro-batches do not divide evenly, the largest are halved; if nothing is left to halve,
        some processes run the last one again with weight 0.
        """
        planned = [list(micro_batch) for micro_batch in micro_batches]
        while len(planned) % self.size and max(map(len, planned)) > 1:
            largest = max(range(len(planned)), key=lambda index: len(planned[index]))
            half = (len(planned[largest]) + 1) // 2
            planned[largest : largest + 1] = [planned[largest][:half], planned[largest][half:]]
        passes = [Pass(rows=micro_batch, weight=1.0) for micro_batch in planned]
        passes += [Pass(rows=planned[-1], weight=0.0)] * (-len(planned) % self.size)
        return passes[self.rank :: self.size]


# One process: nothing to sum, no one to wait for.
SINGLE = World(rank=0, size=1, sum=lambda tensor: tensor, barrier=lambda: None)
