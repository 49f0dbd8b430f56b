"""Preference pairs as an objective: the common part of reward models and DPO.

A micro-batch reads each text once and never splits a pair, so a gradient takes one pass.
An objective is a function of two numbers per pair, for its chosen and its rejected text.
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
    """A model's numbers for the texts of some pairs, and the human preference; all [pairs].

    `chosen` and `rejected` are raw scores, or log probabilities of whole responses in nats;
    `preference` is the probability that chosen is better; `rows` are the pairs' indices.
    """

    chosen: PerSequence
    rejected: PerSequence
    preference: PerSequence
    margin: PerSequence
    rows: Tensor


@dataclass(frozen=True, kw_only=True)
class PairLosses:
    """A loss per pair in nats, with gradient, and metrics per pair without; all [pairs].

    `right` is 1 if the pair is ranked as people did, 1/2 if the scores are equal, otherwise 0; ties
    are left out of its mean, the accuracy.
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

    def loss(micro_batch: list[list[int]]) -> tuple[Tensor, dict[str, float]]:
        members = sorted(row for group in micro_batch for row in group)
        part = whole.take(members, groups=micro_batch)
        indices = torch.tensor([rows[row] for row in members])
        return means(part, scores_of(part, read(part.texts), indices), loss_of, whole)

    tokens = sum(len(text.input_ids) for text in whole.texts)
    return Step(micro_batches=whole.cuts(micro_batch_tokens), loss=loss, tokens=tokens)


def scores_of(store: PairStore, found: PerSequence, rows: Tensor) -> PairScores:
    """The scores of a store's pairs, from one number per text, [texts]."""
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
    """A part's share of the whole step's mean loss and metrics; the parts add up to the means.

    Losses are weighted by pair; the accuracy is over decided pairs, 0.5 if there are none.
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
    # divided by the step's count, not the part's: splitting must not change the mean
    accuracy *= part.decided / total if total else share
    return loss, {"loss": loss.item(), "accuracy": accuracy, **found}
