"""From human judgements to training data: judgements become preference pairs."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from alignloop.records import Comparison, Judgement, PreferencePair, Prompt


def pairs_from_judgements(
    comparisons: Iterable[Comparison], judgements: Iterable[Judgement]
) -> list[PreferencePair]:
    """The pairs of `pairs_of_choice` for each judgement of a comparison."""
    by_id = {comparison.comparison_id: comparison for comparison in comparisons}
    return [
        pair
        for judgement in judgements
        for comparison in [by_id[judgement.comparison_id]]
        for pair in pairs_of_choice(
            comparison.prompt,
            {response.response_id: response.text for response in comparison.responses},
            judgement.choice,
            margin=float(judgement.strength),
            source=judgement.annotator_id,
            comparison_id=judgement.comparison_id,
        )
    ]


def pairs_of_choice(
    prompt: Prompt,
    texts: Mapping[str, str],
    choice: str,
    *,
    margin: float,
    source: str,
    comparison_id: str,
) -> list[PreferencePair]:
    """The pairs of one judgement; "skip" and "both_bad" give none.

    A tie becomes a soft label of 0.5 (WebGPT). Among K > 2 answers the chosen one beats each other
    one with weight 1 / (K - 1), and a tie is one between all pairs, with weight 1 / C(K, 2), so
    that every judgement has the same total weight (InstructGPT).
    """
    if choice == "tie":
        beaten = list(combinations(texts, 2))
    elif choice in texts:
        beaten = [(choice, other) for other in texts if other != choice]
    else:
        return []
    return [
        PreferencePair(
            prompt=prompt,
            chosen=texts[better],
            rejected=texts[worse],
            preference=0.5 if choice == "tie" else 1.0,
            margin=margin,
            weight=1 / len(beaten),
            source=source,
            comparison_id=comparison_id,
        )
        for better, worse in beaten
    ]


def labels_by_comparison(pairs: Sequence[PreferencePair]) -> list[list[str]]:
    """The preferred texts of all pairs that more than one annotator judged, without ties.

    An item is a pair of responses within a comparison: with K > 2 responses one annotator's choice
    gives several pairs, and those do not show agreement between two people.
    """
    found: dict[tuple[str, frozenset[str]], list[str]] = {}
    for pair in pairs:
        # a tie prefers no text, so it cannot agree with one
        if pair.comparison_id and pair.preference != 0.5:
            item = pair.comparison_id, frozenset((pair.chosen, pair.rejected))
            found.setdefault(item, []).append(pair.chosen)
    return [labels for labels in found.values() if len(labels) > 1]
