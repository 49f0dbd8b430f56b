"""What is had without a model: rules of length, and a bag of words, on the same pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from alignloop.records import PreferencePair
from alignloop.stats.intervals import Estimate, cluster_share
from alignloop.stats.textstats import words

MOST_WORDS = 50_000  # features: the commonest words and pairs of words of the training split
FEWEST_PAIRS = 20  # a bag of words learns nothing from less
MOST_PAIRS = 20_000  # it learns little from more, and takes seconds for these


def longer_wins(pairs: Sequence[PreferencePair]) -> Estimate:
    """The share of decided pairs whose longer answer (in characters) won; equal lengths are half.

    Raises UserError where there are none.
    """
    lengths = np.array([len(pair.chosen) - len(pair.rejected) for pair in pairs])
    return _share(np.sign(lengths), pairs)


def bag_of_words(
    train: Sequence[PreferencePair], test: Sequence[PreferencePair]
) -> Estimate | None:
    """The accuracy on `test` of a bag of words that was fitted on `train`; ties are left out.

    Logistic regression without intercept on tfidf(chosen) - tfidf(rejected), and its negative for
    the other side, over words and pairs of neighbouring words (Chinese: characters). Answers alone
    are read, no prompts, and at most 20,000 pairs to learn from. The same data give the same
    number. None where `train` has fewer than 20 decided pairs, or no words. Raises UserError where
    `test` has no decided pairs.

    Source: scikit-learn's TfidfVectorizer and LogisticRegression at C = 1.
    """
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    learnt, judged = ([p for p in pairs if p.preference != 0.5] for pairs in (train, test))
    learnt = learnt[:MOST_PAIRS]
    if len(learnt) < FEWEST_PAIRS or not any(words(p.chosen + p.rejected) for p in learnt):
        return None
    make: Any = TfidfVectorizer  # whose types know no None
    vectors = make(
        tokenizer=words,
        token_pattern=None,
        lowercase=False,
        ngram_range=(1, 2),
        max_features=MOST_WORDS,
        sublinear_tf=True,
    )
    vectors.fit([text for pair in learnt for text in (pair.chosen, pair.rejected)])

    def differences(pairs: Sequence[PreferencePair]) -> Any:
        chosen = vectors.transform([pair.chosen for pair in pairs])
        return chosen - vectors.transform([pair.rejected for pair in pairs])

    ahead = differences(learnt)
    model = LogisticRegression(C=1.0, fit_intercept=False, solver="liblinear", random_state=0)
    model.fit(vstack([ahead, -ahead]), np.repeat([1, 0], len(learnt)))
    return _share(np.sign(model.decision_function(differences(judged))), judged)


def _share(ahead: np.ndarray, pairs: Sequence[PreferencePair]) -> Estimate:
    """Of signs, 1 where the chosen answer is put first, 0 where nothing is said."""
    return cluster_share((ahead + 1) / 2, [pair.prompt.prompt_id for pair in pairs])
