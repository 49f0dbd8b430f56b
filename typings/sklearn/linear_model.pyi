import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix

class LogisticRegression:
    def __init__(
        self, *, C: float, fit_intercept: bool, solver: str, random_state: int
    ) -> None: ...
    def fit(self, X: csr_matrix, y: ArrayLike) -> LogisticRegression: ...
    def decision_function(self, X: csr_matrix) -> NDArray[np.float64]: ...
