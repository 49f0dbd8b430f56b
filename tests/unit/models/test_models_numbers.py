"""What models say of tokens and sequences: log-probabilities, scores, values, steps down."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from alignloop.config import ModelConfig, RlConfig
from alignloop.data.batching import pad_batch
from alignloop.data.tokenise import Encoded
from alignloop.models import (
    load_policy,
    load_reward_model,
    sequence_scores,
    token_logprobs,
    token_values,
)
from alignloop.training.optimiser import cosine_schedule, descend, linear_schedule, make_optimizer

FAMILIES = ("qwen2", "llama", "gpt2")
SIDES: tuple[Literal["right", "left"], ...] = ("right", "left")
# EOS (1) stands inside a prompt too, and PAD (0) inside a response: masks must not come from ids.
SEQUENCES = (
    ((3, 12, 7, 1, 3, 9, 4), (22, 0, 5, 1)),
    ((3, 8, 4), (20, 1)),
    ((3, 30, 31, 4), (6, 6, 25, 9, 10)),
)


def batch(side: Literal["right", "left"]) -> dict[str, torch.Tensor]:
    examples = [
        Encoded(input_ids=(*p, *r), response_mask=(False,) * len(p) + (True,) * len(r))
        for p, r in SEQUENCES
    ]
    return pad_batch(examples, 0, side)


def naive_logprobs(model: Any, ids: tuple[int, ...], start: int, temperature: float) -> list[float]:
    """One sequence, no padding, full logits, a loop."""
    logits = model(torch.tensor([ids])).logits[0].detach().double() / temperature
    return [
        float(logits[t - 1, ids[t]] - torch.logsumexp(logits[t - 1], 0))
        for t in range(start, len(ids))
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_token_logprobs_equal_the_naive_computation(
    family: str,
    side: Literal["right", "left"],
    temperature: float,
    lm_dirs: dict[str, Path],
    tokenizer: Any,
    model_config: ModelConfig,
) -> None:
    """PPO-1, PPO-5 and PPO-11: both kinds of head, both sides, and the temperature inside."""
    policy = load_policy(lm_dirs[family], tokenizer, model_config)
    plain = AutoModelForCausalLM.from_pretrained(lm_dirs[family]).eval()
    padded = batch(side)
    found = token_logprobs(policy, **padded, temperature=temperature)
    for row, (prompt, response) in enumerate(SEQUENCES):
        naive = naive_logprobs(plain, (*prompt, *response), len(prompt), temperature)
        ours = found.logprobs[row][padded["response_mask"][row]]
        torch.testing.assert_close(ours, torch.tensor(naive), rtol=0, atol=1e-5)
    assert bool((found.logprobs[~padded["response_mask"]] == 0).all())
    assert bool((found.entropy[~padded["response_mask"]] == 0).all())


def test_entropy_is_that_of_the_whole_distribution(
    lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    policy = load_policy(lm_dirs["qwen2"], tokenizer, model_config)
    logits = policy(torch.tensor([[3, 8, 4]])).logits[0, -1].detach()
    p = torch.softmax(logits / 0.5, -1)  # of the token after (3, 8, 4): the first of row 1
    entropy = token_logprobs(policy, **batch("right"), temperature=0.5).entropy
    assert float(entropy[1, 3]) == pytest.approx(float(-(p * p.log()).sum()), abs=1e-5)
    assert not entropy.requires_grad


def test_a_response_at_the_first_token_is_refused(
    lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    policy = load_policy(lm_dirs["qwen2"], tokenizer, model_config)
    everything = torch.ones(1, 3, dtype=torch.bool)
    with pytest.raises(AssertionError, match="first token"):
        token_logprobs(policy, torch.tensor([[3, 4, 5]]), everything, everything)


def test_the_learner_learns_to_stop(
    lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    """PPO-1: EOS at the end of a response has a gradient, though padding follows it."""
    policy = load_policy(lm_dirs["llama"], tokenizer, model_config)
    padded = batch("right")
    eos_only = torch.zeros_like(padded["response_mask"])
    eos_only[0, 10] = eos_only[1, 4] = True
    assert padded["input_ids"][eos_only].tolist() == [1, 1]
    assert bool((padded["response_mask"] & eos_only).sum() == 2)
    token_logprobs(policy, **padded).logprobs[eos_only].sum().backward()
    assert float(policy.lm_head.weight.grad[1].norm()) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_do_not_depend_on_padding_and_are_transformers_own(
    family: str, reward_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    """PPO-4: alone, right-padded, left-padded, and transformers' own forward agree."""
    model = load_reward_model(reward_dirs[family], tokenizer, model_config)
    plain = AutoModelForSequenceClassification.from_pretrained(reward_dirs[family]).eval()
    alone = [plain(torch.tensor([[*p, *r]])).logits[0, 0] for p, r in SEQUENCES]
    expected = torch.stack(alone).detach()
    assert float(expected.std()) > 0.05, "the three scores must be told apart"
    for side in SIDES:
        padded = batch(side)
        scores = sequence_scores(model, padded["input_ids"], padded["attention_mask"])
        torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)
    extra = torch.nn.functional.pad(batch("right")["input_ids"], (0, 5))
    mask = torch.nn.functional.pad(batch("right")["attention_mask"], (0, 5))
    torch.testing.assert_close(sequence_scores(model, extra, mask), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_values_are_read_just_before_their_token(
    family: str, reward_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    """values[t] sees tokens 0..t-1 alone: changing token t and what follows changes nothing."""
    model = load_reward_model(reward_dirs[family], tokenizer, model_config)
    ids = torch.tensor([[3, 8, 4, 20, 11, 1]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad():
        values, final = token_values(model, ids, mask)
    assert values[0, 0].item() == 0.0
    for t in range(1, 6):
        score = sequence_scores(model, ids[:, :t], mask[:, :t])
        torch.testing.assert_close(values[:, t], score, rtol=0, atol=1e-5)
    torch.testing.assert_close(final, sequence_scores(model, ids, mask), rtol=0, atol=1e-6)


def test_values_do_not_depend_on_padding(
    reward_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    model = load_reward_model(reward_dirs["gpt2"], tokenizer, model_config)
    left, right = batch("left"), batch("right")
    found = {}
    for side, padded in (("left", left), ("right", right)):
        values, final = token_values(model, padded["input_ids"], padded["attention_mask"])
        found[side] = values[padded["response_mask"]], final
    for one, other in zip(found["left"], found["right"], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_adam_has_the_eps_of_the_2019_code() -> None:
    """docs/algorithms.md#ppo-20."""
    module = torch.nn.Linear(2, 1)
    module.bias.requires_grad_(False)
    optimizer = make_optimizer(module, RlConfig(), learning_rate=0.5)
    group = optimizer.param_groups[0]
    assert (group["eps"], group["lr"], group["weight_decay"]) == (1e-5, 0.5, 0.0)
    assert group["params"] == [module.weight]


def test_linear_schedule_by_hand() -> None:
    """docs/algorithms.md#ppo-21: four steps at 1, 3/4, 1/2 and 1/4 of the rate."""
    rate = linear_schedule(4)
    assert [rate(step) for step in (1, 2, 3, 4)] == [1.0, 0.75, 0.5, 0.25]


def test_cosine_schedule_by_hand() -> None:
    factor = cosine_schedule(10, 0.2)
    assert [factor(1), factor(2)] == [0.5, 1.0]
    assert factor(10) == pytest.approx(0.5 * (1 + math.cos(math.pi * 8 / 9)), abs=1e-12)
    falling = [factor(step) for step in range(2, 11)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] > 0


def with_gradient(gradient: list[float]) -> tuple[torch.nn.Parameter, torch.optim.SGD]:
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor(gradient)
    return weight, torch.optim.SGD([weight], lr=99.0)


def test_descend_clips_the_norm_and_tells_it_unclipped() -> None:
    """docs/algorithms.md#ppo-21: (3, 4) has norm 5 and becomes (0.6, 0.8)."""
    weight, optimizer = with_gradient([3.0, 4.0])
    assert descend(optimizer, learning_rate=0.1, max_grad_norm=1.0) == 5.0
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.06, -0.08]))
    assert weight.grad is None


def test_descend_leaves_a_small_gradient_as_it_is() -> None:
    weight, optimizer = with_gradient([0.3, 0.4])
    descend(optimizer, learning_rate=1.0, max_grad_norm=1.0)
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.3, -0.4]))


def test_descend_takes_no_step_along_nan() -> None:
    weight, optimizer = with_gradient([float("nan"), 1.0])
    assert math.isnan(descend(optimizer, learning_rate=0.1, max_grad_norm=1.0))
    assert weight.tolist() == [0.0, 0.0]
    assert weight.grad is None


def test_bfloat16_logprobs_are_summed_in_float32(
    make_lm: Callable[..., Any],
) -> None:
    policy = make_lm("qwen2").to(torch.bfloat16)
    assert token_logprobs(policy, **batch("right")).logprobs.dtype == torch.float32
