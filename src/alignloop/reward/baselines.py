"""Baselines without a model on the same pairs: length rules and a bag of words."""

from collections.abc import Sequence

import numpy as np

from alignloop.records import PreferencePair
from alignloop.stats.intervals import Estimate, cluster_share
from alignloop.stats.textstats import words

MOST_WORDS = 50_000  # features: the commonest words and bigrams of the training split
FEWEST_PAIRS = 20  # a bag of words learns nothing from fewer
MOST_PAIRS = 20_000  # more adds little; these take seconds


def longer_wins(pairs: Sequence[PreferencePair]) -> Estimate:
    """Share of decided pairs whose longer answer (in characters) won; equal lengths count half.

    Raises UserError if there are none.
    """
    lengths = np.array([len(pair.chosen) - len(pair.rejected) for pair in pairs])
    return _share(np.sign(lengths), pairs)


def bag_of_words(
    train: Sequence[PreferencePair], test: Sequence[PreferencePair]
) -> Estimate | None:
    """Accuracy on `test` of a bag of words fitted on `train`; ties are left out.

    Logistic regression without intercept on tfidf(chosen) - tfidf(rejected), and its negative for
    the other side, over words and bigrams (Chinese: characters). It reads answers without prompts,
    and at most 20,000 training pairs. The same data give the same number. None if `train` has fewer
    than 20 decided pairs, or no words. Raises UserError if `test` has no decided pairs.

    Source: scikit-learn's TfidfVectorizer and LogisticRegression at C = 1.
    """
    from scipy.sparse import csr_matrix, vstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    learnt, judged = ([p for p in pairs if p.preference != 0.5] for pairs in (train, test))
    learnt = learnt[:MOST_PAIRS]
    if len(learnt) < FEWEST_PAIRS or not any(words(p.chosen + p.rejected) for p in learnt):
        return None
    vectors = TfidfVectorizer(
        tokenizer=words,
        token_pattern=None,
        lowercase=False,
        ngram_range=(1, 2),
        max_features=MOST_WORDS,
        sublinear_tf=True,
    )
    vectors.fit([text for pair in learnt for text in (pair.chosen, pair.rejected)])

    def differences(pairs: Sequence[PreferencePair]) -> csr_matrix:
        chosen = vectors.transform([pair.chosen for pair in pairs])
        return chosen - vectors.transform([pair.rejected for pair in pairs])

    ahead = differences(learnt)
    # no intercept: swapping the answers must swap the prediction
    model = LogisticRegression(C=1.0, fit_intercept=False, solver="liblinear", random_state=0)
    model.fit(vstack([ahead, -ahead]), np.repeat([1, 0], len(learnt)))
    return _share(np.sign(model.decision_function(differences(judged))), judged)


def _share(ahead: np.ndarray, pairs: Sequence[PreferencePair]) -> Estimate:
    """Accuracy from signs: 1 if the chosen answer is ranked first, 0 if undecided."""
    return cluster_share((ahead + 1) / 2, [pair.prompt.prompt_id for pair in pairs])
