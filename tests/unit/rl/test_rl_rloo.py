"""RLOO: credit by hand, its gradient, and a run that logs what it charged."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from alignloop.config import ModelConfig, RlConfig
from alignloop.config.algorithms import RlooConfig
from alignloop.rl import train_rl
from alignloop.rl.algorithms import make_algorithm
from alignloop.rl.experience import Experience, WithBoth
from alignloop.run import read_metrics


def hand_made() -> WithBoth:
    """Three answers to one prompt, of two tokens each; the first has moved by 1 + 2 nats."""
    zeros = torch.zeros(3, 3)
    return WithBoth(
        input_ids=torch.full((3, 3), 5),
        attention_mask=torch.ones(3, 3, dtype=torch.bool),
        response_mask=torch.tensor([[False, True, True]] * 3),
        rollout_logprobs=zeros,
        old_logprobs=torch.tensor([[0.0, -1.0, -1.0], [0.0] * 3, [0.0] * 3]),
        entropy=zeros,
        ref_logprobs=torch.tensor([[0.0, -2.0, -3.0], [0.0] * 3, [0.0] * 3]),
        scores=torch.tensor([3.0, 1.0, -1.0]),
        raw_scores=torch.tensor([3.0, 1.0, -1.0]),
        finished=torch.ones(3, dtype=torch.bool),
    )


def test_each_response_is_measured_by_the_mean_of_the_others() -> None:
    """R = (3 - 0.5 * 3, 1, -1) = (1.5, 1, -1): A = 1.5 - 0, 1 - 0.25, -1 - 1.25."""
    algorithm = make_algorithm(RlooConfig(kl_coef=0.5, group_size=3))
    credit = algorithm.credit(hand_made(), algorithm.start)
    rewards = [[0.0, -0.5, 2.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]
    torch.testing.assert_close(credit.rewards, torch.tensor(rewards))
    advantages = [[0.0, a, a] for a in (1.5, 0.75, -2.25)]
    torch.testing.assert_close(credit.advantages, torch.tensor(advantages))


def test_the_gradient_of_a_first_pass_is_that_of_reinforce() -> None:
    """The ratio is 1: of -A log p at each token, and the KL that was charged is 3 nats / 3."""
    algorithm, scored = make_algorithm(RlooConfig(kl_coef=0.5, group_size=3)), hand_made()
    credit = algorithm.credit(scored, algorithm.start)
    logprobs = scored.old_logprobs.clone().requires_grad_()
    losses = algorithm.policy_loss(logprobs, Experience(scored=scored, credit=credit))
    losses.loss.sum().backward()
    torch.testing.assert_close(logprobs.grad, -credit.advantages)
    told = algorithm.metrics(scored, credit, algorithm.start)
    assert told == {"kl_reward": pytest.approx(-0.5), "kl_coef": 0.5}


def test_a_run(
    stage_run: Callable[..., Any],
    model_config: ModelConfig,
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
) -> None:
    """Without a critic, with a reference; the loop knows nothing of it."""
    run = stage_run("rl")
    config = rl_config(
        num_steps=2, batch_size=3, algorithm={"name": "rloo", "group_size": 2, "num_epochs": 1}
    )
    train_rl(config, model_config, rl_inputs(), run)
    lines = read_metrics(run.folder.path, "rl")[1:]
    assert [line["first_ratio"] for line in lines] == [pytest.approx(1.0, abs=1e-6)] * 2
    assert lines[0]["kl"] == 0.0 != lines[1]["kl"]
    assert lines[1]["reward"] == pytest.approx(lines[1]["score"] + lines[1]["kl_reward"], abs=1e-5)
    assert not any("value" in name for name in lines[1])
