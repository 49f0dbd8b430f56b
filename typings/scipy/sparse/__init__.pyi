from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

class csr_matrix:
    def __neg__(self) -> csr_matrix: ...
    def __sub__(self, other: csr_matrix) -> csr_matrix: ...

class csr_array:
    def __init__(
        self,
        arg1: tuple[NDArray[np.float64], tuple[NDArray[np.intp], NDArray[np.intp]]],
        shape: tuple[int, int],
    ) -> None: ...

def vstack(blocks: Sequence[csr_matrix]) -> csr_matrix: ...
