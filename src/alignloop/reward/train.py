"""Reward model training: the ranking loss on pairs, then bias and temperature."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from alignloop.config import ALL_WEIGHTS, LoraConfig, ModelConfig, RewardConfig
from alignloop.data.pairs import PairStore, TextCodes, TextKey, batches_of_epochs
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
from alignloop.models.initialise import init_reward_model
from alignloop.models.padding import pad_of
from alignloop.records import Demonstration, PreferencePair
from alignloop.reward.batches import all_scores, heard_by, scores_of
from alignloop.reward.labels import PURPOSES, Labels
from alignloop.reward.report_card import fit_scale_temperature, in_words, write_report_card
from alignloop.run import derive_seed
from alignloop.run.stage_run import StageRun
from alignloop.training import Objective, Step, fit
from alignloop.training.guard import above_coin_toss
from alignloop.training.pairs import Loss, PairLosses, PairScores, pair_step


def train_reward(
    config: RewardConfig,
    model_config: ModelConfig,
    model_dir: str | Path,
    labels: Labels,
    run: StageRun,
    *,
    lora: LoraConfig = ALL_WEIGHTS,
    demonstrations: Sequence[Demonstration] = (),
    seen: dict[TextKey, Encoded] | None = None,
) -> Path:
    """Train a reward model on `labels.train` and write its report card; returns its directory.

    loss = mean over pairs of -log sigmoid(r_chosen - r_rejected)

    `seen` caches texts already encoded for another model of the same base; new ones are added.
    """
    tokenizer = load_tokenizer(model_dir, model_config)
    check_tokenizer(tokenizer, str(model_dir))
    limit = LengthLimit.of(
        "reward.max_tokens", config.max_tokens, context_of(model_dir), config.too_long
    )
    codes = TextCodes(tokenizer=tokenizer, limit=limit, seen={} if seen is None else seen)
    labels = labels.each(lambda pairs: list(PairStore.of(pairs, codes).pairs))
    run.say(f"{run.name}: {labels.in_words(PURPOSES.get(run.name, ''))}")
    labels.refuse_undecided()  # before hours of training, not after
    anchors = _anchors(tokenizer, demonstrations, labels.calibration, limit)
    head_seed = derive_seed(run.seed, "head", run.name)
    model = init_reward_model(model_dir, tokenizer, model_config, lora, head_seed)
    store = PairStore.of(labels.train, codes)
    objective = ranking(config, model, store, tokenizer.pad_token_id, run.seed)
    fit(objective, config, run)
    run.say(f"{run.name}: bias, temperature and report card")
    with heard_by(lambda text: run.say(f"{run.name}: {text}")):
        scale = _fit_scale(model, codes, anchors, labels.calibration, config)
        card = write_report_card(run.path, model, codes, scale, labels, config, run.seed)
    for line in in_words(card, "for PPO" if run.name == CLIMBED else "to be trusted"):
        run.say(f"{run.name}: {line}")
    target = run.write_folder(
        run.path / "model", lambda folder: save_model(folder, model, tokenizer, scale=scale)
    )
    run.finish(
        {
            "steps": len(objective.batches),
            "num_pairs": len(store.pairs),
            "accuracy": card["accuracy"]["value"],
        }
    )
    return target


def ranking(
    config: RewardConfig, model: Any, store: PairStore, pad_id: int, seed: int
) -> Objective:
    """The ranking loss on the scores of whole texts."""

    def step(rows: Sequence[int]) -> Step:
        def read(texts: Sequence[Encoded]) -> torch.Tensor:
            return scores_of(model, texts, range(len(texts)), pad_id)

        return pair_step(store, rows, read, ranking_losses(config), config.micro_batch_tokens)

    return Objective(
        role="reward_model",
        section="reward",
        model=model,
        batches=batches_of_epochs(
            store.pairs,
            config.batch_size,
            seed,
            num_epochs=config.num_epochs,
            max_steps=config.max_steps,
        ),
        step=step,
        limit=above_coin_toss,
    )


def ranking_losses(config: RewardConfig) -> Loss:
    """The ranking loss of each pair, with margin and centring if set."""

    def losses(scores: PairScores) -> PairLosses:
        chosen, rejected = scores.chosen, scores.rejected
        # a margin on a tie would move its smallest loss away from equal scores
        margin = scores.margin * (scores.preference != 0.5) if config.use_margin else None
        loss = ranking_loss(chosen, rejected, preference=scores.preference, margin=margin)
        if config.centring_coef:
            loss = loss + config.centring_coef * centring_loss(chosen, rejected)
        return PairLosses(loss=loss, right=(chosen > rejected).float(), metrics={})

    return losses


def _anchors(
    tokenizer: Any,
    demonstrations: Sequence[Demonstration],
    calibration: Sequence[PreferencePair],
    limit: LengthLimit,
) -> list[Encoded]:
    """Texts that set the reward's zero: demonstrations, or the calibration's rejected answers.

    Encoded before the first step, so a text that is too long fails early.
    """
    # 1000 put the standard error of the zero at 3 % of the spread
    texts = [(d.prompt, d.answer) for d in demonstrations[:1000]]
    texts = texts or [(pair.prompt, pair.answers[1]) for pair in calibration]
    _, codes = encode_fitting(
        texts, lambda text: encode_example(tokenizer, *text, limit.tokens), limit
    )
    return codes


def _fit_scale(
    model: Any,
    codes: TextCodes,
    anchors: Sequence[Encoded],
    calibration: Sequence[PreferencePair],
    config: RewardConfig,
) -> RewardScale:
    """Bias so that the anchors score 0, optional unit variance, temperature by likelihood."""
    raw = all_scores(model, anchors, pad_of(codes.tokenizer), config.micro_batch_tokens)
    spread = float(raw.std()) if len(raw) > 1 else 1.0
    # equal scores have no spread to divide by
    scale = spread if config.normalise_variance and spread > 1e-6 else 1.0
    fitted = RewardScale(bias=float(raw.mean()), scale=scale)
    return fit_scale_temperature(fitted, model, codes, calibration, config)
