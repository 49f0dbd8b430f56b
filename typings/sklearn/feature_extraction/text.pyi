from collections.abc import Callable, Iterable

from scipy.sparse import csr_matrix

class TfidfVectorizer:
    def __init__(
        self,
        *,
        tokenizer: Callable[[str], list[str]],
        token_pattern: str | None,
        lowercase: bool,
        ngram_range: tuple[int, int],
        max_features: int,
        sublinear_tf: bool,
    ) -> None: ...
    def fit(self, raw_documents: Iterable[str]) -> TfidfVectorizer: ...
    def transform(self, raw_documents: Iterable[str]) -> csr_matrix: ...
