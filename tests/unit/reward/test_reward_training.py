"""Training on toy pairs that can be told apart, and the report card by hand."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from alignloop.config import ModelConfig, RewardConfig
from alignloop.data.splits import SplitByPrompt
from alignloop.data.tokenise import encode_example
from alignloop.errors import UserError
from alignloop.models import RewardScale, load_reward_model, read_reward_scale, sequence_scores
from alignloop.records import Demonstration, PreferencePair, Prompt
from alignloop.reward import report_card as card_module
from alignloop.reward import train_reward
from alignloop.reward.labels import Labels
from alignloop.reward.report_card import in_words, write_report_card
from alignloop.run import read_metrics
from alignloop.stats.calibration import fit_temperature

MakePrompt = Callable[..., Prompt]
TOPICS = ("tea", "rain", "sun", "moon", "红茶", "天气", "雨", "red", "blue", "warm", "cold", "very")


def toy_pairs(make_prompt: MakePrompt) -> list[PreferencePair]:
    """An answer that says "good" is better than one that says "bad"."""
    return [
        PreferencePair(
            prompt=make_prompt(f"how is {t}"), chosen=f"{t} is good", rejected=f"{t} is bad"
        )
        for t in TOPICS
    ]


@pytest.fixture
def trained(
    make_prompt: MakePrompt,
    lm_dirs: dict[str, Path],
    model_config: ModelConfig,
    stage_run: Callable[..., Any],
) -> Callable[..., tuple[Path, Path, list[Demonstration]]]:
    """`trained(normalise_variance=True)`: (run folder, model folder, demonstrations)."""

    def make(**changes: Any) -> tuple[Path, Path, list[Demonstration]]:
        pairs = toy_pairs(make_prompt)
        parts = Labels(train=pairs[:8], calibration=pairs[8:10], test=pairs[10:], of=len(pairs))
        told = [Demonstration(prompt=p.prompt, response=p.chosen + " yes") for p in pairs]
        settings = {"learning_rate": 1e-2, "batch_size": 8, "num_epochs": 15.0, "save_every": 0}
        config = RewardConfig.model_validate({**settings, **changes})
        run = stage_run("reward")
        model = train_reward(
            config, model_config, lm_dirs["llama"], parts, run, demonstrations=told
        )
        return run.folder.path, model, told

    return make


def scores_of(folder: Path, told: list[Demonstration], tokenizer: Any) -> torch.Tensor:
    """Normalised scores, one text at a time."""
    model, scale = load_reward_model(folder, tokenizer, ModelConfig()), read_reward_scale(folder)
    found = []
    for one in told:
        ids = torch.tensor([encode_example(tokenizer, one.prompt, one.response, 64).input_ids])
        found.append(sequence_scores(model, ids, torch.ones_like(ids).bool()).detach())
    return (torch.cat(found) - scale.bias) / scale.scale


def test_pairs_that_can_be_told_apart_are_learnt(
    trained: Callable[..., tuple[Path, Path, list[Demonstration]]], tokenizer: Any
) -> None:
    """Accuracy 1 within fifteen steps; line 8: demonstrations then score 0 on average."""
    run, folder, told = trained()
    lines = read_metrics(run, "reward")
    assert len(lines) == 15
    assert lines[-1]["accuracy"] == 1.0
    assert lines[-1]["loss"] < 0.1 < lines[0]["loss"]
    assert all(line["gradient_norm"] > 0 for line in lines)
    scores = scores_of(folder, told, tokenizer)
    assert float(scores.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(scores.std()) > 1e-3
    plain = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    assert plain.config.pad_token_id == tokenizer.pad_token_id
    card = json.loads((run / "reward" / "report_card.json").read_text(encoding="utf-8"))
    assert card["num_pairs"] == 2 and card["ceiling"] is None
    assert card["verdict"]["ready"] is False


def test_demonstrations_may_have_variance_one(
    trained: Callable[..., tuple[Path, Path, list[Demonstration]]], tokenizer: Any
) -> None:
    """Line 8."""
    _, folder, told = trained(normalise_variance=True, max_steps=2)
    scores = scores_of(folder, told, tokenizer)
    assert float(scores.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(scores.std()) == pytest.approx(1.0, abs=1e-4)


def test_a_report_card_of_ties_alone_is_refused_before_training(
    make_prompt: MakePrompt,
    lm_dirs: dict[str, Path],
    model_config: ModelConfig,
    stage_run: Callable[..., Any],
) -> None:
    pairs = toy_pairs(make_prompt)
    ties = [pair.model_copy(update={"preference": 0.5}) for pair in pairs[10:]]
    parts = Labels(train=pairs[:8], calibration=pairs[8:10], test=ties, of=len(pairs))
    run = stage_run("reward")
    with pytest.raises(UserError, match=f"all {len(ties)} pairs for the report card are ties"):
        train_reward(RewardConfig(), model_config, lm_dirs["llama"], parts, run)
    assert not (run.folder.path / "metrics.jsonl").exists()


def test_a_loss_that_is_not_finite_stops(
    trained: Callable[..., tuple[Path, Path, list[Demonstration]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alignloop.training.loop.accumulate", lambda *_: {"loss": math.nan})
    monkeypatch.setattr("alignloop.training.loop.descend", lambda *_, **__: 0.0)
    with pytest.raises(UserError, match="the loss is not finite at step 1") as caught:
        trained()
    assert "learning_rate" in caught.value.fix


def judged(make_prompt: MakePrompt) -> list[PreferencePair]:
    """Five pairs; a tie; lengths of chosen minus rejected: 3, -3, 0, 2, (tie) 0."""
    words = (("goods", "ok"), ("ok", "wrong"), ("red", "sun"), ("goods", "bad"), ("tie", "too"))
    languages = ("en", "en", "zh", "zh", "en")
    return [
        PreferencePair(
            prompt=make_prompt(f"tea {i}", language=language),
            chosen=chosen,
            rejected=rejected,
            preference=0.5 if chosen == "tie" else 1.0,
            source=f"annotator {i % 2}",
        )
        for i, ((chosen, rejected), language) in enumerate(zip(words, languages, strict=True))
    ]


def card_of(
    pairs: list[PreferencePair],
    differences: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Any]:
    """The card of a model that would give these differences, at temperature 2."""
    monkeypatch.setattr(card_module, "score_differences", lambda *_: np.array(differences))
    scale = RewardScale(temperature=2.0)
    labels = Labels(train=(), calibration=(), test=pairs, of=len(pairs))
    return write_report_card(tmp_path, None, None, scale, labels, RewardConfig(), seed=1)


def test_the_report_card_by_hand(
    make_prompt: MakePrompt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Differences 2, -1, 0, 4: right, wrong, undecided, right; the tie counts in calibration."""
    differences = [2.0, -1.0, 0.0, 4.0, 1.0]
    card = card_of(judged(make_prompt), differences, tmp_path, monkeypatch)
    assert card["num_pairs"] == 4 and card["temperature"] == 2.0
    assert card["accuracy"]["value"] == 2.5 / 4 and card["accuracy"]["n"] == 4
    # Longer: 3 and 2 are longer, -3 is shorter, 0 is half.
    assert card["longer_wins"]["value"] == 2.5 / 4
    assert card["accuracy_where_shorter_is_better"] == 0.0
    assert card["by_slice"]["language"]["en"]["value"] == 0.5
    assert card["by_slice"]["language"]["zh"]["value"] == 0.75
    # Which side of a pair comes first changes neither of these: p(chosen) = sigmoid(d / 2).
    p = [1 / (1 + math.exp(-d / 2)) for d in differences]
    *won, tied = p
    of_tie = (math.log(tied) + math.log(1 - tied)) / 2
    assert card["log_loss"] == pytest.approx(-(sum(map(math.log, won)) + of_tie) / 5)
    assert card["brier"] == pytest.approx((sum((1 - x) ** 2 for x in won) + (tied - 0.5) ** 2) / 5)
    # Five forecasts in bins of their own: the error is the mean distance of promise and outcome.
    assert card["ece"] == pytest.approx((sum(1 - x for x in won) + tied - 0.5) / 5)
    assert card["ece_decided"] == pytest.approx(sum(1 - x for x in won) / 4)
    # Ranks of differences 3, 1, 2, 4 and of lengths 4, 1, 2, 3: 1 - 6 * 2 / (4 * 15).
    assert card["length_correlation"] == pytest.approx(0.8)
    assert card["raw_agreement"] is None and card["ceiling"] is None
    assert any("4 held-out pairs are too few" in reason for reason in card["verdict"]["reasons"])
    assert json.loads((tmp_path / "report_card.json").read_text(encoding="utf-8")) == card


def test_the_ceiling_comes_from_pairs_judged_twice(
    make_prompt: MakePrompt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agreement on 3 of 4 comparisons: p = 0.75, ceiling (1 + sqrt(0.5)) / 2 = 0.854."""
    pairs = [
        PreferencePair(
            prompt=make_prompt(f"tea {i}"),
            chosen=chosen,
            rejected="bad" if chosen == "good" else "good",
            source=name,
            comparison_id=f"c{i}",
        )
        for i in range(4)
        for name, chosen in (("ann", "good"), ("bob", "bad" if i == 0 else "good"))
    ]
    card = card_of(pairs, [1.0, -1.0] + [1.0] * 6, tmp_path, monkeypatch)
    assert card["raw_agreement"] == 0.75
    assert card["ceiling"] == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert card["accuracy"]["value"] == 7 / 8 and card["accuracy"]["n"] == 4


def test_a_close_call_counts_in_the_ceiling_by_its_labels(
    make_prompt: MakePrompt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two say different things, three say the same: per label p = (0 + 3) / 5, per pair 3 / 4."""
    said = {"close": ("good", "bad"), "clear": ("good", "good", "good")}
    pairs = [
        PreferencePair(
            prompt=make_prompt(name),
            chosen=chosen,
            rejected="bad" if chosen == "good" else "good",
            source=f"person {number}",
            comparison_id=name,
        )
        for name, labels in said.items()
        for number, chosen in enumerate(labels)
    ]
    card = card_of(pairs, [1.0] * 5, tmp_path, monkeypatch)
    assert card["raw_agreement"] == 0.75
    assert card["ceiling"] == pytest.approx((1 + math.sqrt(0.2)) / 2)


def test_a_card_without_a_correlation_is_still_json(
    make_prompt: MakePrompt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All lengths differ by the same, so there is nothing to correlate with."""
    pairs = toy_pairs(make_prompt)[:3]
    card_of(pairs, [1.0, 2.0, 3.0], tmp_path, monkeypatch)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = (tmp_path / "report_card.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse)["length_correlation"] is None


def test_pairs_that_calibrate_and_test_are_calibrated_by_the_other_half(
    make_prompt: MakePrompt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A temperature fitted on a half is used on the other: nothing is calibrated by itself."""
    pairs = [
        PreferencePair(prompt=make_prompt(f"tea {i}"), chosen="good", rejected="bad")
        for i in range(40)
    ]
    half = SplitByPrompt({"first": 0.5, "second": 0.5}, 1)
    first = np.array([half.of(pair.prompt) == "first" for pair in pairs])
    # in the first half differences of 4 are right in half of the cases, in the second always
    differences = np.where(first & (np.arange(40) % 2 == 0), -4.0, 4.0)
    fitted = card_module._temperature_of_the_other_half(pairs, differences, 1)
    assert len(set(fitted[first])) == len(set(fitted[~first])) == 1
    ones = np.ones(40)
    assert fitted[first][0] == fit_temperature(differences[~first], ones[~first])
    assert fitted[~first][0] == fit_temperature(differences[first], ones[first])
    assert fitted[first][0] < fitted[~first][0]


def test_the_shorter_answer_is_a_baseline_as_the_longer_is(
    make_prompt: MakePrompt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shorter wins in 4 of 5 pairs and the model is right in 4 of 5: nothing but length."""
    pairs = [
        PreferencePair(
            prompt=make_prompt(f"tea {i}"),
            chosen="good" if i % 5 else "a longer good one",
            rejected="a longer bad one" if i % 5 else "bad",
        )
        for i in range(320)
    ]
    differences = [2 * math.log(4) * (1 if i % 5 else -1) for i in range(320)]
    card = card_of(pairs, differences, tmp_path, monkeypatch)
    assert card["longer_wins"]["value"] == pytest.approx(0.2)
    assert (
        "it is hardly better than 'the shorter answer wins' (0.800)" in (card["verdict"]["reasons"])
    )
    right, baseline, verdict = in_words(card, "for PPO")
    assert right.startswith("right on 80 % [") and right.endswith("] of 320 unseen pairs")
    assert baseline == "chance is right on 50 %, 'the shorter answer wins' on 80 %"
    assert verdict.startswith("not ready for PPO: it is hardly better than")


def test_a_good_model_is_ready(
    make_prompt: MakePrompt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """320 pairs, 80 % right at logits of log 4: accurate, calibrated, and not by length."""
    pairs = [
        PreferencePair(
            prompt=make_prompt(f"tea {i}"),
            chosen="good" if i % 2 else "a good",
            rejected="a bad" if i % 2 else "bad",
        )
        for i in range(320)
    ]
    differences = [2 * math.log(4) * (-1 if i % 5 == 0 else 1) for i in range(320)]
    card = card_of(pairs, differences, tmp_path, monkeypatch)
    assert card["accuracy"]["value"] == 0.8 and card["longer_wins"]["value"] == 0.5
    assert card["verdict"] == {
        "ready": True,
        "reasons": ["accuracy and calibration are good enough"],
    }


def test_a_bag_of_words_that_does_as_well_is_told(
    make_prompt: MakePrompt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One word gives the winner away: what a model is right on has to be more than that."""
    pairs = [
        PreferencePair(
            prompt=make_prompt(f"tea {i}"), chosen=f"good thing {i % 7}", rejected=f"bad thing {i}"
        )
        for i in range(400)
    ]
    monkeypatch.setattr(card_module, "score_differences", lambda *_: np.ones(320))
    labels = Labels(train=pairs[320:], calibration=(), test=pairs[:320], of=400)
    card = write_report_card(
        tmp_path, None, None, RewardScale(temperature=2.0), labels, RewardConfig(), seed=1
    )
    assert card["bag_of_words"]["value"] == 1.0
    assert (
        "a bag of words is right as often without a model (1.000)" in (card["verdict"]["reasons"])
    )
    assert in_words(card, "for PPO")[1].endswith("a bag of words on 100 %")
