import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from alignloop.losses import (
    gae,
    group_advantages,
    last_true_index,
    missing_eos,
    shaped_rewards,
)

NAN = math.nan


def _mask(*rows):
    return torch.tensor([[c == "x" for c in row] for row in rows])


def test_last_true_index_is_read_from_the_mask():
    mask = _mask("..xx", ".xx.", "x...", "x..x")
    assert last_true_index(mask).tolist() == [3, 2, 0, 3]


def test_last_true_index_refuses_an_empty_response():
    with pytest.raises(AssertionError, match="no True entry"):
        last_true_index(_mask(".x", ".."))


def test_missing_eos_replaces_or_subtracts():
    scores, finished = torch.tensor([2.0, 3.0]), torch.tensor([True, False])
    assert missing_eos(scores, finished, penalty=-1.0).tolist() == [2.0, -1.0]
    # 3 - 0.5
    assert missing_eos(scores, finished, penalty=0.5, mode="subtract").tolist() == [2.0, 2.5]


def test_missing_eos_never_rewards_being_cut_off():
    with pytest.raises(AssertionError, match="reward being cut off"):
        missing_eos(torch.ones(1), torch.tensor([False]), penalty=-1.0, mode="subtract")


def test_shaped_rewards_by_hand():
    # checklist 4: row 0 is right-padded, so position -1 is padding, and the score is not there
    mask = _mask(".xx.", "..xx")
    logprobs = torch.tensor([[NAN, -1.0, -2.0, NAN], [NAN, NAN, -1.0, -1.0]])
    ref = torch.tensor([[NAN, -2.0, -1.5, NAN], [NAN, NAN, -1.0, -3.0]])
    rewards = shaped_rewards(torch.tensor([10.0, 20.0]), logprobs, ref, mask, kl_coef=0.1)
    # k1: 1, -0.5 | 0, 2; times -0.1: -0.1, 0.05 | 0, -0.2; the score at the last of each
    expected = torch.tensor([[0.0, -0.1, 10.05, 0.0], [0.0, 0.0, 0.0, 19.8]])
    assert_close(rewards, expected)


def test_shaped_rewards_with_k3():
    # d = log 2: k3 = log 2 - 1/2 = 0.1931472; 1 - 2 * 0.1931472
    logprobs, ref = torch.tensor([[math.log(2.0)]]), torch.zeros(1, 1)
    rewards = shaped_rewards(torch.ones(1), logprobs, ref, _mask("x"), kl_coef=2.0, estimator="k3")
    assert_close(rewards, torch.tensor([[0.6137056]]))


def test_kl_charges_add_up_to_the_kl_of_the_sequence():
    # checklist 9: three tokens of 0.5 nats are 1.5 nats; 4 - 0.2 * 1.5 = 3.7, not 4 - 0.2 * 0.5
    logprobs, ref = torch.zeros(1, 3), torch.full((1, 3), -0.5)
    rewards = shaped_rewards(torch.tensor([4.0]), logprobs, ref, _mask("xxx"), kl_coef=0.2)
    assert_close(rewards.sum(), torch.tensor(3.7))


def test_gae_by_hand():
    rewards, values = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 1.0]])
    advantages, returns = gae(rewards, values, _mask("xx"), gamma=0.5, lam=0.5)
    # delta_1 = 2 + 0.5 * 0 - 1 = 1; delta_0 = 1 + 0.5 * 1 - 0.5 = 1; A_0 = 1 + 0.25 * 1 = 1.25
    assert advantages.tolist() == [[1.25, 1.0]]
    assert returns.tolist() == [[1.75, 2.0]]


def test_gae_with_lambda_zero_is_one_step_and_with_one_is_monte_carlo():
    rewards, values = torch.tensor([[0.0, 0.0, 3.0]]), torch.tensor([[1.0, 2.0, 4.0]])
    one_step, _ = gae(rewards, values, _mask("xxx"), gamma=1.0, lam=0.0)
    assert one_step.tolist() == [[1.0, 2.0, -1.0]]  # 2 - 1, 4 - 2, 3 - 4
    monte_carlo, returns = gae(rewards, values, _mask("xxx"), gamma=1.0, lam=1.0)
    assert monte_carlo.tolist() == [[2.0, 1.0, -1.0]]  # 3 - value
    assert returns.tolist() == [[3.0, 3.0, 3.0]]


def test_gae_asks_for_lambda():
    # checklist 13: five libraries default to lambda 1; here nobody can forget to choose
    one = torch.ones(1, 1)
    with pytest.raises(TypeError, match="lam"):
        gae(one, one, _mask("x"), gamma=1.0)  # type: ignore[call-arg]


def test_bootstrap_stands_after_the_last_token_of_a_cut_off_response():
    rewards, values = torch.tensor([[1.0, NAN], [1.0, 1.0]]), torch.tensor([[2.0, 9.0], [2.0, 3.0]])
    mask = _mask("x.", "xx")
    advantages, _ = gae(
        rewards, values, mask, gamma=0.5, lam=1.0, bootstrap=torch.tensor([4.0, 0.0])
    )
    # row 0: 1 + 0.5 * 4 - 2 = 1, and the 9 at padding is not read
    # row 1: last 1 + 0 - 3 = -2; first 1 + 0.5 * 3 - 2 + 0.5 * -2 = -0.5
    assert advantages.tolist() == [[1.0, 0.0], [-0.5, -2.0]]


def test_positions_outside_the_response_are_skipped():
    rewards, values = torch.tensor([[1.0, NAN, 2.0]]), torch.tensor([[0.5, NAN, 1.0]])
    advantages, returns = gae(rewards, values, _mask("x.x"), gamma=0.5, lam=0.5)
    assert advantages.tolist() == [[1.25, 0.0, 1.0]]  # as in test_gae_by_hand
    assert returns.tolist() == [[1.75, 0.0, 2.0]]


@st.composite
def ragged_responses(draw):
    """Per row: numbers of the response [length, 4] (logprob, ref, value), and a score."""
    number = st.floats(-5, 5, allow_nan=False)
    token = st.tuples(number, number, number)
    row = st.tuples(st.lists(token, min_size=1, max_size=5), number)
    return draw(st.lists(row, min_size=1, max_size=4))


def _padded(rows, start):
    """Columns and mask [batch, 9], NaN around the response that starts at `start(length)`."""
    columns = torch.full((3, len(rows), 9), NAN, dtype=torch.float64)
    mask = torch.zeros(len(rows), 9, dtype=torch.bool)
    for i, (tokens, _) in enumerate(rows):
        span = slice(start(len(tokens)), start(len(tokens)) + len(tokens))
        columns[:, i, span] = torch.tensor(tokens, dtype=torch.float64).T
        mask[i, span] = True
    return columns, mask


def _credit(rows, start):
    (logprobs, ref, values), mask = _padded(rows, start)
    scores = torch.tensor([score for _, score in rows], dtype=torch.float64)
    rewards = shaped_rewards(scores, logprobs, ref, mask, kl_coef=0.3)
    advantages, returns = gae(rewards, values, mask, gamma=0.99, lam=0.95, bootstrap=scores)
    everything = torch.stack([rewards, advantages, returns])
    assert not everything[:, ~mask].any()  # zero, not NaN, outside of the response
    return everything[:, mask]


@settings(deadline=None, max_examples=60)
@given(ragged_responses(), st.integers(0, 4))
def test_padding_changes_no_number(rows, prompt_length):
    # checklist 4: after a prompt with padding on the right; with padding on the left
    right_padded = _credit(rows, lambda length: prompt_length)
    left_padded = _credit(rows, lambda length: 9 - length)
    assert torch.equal(right_padded, left_padded)


def test_group_advantages_by_hand():
    # groups (1, 2, 3) and (0, 0, 6): means 2 and 2, deviations 1 and sqrt((4 + 4 + 16) / 2)
    scores = torch.tensor([1.0, 2.0, 3.0, 0.0, 0.0, 6.0])
    root = math.sqrt(12.0)
    plain = torch.tensor([-1.0, 0.0, 1.0, -2.0, -2.0, 4.0])
    scaled = plain / (torch.tensor([1.0, 1.0, 1.0, root, root, root]) + 1e-4)
    assert_close(group_advantages(scores, 3), scaled)
    assert torch.equal(group_advantages(scores, 3, scale_by_std=False), plain)


@pytest.mark.parametrize("scale_by_std", [True, False])
def test_a_group_of_equal_scores_has_advantage_exactly_zero(scale_by_std):
    # in float32 the mean of seven times 0.1 is not 0.1
    scores = torch.tensor([0.1] * 7 + [1.0] * 6 + [1.1])
    assert float((scores[:7] - scores[:7].mean()).abs().max()) > 0
    advantages = group_advantages(scores, 7, scale_by_std=scale_by_std)
    assert advantages[:7].tolist() == [0.0] * 7
    assert bool((advantages[7:] != 0).all())


def test_a_score_that_is_not_finite_is_not_hidden():
    assert group_advantages(torch.tensor([float("nan")] * 2), 2).isnan().all()


def test_groups_of_one_and_torn_groups_are_our_mistake():
    # docs/algorithms.md#ppo-25: the only one of its group is its own mean, and would never learn
    for scores, group_size in ((torch.zeros(4), 1), (torch.zeros(5), 2)):
        with pytest.raises(AssertionError):
            group_advantages(scores, group_size)
