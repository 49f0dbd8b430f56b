"""Heads for criteria: the loss by hand, a planted preference, saved, folded, and on the card."""

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from alignloop.config import ALL_WEIGHTS, ModelConfig, RewardConfig
from alignloop.data.pairs import PairStore, TextCodes
from alignloop.data.tokenise import Encoded, LengthLimit, encode_example
from alignloop.errors import UserError
from alignloop.models import load_reward_model, load_tokenizer, sequence_scores
from alignloop.models.criteria_head import (
    CriteriaFacts,
    criterion_scores,
    read_criteria_head,
    save_criteria_head,
)
from alignloop.models.initialise import init_reward_model
from alignloop.records import AttributeScores, PreferencePair, Prompt
from alignloop.reward import train_reward
from alignloop.reward.criteria import (
    ScoredTexts,
    ScoreLabels,
    criteria_objective,
    facts_of,
    regression_error,
    share_out_scores,
    widen,
)
from alignloop.reward.labels import Labels, share_out
from alignloop.reward.train import ranking_losses

MakePrompt = Callable[..., Prompt]
WORDS = ("tea", "rain", "sun", "moon", "天气", "red", "blue", "warm", "cold", "very")
NAMES = ("helpful", "correct")


def scored(prompt: Prompt, response: str, **scores: float) -> AttributeScores:
    """An answer with scores out of five."""
    return AttributeScores(
        prompt=prompt, response=response, scores=scores, levels=dict.fromkeys(NAMES, 5.0)
    )


def planted(make_prompt: MakePrompt, count: int) -> list[AttributeScores]:
    """ "good" is helpful, "yes" is correct, and neither says anything about the other."""
    draw = random.Random(0)
    rows: list[AttributeScores] = []
    for number in range(count):
        good, yes = number % 2, number // 2 % 2
        words = draw.choices(WORDS, k=2) + (["good"] if good else ["bad"])
        words += ["yes"] if yes else ["no"]
        prompt = make_prompt(f"how is {draw.choice(WORDS)} {number}")
        rows.append(scored(prompt, " ".join(words), helpful=1 + 4 * good, correct=1 + 4 * yes))
    return rows


def pairs_of(rows: list[AttributeScores]) -> list[PreferencePair]:
    """Pairs of each row's answer and the same with the other word for helpful: that one wins."""

    def answer(row: AttributeScores, word: str) -> str:
        first, second, _, last = row.response.split()
        return " ".join((first, second, word, last))

    return [
        PreferencePair(prompt=row.prompt, chosen=answer(row, "good"), rejected=answer(row, "bad"))
        for row in rows
    ]


# --- by hand -------------------------------------------------------------------------------------


def test_the_error_counts_only_known_scores() -> None:
    outputs = torch.tensor([[1.0, 2.0], [0.0, -1.0]], requires_grad=True)
    targets = torch.tensor([[0.0, math.nan], [2.0, 1.0]])
    error = regression_error(outputs, targets)
    assert error.item() == 1 + 4 + 4
    error.backward()
    assert outputs.grad is not None
    assert outputs.grad.tolist() == [[2.0, 0.0], [-4.0, -4.0]]


def test_scores_are_normalised_by_the_training_rows(make_prompt: MakePrompt) -> None:
    scores = torch.tensor([[1.0, 2.0], [5.0, math.nan], [3.0, 4.0]])
    train = ScoredTexts(texts=[], scores=scores, prompt_ids=[])
    facts = facts_of(RewardConfig(criteria=NAMES, criteria_weights=(0.75, 0.25)), train)
    assert facts.mean == pytest.approx((3.0, 3.0))
    assert facts.spread == pytest.approx((math.sqrt(8 / 3), 1.0))
    assert facts.weights == (0.75, 0.25)
    assert facts_of(RewardConfig(criteria=NAMES), train).weights == (0.5, 0.5)
    constant = ScoredTexts(texts=[], scores=scores[:1], prompt_ids=[])
    with pytest.raises(UserError, match="no two different scores"):
        facts_of(RewardConfig(criteria=NAMES), constant)


def test_the_folded_head_is_the_weighted_sum() -> None:
    facts = CriteriaFacts(names=NAMES, weights=(2.0, -1.0), mean=(0, 0), spread=(1, 1))
    heads = torch.tensor([[1.0, 0.0, 3.0], [0.0, 5.0, 1.0]])
    assert facts.folded(heads).tolist() == [[2.0, -5.0, 5.0]]


@pytest.mark.parametrize(
    "settings",
    [
        {"attributes": "x.jsonl"},
        {"pair_loss": False},
        {"criteria": ("a", "a")},
        {"criteria": ("a", "b"), "criteria_weights": (1.0,)},
        {"criteria": ("a", "b"), "criteria_weights": (0.0, 0.0)},
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RewardConfig.model_validate(settings)


def test_scores_and_pairs_of_a_prompt_are_on_the_same_side(make_prompt: MakePrompt) -> None:
    rows = planted(make_prompt, 40)
    pairs = pairs_of(rows)
    config, wanted = RewardConfig(), ("reward", "reward_held_out", "reward_judge")
    both = share_out(pairs, config, 0, wanted), share_out_scores(rows, config, 0, wanted)
    for name in wanted:
        of_pairs, of_scores = both[0][name], both[1][name]
        ids = [{one.prompt.prompt_id for one in part} for part in (of_pairs.test, of_scores.test)]
        assert ids[0] == ids[1]
        assert not ids[0] & {one.prompt.prompt_id for one in of_scores.train}


def outputs(model: Any, codes: Sequence[Encoded]) -> torch.Tensor:
    """Both heads' outputs, one text at a time."""
    ids = [torch.tensor([code.input_ids]) for code in codes]
    found = [sequence_scores(model, one, torch.ones_like(one).bool()).reshape(2) for one in ids]
    return torch.stack(found)


def both_of(store: PairStore) -> tuple[Sequence[int], Sequence[int]]:
    """The texts of both sides."""
    return store.chosen, store.rejected


# --- on a tiny model -----------------------------------------------------------------------------


def test_a_step_is_the_mean_over_pairs_and_over_scores(
    make_prompt: MakePrompt, lm_dirs: dict[str, Path], model_config: ModelConfig
) -> None:
    """The two losses, computed text by text, however the step is cut into micro-batches."""
    rows = planted(make_prompt, 6)
    rows[0] = scored(rows[0].prompt, rows[0].response, helpful=2)  # nobody scored correctness
    tokenizer = load_tokenizer(lm_dirs["llama"], model_config)
    limit = LengthLimit.of("reward.max_tokens", 64, None, "refuse")
    texts = ScoredTexts.of(rows, NAMES, tokenizer, limit)
    store = PairStore.of(pairs_of(rows)[:3], TextCodes(tokenizer=tokenizer, limit=limit))
    found: list[tuple[float, torch.Tensor]] = []
    for budget in (32, 10_000):
        config = RewardConfig(
            criteria=NAMES,
            criteria_weights=(0.5, 2.0),
            criteria_coef=0.3,
            micro_batch_tokens=budget,
        )
        facts = facts_of(config, texts)
        model = init_reward_model(lm_dirs["llama"], tokenizer, model_config, ALL_WEIGHTS, 7)
        widen(model, facts, 7)
        losses, pad_id = ranking_losses(config), tokenizer.pad_token_id
        objective = criteria_objective(config, model, store, texts, facts, losses, pad_id, 0)
        assert sorted(row for batch in objective.batches for row in batch) == list(range(9))
        step = objective.step(list(range(9)))
        parts = [step.loss(micro_batch)[0] for micro_batch in step.micro_batches]
        total = torch.stack(parts).sum()
        total.backward()
        found.append((total.item(), model.score.weight.grad.clone()))

        with torch.no_grad():
            weights = torch.tensor([0.5, 2.0])
            sides = (outputs(model, [store.texts[i] for i in x]) @ weights for x in both_of(store))
            chosen, rejected = sides
            pair_loss = torch.nn.functional.softplus(rejected - chosen).mean().item()
            targets = (texts.scores - torch.tensor(facts.mean)) / torch.tensor(facts.spread)
            error = torch.nanmean((outputs(model, texts.texts) - targets) ** 2).item()
        assert total.item() == pytest.approx(pair_loss + 0.3 * error, rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pair_loss", [False, True])
def test_a_planted_preference_is_found(
    pair_loss: bool,
    make_prompt: MakePrompt,
    lm_dirs: dict[str, Path],
    model_config: ModelConfig,
    stage_run: Callable[..., Any],
) -> None:
    """Each head follows its own word, on prompts never seen, and the reward their weighting."""
    rows = planted(make_prompt, 96)
    # with the pair loss on, the pairs must not contradict the weighting
    pairs = pairs_of(rows)
    labels = Labels(train=pairs[:64], calibration=pairs[64:80], test=pairs[80:], of=96)
    config = RewardConfig(
        criteria=NAMES,
        criteria_weights=(1.0, 0.0),
        pair_loss=pair_loss,
        learning_rate=5e-3,
        batch_size=16,
        num_epochs=20.0,
        save_every=0,
    )
    run = stage_run("reward")
    folder = train_reward(
        config,
        model_config,
        lm_dirs["llama"],
        labels,
        run,
        attributes=ScoreLabels(train=rows[:64], test=rows[64:]),
    )
    card = json.loads((run.path / "report_card.json").read_text(encoding="utf-8"))
    for name in NAMES:
        one = card["criteria"][name]
        assert (one["num"], one["correlation"]["n"]) == (32, 32)
        assert one["correlation"]["low"] > 0.8
    assert [card["criteria"][name]["weight"] for name in NAMES] == [1.0, 0.0]

    found = read_criteria_head(folder)
    assert found is not None
    facts, heads = found
    tokenizer = load_tokenizer(folder, model_config)
    model = load_reward_model(folder, tokenizer, model_config)
    # the weighted sum is the score that every reader of reward models gets
    torch.testing.assert_close(model.score.weight, facts.folded(heads), rtol=1e-5, atol=1e-7)
    values: list[torch.Tensor] = []
    for answer in ("tea rain good no", "tea rain bad yes"):
        code = encode_example(tokenizer, make_prompt("how is tea never seen"), answer, 64)
        ids = torch.tensor([code.input_ids])
        values.append(criterion_scores(model, facts, heads, ids, torch.ones_like(ids).bool())[0])
    helpful, correct = torch.stack(values).T
    assert helpful[0] > helpful[1]
    assert correct[0] < correct[1]
    if not pair_loss:  # beside pairs, scores are pushed further apart than people's
        assert helpful[0] > 3 > helpful[1]
        assert correct[0] < 3 < correct[1]


def test_heads_come_back_from_disk(tmp_path: Path) -> None:
    facts = CriteriaFacts(names=NAMES, weights=(1.0, 2.0), mean=(3, 3), spread=(1, 2))
    assert read_criteria_head(tmp_path) is None
    heads = torch.arange(8.0).reshape(2, 4)
    save_criteria_head(tmp_path, facts, heads)
    again = read_criteria_head(tmp_path)
    assert again is not None
    assert again[0] == facts
    assert torch.equal(again[1], heads)
    (tmp_path / "criteria.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged"):
        read_criteria_head(tmp_path)
