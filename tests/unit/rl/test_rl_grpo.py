"""GRPO: credit and loss by hand, a single pass without a critic, and a policy that learns."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from alignloop.config import GrpoConfig, ModelConfig, RlConfig
from alignloop.rl import train_rl
from alignloop.rl.algorithms import make_algorithm
from alignloop.rl.build import Parts, build
from alignloop.rl.experience import (
    Experience,
    ScoredRollouts,
    WithBoth,
    WithOldLogprobs,
    WithReference,
)
from alignloop.rl.update import counts_of
from alignloop.run import read_metrics

SEED = 7
LOG2 = math.log(2.0)
OF_A_CRITIC = {
    "value", "value_loss", "value_clip_fraction", "explained_variance", "critic_gradient_norm",
}  # fmt: skip


def hand_made(**changes: Any) -> WithBoth:
    """Two answers to each of two prompts, of two tokens each but the second, which has one."""
    mask = torch.tensor([[False, True, True]] * 4)
    mask[1, 2] = False
    zeros = torch.zeros(4, 3)
    fields: dict[str, Any] = {
        "input_ids": torch.full((4, 3), 5),
        "attention_mask": torch.ones(4, 3, dtype=torch.bool),
        "response_mask": mask,
        "rollout_logprobs": zeros,
        "old_logprobs": zeros,
        "entropy": zeros,
        "ref_logprobs": zeros,
        "scores": torch.tensor([1.0, 3.0, -1.0, -1.0]),
        "raw_scores": torch.tensor([1.0, 3.0, -1.0, -1.0]),
        "finished": torch.ones(4, dtype=torch.bool),
    }
    return WithBoth(**{**fields, **changes})


def test_credit_by_hand() -> None:
    """Scores 1 and 3 are sqrt(2) wide; those of the second prompt are equal."""
    credit = make_algorithm(GrpoConfig(group_size=2)).credit(hand_made(), {})
    a = 1 / (math.sqrt(2) + 1e-4)
    advantages = [[0.0, -a, -a], [0.0, a, 0.0], [0.0] * 3, [0.0] * 3]
    torch.testing.assert_close(credit.advantages, torch.tensor(advantages))
    rewards = [[0.0, 0.0, 1.0], [0.0, 3.0, 0.0], [0.0, 0.0, -1.0], [0.0, 0.0, -1.0]]
    assert credit.rewards.tolist() == rewards
    assert not hasattr(credit, "returns")


def test_the_deviation_may_be_left_out() -> None:
    algorithm = make_algorithm(GrpoConfig(group_size=2, scale_by_std=False))
    advantages = algorithm.credit(hand_made(), {}).advantages
    assert advantages.tolist() == [[0.0, -1.0, -1.0], [0.0, 1.0, 0.0], [0.0] * 3, [0.0] * 3]


def test_the_loss_by_hand() -> None:
    """Ratios 2 and 1/2 with advantages 1 and -1; the first token weighs half."""
    config = GrpoConfig(group_size=2, clip_range=0.2, clip_range_high=0.3, kl_coef=0.1)
    algorithm = make_algorithm(config)
    scored = hand_made(ref_logprobs=torch.tensor([[0.0, 0.0, -LOG2]] * 4))
    credit = replace(
        algorithm.credit(scored, {}),
        advantages=torch.tensor([[0.0, 1.0, -1.0]] * 4),
        token_weights=torch.tensor([[1.0, 0.5, 1.0]] * 4),
    )
    experience = Experience(scored=scored, credit=credit)
    logprobs = torch.tensor([[0.0, LOG2, -LOG2]] * 4)
    losses = algorithm.policy_loss(logprobs, experience)
    # -min(2, 1.3) / 2 + 0.1 * 2 * k3, and -min(-0.5, -0.8) with a KL of 0; the KL weighs in full
    k3 = math.exp(-LOG2) - 1 + LOG2
    torch.testing.assert_close(losses.loss[0, 1:], torch.tensor([-0.65 + 0.2 * k3, 0.8]))
    torch.testing.assert_close(losses.metrics["kl_penalty"][0, 1:], torch.tensor([2 * k3, 0.0]))
    plain = make_algorithm(config.model_copy(update={"kl_gradient": "k3"}))
    loss = plain.policy_loss(logprobs, experience).loss
    torch.testing.assert_close(loss[0, 1:], torch.tensor([-0.65 + 0.1 * k3, 0.8]))
    free = make_algorithm(config.model_copy(update={"kl_coef": 0.0}))
    without = free.policy_loss(logprobs, experience)
    torch.testing.assert_close(without.loss[0, 1:], torch.tensor([-0.65, 0.8]))
    assert "kl_penalty" not in without.metrics


@pytest.fixture
def make_parts(
    model_config: ModelConfig, rl_inputs: Callable[..., Any], rl_config: Callable[..., RlConfig]
) -> Callable[..., Parts]:
    """`make_parts(algorithm={"kl_coef": 0.1}, micro_batch_tokens=30)`: five prompts, three each."""

    def make(**changes: Any) -> Parts:
        algorithm = {"name": "grpo", "group_size": 3, **changes.pop("algorithm", {})}
        config = rl_config(
            **{"batch_size": 5, "missing_eos": "off", **changes}, algorithm=algorithm
        )
        return build(config, model_config, rl_inputs(), seed=SEED, observer=None)

    return make


def experience_of(parts: Parts) -> Experience:
    rollouts = parts.sampler.generate(parts.stream.at(1), parts.stream.seeds(1))
    scored = parts.scorer.score(rollouts)
    return Experience(scored=scored, credit=parts.learner.algorithm.credit(scored, {}))


def gradient_of(parts: Parts, experience: Experience) -> torch.Tensor:
    learner, counts = parts.learner, counts_of(experience.scored.response_mask)
    rows = range(len(experience))
    for cut in experience.micro_batches(rows, learner.config.micro_batch_tokens):
        learner._backward(experience.take(cut), counts)
    return torch.cat([p.grad.flatten() for p in learner.policy.parameters() if p.grad is not None])


def test_only_the_models_that_are_needed_are_there(make_parts: Callable[..., Parts]) -> None:
    plain = make_parts()
    assert plain.learner.critic is plain.learner.critic_optimizer is plain.scorer.critic is None
    assert plain.scorer.reference is None and plain.scorer.reads is ScoredRollouts
    assert plain.state.modules.keys() == plain.state.optimizers.keys() == {"policy"}
    for changes in ({"algorithm": {"kl_coef": 0.1}}, {"kl_budget": 5.0}):
        scorer = make_parts(**changes).scorer
        assert scorer.reference is not None and issubclass(scorer.reads, WithReference)
    for setting in ({"num_epochs": 2}, {"num_minibatches": 2}, {"importance_cap": 2.0}):
        scorer = make_parts(algorithm=setting).scorer
        assert scorer.reads is WithOldLogprobs and scorer.reference is None


def test_a_step_holds_the_responses_of_a_prompt_in_a_row(make_parts: Callable[..., Parts]) -> None:
    parts = make_parts()
    asked = [prompt_id for prompt_id, _ in parts.stream.at(1)]
    assert [asked[i : i + 3] for i in range(0, 15, 3)] == [[name] * 3 for name in asked[::3]]
    assert len(set(asked)) == 5
    experience = experience_of(parts)
    responses = {tuple(row.tolist()) for row in experience.scored.input_ids[:3]}
    assert len(responses) > 1, "the responses to a prompt are drawn with different numbers"


@pytest.mark.slow
@pytest.mark.parametrize("over", ["sequences", "tokens"])
@pytest.mark.parametrize("kl_coef", [0.0, 0.5])
def test_micro_batches_do_not_change_the_gradient(
    over: str, kl_coef: float, make_parts: Callable[..., Parts]
) -> None:
    """Line 23: one pass, a few, or one sequence at a time."""
    algorithm = {"loss_over": over, "kl_coef": kl_coef}
    whole = make_parts(algorithm=algorithm)
    experience = experience_of(whole)
    assert len({int(n) for n in experience.scored.response_mask.sum(1)}) > 1, "lengths must differ"
    expected = gradient_of(whole, experience)
    assert float(expected.norm()) > 1e-3
    for tokens in (40, 1):
        found = gradient_of(make_parts(algorithm=algorithm, micro_batch_tokens=tokens), experience)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_each_response_weighs_the_same_or_each_token(make_parts: Callable[..., Parts]) -> None:
    """On policy the gradient is that of -A times the logprobs, by hand in float64 weights."""
    from alignloop.models import token_logprobs

    for over in ("sequences", "tokens"):
        parts = make_parts(algorithm={"loss_over": over})
        experience = experience_of(parts)
        found = gradient_of(parts, experience)
        parts.learner.policy.zero_grad()
        scored, mask = experience.scored, experience.scored.response_mask
        lengths = mask.sum(dim=1, keepdim=True)
        weights = 1 / (lengths * len(mask)) if over == "sequences" else 1 / lengths.sum()
        logprobs = token_logprobs(
            parts.learner.policy, scored.input_ids, scored.attention_mask, mask
        ).logprobs
        (-experience.credit.advantages * logprobs * weights)[mask].sum().backward()
        parameters = parts.learner.policy.parameters()
        expected = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_single_pass_needs_no_reading_of_the_policy_before_it(
    make_parts: Callable[..., Parts],
) -> None:
    """Its own logprobs are the old ones: the same gradient and metrics as with that reading."""
    algorithm = {"kl_coef": 0.1}
    lean, full = make_parts(algorithm=algorithm), make_parts(algorithm=algorithm)
    read = replace(full.scorer, reads=WithBoth)
    rollouts = full.sampler.generate(full.stream.at(1), full.stream.seeds(1))
    found = []
    for parts, scorer in ((lean, lean.scorer), (full, read)):
        # another reference than the policy, so that there is a KL to measure
        with torch.no_grad():
            scorer.reference.lm_head.weight.mul_(1.1)
        scored = scorer.score(rollouts)
        credit = parts.learner.algorithm.credit(scored, {})
        experience = Experience(scored=scored, credit=credit)
        found.append(gradient_of(parts, experience))
    assert lean.scorer.reads is WithReference
    assert torch.equal(*found)
    metrics = lean.learner.update(experience_of(lean), seed=SEED, step=1, rate=1.0)
    assert metrics["first_ratio"] == 1.0 and metrics["approx_kl"] == 0.0
    assert metrics["clip_fraction"] == 0.0
    assert metrics.keys() >= {"entropy", "sampler_mismatch", "kl", "kl_penalty"}
    assert not metrics.keys() & OF_A_CRITIC


@pytest.fixture
def run_grpo(
    stage_run: Callable[..., Any],
    model_config: ModelConfig,
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
) -> Callable[..., tuple[Path, list[dict[str, Any]]]]:
    """`run_grpo("a", num_steps=2)`: (run folder, metrics)."""

    def make(name: str, run: Any = None, **changes: Any) -> tuple[Path, list[dict[str, Any]]]:
        algorithm = {"name": "grpo", "group_size": 3, **changes.pop("algorithm", {})}
        config = rl_config(**{"batch_size": 2, "num_steps": 2, **changes}, algorithm=algorithm)
        run = run or stage_run("rl", run=name)
        train_rl(config, model_config, rl_inputs(), run)
        return run.folder.path, read_metrics(run.folder.path, "rl")

    return make


def test_metrics_of_models_that_are_not_there_are_absent(
    run_grpo: Callable[..., tuple[Path, list[dict[str, Any]]]],
) -> None:
    _, lines = run_grpo("plain")
    for line in lines:
        assert not line.keys() & OF_A_CRITIC
        assert not line.keys() & {"kl", "kl_reward", "kl_penalty", "validation_kl"}
    assert lines[1].keys() >= {"score", "entropy", "sampler_mismatch", "ratio", "kl_coef"}
    assert lines[1]["sampler_mismatch"] < 1e-5
    assert lines[1]["reward"] == pytest.approx(lines[1]["score"])


@pytest.mark.slow
def test_a_budget_of_kl_is_enough_to_measure_it(
    run_grpo: Callable[..., tuple[Path, list[dict[str, Any]]]],
) -> None:
    """By the update in a single pass, or by the reading before it: the same number at step 1."""
    _, lines = run_grpo("single", kl_budget=1e-6, num_steps=9, learning_rate=1e-2)
    assert lines[1]["kl"] == 0.0 and lines[2]["kl"] > 1e-6 and len(lines) < 10
    assert lines[2]["validation_kl"] != 0.0
    assert not lines[2].keys() & {"kl_reward", "kl_penalty"}
    _, again = run_grpo("two", kl_budget=9.0, learning_rate=1e-2, algorithm={"num_epochs": 2})
    assert again[1]["kl"] == 0.0 and again[2]["kl"] != 0.0
    assert again[1]["entropy"] == pytest.approx(lines[1]["entropy"], abs=1e-6)


class _Killed(Exception):
    pass


@pytest.mark.slow
def test_a_run_that_goes_on_is_the_same_to_the_bit(
    run_grpo: Callable[..., tuple[Path, list[dict[str, Any]]]],
    stage_run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {"num_steps": 2, "save_every": 1, "algorithm": {"kl_coef": 0.1, "num_epochs": 2}}
    straight, expected = run_grpo("straight", **settings)
    stopped = stage_run("rl", run="stopped")
    log = stopped.log

    def log_then_die(step: int, *rest: Any, **options: Any) -> None:
        log(step, *rest, **options)
        if step == 2:
            raise _Killed

    monkeypatch.setattr(stopped, "log", log_then_die)
    with pytest.raises(_Killed):
        run_grpo("stopped", stopped, **settings)
    stopped.folder.close()
    resumed, found = run_grpo("stopped", **settings)
    weights = [(run / "rl/model/model.safetensors").read_bytes() for run in (straight, resumed)]
    assert weights[0] == weights[1]
    for one, other in zip(found, expected, strict=True):
        clock = {key for key in one if key == "time" or "second" in key}
        assert {k: one[k] for k in one.keys() - clock} == {
            k: other[k] for k in other.keys() - clock
        }


@pytest.mark.slow
def test_a_trivial_preference_is_learnt(make_parts: Callable[..., Parts]) -> None:
    """An answer is worth the times that it says "good" (token 5): in eight places, at most 8."""
    parts = make_parts(algorithm={"group_size": 8}, batch_size=4, learning_rate=2e-2)
    means = []
    for step in range(1, 21):
        rollouts = parts.sampler.generate(parts.stream.at(step), parts.stream.seeds(step))
        scored = parts.scorer.score(rollouts)
        said = (scored.input_ids == 5) & scored.response_mask
        scored = replace(scored, scores=said.sum(dim=1).float())
        means.append(float(scored.scores.mean()))
        credit = parts.learner.algorithm.credit(scored, {})
        experience = Experience(scored=scored, credit=credit)
        parts.learner.update(experience, seed=SEED, step=step, rate=1.0)
    assert means[0] < 1 and means[-1] > 4, means
