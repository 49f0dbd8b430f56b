"""The input and the type of a DPO objective."""

from collections.abc import Callable
from dataclasses import dataclass

from alignloop.shapes import PerSequence


@dataclass(frozen=True, kw_only=True)
class PairLogprobs:
    """Log probabilities of whole responses in nats, by policy and reference; all [pairs].

    `chosen_tokens` and `rejected_tokens` count the responses' tokens, EOS included; `preference` is
    the probability that chosen is better.
    """

    chosen: PerSequence
    rejected: PerSequence
    ref_chosen: PerSequence
    ref_rejected: PerSequence
    chosen_tokens: PerSequence
    rejected_tokens: PerSequence
    preference: PerSequence

    @property
    def chosen_ratio(self) -> PerSequence:
        """log(policy / reference) of the chosen responses."""
        return self.chosen - self.ref_chosen

    @property
    def rejected_ratio(self) -> PerSequence:
        """log(policy / reference) of the rejected responses."""
        return self.rejected - self.ref_rejected


# The loss of each pair, [pairs].
PreferenceLoss = Callable[[PairLogprobs], PerSequence]
