from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

def connected_components(
    csgraph: ArrayLike, *, connection: Literal["weak", "strong"]
) -> tuple[int, NDArray[np.int32]]: ...
