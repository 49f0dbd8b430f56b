"""Preference pairs as an objective: what reward models and DPO have in common.

A text is read once in a micro-batch, and no micro-batch parts a pair, so that a gradient takes one
pass. An objective is a function of two numbers per pair, those of its chosen and rejected text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alignloop.data.pairs import PairStore
from alignloop.data.tokenise import Encoded
from alignloop.shapes import PerSequence
from alignloop.training.loop import Step


@dataclass(frozen=True, kw_only=True)
class PairScores:
    """What a model says of some pairs' texts, and what people said; all [pairs].

    `chosen` and `rejected` are raw scores, or log probabilities of whole responses in nats;
    `preference` is the probability that chosen is better; `rows` are the pairs' places.
    """

    chosen: PerSequence
    rejected: PerSequence
    preference: PerSequence
    margin: PerSequence
    rows: Tensor


@dataclass(frozen=True, kw_only=True)
class PairLosses:
    """A loss per pair in nats, with gradient, and metrics per pair without; all [pairs].

    `right` is 1 where a pair is ranked as people did, 1/2 where it is not ranked, 0 elsewhere; ties
    do not count in its mean, the accuracy.
    """

    loss: PerSequence
    right: PerSequence
    metrics: dict[str, PerSequence]


Read = Callable[[Sequence[Encoded]], PerSequence]  # one number per text, in one forward pass
Loss = Callable[[PairScores], PairLosses]


def pair_step(
    store: PairStore, rows: Sequence[int], read: Read, loss_of: Loss, micro_batch_tokens: int
) -> Step:
    """An optimiser step on some pairs: the weighted mean of their losses."""
    whole = store.take(rows)

    def loss(cut: list[list[int]]) -> tuple[Tensor, dict[str, float]]:
        kept = sorted(row for group in cut for row in group)
        part = whole.take(kept, groups=cut)
        places = torch.tensor([rows[row] for row in kept])
        return means(part, scores_of(part, read(part.texts), places), loss_of, whole)

    tokens = sum(len(text.input_ids) for text in whole.texts)
    return Step(cuts=whole.cuts(micro_batch_tokens), loss=loss, tokens=tokens)


def scores_of(store: PairStore, found: PerSequence, rows: Tensor) -> PairScores:
    """The pairs of a store by what was found of its texts, [texts]."""
    return PairScores(
        chosen=found[list(store.chosen)],
        rejected=found[list(store.rejected)],
        preference=torch.tensor([pair.preference for pair in store.pairs]),
        margin=torch.tensor([pair.margin for pair in store.pairs]),
        rows=rows,
    )


def means(
    part: PairStore, scores: PairScores, loss_of: Loss, whole: PairStore
) -> tuple[Tensor, dict[str, float]]:
    """A part's share of the whole's mean loss and metrics, such that all parts' add up to these.

    A loss counts by its pair's weight, the accuracy over decided pairs, of which none make 0.5.
    """
    losses = loss_of(scores)
    weight = torch.tensor(part.weight)
    loss = (losses.loss * weight).sum() / weight.sum()
    loss = loss * (sum(part.weight) / sum(whole.weight))
    decided, share = scores.preference != 0.5, len(part.pairs) / len(whole.pairs)
    right = losses.right[decided]
    accuracy = float(right.mean()) if len(right) else 0.5
    found = {name: float(value.mean()) * share for name, value in losses.metrics.items()}
    total = whole.decided
    accuracy *= part.decided / total if total else share
    return loss, {"loss": loss.item(), "accuracy": accuracy, **found}
