"""The reward model's report card: is it good enough for PPO to optimise?"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from alignloop.config import RewardConfig
from alignloop.data.pairs import PairStore, TextCodes
from alignloop.data.preferences import labels_by_comparison
from alignloop.data.splits import SplitByPrompt
from alignloop.models import RewardScale
from alignloop.models.padding import pad_of
from alignloop.records import PreferencePair
from alignloop.reward.baselines import bag_of_words, longer_wins
from alignloop.reward.batches import all_scores
from alignloop.reward.labels import Labels
from alignloop.run.files import atomic_write
from alignloop.run.seeds import derive_seed
from alignloop.stats.agreement import accuracy_ceiling, agreement_per_label, raw_agreement
from alignloop.stats.calibration import (
    brier,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability_bins,
    spearman_length,
    temperature_note,
)
from alignloop.stats.intervals import cluster_share

# In accuracy, accuracy and expected calibration error: the bars of `_verdict`.
CLOSE_TO_CEILING, ABOVE_LENGTH, WELL_CALIBRATED = 0.05, 0.10, 0.05


def score_differences(
    model: Any,
    codes: TextCodes,
    scale: RewardScale,
    pairs: Sequence[PreferencePair],
    config: RewardConfig,
) -> np.ndarray:
    """Normalised score of chosen minus that of rejected, for every pair."""
    store, pad_id = PairStore.of(pairs, codes), pad_of(codes.tokenizer)
    raw = all_scores(model, store.texts, pad_id, config.micro_batch_tokens).numpy()
    return (raw[list(store.chosen)] - raw[list(store.rejected)]) / scale.scale


def fit_scale_temperature(
    scale: RewardScale,
    model: Any,
    codes: TextCodes,
    pairs: Sequence[PreferencePair],
    config: RewardConfig,
) -> RewardScale:
    """The scale with the maximum likelihood temperature of sigmoid(difference / T), bounded.

    A tie counts half for each side, as in the loss and in the report card's calibration.
    """
    differences = score_differences(model, codes, scale, pairs, config)
    outcomes = np.array([pair.preference for pair in pairs])
    temperature = fit_temperature(differences, outcomes)
    note = temperature_note(temperature, differences)
    return scale.model_copy(update={"temperature": temperature, "temperature_note": note})


def write_report_card(
    folder: Path,
    model: Any,
    codes: TextCodes,
    scale: RewardScale,
    labels: Labels,
    config: RewardConfig,
    seed: int,
) -> dict[str, Any]:
    """Measure the model on unseen pairs and write report_card.json; returns its content.

    Accuracy is the share of decided pairs (no ties) in which chosen scores higher, with an interval
    clustered by prompt. In the calibration a tie counts half, as in the training loss;
    `ece_decided` leaves ties out. The side of each pair is randomised first.
    """
    pairs = labels.test
    everything = score_differences(model, codes, scale, pairs, config)
    outcomes = np.array([pair.preference for pair in pairs])
    decided = [pair for pair in pairs if pair.preference != 0.5]
    differences = everything[outcomes != 0.5]
    card = _accuracies(decided, differences)
    # a temperature fitted and tested on the same pairs would look too well calibrated
    fitted = np.full(len(pairs), scale.temperature)
    if labels.one_test:
        fitted = _temperature_of_the_other_half(pairs, everything, seed)
    card |= _calibration(everything / fitted, outcomes, seed)
    sure = differences / fitted[outcomes != 0.5]
    card["ece_decided"] = _calibration(sure, np.ones(len(decided)), seed)["ece"]
    card |= _length_bias(decided, differences)
    words = bag_of_words(labels.train, pairs)
    card["bag_of_words"] = None if words is None else words.plain()
    card |= {"num_pairs": len(decided), "temperature": scale.temperature}
    card |= {"temperature_note": scale.temperature_note, "labels": labels.seen}
    judged = labels_by_comparison(pairs)  # in a file of plain pairs each is judged once
    card["raw_agreement"] = raw_agreement(judged) if judged else None
    # Per label like the accuracy: per pair, close calls with fewer decided labels would weigh more.
    card["ceiling"] = accuracy_ceiling(agreement_per_label(judged)) if judged else None
    card["verdict"] = _verdict(card)
    atomic_write(folder / "report_card.json", json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    return card


def _accuracies(pairs: Sequence[PreferencePair], differences: np.ndarray) -> dict[str, Any]:
    right = np.where(differences == 0, 0.5, differences > 0).astype(float)
    clusters = [pair.prompt.prompt_id for pair in pairs]

    def estimate(values: np.ndarray, where: list[int]) -> dict[str, Any]:
        return cluster_share(values[where], [clusters[i] for i in where]).plain()

    everything = list(range(len(pairs)))
    slices: dict[str, dict[str, Any]] = {}
    keys: dict[str, Callable[[PreferencePair], str]] = {
        "category": lambda pair: pair.prompt.category,
        "language": lambda pair: pair.prompt.language,
        "annotator": lambda pair: pair.source,
        "strength": lambda pair: f"{pair.margin:g}",
    }
    for name, key in keys.items():
        values = sorted({key(pair) for pair in pairs} - {""})
        # skip slices with a single value, and those with too many for a table
        if 1 < len(values) <= 20:
            slices[name] = {
                value: estimate(right, [i for i in everything if key(pairs[i]) == value])
                for value in values
            }
    return {
        "accuracy": estimate(right, everything),
        "longer_wins": longer_wins(pairs).plain(),
        "by_slice": slices,
    }


def _temperature_of_the_other_half(
    pairs: Sequence[PreferencePair], differences: np.ndarray, seed: int
) -> np.ndarray:
    """Temperature for each pair [pairs], fitted on the half of the prompts without it."""
    half = SplitByPrompt({"first": 0.5, "second": 0.5}, seed)
    first = np.array([half.of(pair.prompt) == "first" for pair in pairs])
    outcomes = np.array([pair.preference for pair in pairs])
    fitted = np.ones(len(pairs))
    for rows in (first, ~first):
        others = ~rows if (~rows).any() else rows
        fitted[rows] = fit_temperature(differences[others], outcomes[others])
    return fitted


def _calibration(logits: np.ndarray, outcomes: np.ndarray, seed: int) -> dict[str, Any]:
    """Calibration of P(first is better), with the first side chosen at random.

    `outcomes` [pairs]: 1 if the chosen answer won, 0.5 for a tie.
    """
    # with chosen always first every outcome would be 1, and "always sure" perfectly calibrated
    coin = np.random.default_rng(derive_seed(seed, "sides")).random(len(logits)) < 0.5
    probabilities = expit(np.where(coin, logits, -logits))  # plain exp overflows at large logits
    outcomes = np.where(coin, outcomes, 1 - outcomes)
    return {
        "ece": float(expected_calibration_error(probabilities, outcomes)),
        "log_loss": float(log_loss(probabilities, outcomes)),
        "brier": float(brier(probabilities, outcomes)),
        "reliability": [asdict(b) for b in reliability_bins(probabilities, outcomes)],
    }


def _length_bias(pairs: Sequence[PreferencePair], differences: np.ndarray) -> dict[str, Any]:
    lengths = np.array([len(pair.chosen) - len(pair.rejected) for pair in pairs])
    shorter = differences[lengths < 0]
    correlation = float(spearman_length(differences, lengths))
    return {
        # JSON has no NaN, which comes out if all lengths differ by the same
        "length_correlation": None if math.isnan(correlation) else correlation,
        "accuracy_where_shorter_is_better": float((shorter > 0).mean()) if len(shorter) else None,
    }


def _verdict(card: dict[str, Any]) -> dict[str, Any]:
    """Whether the model is ready for PPO, and why."""
    reasons: list[str] = []
    accuracy, (rule, by_length) = card["accuracy"]["value"], _length_rule(card)
    if card["accuracy"]["low"] <= 0.5:
        reasons.append("its accuracy is not distinguishable from chance")
    if card["ceiling"] is not None and accuracy < card["ceiling"] - CLOSE_TO_CEILING:
        reasons.append(f"accuracy {accuracy:.3f} is far below the ceiling {card['ceiling']:.3f}")
    if accuracy < by_length + ABOVE_LENGTH:
        reasons.append(f"it is hardly better than 'the {rule}' ({by_length:.3f})")
    words = card["bag_of_words"]
    if words is not None and accuracy <= words["value"]:
        reasons.append(f"a bag of words is right as often without a model ({words['value']:.3f})")
    if card["ece"] > WELL_CALIBRATED:
        reasons.append(f"its calibration error {card['ece']:.3f} is above {WELL_CALIBRATED}")
    if card["num_pairs"] < 300:
        reasons.append(f"{card['num_pairs']} held-out pairs are too few for a verdict")
    ready = not reasons
    return {"ready": ready, "reasons": reasons or ["accuracy and calibration are good enough"]}


def in_words(card: dict[str, Any], purpose: str) -> tuple[str, ...]:
    """The card in three lines, for the console."""
    accuracy, verdict = card["accuracy"], card["verdict"]
    value, low, high = (f"{100 * accuracy[end]:.0f}" for end in ("value", "low", "high"))
    ready = "ready" if verdict["ready"] else "not ready"
    rule, by_length = _length_rule(card)
    words = card["bag_of_words"]
    bag = "" if words is None else f", a bag of words on {100 * words['value']:.0f} %"
    return (
        f"right on {value} % [{low}, {high}] of {card['num_pairs']} unseen pairs",
        f"chance is right on 50 %, 'the {rule}' on {100 * by_length:.0f} %{bag}",
        f"{ready} {purpose}: {'; '.join(verdict['reasons'])}",
    )


def _length_rule(card: dict[str, Any]) -> tuple[str, float]:
    """The better length rule and its accuracy: in some data people prefer the shorter answer."""
    longer = card["longer_wins"]["value"]
    return ("longer answer wins", longer) if longer >= 0.5 else ("shorter answer wins", 1 - longer)
