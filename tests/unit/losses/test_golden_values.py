"""Numbers that other libraries publish; once typed here, once read from the reference file.

The typed copy makes the tests run everywhere; the file, where it is, shows that the copy is true.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from alignloop.losses import dpo_loss, gae, ppo_policy_loss, reduce_tokens, shaped_rewards

FILE = Path(__file__).resolve().parents[4] / "shared/data/reference/golden_values.json"

TYPED: dict[str, Any] = {
    "gae_rlax": {
        "r_t": [[0.0, 0.0, 1.0, 0.0, -0.5], [0.0, 0.0, 0.0, 0.0, 1.0]],
        "v_t(T+1)": [[1.0, 4.0, -3.0, -2.0, -1.0, -1.0], [-3.0, -2.0, -1.0, 0.0, 5.0, -1.0]],
        "discount_t(0=terminal)": [[0.99] * 5, [0.9, 0.9, 0.9, 0.0, 0.9]],
        "expected_by_lambda": {
            "1.0": [[-1.45118, -4.4557, 2.5396, 0.5249, -0.49], [3, 2, 1, 0, -4.9]],
            "0.7": [[-0.676979, -5.248167, 2.4846, 0.6704, -0.49], [2.2899, 1.73, 1, 0, -4.9]],
            "0.4": [[0.56731, -6.042, 2.3431, 0.815, -0.49], [1.725, 1.46, 1, 0, -4.9]],
        },
    },
    "gae_torchtune": {
        "values": [0, 0, 0, 1],
        "rewards": [0, 0, 0, 1],
        "gamma": 0.9,
        "lambda": 0.95,
        "expected_returns": [0.6579225, 0.7695, 0.9, 1.0],
    },
    "kl_shaped_reward_torchtune": {
        "scores": [1, 2, 3],
        "logprobs": [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.6, 0.7, 0.8]],
        "ref_logprobs": [[0.2, 0.3, 0.4], [0.6, 0.7, 0.8], [0.9, 1.0, 1.1]],
        "kl_coeff": 0.5,
        "expected_rewards": [[0.05, 0.05, 1.05], [0.1, 0.1, 2.1], [0.15, 0.15, 3.15]],
    },
    "ppo_policy_loss_torchtune": {
        "old_logprobs": [0.5, 0.8, 1.2],
        "advantages": [1, 1, 1],
        "eps": 0.2,
        "cases": [
            {"new": [1.5, 1.8, 2.2], "true_mean_loss": -1.2},
            {"new": [-0.5, -0.2, 0.2], "true_mean_loss": -0.36787944117144233},
            {"new": [0.6, 0.9, 1.3], "true_mean_loss": -1.1051709180756477},
        ],
    },
    "dpo_loss_torchtune": {
        "beta": 0.1,
        "policy_chosen": [-0.5, -10.0, -1.0],
        "policy_rejected": [-0.1, -30.0, -21.0],
        "ref_chosen": [-0.5, -10.1, -0.1],
        "ref_rejected": [-0.1, -20.1, -0.1],
        "expected_losses": [0.6931471805599453, 0.31326168751822286, 0.1269280110429726],
    },
}


@pytest.fixture(params=["typed", "file"])
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "typed":
        return TYPED
    if not FILE.exists():
        pytest.skip(f"no reference file at {FILE}")
    return json.loads(FILE.read_text())


def _double(numbers: Any) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def _all_true(values: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(values, dtype=torch.bool)


def _advantages(
    rewards: torch.Tensor, values: torch.Tensor, gamma: float, lam: float, after: float
) -> torch.Tensor:
    """Advantages [seq] of one whole row, with the critic's value `after` its last step."""
    rewards, values = rewards.unsqueeze(0), values.unsqueeze(0)
    mask = _all_true(values)
    bootstrap = _double([after])
    return gae(rewards, values, mask, gamma=gamma, lam=lam, bootstrap=bootstrap)[0][0]


@pytest.mark.parametrize("lam", ["1.0", "0.7", "0.4"])
def test_gae_as_in_rlax(golden: dict[str, Any], lam: str) -> None:
    case = golden["gae_rlax"]
    rewards, values = _double(case["r_t"]), _double(case["v_t(T+1)"])
    expected = _double(case["expected_by_lambda"][lam])
    assert case["discount_t(0=terminal)"] == [[0.99] * 5, [0.9, 0.9, 0.9, 0.0, 0.9]]
    # row 0 is one episode that goes on; row 1 ends after four steps, and a new one is cut off
    first = _advantages(rewards[0], values[0, :5], 0.99, float(lam), values[0, 5].item())
    ended = _advantages(rewards[1, :4], values[1, :4], 0.9, float(lam), 0.0)
    fresh = _advantages(rewards[1, 4:], values[1, 4:5], 0.9, float(lam), values[1, 5].item())
    # 1e-3 is the tolerance of the source, whose numbers are rounded
    assert_close(torch.stack([first, torch.cat([ended, fresh])]), expected, atol=1e-3, rtol=0)


def test_gae_as_in_torchtune(golden: dict[str, Any]) -> None:
    case = golden["gae_torchtune"]
    rewards, values = _double([case["rewards"]]), _double([case["values"]])
    mask = _all_true(values)
    _, returns = gae(rewards, values, mask, gamma=case["gamma"], lam=case["lambda"])
    assert_close(returns, _double([case["expected_returns"]]))


def test_shaped_rewards_as_in_torchtune(golden: dict[str, Any]) -> None:
    case = golden["kl_shaped_reward_torchtune"]
    logprobs, ref = _double(case["logprobs"]), _double(case["ref_logprobs"])
    rewards = shaped_rewards(
        _double(case["scores"]), logprobs, ref, _all_true(logprobs), kl_coef=case["kl_coeff"]
    )
    assert_close(rewards, _double(case["expected_rewards"]))


def test_policy_loss_where_torchtune_errs(golden: dict[str, Any]) -> None:
    # its own test compares with rtol=1e6, so that nothing can fail, and expects +exp(0.1) for the
    # unclipped case; by hand: ratios exp(1), exp(-1), exp(0.1) with advantage 1 and clip 0.2 give
    # -1.2, -exp(-1), -exp(0.1)
    case = golden["ppo_policy_loss_torchtune"]
    old, advantages = _double([case["old_logprobs"]]), _double([case["advantages"]])
    for example in case["cases"]:
        new = _double([example["new"]])
        out = ppo_policy_loss(new, old, advantages, clip_range=case["eps"])
        mean = reduce_tokens(out.loss, _all_true(new))
        assert_close(mean, _double(example["true_mean_loss"]))


def test_dpo_loss_as_in_torchtune(golden: dict[str, Any]) -> None:
    case = golden["dpo_loss_torchtune"]
    names = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")
    losses = dpo_loss(*(_double(case[name]) for name in names), beta=case["beta"])
    assert_close(losses, _double(case["expected_losses"]))
