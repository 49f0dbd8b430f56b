"""Reward model training: the ranking loss on pairs, then the bias and the temperature."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from alignloop.config import ALL_WEIGHTS, LoraConfig, ModelConfig, RewardConfig
from alignloop.data.pairs import (
    PairBatch,
    batches_of_epochs,
    encode_pairs,
    one_pass_batches,
    pairs_that_fit,
)
from alignloop.data.tokenise import (
    Encoded,
    LengthLimit,
    check_tokenizer,
    encode_example,
    encode_fitting,
)
from alignloop.judging.of_run import CLIMBED
from alignloop.losses import centring_loss, ranking_loss
from alignloop.models import RewardScale, context_of, load_tokenizer, save_model
from alignloop.models.roles import dropping, learnt
from alignloop.models.starting import start_reward_model
from alignloop.models.training import (
    Guard,
    above_coin_toss,
    backward_through_scores,
    cosine_schedule,
    descend,
    make_optimizer,
)
from alignloop.records import Demonstration, PreferencePair
from alignloop.reward.batches import all_scores, heard_by, micro_batches, scores_of
from alignloop.reward.labels import PURPOSES, Labels
from alignloop.reward.report_card import fit_scale_temperature, in_words, write_report_card
from alignloop.run import derive_seed
from alignloop.run.files import atomic_folder
from alignloop.run.stage_run import StageRun
from alignloop.run.training_state import TrainingState


def train_reward(
    config: RewardConfig,
    model_config: ModelConfig,
    model_dir: str | Path,
    labels: Labels,
    run: StageRun,
    *,
    lora: LoraConfig = ALL_WEIGHTS,
    demonstrations: Sequence[Demonstration] = (),
) -> Path:
    """Train a reward model on `labels.train` and write its report card; returns its directory.

    loss = mean over pairs of -log sigmoid(r_chosen - r_rejected)
    """
    tokenizer = load_tokenizer(model_dir, model_config)
    check_tokenizer(tokenizer, str(model_dir))
    limit = LengthLimit.of(
        "reward.max_tokens", config.max_tokens, context_of(model_dir), config.too_long
    )
    labels = labels.each(lambda pairs: pairs_that_fit(pairs, tokenizer, limit))
    pairs, calibration = labels.train, labels.calibration
    run.say(f"{run.name}: {labels.in_words(PURPOSES.get(run.name, ''))}")
    labels.refuse_undecided()  # found out before hours of training
    anchors = _anchors(tokenizer, demonstrations, calibration, limit)
    head_seed = derive_seed(run.seed, "head", run.name)
    model = start_reward_model(model_dir, tokenizer, model_config, lora, head_seed)
    optimizer = make_optimizer(model, config)
    batches = batches_of_epochs(
        pairs,
        config.batch_size,
        run.seed,
        num_epochs=config.num_epochs,
        max_steps=config.max_steps,
    )
    schedule = cosine_schedule(len(batches), config.warmup_share)
    state = TrainingState(
        modules={"reward_model": learnt(model)}, optimizers={"reward_model": optimizer}
    )
    guard = Guard(stage=run.name, section="reward", limit=above_coin_toss)
    for step in run.steps(len(batches), state, save_every=config.save_every):
        started = time.perf_counter()
        batch = encode_pairs([pairs[i] for i in batches[step - 1]], tokenizer, config.max_tokens)
        with dropping(model, derive_seed(run.seed, "dropout", run.name, step)):
            metrics = _accumulate(model, batch, tokenizer.pad_token_id, config)
        rate = config.learning_rate * schedule(step)
        norm = descend(optimizer, learning_rate=rate, max_grad_norm=config.max_grad_norm)
        last = step == len(batches)
        metrics |= guard.seen(run.memory, step, loss=metrics["loss"], norm=norm, last=last)
        metrics |= {"gradient_norm": norm, "learning_rate": rate}
        metrics["seconds_per_step"] = time.perf_counter() - started
        run.log(step, metrics, show=("loss", "accuracy", "skipped_steps"))
    run.say(f"{run.name}: bias, temperature and report card")
    with heard_by(lambda text: run.say(f"{run.name}: {text}")):
        scale = _fit_scale(model, tokenizer, anchors, calibration, config)
        card = write_report_card(run.path, model, tokenizer, scale, labels, config, run.seed)
    for line in in_words(card, "for PPO" if run.name == CLIMBED else "to be trusted"):
        run.say(f"{run.name}: {line}")
    target = run.path / "model"
    with atomic_folder(target) as folder:
        save_model(folder, model, tokenizer, scale=scale)
    run.finish(
        {"steps": len(batches), "num_pairs": len(pairs), "accuracy": card["accuracy"]["value"]}
    )
    return target


def _accumulate(
    model: Any, batch: PairBatch, pad_id: int, config: RewardConfig
) -> dict[str, float]:
    """Gradients of the batch's weighted mean loss, however many micro-batches it needs."""
    whole = one_pass_batches(batch, config.micro_batch_tokens)
    if whole is not None:
        return _backward_whole_pairs(model, batch, whole, pad_id, config)
    apart = micro_batches(batch.texts, config.micro_batch_tokens)
    return _backward_apart(model, batch, apart, pad_id, config)


def _backward_apart(
    model: Any, batch: PairBatch, cuts: list[list[int]], pad_id: int, config: RewardConfig
) -> dict[str, float]:
    loss, accuracy = backward_through_scores(
        lambda indices: scores_of(model, batch.texts, indices, pad_id),
        cuts,
        lambda scores: _pair_loss(scores, batch, config),
    )
    return {"loss": loss, "accuracy": accuracy}


def _backward_whole_pairs(
    model: Any, batch: PairBatch, cuts: list[list[int]], pad_id: int, config: RewardConfig
) -> dict[str, float]:
    """One pass over micro-batches that part no pair; each counts by its pairs' weight."""
    total, decided = sum(batch.weight), sum(p != 0.5 for p in batch.preference)
    sums = {"loss": 0.0, "accuracy": 0.0 if decided else 0.5}
    for indices in cuts:
        part = batch.part(indices)
        scores = scores_of(model, part.texts, list(range(len(indices))), pad_id)
        loss, accuracy = _pair_loss(scores, part, config)
        loss = loss * (sum(part.weight) / total)
        loss.backward()
        sums["loss"] += loss.item()
        if decided:
            sums["accuracy"] += accuracy * sum(p != 0.5 for p in part.preference) / decided
    return sums


def _pair_loss(
    scores: torch.Tensor, batch: PairBatch, config: RewardConfig
) -> tuple[torch.Tensor, float]:
    """The weighted mean ranking loss of a batch, and the share of pairs ranked as people did."""
    chosen, rejected = scores[list(batch.chosen)], scores[list(batch.rejected)]
    preference = torch.tensor(batch.preference)
    # a margin on a tie would put its smallest loss away from equal scores
    margin = torch.tensor(batch.margin) * (preference != 0.5) if config.use_margin else None
    losses = ranking_loss(chosen, rejected, preference=preference, margin=margin)
    if config.centring_coef:
        losses = losses + config.centring_coef * centring_loss(chosen, rejected)
    weight = torch.tensor(batch.weight)
    loss = (losses * weight).sum() / weight.sum()
    decided = preference != 0.5
    right = (chosen > rejected)[decided].float().mean()
    return loss, float(right) if bool(decided.any()) else 0.5


def _anchors(
    tokenizer: Any,
    demonstrations: Sequence[Demonstration],
    calibration: Sequence[PreferencePair],
    limit: LengthLimit,
) -> list[Encoded]:
    """The texts that set the reward's zero: demonstrations, or the calibration's rejected answers.

    Encoded before the first step, so that one that is too long is not found after the last.
    """
    texts = [(d.prompt, d.answer) for d in demonstrations[:1000]]
    texts = texts or [(pair.prompt, pair.answers[1]) for pair in calibration]
    _, codes = encode_fitting(
        texts, lambda text: encode_example(tokenizer, *text, limit.tokens), limit
    )
    return codes


def _fit_scale(
    model: Any,
    tokenizer: Any,
    anchors: Sequence[Encoded],
    calibration: Sequence[PreferencePair],
    config: RewardConfig,
) -> RewardScale:
    """Bias so that the anchors score 0, optional unit variance, temperature by likelihood."""
    raw = all_scores(model, anchors, tokenizer.pad_token_id, config.micro_batch_tokens)
    spread = float(raw.std()) if len(raw) > 1 else 1.0
    scale = spread if config.normalise_variance and spread > 1e-6 else 1.0
    fitted = RewardScale(bias=float(raw.mean()), scale=scale)
    return fit_scale_temperature(fitted, model, tokenizer, calibration, config)
