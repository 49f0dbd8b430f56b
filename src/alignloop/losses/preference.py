"""Losses over pairs: for the reward model, and for DPO, whose policy is an implicit one.

Always `logsigmoid`: the textbook log(sigmoid(x)) is -inf in float32 from about x = -100, and its
gradient NaN.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid

from alignloop.shapes import PerSequence


def ranking_loss(
    chosen_scores: PerSequence,
    rejected_scores: PerSequence,
    *,
    preference: PerSequence | None = None,
    margin: PerSequence | None = None,
) -> PerSequence:
    """Negative log likelihood of the judgement under Bradley-Terry, per pair.

    d = chosen - rejected - margin
    loss = -(p * log sigmoid(d) + (1 - p) * log sigmoid(-d))

    p is `preference`, the probability that chosen is better: 1 by default, 0.5 for a tie. Ties must
    have no margin: it would move the minimum of the loss away from equal scores.

    Shapes: [pairs] everywhere; result [pairs]. Unit: nats.
    Source: Stiennon et al. 2020 (arXiv:2009.01325); soft labels: WebGPT (arXiv:2112.09332);
    margin: Llama 2 (arXiv:2307.09288), equation 2.
    """
    difference = chosen_scores - rejected_scores
    if margin is not None:
        difference = difference - margin
    return _soft_label_loss(difference, 1.0 if preference is None else preference)


def centring_loss(chosen_scores: PerSequence, rejected_scores: PerSequence) -> PerSequence:
    """Pull the mean score of each pair to zero; the ranking loss does not determine it.

    loss = (chosen + rejected)^2

    Shapes: [pairs] twice; result [pairs]. Unit: score squared.
    Source: Eisenstein et al. 2023 (arXiv:2312.09244).
    """
    return (chosen_scores + rejected_scores).square()


def dpo_loss(
    policy_chosen: PerSequence,
    policy_rejected: PerSequence,
    ref_chosen: PerSequence,
    ref_rejected: PerSequence,
    *,
    beta: float,
    label_smoothing: float = 0.0,
    preference: PerSequence | None = None,
) -> PerSequence:
    """The ranking loss with beta * log(policy / reference) as the score, for each pair.

    h = beta * ((policy_chosen - ref_chosen) - (policy_rejected - ref_rejected))
    loss = -(p * log sigmoid(h) + (1 - p) * log sigmoid(-h))
    p = (1 - label_smoothing) * preference + label_smoothing * (1 - preference)

    The inputs are log probabilities of whole responses, summed over response tokens. `preference`
    is the probability that chosen is better, as for `ranking_loss`: 1 by default.

    Shapes: [pairs] everywhere; result [pairs]. Unit: nats.
    Source: Rafailov et al. 2023 (arXiv:2305.18290), equation 7; smoothing: conservative DPO
    (Mitchell 2023).
    """
    difference = (policy_chosen - ref_chosen) - (policy_rejected - ref_rejected)
    p = 1.0 if preference is None else preference
    p = (1 - label_smoothing) * p + label_smoothing * (1 - p)
    return _soft_label_loss(beta * difference, p)


# Both terms: at p = 0.5 the minimum must be at equal scores.
def _soft_label_loss(difference: Tensor, p: Tensor | float) -> Tensor:
    return -(p * logsigmoid(difference) + (1 - p) * logsigmoid(-difference))
