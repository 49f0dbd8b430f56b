"""DPO: the ranking loss, with beta * log(policy / reference) as the score."""

from alignloop.config import DpoObjective
from alignloop.dpo.objectives.base import PairLogprobs, PreferenceLoss
from alignloop.losses import dpo_loss
from alignloop.shapes import PerSequence


def dpo(config: DpoObjective) -> PreferenceLoss:
    """Rafailov et al. 2023 (arXiv:2305.18290); smoothing: conservative DPO (Mitchell 2023)."""

    def loss(pairs: PairLogprobs) -> PerSequence:
        return dpo_loss(
            pairs.chosen,
            pairs.rejected,
            pairs.ref_chosen,
            pairs.ref_rejected,
            beta=config.beta,
            label_smoothing=config.label_smoothing,
            preference=pairs.preference,
        )

    return loss
