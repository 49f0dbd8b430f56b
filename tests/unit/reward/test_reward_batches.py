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
from alignloop.data.pairs import PairStore, TextCodes, batches_of_epochs, prompt_batches
from alignloop.data.preferences import pairs_from_judgements
from alignloop.data.tokenise import Encoded, LengthLimit
from alignloop.models import new_reward_model, sequence_scores
from alignloop.parallel import SINGLE
from alignloop.records import Comparison, Judgement, Message, PreferencePair, Prompt, Response
from alignloop.reward.batches import all_scores
from alignloop.reward.train import ranking, ranking_losses
from alignloop.training.loop import accumulate
from alignloop.training.pairs import means, scores_of

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


def store_of(pairs: list[PreferencePair], tokenizer: Any) -> PairStore:
    limit = LengthLimit.of("reward.max_tokens", 64, None, "refuse")
    return PairStore.of(pairs, TextCodes(tokenizer=tokenizer, limit=limit))


def test_each_text_is_read_once(make_prompt: MakePrompt, tokenizer: Any) -> None:
    """PPO-27: six pairs of four answers are four texts; indices tell who stood against whom."""
    store = store_of(k_wise(make_prompt("tea"), ("good", "red", "blue", "bad")), tokenizer)
    assert len(store.texts) == 4
    assert store.chosen == (0, 0, 0, 1, 1, 2)
    assert store.rejected == (1, 2, 3, 2, 3, 3)
    assert store.weight == (1 / 6,) * 6
    # <user> tea <assistant> good <eos>: the EOS is part of what is scored.
    assert store.texts[0].input_ids == (3, 9, 4, 5, 1)


def test_each_text_is_encoded_once(
    pairs: list[PreferencePair], tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the file to the gradient, whatever parts the pairs fall into, for every model."""
    from alignloop.data import pairs as module

    encoded: list[tuple[str, str]] = []
    whole = module.encode_example

    def noted(tokenizer: Any, prompt: Prompt, answer: Any, most: int) -> Encoded:
        encoded.append((prompt.text, answer.content))
        return whole(tokenizer, prompt, answer, most)

    monkeypatch.setattr(module, "encode_example", noted)
    limit, seen = LengthLimit.of("reward.max_tokens", 64, None, "refuse"), {}
    for part in (pairs, pairs[:9], pairs[9:]):
        codes = TextCodes(tokenizer=tokenizer, limit=limit, seen=seen)
        store = PairStore.of(PairStore.of(part, codes).pairs, codes)
        store.take([1, 0]).cuts(30)
    distinct = {(p.prompt.text, text) for p in pairs for text in (p.chosen, p.rejected)}
    assert sorted(encoded) == sorted(distinct)


def test_the_same_words_under_another_prompt_are_another_text(
    make_prompt: MakePrompt, tokenizer: Any
) -> None:
    pairs = [
        *k_wise(make_prompt("tea"), ("good", "bad")),
        *k_wise(make_prompt("sun"), ("good", "bad")),
    ]
    assert len(store_of(pairs, tokenizer).texts) == 4


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


def loss_of(
    scores: torch.Tensor, config: RewardConfig | None = None, **fields: Any
) -> tuple[torch.Tensor, float]:
    """Mean loss and accuracy of two pairs over four texts; `weight=(1.0, 3.0)` and so on."""
    prompt = Prompt(prompt_id="p", messages=(Message(role="user", content="p"),))
    pairs = tuple(
        PreferencePair(
            prompt=prompt, chosen="a", rejected="b", **{name: of[i] for name, of in fields.items()}
        )
        for i in range(2)
    )
    store = PairStore(pairs=pairs, texts=(), chosen=(0, 2), rejected=(1, 3))
    said = scores_of(store, scores, torch.arange(2))
    loss, metrics = means(store, said, ranking_losses(config or RewardConfig()), store)
    return loss, metrics["accuracy"]


def softplus(x: float) -> float:
    """-log sigmoid(-x), by hand."""
    return math.log1p(math.exp(x))


def test_the_loss_by_hand_with_weights() -> None:
    """Differences 1 and -2, weights 1 and 3: (softplus(-1) + 3 softplus(2)) / 4; half are right."""
    scores = torch.tensor([2.0, 1.0, 0.0, 2.0])
    loss, accuracy = loss_of(scores, weight=(1.0, 3.0))
    assert float(loss) == pytest.approx((softplus(-1.0) + 3 * softplus(2.0)) / 4, abs=1e-6)
    assert accuracy == 0.5


def test_a_tie_is_a_soft_label_and_counts_for_no_accuracy() -> None:
    """PPO-29 (WebGPT): (softplus(2) + softplus(-2)) / 2 at a difference of -2."""
    scores = torch.tensor([2.0, 1.0, 0.0, 2.0])
    loss, accuracy = loss_of(scores, preference=(1.0, 0.5))
    tie = (softplus(2.0) + softplus(-2.0)) / 2
    assert float(loss) == pytest.approx((softplus(-1.0) + tie) / 2, abs=1e-6)
    assert accuracy == 1.0
    _, undecided = loss_of(scores, preference=(0.5, 0.5))
    assert undecided == 0.5


def test_the_margin_is_off_by_default_and_never_on_ties() -> None:
    """PPO-29: with the margin on, difference 1 and margin 3 make -2; the tie keeps its 0."""
    scores = torch.tensor([2.0, 1.0, 5.0, 5.0])
    said = {"preference": (1.0, 0.5), "margin": (3.0, 3.0)}
    plain, _ = loss_of(scores, **said)
    assert float(plain) == pytest.approx((softplus(-1.0) + math.log(2)) / 2, abs=1e-6)
    with_margin, _ = loss_of(scores, RewardConfig(use_margin=True), **said)
    assert float(with_margin) == pytest.approx((softplus(2.0) + math.log(2)) / 2, abs=1e-6)


def test_centring_by_hand() -> None:
    """docs/algorithms.md#ppo-30: sums 3 and 2, so 0.1 * (9 + 4) / 2 is added."""
    scores = torch.tensor([2.0, 1.0, 0.0, 2.0])
    plain, _ = loss_of(scores)
    centred, _ = loss_of(scores, RewardConfig(centring_coef=0.1))
    assert float(centred - plain) == pytest.approx(0.65, abs=1e-6)


def test_a_score_difference_of_a_thousand_stays_finite() -> None:
    """docs/algorithms.md#ppo-28: log(sigmoid(-1000)) would be -inf, and its gradient NaN."""
    scores = torch.tensor([0.0, 1000.0, 0.0, 0.0], requires_grad=True)
    loss, _ = loss_of(scores)
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


def gradient_of(model: Any, store: PairStore, tokens: int) -> tuple[dict[str, float], torch.Tensor]:
    model.zero_grad()
    config = RewardConfig(micro_batch_tokens=tokens, batch_size=len(store.pairs))
    step = ranking(config, model, store, 0, 1).step(range(len(store.pairs)))
    metrics = accumulate(step, SINGLE)
    return metrics, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_micro_batches_do_not_change_the_gradient(
    model: Any, pairs: list[PreferencePair], tokenizer: Any
) -> None:
    """PPO-23, here for rankings that are divided, so that a text is read in several of them."""
    store = store_of(pairs, tokenizer)
    metrics, expected = gradient_of(model, store, 10_000)
    assert float(expected.norm()) > 1e-3
    for tokens in (60, 1):
        others, found = gradient_of(model, store, tokens)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        assert others == pytest.approx(metrics, abs=1e-6)


def of_five_texts() -> PairStore:
    """Texts 0-1-2 hang together by two pairs, 3-4 by one; 5 tokens each, so two fit in 12."""
    prompt = Prompt(prompt_id="p", messages=(Message(role="user", content="p"),))
    pairs = tuple(
        PreferencePair(
            prompt=prompt, chosen="a", rejected="b", preference=preference, weight=weight
        )
        for preference, weight in ((1.0, 1.0), (1.0, 0.5), (0.5, 0.25))
    )
    texts = tuple(Encoded(input_ids=(n,) * 5, response_mask=(True,) * 5) for n in range(5))
    return PairStore(pairs=pairs, texts=texts, chosen=(0, 2, 3), rejected=(1, 1, 4))


def test_pairs_that_texts_connect_stay_together_where_they_fit() -> None:
    store = of_five_texts()
    assert store.cuts(25) == [[[0, 1], [2]]]
    assert store.cuts(15) == [[[0, 1]], [[2]]]
    assert store.cuts(12) == store.cuts(1) == [[[0]], [[1]], [[2]]]
    assert store.text_cuts(12) == [[0, 1], [2], [3, 4]]  # each text once
    part = store.take([2])
    assert [text.input_ids[0] for text in part.texts] == [3, 4]
    assert (part.chosen, part.rejected, part.weight, part.decided) == ((0,), (1,), (0.25,), 0)
    both = store.take([0, 2], groups=[[2], [0]])
    assert [text.input_ids[0] for text in both.texts] == [3, 4, 0, 1]
    assert (both.chosen, both.rejected) == ((2, 0), (3, 1))


def test_scores_come_back_in_the_order_of_the_texts(
    model: Any, pairs: list[PreferencePair], tokenizer: Any
) -> None:
    texts = store_of(pairs, tokenizer).texts
    one_by_one = []
    for text in texts:
        ids = torch.tensor([text.input_ids])
        one_by_one.append(sequence_scores(model, ids, torch.ones_like(ids).bool()).detach())
    scores = all_scores(model, texts, 0, 30)
    torch.testing.assert_close(scores, torch.cat(one_by_one), rtol=0, atol=1e-5)


def many(make_prompt: MakePrompt, count: int) -> list[PreferencePair]:
    found = [k_wise(make_prompt(f"tea {i}"), ("good", "red", "bad")) for i in range(count)]
    return [pair for ranking in found for pair in ranking]
