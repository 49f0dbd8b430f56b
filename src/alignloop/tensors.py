"""Operations of torch whose types its stubs leave out, with their types; no arithmetic here."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Gradients = tuple[Tensor | None, ...]  # one for each input of a function's `forward`

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


class _Lists(Protocol[_T]):
    def tolist(self) -> list[_T]: ...


class _Repeats(Protocol):
    def unique(self, *, return_inverse: Literal[True]) -> tuple[Tensor, Tensor]: ...


class _Norm(Protocol):
    def norm(self) -> Tensor: ...


class _Norms(Protocol):
    def vector_norm(
        self, x: Tensor, /, *, dim: int, keepdim: bool, dtype: torch.dtype
    ) -> Tensor: ...


class _Random(Protocol):
    def manual_seed(self, seed: int, /) -> torch.Generator: ...
    def fork_rng(self, devices: Sequence[torch.device] | None) -> AbstractContextManager[None]: ...


class _Function(Protocol[_T_co]):
    def apply(self, *inputs: object) -> _T_co: ...


_LINALG: _Norms = torch.linalg
_RANDOM: _Random = torch.random


def seed_all(seed: int) -> None:
    """Seed the global generator of every device."""
    _RANDOM.manual_seed(seed)


def forked(devices: Sequence[torch.device] | None = None) -> AbstractContextManager[None]:
    """Global random numbers of the CPU and these devices (None: all) go back afterwards."""
    return _RANDOM.fork_rng(devices)


def integers(x: _Lists[int]) -> list[int]:
    """The numbers of a tensor [n]."""
    return x.tolist()


def floats(x: _Lists[float]) -> list[float]:
    """The numbers of a tensor [n]."""
    return x.tolist()


def integer_rows(x: _Lists[list[int]]) -> list[list[int]]:
    """The numbers of a tensor [rows, n]."""
    return x.tolist()


def float_rows(x: _Lists[list[float]]) -> list[list[float]]:
    """The numbers of a tensor [rows, n]."""
    return x.tolist()


def distinct(x: _Repeats) -> tuple[Tensor, Tensor]:
    """The values that occur in x, ascending, and the index of each element's value among them."""
    return x.unique(return_inverse=True)


def norm(x: _Norm) -> Tensor:
    """The Euclidean (Frobenius) norm of all numbers of a tensor."""
    return x.norm()


def norms(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Euclidean norm over the last dimension [..., 1], added up in `dtype`."""
    return _LINALG.vector_norm(x, dim=-1, keepdim=True, dtype=dtype)


def applied(function: _Function[Tensor], *inputs: object) -> Tensor:
    """The result of an autograd function that returns one tensor."""
    return function.apply(*inputs)


def applied_pair(
    function: _Function[tuple[Tensor, Tensor]], *inputs: object
) -> tuple[Tensor, Tensor]:
    """The results of an autograd function that returns two tensors."""
    return function.apply(*inputs)


def once(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
    """`once_differentiable`: an error, not a wrong gradient, for a gradient of the gradient."""
    return once_differentiable(backward)
