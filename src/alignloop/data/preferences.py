"""From what people judged to what a reward model learns: judgements become preference pairs."""

from collections.abc import Iterable, Sequence
from itertools import combinations

from alignloop.records import Comparison, Judgement, PreferencePair


def pairs_from_judgements(
    comparisons: Iterable[Comparison], judgements: Iterable[Judgement]
) -> list[PreferencePair]:
    """One pair for each judgement of a comparison; "skip" and "both_bad" give none.

    A tie becomes a soft label of 0.5 (WebGPT). Of K > 2 responses the chosen one beats each other
    one with weight 1 / (K - 1), and a tie is one between all, with weight 1 / C(K, 2), so that
    every judgement weighs the same (InstructGPT).
    """
    by_id = {comparison.comparison_id: comparison for comparison in comparisons}
    pairs: list[PreferencePair] = []
    for judgement in judgements:
        comparison = by_id[judgement.comparison_id]
        texts = {response.response_id: response.text for response in comparison.responses}
        if judgement.choice == "tie":
            beaten = list(combinations(texts, 2))
        elif judgement.choice in texts:
            beaten = [(judgement.choice, other) for other in texts if other != judgement.choice]
        else:
            continue
        for better, worse in beaten:
            pairs.append(
                PreferencePair(
                    prompt=comparison.prompt,
                    chosen=texts[better],
                    rejected=texts[worse],
                    preference=0.5 if judgement.choice == "tie" else 1.0,
                    margin=float(judgement.strength),
                    weight=1 / len(beaten),
                    source=judgement.annotator_id,
                    comparison_id=judgement.comparison_id,
                )
            )
    return pairs


def labels_by_comparison(pairs: Sequence[PreferencePair]) -> list[list[str]]:
    """The preferred texts of all pairs that more than one annotator judged, ties left out.

    The item is a pair of responses within a comparison: of K > 2 responses one annotator's choice
    gives several pairs, and those are no agreement with himself.
    """
    found: dict[tuple[str, frozenset[str]], list[str]] = {}
    for pair in pairs:
        if pair.comparison_id and pair.preference != 0.5:
            item = pair.comparison_id, frozenset((pair.chosen, pair.rejected))
            found.setdefault(item, []).append(pair.chosen)
    return [labels for labels in found.values() if len(labels) > 1]
