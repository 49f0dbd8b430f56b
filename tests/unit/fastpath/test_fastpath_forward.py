"""Our own forward pass for the Llama family: transformers' numbers and gradients, less work."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from alignloop.fastpath import attention, supports
from alignloop.fastpath.packing import pack
from alignloop.models.forward import hidden_states, states_at

SHAPE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "llama with biases": LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True),
    "yarn": LlamaConfig(**SHAPE, rope_parameters={**YARN, "original_max_position_embeddings": 64}),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE, head_dim=16),
    "mistral": MistralConfig(**SHAPE, sliding_window=None),
}


def make_model(name: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[name])).eval()


def batch(side: str) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, attention mask and wanted places; rows 0 to 2 begin alike, all lengths differ."""
    torch.manual_seed(1)
    ids = torch.randint(0, 61, (5, 20))
    ids[1, :9], ids[2, :7] = ids[0, :9], ids[0, :7]
    mask = torch.arange(20) < torch.tensor([15, 20, 11, 1, 8]).unsqueeze(1)
    wanted = mask & (torch.rand(5, 20) < 0.4)
    wanted[:3, 6] = True  # in the shared beginning of three rows
    wanted[3] = False
    if side == "left":
        shifts = (20 - mask.sum(1)).tolist()
        ids, mask, wanted = (
            torch.stack([row.roll(s) for row, s in zip(x, shifts, strict=True)])
            for x in (ids, mask, wanted)
        )
    return ids, mask, wanted


def gradients(model: Any, states: Tensor, upstream: Tensor) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    (states * upstream).sum().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("longest", [attention.LONGEST_WHOLE, 0], ids=["products", "sdpa"])
def test_states_and_gradients_are_those_of_transformers(
    name: str, side: str, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "LONGEST_WHOLE", longest)
    model = make_model(name)
    assert supports(model)
    ids, mask, wanted = batch(side)
    assert pack(ids, mask).shared
    expected, found = hidden_states(model, ids, mask)[wanted], states_at(model, ids, mask, wanted)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)
    upstream = torch.randn_like(expected)
    theirs, ours = (gradients(model, states, upstream) for states in (expected, found))
    assert theirs.keys() == ours.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=2e-4, msg=key)


def test_a_shared_beginning_is_packed_once_by_hand() -> None:
    """Rows 0 and 1 share (5, 6, 7); row 2 begins with 5 alone, which is not worth breaking up."""
    ids = torch.tensor([[5, 6, 7, 8, 0], [5, 6, 7, 9, 9], [5, 1, 2, 0, 0]])
    mask = torch.arange(5) < torch.tensor([4, 5, 3]).unsqueeze(1)
    packing = pack(ids, mask)
    assert packing.tokens.tolist() == [5, 6, 7, 8, 9, 9, 5, 1, 2]
    assert packing.positions.tolist() == [0, 1, 2, 3, 3, 4, 0, 1, 2]
    assert packing.owners.tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2]
    assert packing.rows.tolist() == [[0, 1, 2, 3, 3], [0, 1, 2, 4, 5], [6, 7, 8, 8, 8]]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=7),
    left=st.booleans(),
)
def test_whatever_is_packed_can_be_read_again(rows: list[list[int]], left: bool) -> None:
    width = max(map(len, rows)) + 2
    padded = [[2] * (width - len(r)) + r if left else r + [2] * (width - len(r)) for r in rows]
    masks = [[left] * (width - len(r)) + [not left] * width for r in rows]
    mask = torch.tensor([m[:width] for m in masks])
    if left:
        mask = ~mask
    else:
        mask = torch.arange(width) < torch.tensor([len(r) for r in rows]).unsqueeze(1)
    packing = pack(torch.tensor(padded), mask)
    flat = packing.tokens[packing.at(mask, mask)].tolist()
    assert flat == [token for row in rows for token in row]
    assert packing.positions[packing.at(mask, mask)].tolist() == [
        place for row in rows for place in range(len(row))
    ]
    assert len(packing.tokens) <= len(flat)
    assert (len(packing.tokens) < len(flat)) == packing.shared


class Adapter(nn.Module):
    """As PEFT wraps a linear layer: the frozen product and a small trained one."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.extra = nn.Linear(inner.in_features, inner.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + self.extra(x)


def test_adapters_around_linear_layers_count_and_learn() -> None:
    model = make_model("qwen2").requires_grad_(False)
    for layer in model.model.layers:
        for owner, name in ((layer.self_attn, "q_proj"), (layer.mlp, "down_proj")):
            setattr(owner, name, Adapter(getattr(owner, name)))
    assert supports(model)
    ids, mask, wanted = batch("right")
    expected, found = hidden_states(model, ids, mask)[wanted], states_at(model, ids, mask, wanted)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)
    upstream = torch.randn_like(expected)
    theirs, ours = (gradients(model, states, upstream) for states in (expected, found))
    assert set(ours) == set(theirs) and all("extra" in key for key in ours)
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=2e-4, msg=key)


def hooked(model: Any) -> None:
    model.model.layers[1].self_attn.register_forward_hook(lambda *_: None)


def subclassed(model: Any) -> None:
    layer = model.model.layers[1]
    kind = type(layer.input_layernorm)
    other = {"__module__": "somewhere", "forward": lambda self, x: 2 * kind.forward(self, x)}
    layer.input_layernorm.__class__ = type("Other", (kind,), other)


def patched(model: Any) -> None:
    layer = model.model.layers[1]
    layer.forward = lambda x, **_: x


def dropping(model: Any) -> None:
    model.model.layers[0].self_attn.attention_dropout = 0.1
    model.train()


def checkpointing(model: Any) -> None:
    model.model.layers[0].gradient_checkpointing = True
    model.train()


def flash(model: Any) -> None:
    model.config._attn_implementation = "flash_attention_2"


@pytest.mark.parametrize("change", [hooked, subclassed, patched, dropping, checkpointing, flash])
def test_what_it_would_not_compute_goes_through_transformers(change: Any) -> None:
    model = make_model("llama")
    change(model)
    assert not supports(model)


def test_a_renamed_class_computes_what_it_did() -> None:
    """As FSDP2's `fully_shard` renames the classes of what it shards."""
    model = make_model("llama")
    for module in (model, model.model, *model.model.layers):
        kind = type(module)
        module.__class__ = type(f"FSDP{kind.__name__}", (kind,), {"__module__": "torch.fsdp"})
    assert supports(model)
    ids, mask, wanted = batch("right")
    expected, found = hidden_states(model, ids, mask)[wanted], states_at(model, ids, mask, wanted)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)


def test_a_module_of_another_family_is_not_passed_over() -> None:
    model, other = make_model("llama"), make_model("qwen2")
    assert supports(model)
    model.model.norm = other.model.norm
    assert not supports(model)
