"""Operations of torch whose types its stubs leave out, with their types; no arithmetic here."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Gradients = tuple[Tensor | None, ...]  # one for each input of a function's `forward`
Pair = tuple[Tensor, Tensor]

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


class _Lists(Protocol[_T]):
    def tolist(self) -> list[_T]: ...


class _Repeats(Protocol):
    def unique(self, *, return_inverse: Literal[True]) -> Pair: ...


class _Function(Protocol[_T_co]):
    def apply(self, *inputs: object) -> _T_co: ...


class _Norms(Protocol):
    def vector_norm(
        self,
        x: Tensor,
        /,
        *,
        dim: int | None = None,
        keepdim: bool = False,
        dtype: torch.dtype | None = None,
    ) -> Tensor: ...


class _Random(Protocol):
    def manual_seed(self, seed: int, /) -> torch.Generator: ...
    def fork_rng(
        self, devices: Sequence[torch.device] | None = None
    ) -> AbstractContextManager[None]: ...


LINALG: _Norms = torch.linalg
RANDOM: _Random = torch.random


def integers(x: _Lists[int]) -> list[int]:
    """The numbers of a tensor [n]."""
    return x.tolist()


def floats(x: _Lists[float]) -> list[float]:
    """The numbers of a tensor [n]."""
    return x.tolist()


def distinct(x: _Repeats) -> Pair:
    """The values that occur in x, ascending, and the index of each element's value among them."""
    return x.unique(return_inverse=True)


def applied(function: _Function[Tensor], *inputs: object) -> Tensor:
    """The result of an autograd function that returns one tensor."""
    return function.apply(*inputs)


def applied_pair(function: _Function[Pair], *inputs: object) -> Pair:
    """The results of an autograd function that returns two tensors."""
    return function.apply(*inputs)


def once(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
    """`once_differentiable`: an error, not a wrong gradient, for a gradient of the gradient."""
    return once_differentiable(backward)
