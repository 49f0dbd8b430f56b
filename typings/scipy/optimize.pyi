from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

class OptimizeResult:
    x: np.float64

def brentq(f: Callable[[float], float], a: float, b: float, *, xtol: float = ...) -> float: ...
def minimize_scalar(
    fun: Callable[[float], float], *, bounds: ArrayLike, method: str, options: Mapping[str, float]
) -> OptimizeResult: ...
