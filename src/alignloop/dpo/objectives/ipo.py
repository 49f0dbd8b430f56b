"""IPO: a squared error, so pairs that are already separated pull no further."""

from alignloop.config.objectives import IpoObjective
from alignloop.dpo.objectives.base import PairLogprobs, PreferenceLoss
from alignloop.shapes import PerSequence


def ipo(config: IpoObjective) -> PreferenceLoss:
    """Regress the difference of the log ratios to 1 / (2 beta).

    h = (chosen - ref_chosen) - (rejected - ref_rejected)
    loss = p * (h - 1 / (2 beta))^2 + (1 - p) * (h + 1 / (2 beta))^2

    p is the preference, 1 if chosen is certainly better. Unit: nats squared.
    Source: Azar et al. 2023 (arXiv:2310.12036), equation 17, with its tau as beta.
    """
    target = 1 / (2 * config.beta)

    def loss(pairs: PairLogprobs) -> PerSequence:
        h, p = pairs.chosen_ratio - pairs.rejected_ratio, pairs.preference
        return p * (h - target).square() + (1 - p) * (h + target).square()

    return loss
