"""Batches of pairs: one prompt in one place, every text read once, cutting changes nothing."""

import math
from collections.abc import Callable
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from alignloop.config import ModelConfig, RewardConfig
from alignloop.data.pairs import (
    PairBatch,
    batches_of_epochs,
    encode_pairs,
    padded_tokens,
    prompt_batches,
    whole_pair_batches,
)
from alignloop.data.preferences import pairs_from_judgements
from alignloop.data.tokenise import Encoded
from alignloop.models import new_reward_model, sequence_scores
from alignloop.records import Comparison, Judgement, PreferencePair, Prompt, Response
from alignloop.reward.batches import all_scores, micro_batches
from alignloop.reward.train import (
    _accumulate,
    _backward_apart,
    _backward_whole_pairs,
    _pair_loss,
)

MakePrompt = Callable[..., Prompt]


def k_wise(prompt: Prompt, answers: tuple[str, ...]) -> list[PreferencePair]:
    """All C(K, 2) pairs of a ranking, the earlier answer better, each with weight 1 / C(K, 2)."""
    pairs = list(combinations(answers, 2))
    weight = 1 / len(pairs)
    return [PreferencePair(prompt=prompt, chosen=a, rejected=b, weight=weight) for a, b in pairs]


@pytest.fixture
def pairs(prompts: list[Prompt]) -> list[PreferencePair]:
    """Ten prompts with rankings of two, three or four answers: 6 * 10 / 3 and some."""
    answers = ("very good", "good tea", "bad", "very bad rain")
    ranked = [k_wise(prompt, answers[: 2 + i % 3]) for i, prompt in enumerate(prompts)]
    return [pair for ranking in ranked for pair in ranking]


@pytest.fixture
def model(lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig) -> Any:
    return new_reward_model(lm_dirs["llama"], tokenizer, model_config, seed=1)


def test_each_text_is_read_once(make_prompt: MakePrompt, tokenizer: Any) -> None:
    """PPO-27: six pairs of four answers are four texts; indices tell who stood against whom."""
    batch = encode_pairs(k_wise(make_prompt("tea"), ("good", "red", "blue", "bad")), tokenizer, 64)
    assert len(batch.texts) == 4
    assert batch.chosen == (0, 0, 0, 1, 1, 2)
    assert batch.rejected == (1, 2, 3, 2, 3, 3)
    assert batch.weight == (1 / 6,) * 6
    # <user> tea <assistant> good <eos>: the EOS is part of what is scored.
    assert batch.texts[0].input_ids == (3, 9, 4, 5, 1)


def test_the_same_words_under_another_prompt_are_another_text(
    make_prompt: MakePrompt, tokenizer: Any
) -> None:
    pairs = [
        *k_wise(make_prompt("tea"), ("good", "bad")),
        *k_wise(make_prompt("sun"), ("good", "bad")),
    ]
    assert len(encode_pairs(pairs, tokenizer, 64).texts) == 4


def test_pairs_of_one_prompt_share_a_batch(pairs: list[PreferencePair]) -> None:
    """docs/algorithms.md#ppo-27: in every epoch, and every pair exactly once."""
    for epoch in range(3):
        batches = prompt_batches(pairs, 6, seed=1, epoch=epoch)
        assert sorted(i for batch in batches for i in batch) == list(range(len(pairs)))
        where = [{pairs[i].prompt.prompt_id for i in batch} for batch in batches]
        assert sum(len(ids) for ids in where) == 10, "a prompt stands in two batches"
        assert all(len(batch) <= 6 for batch in batches)


def test_batches_are_a_function_of_the_seed_and_the_epoch(pairs: list[PreferencePair]) -> None:
    first = prompt_batches(pairs, 6, seed=1, epoch=0)
    assert prompt_batches(pairs, 6, seed=1, epoch=0) == first
    assert prompt_batches(pairs, 6, seed=1, epoch=1) != first
    assert prompt_batches(pairs, 6, seed=2, epoch=0) != first


def test_a_ranking_larger_than_the_batch_stays_whole(make_prompt: MakePrompt) -> None:
    ranking = k_wise(make_prompt("tea"), ("good", "red", "blue", "bad"))
    assert prompt_batches(ranking, 2, seed=0, epoch=0) == [[0, 1, 2, 3, 4, 5]]


def test_half_an_epoch_is_half_the_batches(pairs: list[PreferencePair]) -> None:
    def batches(num_epochs: float, max_steps: int | None = None) -> list[list[int]]:
        return batches_of_epochs(pairs, 3, 1, num_epochs=num_epochs, max_steps=max_steps)

    whole = batches(1.0)
    assert len(batches(0.5)) == round(len(whole) / 2)
    assert batches(2.0)[: len(whole)] == whole
    assert len(batches(1.0, max_steps=2)) == 2


def plain_batch(**fields: Any) -> PairBatch:
    """Two pairs over four texts, which `_pair_loss` does not look at."""
    given = {
        "texts": (), "chosen": (0, 2), "rejected": (1, 3),
        "preference": (1.0, 1.0), "margin": (0.0, 0.0), "weight": (1.0, 1.0),
    }  # fmt: skip
    return PairBatch(**{**given, **fields})


def softplus(x: float) -> float:
    """-log sigmoid(-x), by hand."""
    return math.log1p(math.exp(x))


def test_the_loss_by_hand_with_weights() -> None:
    """Differences 1 and -2, weights 1 and 3: (softplus(-1) + 3 softplus(2)) / 4; half are right."""
    scores = torch.tensor([2.0, 1.0, 0.0, 2.0])
    loss, accuracy = _pair_loss(scores, plain_batch(weight=(1.0, 3.0)), RewardConfig())
    assert float(loss) == pytest.approx((softplus(-1.0) + 3 * softplus(2.0)) / 4, abs=1e-6)
    assert accuracy == 0.5


def test_a_tie_is_a_soft_label_and_counts_for_no_accuracy() -> None:
    """PPO-29 (WebGPT): (softplus(2) + softplus(-2)) / 2 at a difference of -2."""
    scores = torch.tensor([2.0, 1.0, 0.0, 2.0])
    loss, accuracy = _pair_loss(scores, plain_batch(preference=(1.0, 0.5)), RewardConfig())
    tie = (softplus(2.0) + softplus(-2.0)) / 2
    assert float(loss) == pytest.approx((softplus(-1.0) + tie) / 2, abs=1e-6)
    assert accuracy == 1.0
    _, undecided = _pair_loss(scores, plain_batch(preference=(0.5, 0.5)), RewardConfig())
    assert undecided == 0.5


def test_the_margin_is_off_by_default_and_never_on_ties() -> None:
    """PPO-29: with the margin on, difference 1 and margin 3 make -2; the tie keeps its 0."""
    scores = torch.tensor([2.0, 1.0, 5.0, 5.0])
    batch = plain_batch(preference=(1.0, 0.5), margin=(3.0, 3.0))
    plain, _ = _pair_loss(scores, batch, RewardConfig())
    assert float(plain) == pytest.approx((softplus(-1.0) + math.log(2)) / 2, abs=1e-6)
    with_margin, _ = _pair_loss(scores, batch, RewardConfig(use_margin=True))
    assert float(with_margin) == pytest.approx((softplus(2.0) + math.log(2)) / 2, abs=1e-6)


def test_centring_by_hand() -> None:
    """docs/algorithms.md#ppo-30: sums 3 and 2, so 0.1 * (9 + 4) / 2 is added."""
    scores = torch.tensor([2.0, 1.0, 0.0, 2.0])
    plain, _ = _pair_loss(scores, plain_batch(), RewardConfig())
    centred, _ = _pair_loss(scores, plain_batch(), RewardConfig(centring_coef=0.1))
    assert float(centred - plain) == pytest.approx(0.65, abs=1e-6)


def test_a_score_difference_of_a_thousand_stays_finite() -> None:
    """docs/algorithms.md#ppo-28: log(sigmoid(-1000)) would be -inf, and its gradient NaN."""
    scores = torch.tensor([0.0, 1000.0, 0.0, 0.0], requires_grad=True)
    loss, _ = _pair_loss(scores, plain_batch(), RewardConfig())
    loss.backward()
    assert float(loss.detach()) == pytest.approx((1000 + math.log(2)) / 2)
    assert scores.grad is not None
    assert scores.grad.tolist() == pytest.approx([-0.5, 0.5, -0.25, 0.25])


def test_every_judgement_of_a_ranking_weighs_one(make_prompt: MakePrompt) -> None:
    """InstructGPT: three pairs from one choice among four weigh 1/3 each."""
    answers = tuple(Response(response_id=i, text=f"answer {i}") for i in "abcd")
    comparison = Comparison(comparison_id="c", prompt=make_prompt("tea"), responses=answers)
    judgement = Judgement(
        comparison_id="c", annotator_id="x", choice="b", created_at=datetime(2025, 1, 1)
    )
    found = pairs_from_judgements([comparison], [judgement])
    assert [pair.weight for pair in found] == [1 / 3] * 3


def gradient_of(model: Any, batch: PairBatch, tokens: int) -> tuple[dict[str, float], torch.Tensor]:
    model.zero_grad()
    metrics = _accumulate(model, batch, 0, RewardConfig(micro_batch_tokens=tokens))
    return metrics, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_micro_batches_do_not_change_the_gradient(
    model: Any, pairs: list[PreferencePair], tokenizer: Any
) -> None:
    """PPO-23, here for pairs whose two answers fall into different micro-batches."""
    batch = encode_pairs(pairs, tokenizer, 64)
    metrics, expected = gradient_of(model, batch, 10_000)
    assert float(expected.norm()) > 1e-3
    for tokens in (60, 1):
        others, found = gradient_of(model, batch, tokens)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        assert others == pytest.approx(metrics, abs=1e-6)


def test_whole_pairs_and_parted_ones_give_the_same_gradient(
    model: Any, pairs: list[PreferencePair], tokenizer: Any
) -> None:
    """Cost alone chooses between the two, so neither may change a number."""
    batch, config = encode_pairs(pairs, tokenizer, 64), RewardConfig(micro_batch_tokens=60)
    found: list[tuple[dict[str, float], torch.Tensor]] = []
    for backward, cuts in (
        (_backward_whole_pairs, whole_pair_batches(batch, 60)),
        (_backward_apart, micro_batches(batch.texts, 60)),
    ):
        assert len(cuts) > 1
        model.zero_grad()
        metrics = backward(model, batch, cuts, 0, config)
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        found.append((metrics, torch.cat(gradients)))
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0, atol=1e-5)
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)


def test_no_pair_is_parted() -> None:
    """Texts 0-1-2 hang together by two pairs, 3-4 by one; 5 tokens each, so two fit in 12."""
    texts = tuple(Encoded(input_ids=(3,) * 5, response_mask=(True,) * 5) for _ in range(5))
    batch = PairBatch(
        texts=texts,
        chosen=(0, 2, 3),
        rejected=(1, 1, 4),
        preference=(1.0, 1.0, 0.5),
        margin=(0.0, 1.0, 2.0),
        weight=(1.0, 0.5, 0.25),
    )
    cuts = whole_pair_batches(batch, 12)
    assert sorted(map(sorted, cuts)) == [[0, 1, 2], [3, 4]]
    assert [sorted(cut) for cut in whole_pair_batches(batch, 25)] == [[0, 1, 2, 3, 4]]
    assert padded_tokens(texts, cuts) == 25
    part = batch.part([4, 3])
    assert (part.chosen, part.rejected, part.weight) == ((1,), (0,), (0.25,))
    assert (part.preference, part.margin) == ((0.5,), (2.0,))


def test_scores_come_back_in_the_order_of_the_texts(
    model: Any, pairs: list[PreferencePair], tokenizer: Any
) -> None:
    texts = encode_pairs(pairs, tokenizer, 64).texts
    one_by_one = []
    for text in texts:
        ids = torch.tensor([text.input_ids])
        one_by_one.append(sequence_scores(model, ids, torch.ones_like(ids).bool()).detach())
    scores = all_scores(model, texts, 0, 30)
    torch.testing.assert_close(scores, torch.cat(one_by_one), rtol=0, atol=1e-5)


def many(make_prompt: MakePrompt, count: int) -> list[PreferencePair]:
    found = [k_wise(make_prompt(f"tea {i}"), ("good", "red", "bad")) for i in range(count)]
    return [pair for ranking in found for pair in ranking]
