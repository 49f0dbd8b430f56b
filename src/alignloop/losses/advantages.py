"""From the score of a response to the credit of each of its tokens."""

from typing import Literal

import torch

from alignloop.losses.kl import KlEstimator, kl_estimate
from alignloop.shapes import PerSequence, PerToken, TokenMask

_STD_EPSILON = 1e-4  # added to a group's standard deviation: far below any that matters


def last_true_index(mask: TokenMask) -> torch.Tensor:
    """Position of the last True entry of each row, wherever the padding is.

    Shapes: [batch, seq]; result [batch], integers. A row without a True entry is a bug (assert): a
    response has at least one token.
    """
    assert bool(mask.any(dim=1).all()), "a row of the mask has no True entry"
    positions = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, positions, -1).amax(dim=1)


def missing_eos(
    scores: PerSequence,
    finished: torch.Tensor,
    *,
    penalty: float,
    mode: Literal["replace", "subtract"] = "replace",
) -> PerSequence:
    """Penalise responses that were cut off before EOS.

    replace:  finished ? score : penalty            (N+ details: penalty = -1)
    subtract: finished ? score : score - penalty    (penalty >= 0)

    Shapes: `scores` [batch]; `finished` [batch], True if the response ended with EOS;
    result [batch]. Unit: that of the scores.
    Source: Huang et al. 2024 (arXiv:2403.17031), "EOS trick".
    """
    assert mode == "replace" or penalty >= 0, "a negative penalty would reward being cut off"
    cut_off = torch.full_like(scores, penalty) if mode == "replace" else scores - penalty
    return torch.where(finished, scores, cut_off)


def shaped_rewards(
    scores: PerSequence,
    logprobs: PerToken,
    ref_logprobs: PerToken,
    response_mask: TokenMask,
    *,
    kl_coef: float,
    estimator: KlEstimator = "k1",
) -> PerToken:
    """Charge each response token for its KL and add the score at the last token.

    rewards[b,t] = -kl_coef * kl[b,t] + (t is the last response token of b) * scores[b]

    Zero outside the response. `logprobs` are those at sampling time (`old_logprobs`).

    Shapes: `scores` [batch], the others [batch, seq]; result [batch, seq].
    Units: `kl_coef` is score per nat; the charges of a sequence add up to kl_coef times its KL.
    Raises: AssertionError if a response is empty. Source: Ziegler et al. 2019, equation 2.
    """
    kl = kl_estimate(logprobs, ref_logprobs, estimator)
    charged = torch.where(response_mask, -kl_coef * kl, torch.zeros_like(kl))
    last = last_true_index(response_mask).unsqueeze(1)
    return charged.scatter_add(1, last, scores.to(charged.dtype).unsqueeze(1))


def gae(
    rewards: PerToken,
    values: PerToken,
    response_mask: TokenMask,
    *,
    gamma: float,
    lam: float,
    bootstrap: PerSequence | None = None,
) -> tuple[PerToken, PerToken]:
    """Generalised advantage estimation over the response tokens of each row.

    delta[t] = rewards[t] + gamma * values[t+1] - values[t]
    advantages[t] = delta[t] + gamma * lam * advantages[t+1]
    returns[t] = advantages[t] + values[t]

    `values[t]` is the critic's value just before token t. After the last response token the value
    is 0 (the episode is over), or `bootstrap[b]`: for a response cut off by the length limit, the
    critic's value after its last token. Positions outside the response are skipped and get 0, so
    neither the side nor the amount of padding matters.

    Shapes: [batch, seq], `bootstrap` [batch]; results [batch, seq] twice. `gamma` and `lam` have
    no default on purpose: for language models they are 1 and 0.95, not 1 and 1.
    Source: Schulman et al. 2016 (arXiv:1506.02438), equation 16.
    """
    next_value = torch.zeros_like(values[:, 0]) if bootstrap is None else bootstrap
    running = torch.zeros_like(values[:, 0])
    columns: list[torch.Tensor] = []
    for t in reversed(range(values.shape[1])):
        inside = response_mask[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        # outside the response the recursion carries over unchanged: padding may be on either side
        running = torch.where(inside, delta + gamma * lam * running, running)
        next_value = torch.where(inside, values[:, t], next_value)
        columns.append(running)
    advantages = torch.stack(columns[::-1], dim=1)
    zero = torch.zeros_like(advantages)
    returns = torch.where(response_mask, advantages + values, zero)
    return torch.where(response_mask, advantages, zero), returns


def group_advantages(
    scores: PerSequence, group_size: int, *, scale_by_std: bool = True
) -> PerSequence:
    """How much better each response is than the others to its prompt.

    A = (score - mean of its group) / (std of its group + 1e-4)

    The groups are `group_size` neighbours each. The variance divides by n - 1. A group whose scores
    are all equal carries no signal: exactly 0. Dividing by std gives prompts on which nearly all
    responses score alike the largest weight; `scale_by_std=False` omits it (Dr. GRPO).

    Shapes: [batch]; result [batch]. Unit: standard deviations, or that of the scores.
    Raises: AssertionError for groups of one (line 25) and for a batch that is not whole groups.
    Source: Shao et al. 2024 (arXiv:2402.03300), section 4.1.2; Dr. GRPO: arXiv:2503.20783.
    """
    assert group_size > 1 and len(scores) % group_size == 0, (len(scores), group_size)
    groups = scores.reshape(-1, group_size)
    advantages = groups - groups.mean(dim=1, keepdim=True)
    if scale_by_std:
        advantages = advantages / (groups.std(dim=1, keepdim=True) + _STD_EPSILON)
    # rounding may put the mean of equal numbers off by one digit, and std would blow that up
    equal = (groups == groups[:, :1]).all(dim=1, keepdim=True)
    return torch.where(equal, 0.0, advantages).reshape(-1)
