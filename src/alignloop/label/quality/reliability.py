"""How far each annotator's choices can be relied on, and what their votes weigh."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from alignloop.errors import UserError
from alignloop.label.labels.project_labels import ProjectLabels
from alignloop.label.quality.annotators import shared_labels
from alignloop.stats import determined

Method = Literal["none", "gold", "dawid-skene"]
METHODS: tuple[Method, ...] = get_args(Method)
PRIOR_CASES = 2.0  # how many further cases the share of all annotators stands for


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """One annotator's choices between answers of which one is known, or held, to be right.

    `right` of `cases` were right: gold questions, or expected numbers by Dawid-Skene. `share` is
    the estimate from them and from what all annotators together got right.
    """

    right: float
    cases: float
    share: float

    def log_odds(self, num_answers: int = 2) -> float:
        """What a choice of this annotator says for the chosen answer against another, in nats.

        log(P(chooses it | it is right) / P(chooses it | the other is right))
        = log(share (num_answers - 1) / (1 - share)); the wrong answers are equally likely
        """
        return math.log(self.share * (num_answers - 1) / (1 - self.share))


def reliabilities(labels: ProjectLabels, method: Method) -> dict[str, Reliability]:
    """Each annotator's reliability by gold questions or by Dawid-Skene; {} for "none".

    share = (right + 2 m) / (cases + 2), m = (sum right + 1) / (sum cases + 2) over all annotators:
    who has few cases is taken for average, and nobody for infallible. Ties, both bad and skips say
    nothing between two answers and are no cases, nor are labels of people whom Dawid-Skene cannot
    judge. `labels` must contain the gold questions.

    Raises UserError if there is nothing to estimate it from.
    """
    if method == "none":
        return {}
    cases = _gold_cases(labels) if method == "gold" else _dawid_skene_cases(labels)
    if not cases:
        raise UserError(_NOTHING[method], fix=_FIXES[method])
    right, count = (sum(one[part] for one in cases.values()) for part in (0, 1))
    mean = (right + 1) / (count + 2)
    people = sorted({judged.annotator for judged in labels.judgements})
    return {name: _reliability(*cases.get(name, (0.0, 0.0)), mean) for name in people}


_NOTHING: Mapping[Method, str] = {
    "gold": "no gold question has been answered, so votes cannot be weighted by them",
    "dawid-skene": "too few items were judged by the same people for Dawid-Skene to weight votes",
}
_FIXES: Mapping[Method, str] = {
    "gold": "import gold questions, or choose other weights",
    "dawid-skene": "give five items or more to the same three annotators, or choose other weights",
}


def _reliability(right: float, cases: float, mean: float) -> Reliability:
    share = (right + PRIOR_CASES * mean) / (cases + PRIOR_CASES)
    return Reliability(right=right, cases=cases, share=share)


def _gold_cases(labels: ProjectLabels) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for judged in labels.judgements:
        item = labels.items[judged.item_id]
        if item.gold in item.in_content_order and judged.answer in item.in_content_order:
            right, cases = found.get(judged.annotator, (0.0, 0.0))
            found[judged.annotator] = right + (judged.answer == item.gold), cases + 1
    return found


def _dawid_skene_cases(labels: ProjectLabels) -> dict[str, tuple[float, float]]:
    fitted = shared_labels(labels)
    if fitted is None:
        return {}
    answers = range(fitted.num_answers)
    known = determined(fitted.responses, fitted.model.posteriors.shape[1])
    found: dict[str, tuple[float, float]] = {}
    for name, reported in zip(fitted.model.annotators, fitted.model.reported, strict=True):
        if name not in known:
            continue
        right = sum(float(reported[one, one]) for one in answers)
        cases = sum(float(reported[one, other]) for one in answers for other in answers)
        found[str(name)] = right, cases
    return found
