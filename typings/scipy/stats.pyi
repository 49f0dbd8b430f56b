import numpy as np
from numpy.typing import ArrayLike, NDArray

class BinomTestResult:
    pvalue: float

def binomtest(k: int, n: int, p: float) -> BinomTestResult: ...
def rankdata(a: ArrayLike) -> NDArray[np.float64]: ...
