"""Reward models with one head for each criterion, trained on people's scores.

The scores are normalised, and each head predicts its criterion's. The reward is their weighted sum,
itself a linear head: the model is saved with that one, and every reader of reward models works. The
heads of the criteria lie beside it (`models.criteria_head`). Source: the multi-objective regression
of HelpSteer2 (arXiv:2406.08673) and ArmoRM (arXiv:2406.12845).
"""

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from alignloop.config import RewardConfig
from alignloop.data.pairs import PairStore, batches_of_epochs
from alignloop.data.tokenise import Encoded, LengthLimit, encode_example, encode_fitting
from alignloop.errors import UserError
from alignloop.models.criteria_head import CriteriaFacts
from alignloop.records import AttributeScores
from alignloop.reward.batches import micro_batches, scores_of
from alignloop.reward.labels import share_out
from alignloop.run import derive_seed
from alignloop.run.stage_run import StageRun
from alignloop.stats.correlation import cluster_correlation
from alignloop.training import Objective, Step
from alignloop.training.guard import above_coin_toss
from alignloop.training.pairs import Loss, pair_step


@dataclass(frozen=True, kw_only=True)
class ScoredTexts:
    """Texts with their scores [texts, K] on each criterion, NaN where nobody gave one."""

    texts: Sequence[Encoded]
    scores: Tensor
    prompt_ids: Sequence[str]

    @classmethod
    def of(
        cls,
        rows: Sequence[AttributeScores],
        names: Sequence[str],
        tokenizer: Any,
        limit: LengthLimit,
    ) -> "ScoredTexts":
        """The rows that have one of these criteria and fit; raises UserError for those too long."""
        known = [row for row in rows if any(name in row.scores for name in names)]
        kept, codes = encode_fitting(
            known,
            lambda row: encode_example(tokenizer, row.prompt, row.answer, limit.tokens),
            limit,
        )
        scores = [[row.scores.get(name, math.nan) for name in names] for row in kept]
        return cls(
            texts=codes,
            scores=torch.tensor(scores).reshape(len(kept), len(names)),
            prompt_ids=[row.prompt.prompt_id for row in kept],
        )


@dataclass(frozen=True, kw_only=True)
class ScoreLabels:
    """Answers with scores by criterion to learn from, and ones of prompts never seen."""

    train: Sequence[AttributeScores]
    test: Sequence[AttributeScores]


def share_out_scores(
    rows: Sequence[AttributeScores], config: RewardConfig, seed: int, wanted: Collection[str]
) -> dict[str, ScoreLabels]:
    """The scores of each reward model, on the same sides as the pairs of their prompts."""
    found = share_out(cast("Sequence[Any]", rows), config, seed, wanted)
    return {
        name: ScoreLabels(
            train=cast("Sequence[Any]", one.train), test=cast("Sequence[Any]", one.test)
        )
        for name, one in found.items()
    }


@dataclass(frozen=True, kw_only=True)
class LearntHeads:
    """The heads [K, hidden] after training, their facts, and their part of the report card."""

    facts: CriteriaFacts
    weights: Tensor
    card: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class CriteriaHeads:
    """What one model learns of the criteria, from its texts to its heads."""

    config: RewardConfig
    facts: CriteriaFacts
    train: ScoredTexts
    test: ScoredTexts

    @classmethod
    def of(
        cls, config: RewardConfig, labels: ScoreLabels, tokenizer: Any, limit: LengthLimit
    ) -> "CriteriaHeads":
        """Encode the answers; raises UserError if one is too long or nothing can be learnt."""
        train, test = (
            ScoredTexts.of(rows, config.criteria, tokenizer, limit)
            for rows in (labels.train, labels.test)
        )
        return cls(config=config, facts=facts_of(config, train), train=train, test=test)

    def objective(
        self, model: Any, store: PairStore, ranking: Loss, pad_id: int, run: StageRun
    ) -> Objective:
        """Give a new model its heads, and what they learn."""
        widen(model, self.facts, derive_seed(run.seed, "criteria heads", run.name))
        return criteria_objective(
            self.config, model, store, self.train, self.facts, ranking, pad_id, run.seed
        )

    def finish(self, model: Any, pad_id: int, seed: int) -> LearntHeads:
        """Measure the heads, then fold them into the head of their weighted sum."""
        budget = self.config.micro_batch_tokens
        card = criteria_card(model, self.test, self.facts, pad_id, budget, seed)
        return LearntHeads(facts=self.facts, weights=fold(model, self.facts), card=card)


def facts_of(config: RewardConfig, train: ScoredTexts) -> CriteriaFacts:
    """Names and weights from the settings, mean and spread from the training scores.

    Raises UserError if a criterion has no two different scores.
    """
    names, scores = config.criteria, train.scores.numpy()
    for name, column in zip(names, scores.T, strict=True):
        if len(np.unique(column[~np.isnan(column)])) < 2:
            raise UserError(
                f"{len(train.texts)} training rows have no two different scores for {name!r}",
                where="reward.criteria",
                fix="leave it out, or add rows to reward.attributes",
            )
    equal = (1 / len(names),) * len(names)
    return CriteriaFacts(
        names=names,
        weights=config.criteria_weights or equal,
        mean=tuple(map(float, np.nanmean(scores, axis=0))),
        spread=tuple(map(float, np.nanstd(scores, axis=0))),
    )


def widen(model: Any, facts: CriteriaFacts, seed: int) -> None:
    """Replace a new model's head by one for each criterion, drawn like it."""
    from alignloop.models.loading import draw_head

    old = model.score
    like = {"dtype": old.weight.dtype, "device": old.weight.device}
    head = nn.Linear(old.in_features, len(facts.names), bias=False, **like)
    with torch.no_grad():
        draw_head(head, torch.Generator().manual_seed(seed % 2**63))
    model.score = head


def fold(model: Any, facts: CriteriaFacts) -> Tensor:
    """Replace the heads by that of their weighted sum; returns the heads [K, hidden]."""
    heads = model.score.weight.detach().clone()
    head = nn.Linear(heads.shape[1], 1, bias=False, dtype=heads.dtype, device=heads.device)
    with torch.no_grad():
        head.weight.copy_(facts.folded(heads))
    model.score = head
    return heads


def regression_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum of squared errors of the outputs [texts, K] where there is a target (not NaN)."""
    known = ~targets.isnan()
    return ((outputs - targets.nan_to_num())[known] ** 2).sum()


def criteria_objective(
    config: RewardConfig,
    model: Any,
    store: PairStore,
    scored: ScoredTexts,
    facts: CriteriaFacts,
    ranking: Loss,
    pad_id: int,
    seed: int,
) -> Objective:
    """The mean squared error of normalised scores, beside the ranking loss unless that is off.

    loss = ranking loss of the weighted sums + coef * mean over known scores of (output - target)^2

    Rows of a step are pairs from 0, and scored texts from the number of pairs.
    """
    num_pairs = len(store.pairs) if config.pair_loss else 0
    weights = torch.tensor(facts.weights)
    targets = (scored.scores - torch.tensor(facts.mean)) / torch.tensor(facts.spread)

    def total(texts: Sequence[Encoded]) -> Tensor:
        return scores_of(model, texts, range(len(texts)), pad_id).reshape(len(texts), -1) @ weights

    def step(rows: Sequence[int]) -> Step:
        pairs = [row for row in rows if row < num_pairs]
        mine = [row - num_pairs for row in rows if row >= num_pairs]
        known = int((~targets[mine].isnan()).sum())
        budget = config.micro_batch_tokens
        of_pairs = pair_step(store, pairs, total, ranking, budget) if pairs else None
        texts = [scored.texts[row] for row in mine]
        of_texts = [[mine[i] for i in part] for part in micro_batches(texts, budget)]

        def loss(micro_batch: list[Any]) -> tuple[Tensor, dict[str, float]]:
            if isinstance(micro_batch[0], list):  # of a pair's rows
                assert of_pairs is not None
                return of_pairs.loss(micro_batch)
            outputs = scores_of(model, scored.texts, micro_batch, pad_id)
            share = regression_error(outputs.reshape(len(micro_batch), -1), targets[micro_batch])
            error = share / known
            value = config.criteria_coef * error
            return value, {"loss": value.item(), "criteria_error": error.item()}

        return Step(
            micro_batches=[*(of_pairs.micro_batches if of_pairs else []), *of_texts],
            loss=loss,
            tokens=sum(len(text.input_ids) for text in texts)
            + (of_pairs.tokens if of_pairs else 0),
        )

    return Objective(
        role="reward_model",
        section="reward",
        model=model,
        batches=_batches(config, store, len(scored.texts), num_pairs, seed),
        step=step,
        limit=above_coin_toss,
        shown=("loss", "accuracy", "criteria_error", "skipped_steps"),
    )


def _batches(
    config: RewardConfig, store: PairStore, num_texts: int, num_pairs: int, seed: int
) -> list[list[int]]:
    """Rows of each step: batches of pairs, and the texts of all epochs dealt out to them evenly."""
    epochs = math.ceil(config.num_epochs)
    order: list[int] = []
    for epoch in range(epochs):
        part = list(range(num_pairs, num_pairs + num_texts))
        random.Random(f"criteria/{seed}/{epoch}").shuffle(part)
        order += part
    order = order[: max(1, round(len(order) * config.num_epochs / epochs))]
    if not num_pairs:
        size = config.batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        return batches[: config.max_steps]
    pairs = batches_of_epochs(
        store.pairs, config.batch_size, seed, num_epochs=config.num_epochs, max_steps=None
    )
    cuts = [round(n * len(order) / len(pairs)) for n in range(len(pairs) + 1)]
    found = [
        [*batch, *order[low:high]]
        for batch, low, high in zip(pairs, cuts[:-1], cuts[1:], strict=True)
    ]
    return found[: config.max_steps]


@torch.no_grad()
def criteria_card(
    model: Any, scored: ScoredTexts, facts: CriteriaFacts, pad_id: int, budget: int, seed: int
) -> dict[str, Any]:
    """Each criterion's correlation with people's held-out scores, before the heads are folded.

    By criterion: `correlation` (Pearson, interval by resampling prompts; None if undefined), the
    number of answers `num`, and its `weight` in the reward.
    """
    outputs = torch.zeros(len(scored.texts), len(facts.names))
    for rows in micro_batches(scored.texts, budget):
        outputs[rows] = scores_of(model, scored.texts, rows, pad_id).reshape(len(rows), -1)
    card: dict[str, Any] = {}
    for number, name in enumerate(facts.names):
        given = scored.scores[:, number]
        known = [row for row in range(len(given)) if not math.isnan(given[row])]
        found = None
        if known:
            prompts = [scored.prompt_ids[row] for row in known]
            values = outputs[known, number].numpy()
            found = cluster_correlation(values, given[known].numpy(), prompts, seed=seed)
        plain = None if found is None else found.plain()
        card[name] = {"correlation": plain, "num": len(known), "weight": facts.weights[number]}
    return card
