"""Credit and update: first steps that must be exactly 1, gradients that no cutting may change."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from alignloop.config import ModelConfig, PpoConfig, RlConfig
from alignloop.models import token_logprobs
from alignloop.rl.algorithms import make_algorithm
from alignloop.rl.algorithms.ppo import PpoRollouts
from alignloop.rl.build import Parts, build
from alignloop.rl.experience import Experience, ScoredRollouts
from alignloop.rl.update import counts_of, is_finite

SEED = 7
PRICE, FREE = {"kl_coef": 0.1}, {"kl_coef": 0.0}


@pytest.fixture
def make_parts(
    model_config: ModelConfig, rl_inputs: Callable[..., Any], rl_config: Callable[..., RlConfig]
) -> Callable[..., Parts]:
    def make(family: str = "llama", **changes: Any) -> Parts:
        config = rl_config(**changes)
        return build(config, model_config, rl_inputs(family), seed=SEED, observer=None)

    return make


def scored_of(parts: Parts) -> ScoredRollouts:
    rollouts = parts.sampler.generate(parts.stream.at(1), parts.stream.seeds(1))
    return parts.scorer.score(rollouts)


def experience_of(parts: Parts) -> Experience:
    return experience_from(parts.learner.algorithm, scored_of(parts))


def experience_from(algorithm: Any, scored: Any) -> Experience:
    return Experience(scored=scored, credit=algorithm.credit(scored, algorithm.start))


@pytest.mark.parametrize("family", ["qwen2", "llama", "gpt2"])
def test_the_first_step_is_exactly_on_policy(family: str, make_parts: Callable[..., Parts]) -> None:
    """Line 26: ratio exactly 1, approximate KL exactly 0, nothing clipped."""
    parts = make_parts(family, algorithm={"num_epochs": 1})
    experience = experience_of(parts)
    metrics = parts.learner.update(experience, seed=SEED, step=1, rate=1.0)
    assert metrics["first_ratio"] == metrics["ratio"] == 1.0
    assert metrics["approx_kl"] == 0.0
    assert metrics["clip_fraction"] == metrics["value_clip_fraction"] == 0.0
    assert metrics["policy_gradient_norm"] > 0 and metrics["critic_gradient_norm"] > 0


def test_every_first_ratio_is_exactly_one_in_micro_batches_too(
    make_parts: Callable[..., Parts],
) -> None:
    """Line 26 again, token by token: the update cuts the batch exactly as the scorer did."""
    parts = make_parts(micro_batch_tokens=40)
    experience = experience_of(parts)
    cuts = experience.micro_batches(range(6), 40)
    assert len(cuts) > 1
    for rows in cuts:
        part = experience.take(rows)
        now = token_logprobs(
            parts.learner.policy,
            part.scored.input_ids,
            part.scored.attention_mask,
            part.scored.response_mask,
        )
        assert torch.equal(now.logprobs, part.scored.old_logprobs)


def test_later_epochs_leave_the_old_policy(make_parts: Callable[..., Parts]) -> None:
    parts = make_parts(algorithm={"num_epochs": 3})
    metrics = parts.learner.update(experience_of(parts), seed=SEED, step=1, rate=1.0)
    assert metrics["first_ratio"] == 1.0
    assert metrics["approx_kl"] > 0
    assert metrics["optimizer_steps"] == 3


def gradients_of(parts: Parts, experience: Experience) -> list[torch.Tensor]:
    learner = parts.learner
    counts = counts_of(experience.scored.response_mask)
    rows = range(len(experience))
    for cut in experience.micro_batches(rows, learner.config.micro_batch_tokens):
        learner._backward(experience.take(cut), counts)
    modules = [m for m in (learner.policy, learner.critic) if m is not None]
    return [p.grad for module in modules for p in module.parameters() if p.grad is not None]


def test_micro_batches_do_not_change_the_gradient(make_parts: Callable[..., Parts]) -> None:
    """Line 23: one pass, a few, or one sequence at a time."""
    whole = make_parts(micro_batch_tokens=10_000)
    experience = experience_of(whole)
    assert len({int(n) for n in experience.scored.response_mask.sum(1)}) > 1, "lengths must differ"
    expected = gradients_of(whole, experience)
    for tokens in (40, 1):
        found = gradients_of(make_parts(micro_batch_tokens=tokens), experience)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_micro_batches_do_not_change_the_metrics(make_parts: Callable[..., Parts]) -> None:
    found = []
    for tokens in (10_000, 30):
        parts = make_parts(micro_batch_tokens=tokens, algorithm={"num_epochs": 1})
        found.append(parts.learner.update(experience_of(parts), seed=SEED, step=1, rate=1.0))
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def padded(record: Any) -> Any:
    """The same with four more places on the right."""
    pad = torch.nn.functional.pad
    return replace(record, **{n: pad(v, (0, 4)) for n, v in vars(record).items() if v.ndim > 1})


def test_padding_does_not_change_the_update(make_parts: Callable[..., Parts]) -> None:
    parts = make_parts()
    experience = experience_of(parts)
    expected = gradients_of(parts, experience)
    wider = replace(experience, scored=padded(experience.scored), credit=padded(experience.credit))
    for one, other in zip(gradients_of(make_parts(), wider), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_minibatches_hold_every_row_once_per_epoch(make_parts: Callable[..., Parts]) -> None:
    learner = make_parts(algorithm={"num_minibatches": 4}).learner
    parts = learner._minibatches(6, SEED, 1, 0)
    assert sorted(row for part in parts for row in part) == list(range(6))
    assert [len(part) for part in parts] == [2, 2, 1, 1]
    assert learner._minibatches(6, SEED, 1, 0) == parts
    assert learner._minibatches(6, SEED, 1, 1) != parts


def test_critic_warm_up_leaves_the_policy_alone(make_parts: Callable[..., Parts]) -> None:
    """Line 7: the first steps may train the critic only."""
    parts = make_parts(algorithm={"critic_warmup_steps": 1, "num_epochs": 1})
    policy, critic = parts.learner.policy, parts.learner.critic
    before = [p.detach().clone() for p in policy.parameters()]
    head = critic.score.weight.detach().clone()
    metrics = parts.learner.update(experience_of(parts), seed=SEED, step=1, rate=1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))
    assert metrics["policy_gradient_norm"] == 0.0
    assert not torch.equal(head, critic.score.weight)
    parts.learner.update(experience_of(parts), seed=SEED, step=2, rate=1.0)
    assert not all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))


def test_epochs_end_early_on_approximate_kl(make_parts: Callable[..., Parts]) -> None:
    """Line 18: the first pass has KL 0, the second is beyond a tiny target."""
    parts = make_parts(algorithm={"num_epochs": 4, "target_kl": 1e-9})
    metrics = parts.learner.update(experience_of(parts), seed=SEED, step=1, rate=1.0)
    assert metrics["optimizer_steps"] == 2


def test_the_rate_scales_both_learning_rates(make_parts: Callable[..., Parts]) -> None:
    """Line 21."""
    parts = make_parts(algorithm={"num_epochs": 1})
    learner = parts.learner
    learner.update(experience_of(parts), seed=SEED, step=2, rate=0.25)
    assert learner.policy_optimizer.param_groups[0]["lr"] == 0.25 * 1e-3
    assert learner.critic_optimizer.param_groups[0]["lr"] == 0.25 * 2e-3
    assert learner.policy_optimizer.param_groups[0]["eps"] == 1e-5  # line 20
    assert learner.critic_optimizer.param_groups[0]["eps"] == 1e-5


def test_dropout_is_off_in_every_model(make_parts: Callable[..., Parts]) -> None:
    """Line 19."""
    for family in ("llama", "gpt2"):
        parts = make_parts(family)
        scorer = parts.scorer
        for model in (
            scorer.policy,
            scorer.reference,
            scorer.critic,
            scorer.rewarder.rewarder.parts[0][1].model,
        ):
            assert not model.training
            dropouts = [m for m in model.modules() if isinstance(m, torch.nn.Dropout)]
            assert all(dropout.p == 0.0 for dropout in dropouts)


def hand_made(**changes: Any) -> PpoRollouts:
    """Two answers of two tokens after a prompt of one; the second was cut off."""
    zeros = torch.zeros(2, 3)
    fields: dict[str, Any] = {
        "input_ids": torch.tensor([[3, 5, 1], [3, 6, 7]]),
        "attention_mask": torch.ones(2, 3, dtype=torch.bool),
        "response_mask": torch.tensor([[False, True, True]] * 2),
        "rollout_logprobs": zeros,
        "old_logprobs": zeros,
        "ref_logprobs": zeros,
        "entropy": zeros,
        "values": torch.tensor([[0.0, 1.0, 2.0], [0.0, 3.0, 4.0]]),
        "final_values": torch.tensor([9.0, 5.0]),
        "scores": torch.tensor([2.0, -1.0]),
        "raw_scores": torch.tensor([2.0, 3.0]),
        "finished": torch.tensor([True, False]),
    }
    return PpoRollouts(**{**fields, **changes})


def test_credit_by_hand() -> None:
    """Lines 9 and 13: lambda 1/2, and KL charges of 0.1 * (log p - log q)."""
    config = PpoConfig(lam=0.5, whiten_advantages=False)
    scored = hand_made(old_logprobs=torch.tensor([[0.0, -1.0, -2.0], [0.0, -1.0, -1.0]]))
    credit = make_algorithm(config).credit(scored, PRICE)
    rewards = torch.tensor([[0.0, 0.1, 2.2], [0.0, 0.1, -0.9]])
    torch.testing.assert_close(credit.rewards, rewards)
    # Row 0: delta = (0.1 + 2 - 1, 2.2 - 2) = (1.1, 0.2); A = (1.1 + 0.5 * 0.2, 0.2).
    # Row 1: delta = (0.1 + 4 - 3, -0.9 - 4) = (1.1, -4.9); A = (1.1 - 2.45, -4.9).
    advantages = torch.tensor([[0.0, 1.2, 0.2], [0.0, -1.35, -4.9]])
    torch.testing.assert_close(credit.advantages, advantages)
    torch.testing.assert_close(credit.returns, torch.tensor([[0.0, 2.2, 2.2], [0.0, 1.65, -0.9]]))


def test_a_cut_off_answer_may_be_bootstrapped() -> None:
    """Line 24: the critic's 5 after the last token stands in for the rest, in row 1 alone."""
    config = PpoConfig(lam=1.0, whiten_advantages=False, bootstrap_cut_off=True)
    returns = make_algorithm(config).credit(hand_made(), PRICE).returns
    torch.testing.assert_close(returns, torch.tensor([[0.0, 2.0, 2.0], [0.0, 4.0, 4.0]]))
    plain = make_algorithm(config.model_copy(update={"bootstrap_cut_off": False}))
    torch.testing.assert_close(
        plain.credit(hand_made(), PRICE).returns, torch.tensor([[0.0, 2.0, 2.0], [0.0, -1.0, -1.0]])
    )


def test_advantages_are_white_over_response_tokens() -> None:
    """Line 14: mean 0 and variance 1 over four tokens, 0 elsewhere."""
    credit = make_algorithm(PpoConfig()).credit(hand_made(), FREE)
    inside = credit.advantages[:, 1:]
    assert float(inside.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(inside.square().mean()) == pytest.approx(1.0, abs=1e-6)
    assert credit.advantages[:, 0].tolist() == [0.0, 0.0]


def test_scores_may_be_clipped_and_rewards_whitened() -> None:
    """Line 15: scores to +-1/2; rewards to variance 1 with their mean kept."""
    clipped = make_algorithm(PpoConfig(clip_score=0.5)).credit(hand_made(), FREE).rewards
    assert clipped[:, 2].tolist() == [0.5, -0.5]
    white = make_algorithm(PpoConfig(whiten_rewards=True)).credit(hand_made(), FREE).rewards
    assert float(white[:, 1:].mean()) == pytest.approx(0.25, abs=1e-6)
    assert float(white[:, 1:].var(unbiased=False)) == pytest.approx(1.0, abs=1e-6)


def test_truncated_importance_weights_by_hand() -> None:
    """Line 22: p_trainer / p_sampler = e^0.5 is capped at 1.2, e^-0.5 stays; 1 at the prompt."""
    scored = hand_made(
        rollout_logprobs=torch.tensor([[0.0, -1.5, -0.5], [0.0, -1.0, -1.0]]),
        old_logprobs=torch.tensor([[0.0, -1.0, -1.0], [0.0, -1.0, -1.0]]),
    )
    weights = make_algorithm(PpoConfig(importance_cap=1.2)).credit(scored, FREE).token_weights
    expected = torch.tensor([[1.0, 1.2, math.exp(-0.5)], [1.0, 1.0, 1.0]])
    torch.testing.assert_close(weights, expected)
    plain = make_algorithm(PpoConfig()).credit(scored, FREE)
    assert plain.token_weights.tolist() == [[1.0] * 3] * 2


def test_token_weights_scale_the_policy_loss_alone() -> None:
    algorithm, scored = make_algorithm(PpoConfig()), hand_made()
    experience = experience_from(algorithm, scored)
    credit = replace(experience.credit, token_weights=torch.full((2, 3), 0.5))
    halved = replace(experience, credit=credit)
    one = algorithm.policy_loss(scored.old_logprobs, experience)
    half = algorithm.policy_loss(scored.old_logprobs, halved)
    torch.testing.assert_close(half.loss, one.loss / 2)
    assert bool((half.metrics["ratio"] == 1).all())


def test_only_an_undefined_explained_variance_is_forgiven() -> None:
    assert is_finite({"loss": 1.0, "explained_variance": float("nan")})
    assert not is_finite({"loss": float("nan"), "explained_variance": 0.5})
    assert not is_finite({"kl": float("inf")})
