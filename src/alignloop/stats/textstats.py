"""Statistics of texts that need no model: words and variety."""

import re
from collections.abc import Iterable, Sequence
from itertools import chain

# ideographs with their extensions, and kana: scripts written without spaces
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_LETTER = rf"[^\W_{_CJK}]"
_WORD = re.compile(rf"[{_CJK}]|{_LETTER}+(?:'{_LETTER}+)*")

Ngram = tuple[str, ...]


def words(text: str) -> list[str]:
    """The tokens of a text: lower-case words, and single Chinese or Japanese characters.

    >>> words("Don't panic, 世界!")
    ["don't", 'panic', '世', '界']
    """
    return _WORD.findall(text.replace("’", "'").lower())


def distinct_n(texts: Iterable[str], n: int) -> float:
    """Mean over texts of (different n-grams) / (n-grams) within the text, in (0, 1].

    Texts with fewer than n tokens are left out; NaN if none remains. Longer texts repeat themselves
    more: compare answers of different lengths with `corpus_distinct_n`.
    Source: Li et al. 2016 (arXiv:1510.03055), per text.
    """
    by_text = (_ngrams(words(text), n) for text in texts)
    shares = [len(set(grams)) / len(grams) for grams in by_text if grams]
    return sum(shares) / len(shares) if shares else float("nan")


def corpus_distinct_n(texts: Iterable[str], n: int, max_tokens: int) -> float:
    """Different n-grams / n-grams over the first `max_tokens` tokens of all texts together.

    Every set gets the same budget, so that longer answers are not penalised; no n-gram spans two
    texts. NaN if the budget yields none.
    """
    assert max_tokens > 0, max_tokens
    grams = list(chain.from_iterable(_ngrams(t, n) for t in _budgeted(texts, max_tokens)))
    return len(set(grams)) / len(grams) if grams else float("nan")


def repetition(text: str, n: int = 3) -> float:
    """Share of a text's n-grams that repeat earlier ones: 1 - different / all; 0 for short texts.

    Source: seq-rep-n of Welleck et al. 2020 (arXiv:1908.04319).
    """
    grams = _ngrams(words(text), n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _ngrams(tokens: Sequence[str], n: int) -> list[Ngram]:
    assert n >= 1, n
    return list(zip(*(tokens[start:] for start in range(n)), strict=False))


def _budgeted(texts: Iterable[str], max_tokens: int) -> Iterable[list[str]]:
    left = max_tokens
    for text in texts:
        tokens = words(text)[:left]
        left -= len(tokens)
        yield tokens
        if left == 0:
            return
