"""Who computes a row changes nothing: its random numbers are a function of its seed alone."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_support import STOPS
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from alignloop.config import SamplingConfig
from alignloop.rollout import LlamaSampler, Sampler, TransformersSampler
from alignloop.rollout.drawing import uniforms_of
from alignloop.run import derive_seed, row_seeds

SEEDS = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20)
PROMPTS = [[5, 6, 7], [9], [11, 12, 13, 14, 15, 16], [5, 6, 7], [20, 21], [30, 31, 32, 33]]
ASKED = [(str(i), PROMPTS[i % len(PROMPTS)]) for i in range(12)]
TOKENS = 10


def test_the_numbers_are_those_of_splitmix64() -> None:
    """The first outputs for the seeds 0 and 1234567 as published, their first 24 bits."""
    first = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)
    other = (6457827717110365317, 3203168211198807973, 9817491932198370423)
    expected = torch.tensor([[z >> 40 for z in row] for row in (first, other)]) / 2**24
    assert torch.equal(uniforms_of([0, 1234567], 3), expected)


def test_all_seeds_and_numbers_are_below_one() -> None:
    found = uniforms_of([derive_seed(3, "many", i) for i in range(500)], 400)
    assert float(found.min()) >= 0 and float(found.max()) < 1
    assert found.dtype == torch.float32
    # 200,000 numbers: the mean's standard error is 0.00065, a decile's share's 0.00067
    assert float(found.mean()) == pytest.approx(0.5, abs=0.003)
    shares = torch.bincount((found * 10).long().flatten(), minlength=10) / found.numel()
    assert torch.allclose(shares, torch.full((10,), 0.1), atol=0.003)
    assert abs(float(torch.corrcoef(found[:, :2].T)[0, 1])) < 0.15
    assert abs(float(torch.corrcoef(found[:2])[0, 1])) < 0.15


@given(seeds=SEEDS, count=st.integers(1, 12), data=st.data())
def test_a_row_s_numbers_know_neither_its_batch_nor_the_longest_response(
    seeds: list[int], count: int, data: st.DataObject
) -> None:
    whole = uniforms_of(seeds, count)
    order = data.draw(st.permutations(range(len(seeds))))
    assert torch.equal(uniforms_of([seeds[i] for i in order], count), whole[list(order)])
    half = data.draw(st.integers(0, len(seeds)))
    parts = [uniforms_of(part, count) for part in (seeds[:half], seeds[half:])]
    assert torch.equal(torch.cat(parts), whole)
    shorter = data.draw(st.integers(1, count))
    assert torch.equal(uniforms_of(seeds, shorter), whole[:, :shorter])


def test_the_seeds_of_a_part_are_a_part_of_the_seeds() -> None:
    seeds = row_seeds(6, 7, "rollout", 3)
    assert seeds[:4] == row_seeds(4, 7, "rollout", 3)
    assert seeds[5] == derive_seed(7, "rollout", 3, 5)
    assert len({*seeds, *row_seeds(6, 7, "rollout", 4), *row_seeds(6, 8, "rollout", 3)}) == 18


def make_samplers() -> dict[str, Sampler]:
    """In float64, where another order of adding moves no draw across an edge."""
    shape: dict[str, Any] = {"vocab_size": 97, "initializer_range": 0.3}
    llama = LlamaConfig(
        **shape, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    gpt2 = GPT2Config(**shape, n_embd=32, n_layer=2, n_head=4, bos_token_id=None, eos_token_id=None)
    config = SamplingConfig(max_new_tokens=TOKENS, batch_size=5, temperature=2.0)
    models = []
    for kind in (llama, gpt2):
        torch.manual_seed(0)
        models.append(AutoModelForCausalLM.from_config(kind).double().eval())
    return {
        "fast": LlamaSampler(model=models[0], stop_ids=STOPS, config=config),
        "transformers": TransformersSampler(
            model=models[1], stop_ids=STOPS, pad_token_id=0, config=config
        ),
    }


SAMPLERS = make_samplers()


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLERS)
@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(len(ASKED))), half=st.integers(0, len(ASKED)))
def test_a_response_is_the_same_in_any_batch(name: str, order: list[int], half: int) -> None:
    """Alone, all together, shuffled, and in two parts by two processes."""
    sampler, seeds = SAMPLERS[name], row_seeds(len(ASKED), 1, "rollout", 1)

    def tokens(rows: list[int]) -> list[tuple[int, ...]]:
        found = sampler.generate([ASKED[i] for i in rows], [seeds[i] for i in rows])
        assert [rollout.prompt_id for rollout in found] == [ASKED[i][0] for i in rows]
        return [rollout.response_ids for rollout in found]

    whole = tokens(list(range(len(ASKED))))
    assert len(set(whole)) == len(ASKED) and len({len(response) for response in whole}) > 2
    assert tokens(order) == [whole[i] for i in order]
    assert tokens(order[:half]) + tokens(order[half:]) == [whole[i] for i in order]
    assert tokens([order[0]]) == [whole[order[0]]]


def test_a_local_sampler_refuses_weights_that_it_does_not_read() -> None:
    fast = SAMPLERS["fast"]
    assert isinstance(fast, LlamaSampler)
    fast.load(fast.model, 3)
    with pytest.raises(AssertionError, match="another model"):
        fast.load(make_samplers()["fast"].model, 3)  # pyright: ignore[reportAttributeAccessIssue]
