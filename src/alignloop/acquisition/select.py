"""Which comparisons to label. Pure: scores in, choices with reasons out."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, pvariance
from typing import Any, Literal, get_args

from alignloop.acquisition.candidates import Candidate
from alignloop.errors import UserError

How = Literal["random", "uncertain", "ensemble", "coverage"]
HOWS: tuple[How, ...] = get_args(How)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A comparison to label, why, and the numbers behind it."""

    candidate: Candidate
    why: How
    detail: Mapping[str, Any]


def choose(
    candidates: Sequence[Candidate],
    how: How,
    *,
    count: int | None = None,
    per_prompt: int = 1,
    seed: int = 0,
    held: Mapping[str, int] | None = None,
) -> list[Chosen]:
    """The `count` best candidates (None: all), at most `per_prompt` per prompt, best first.

    random     by a hash of (seed, comparison)
    uncertain  by |P - 1/2|, smallest first; P = sigmoid(score_a - score_b) of the reward model
    ensemble   by the variance of P over several reward models, largest first
    coverage   in turn from the rarest category and language; `held` has the project's counts

    For K answers, the mean over their pairs. Ties are broken by the hash. Raises UserError if
    reward models are missing.
    """
    _check_scores(candidates, how)
    rank: dict[How, Callable[[Candidate], tuple[float, dict[str, Any]]]] = {
        "random": lambda _: (0.0, {"seed": seed}),
        "uncertain": _uncertainty,
        "ensemble": _disagreement,
        "coverage": lambda one: (0.0, {"slice": slice_of(one)}),
    }
    weighed = [(*rank[how](one), _hash(seed, one), one) for one in candidates]
    weighed.sort(key=lambda row: (row[0], row[2]))
    if how == "coverage":
        weighed = _in_turn(weighed, held or {})
    found: list[Chosen] = []
    taken: Counter[str] = Counter()
    for _, detail, _, one in weighed:
        if len(found) == count:
            break
        if taken[one.prompt.prompt_id] < per_prompt:
            taken[one.prompt.prompt_id] += 1
            found.append(Chosen(candidate=one, why=how, detail={**detail, "place": len(found) + 1}))
    return found


By = Literal["uncertain", "ensemble", "length"]


def worth(one: Candidate, by: By) -> tuple[float, dict[str, Any]]:
    """How much is learned from labelling a comparison (more is better), and the numbers behind it.

    uncertain  -mean |P - 1/2| of the first reward model
    ensemble   the mean variance of P over several reward models
    length     how sure the first model is that the longer answer is better, times how much longer
               it is: mean of max(0, 2 P(longer) - 1) (1 - shorter / longer); a probe of length bias
    """
    if by == "length":
        return _length_probe(one)
    cost, detail = _uncertainty(one) if by == "uncertain" else _disagreement(one)
    return -cost, detail


def _length_probe(one: Candidate) -> tuple[float, dict[str, Any]]:
    (name, scores), *_ = one.scores.items()
    found: list[float] = []
    for first, second in _couples(one):
        longer, shorter = sorted((first, second), key=lambda n: -len(one.answers[n].text))
        sizes = len(one.answers[shorter].text), max(1, len(one.answers[longer].text))
        sure = max(0.0, 2 * probability(scores, longer, shorter) - 1)
        found.append(sure * (1 - sizes[0] / sizes[1]))
    probe = fmean(found)
    return probe, {"reward_model": name, "scores": _rounded(scores), "probe": round(probe, 6)}


_Weighed = tuple[float, dict[str, Any], float, Candidate]


def probability(scores: Sequence[float], first: int, second: int) -> float:
    """P(first is better than second) = sigmoid(score_first - score_second)."""
    # bounded: exp overflows above 709
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, scores[first] - scores[second]))))


def slice_of(candidate: Candidate) -> str:
    """Category and language: "howto/en"."""
    return f"{candidate.prompt.category}/{candidate.prompt.language}"


def _uncertainty(one: Candidate) -> tuple[float, dict[str, Any]]:
    (name, scores), *_ = one.scores.items()
    chances = [probability(scores, a, b) for a, b in _couples(one)]
    distance = fmean(abs(chance - 0.5) for chance in chances)
    detail = {"reward_model": name, "scores": _rounded(scores), "probability": _rounded(chances)}
    return distance, {**detail, "distance": round(distance, 6)}


def _disagreement(one: Candidate) -> tuple[float, dict[str, Any]]:
    by_model = {
        name: [probability(scores, a, b) for a, b in _couples(one)]
        for name, scores in one.scores.items()
    }
    variance = fmean(pvariance(chances) for chances in zip(*by_model.values(), strict=True))
    probabilities = {name: _rounded(chances) for name, chances in by_model.items()}
    return -variance, {"probability": probabilities, "variance": round(variance, 6)}


def _couples(one: Candidate) -> list[tuple[int, int]]:
    return list(combinations(range(len(one.answers)), 2))


def _rounded(numbers: Sequence[float]) -> list[float]:
    return [round(number, 6) for number in numbers]


def _in_turn(weighed: Sequence[_Weighed], held: Mapping[str, int]) -> list[_Weighed]:
    """Repeatedly take one from the slice with the fewest so far; ties by name."""
    waiting: dict[str, list[_Weighed]] = {}
    for row in weighed:
        waiting.setdefault(slice_of(row[3]), []).append(row)
    have = Counter({name: held.get(name, 0) for name in waiting})
    order: list[_Weighed] = []
    while waiting:
        name = min(waiting, key=lambda one: (have[one], one))
        row = waiting[name].pop(0)
        order.append((row[0], {**row[1], "held": have[name]}, row[2], row[3]))
        have[name] += 1
        if not waiting[name]:
            del waiting[name]
    return order


def _hash(seed: int, one: Candidate) -> float:
    text = json.dumps([seed, one.comparison.comparison_id], ensure_ascii=False)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _check_scores(candidates: Sequence[Candidate], how: How) -> None:
    needed = {"uncertain": 1, "ensemble": 2}.get(how, 0)
    if any(len(one.scores) < needed for one in candidates):
        raise UserError(
            f"choosing by {how!r} needs {'a reward model' if needed == 1 else 'two reward models'}",
            where="--choose",
            fix="add --reward-model DIR" + " at least twice" * (needed > 1),
        )
