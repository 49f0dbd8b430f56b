"""The formula by hand, and against what PyTorch keeps and what the kernel counts."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from alignloop.config import ALL_WEIGHTS, LoraConfig, ModelConfig
from alignloop.models import token_logprobs
from alignloop.models.initialise import init_policy, init_reward_model
from alignloop.models.shared_base import trainable
from alignloop.plan.memory import (
    CHUNK_LOGITS,
    LONGEST_WHOLE,
    Numbers,
    Shape,
    activation_bytes,
    adapter_role,
    cache_bytes,
    full_role,
    layer_bytes,
    logits_bytes,
    side_by_side_bytes,
    trunk_role,
)
from alignloop.plan.shape import read_shape, shape_of

SHAPE = Shape(
    family="llama",
    parameters=100,
    head=10,
    linear=80,
    layers=2,
    hidden=4,
    mlp=8,
    heads=2,
    queries=4,
    keys=2,
    vocabulary=5,
    adapter_inputs=30,
    adapter_width=60,
)
PLAIN = Numbers(weight_bytes=4, device="cpu", checkpointing=False, rank=None, four_bit=False)
LOW = Numbers(weight_bytes=2, device="cuda", checkpointing=True, rank=3, four_bit=True)
MEASURED_WITHIN = 0.2  # of the kernel's count; docs/performance.md says so


def test_a_full_model_by_hand() -> None:
    """100 parameters: 4 + 4 + 8 bytes each in float32, 2 + 4 + 4 + 8 in bfloat16."""
    role = full_role("policy", 100, PLAIN, trained=True)
    assert (role.weights, role.masters, role.gradients, role.optimizer) == (400, 0, 400, 800)
    assert (role.total, role.held, role.host) == (1600, 1200, 0)
    low = full_role("policy", 100, replace(PLAIN, weight_bytes=2), trained=True)
    assert (low.weights, low.masters, low.total) == (200, 400, 1800)
    frozen = full_role("reference", 100, PLAIN, trained=False)
    assert (frozen.trainable, frozen.frozen, frozen.total) == (0, 100, 400)


def test_an_optimiser_on_the_host_leaves_the_weights_alone_on_the_device() -> None:
    role = full_role("policy", 100, replace(PLAIN, weight_bytes=2), trained=True, on_host=True)
    assert (role.total, role.held, role.host) == (200, 200, 1600)


def test_a_trunk_and_its_adapters_by_hand() -> None:
    """20 weights of 2 bytes and 80 of 0.516; 3 * 60 parameters of 4 + 4 + 8 bytes."""
    assert trunk_role(SHAPE, LOW, scores=False).total == round(20 * 2 + 80 * 0.516) == 81
    assert trunk_role(SHAPE, replace(LOW, four_bit=False), scores=True).total == 90 * 2
    role = adapter_role("policy", SHAPE, LOW, trained=True)
    assert (role.trainable, role.weights, role.gradients, role.optimizer) == (180, 720, 720, 1440)
    assert adapter_role("reference", SHAPE, LOW, trained=False).total == 720


def test_activations_by_hand() -> None:
    """4 (4 * 4 + 2 * 4 + 2 * 2 + 4 * 8) = 240 bytes, and 4 * 2 * 10 of attention weights."""
    assert layer_bytes(SHAPE, PLAIN, longest=10) == 240 + 80
    assert layer_bytes(SHAPE, PLAIN, longest=LONGEST_WHOLE + 1) == 240
    assert layer_bytes(SHAPE, LOW, longest=10) == 120 + 4 * 15
    assert activation_bytes(SHAPE, PLAIN, tokens=7, longest=10) == 7 * 2 * 320
    again = replace(PLAIN, checkpointing=True)
    assert activation_bytes(SHAPE, again, tokens=7, longest=10) == 7 * (2 * 4 * 4 + 320)


def test_logits_cache_and_copies_by_hand() -> None:
    """7 tokens of 5 logits; 3 rows of 10 tokens, 2 layers, keys and values of width 2."""
    assert logits_bytes(SHAPE, PLAIN, tokens=7) == round(3.5 * 4 * 35)
    many = 10**7
    assert logits_bytes(SHAPE, PLAIN, tokens=many) == round(3.5 * 4 * 2**23)
    assert cache_bytes(SHAPE, PLAIN, rows=3, length=10) == 3 * 10 * 2 * 2 * 2 * 4
    assert side_by_side_bytes(SHAPE, PLAIN) == 2 * 4 * (4 + 2 * 2 + 2 * 8) * 4
    assert side_by_side_bytes(SHAPE, LOW) == 0


def test_its_constants_are_those_of_the_models() -> None:
    from alignloop.fastpath import attention, fused_logprobs

    assert fused_logprobs.CHUNK_LOGITS == CHUNK_LOGITS
    assert attention.LONGEST_WHOLE == LONGEST_WHOLE


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("family", ["qwen2", "llama", "gpt2"])
def test_parameters_are_counted_without_weights(
    family: str,
    rank: int | None,
    lm_dirs: dict[str, Path],
    tokenizer: Any,
    model_config: ModelConfig,
) -> None:
    lora = LoraConfig(rank=rank)
    shape = read_shape(lm_dirs[family] / "config.json", lora)
    policy = init_policy(lm_dirs[family], tokenizer, model_config, ALL_WEIGHTS, 1)
    scorer = init_reward_model(lm_dirs[family], tokenizer, model_config, lora, 1)
    assert shape == read_shape(lm_dirs[family], lora)
    assert shape.parameters == sum(p.numel() for p in policy.parameters())
    assert shape.trunk == sum(p.numel() for p in policy.base_model.parameters())
    if rank is not None:
        learns = sum(p.numel() for n, p in trainable(scorer).named_parameters() if "score" not in n)
        assert rank * shape.adapter_width == learns


def small_model(**changes: int) -> Any:
    sizes = {
        "vocab_size": 256,
        "hidden_size": 64,
        "intermediate_size": 176,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
    }
    return AutoModelForCausalLM.from_config(LlamaConfig(**{**sizes, **changes})).eval()


def test_activations_are_what_pytorch_keeps() -> None:
    """Every storage that the forward pass of four texts of 48 tokens saves, within a tenth."""
    torch.manual_seed(0)
    model = small_model()
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}
    alive: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    ids = torch.randint(0, 256, (4, 48))
    mask = torch.ones_like(ids, dtype=torch.bool)
    last = torch.zeros_like(mask)
    last[:, -1] = True  # so that the logits hardly count; the last layer is cut to what is read
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        token_logprobs(model, ids, mask, torch.roll(mask, 0) & ~last.roll(1, dims=1))
    shape = shape_of(model, ALL_WEIGHTS)
    planned = activation_bytes(shape, PLAIN, 4 * 48, 48) + 2 * 4 * 4 * 47 * 256
    assert sum(kept.values()) == pytest.approx(planned, rel=0.1)


STEP = """\
import json, re, sys
from pathlib import Path
import torch
from alignloop.config import LoraConfig, ModelConfig
from alignloop.config.stages import OptimizerSection
from alignloop.models import load_tokenizer, token_logprobs
from alignloop.models.initialise import init_policy
from alignloop.training.optimiser import descend, make_optimizer

folder, rank, texts, length = sys.argv[1], json.loads(sys.argv[2]), 8, 128
torch.set_num_threads(1)
if rank: import peft.tuners.lora
def peak():  # ru_maxrss would begin with that of the process which started this one
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
tokenizer, before = load_tokenizer(folder), peak()
lora = LoraConfig(rank=rank)
policy = init_policy(folder, tokenizer, ModelConfig(device="cpu"), lora, 1)
section = OptimizerSection(learning_rate=1e-4, batch_size=1)
optimizer = make_optimizer(policy, section)
ids = torch.randint(5, 30, (texts, length), generator=torch.Generator().manual_seed(1))
mask = torch.ones_like(ids, dtype=torch.bool)
response = mask.clone()
response[:, 0] = False
for _ in range(2):
    loss = -token_logprobs(policy, ids, mask, response, entropy=False).logprobs.mean()
    loss.backward()
    descend(optimizer, learning_rate=1e-4, max_grad_norm=1.0)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", [None, 8])
def test_the_peak_of_training_is_what_the_kernel_counts(
    rank: int | None, tokenizer: Any, tmp_path: Path
) -> None:
    """Two steps of a model of 29 million parameters in a process of its own, imports left out."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8}
    model = small_model(**sizes, vocab_size=8000, num_attention_heads=8, num_key_value_heads=4)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    command = [sys.executable, "-c", STEP, str(tmp_path), json.dumps(rank)]
    # what glibc keeps of freed blocks is its own business: it gives these back at once
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    measured = int(ended.stdout)
    shape, numbers = shape_of(model, LoraConfig(rank=rank)), replace(PLAIN, rank=rank)
    if rank is None:
        roles = [full_role("policy", shape.parameters, numbers, trained=True)]
    else:
        roles = [trunk_role(shape, numbers, scores=False)]
        roles.append(adapter_role("policy", shape, numbers, trained=True))
    planned = sum(role.total for role in roles)
    planned += activation_bytes(shape, numbers, 8 * 128, 128) + logits_bytes(shape, numbers, 1016)
    assert measured == pytest.approx(planned, rel=MEASURED_WITHIN)
