"""bfloat16 weights with float32 masters: small steps that add up, and a state that returns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from alignloop.config import ModelConfig, RlConfig, SftConfig
from alignloop.models import load_policy
from alignloop.rl import train_rl
from alignloop.run import read_metrics
from alignloop.run.training_state import TrainingState
from alignloop.training import LearningMemory
from alignloop.training.mixed_precision import MasterAdamW
from alignloop.training.optimiser import descend, make_optimizer

RATE = 1e-5


def layer(dtype: torch.dtype) -> nn.Linear:
    made = nn.Linear(2, 1, bias=False, dtype=dtype)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([[1.0, -2.0]]))
    return made


def steps(module: nn.Linear, optimizer: torch.optim.Optimizer, count: int) -> None:
    """Each of two micro-batches with the gradient (1, -0.5) of the sum."""
    for _ in range(count):
        for _ in range(2):
            (module.weight.float() * torch.tensor([[0.5, -0.25]])).sum().backward()
        descend(optimizer, learning_rate=RATE, max_grad_norm=10.0)


def test_steps_too_small_for_bfloat16_add_up_as_in_float32() -> None:
    """400 steps of 1e-5 move 1 and -2 by 0.004, to their neighbours; none of them alone would."""
    low, full = layer(torch.bfloat16), layer(torch.float32)
    config = SftConfig(learning_rate=RATE)
    optimizers = [make_optimizer(module, config) for module in (low, full)]
    assert [type(o) for o in optimizers] == [MasterAdamW, torch.optim.AdamW]
    steps(low, optimizers[0], 100)
    assert low.weight.tolist() == [[1.0, -2.0]]  # not far enough yet to be rounded elsewhere
    steps(low, optimizers[0], 300)
    steps(full, optimizers[1], 400)
    master = optimizers[0].param_groups[0]["params"][0]
    torch.testing.assert_close(master, full.weight, rtol=0, atol=0)
    assert low.weight.tolist() == [[0.99609375, -1.9921875]]
    assert low.weight.grad is None and master.grad is None


def test_a_checkpoint_keeps_the_masters() -> None:
    config = SftConfig(learning_rate=RATE)
    straight, stopped = layer(torch.bfloat16), layer(torch.bfloat16)
    one, two = make_optimizer(straight, config), make_optimizer(stopped, config)
    steps(straight, one, 250)
    steps(stopped, two, 120)
    memory = LearningMemory()
    state = TrainingState(modules={"m": stopped}, optimizers={"m": two}, memory=memory).tensors()
    fresh = layer(torch.bfloat16)
    again = make_optimizer(fresh, config)
    whole = TrainingState(modules={"m": fresh}, optimizers={"m": again}, memory=memory)
    whole.load(state, whole.remembered())
    steps(fresh, again, 130)
    found = [o.param_groups[0]["params"][0] for o in (one, again)]
    assert found[0].dtype == torch.float32 and found[0].tolist() != [[1.0, -2.0]]
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)
    assert torch.equal(fresh.weight, straight.weight)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_an_optimiser_on_the_host_takes_the_same_steps(dtype: torch.dtype) -> None:
    """Its gradients leave the parameter as they come, and add up beside the masters."""
    here, there = layer(dtype), layer(dtype)
    one = make_optimizer(here, SftConfig(learning_rate=RATE))
    two = make_optimizer(there, SftConfig(learning_rate=RATE, offload_optimizer=True))
    assert isinstance(two, MasterAdamW)
    (there.weight.float() * torch.tensor([[0.5, -0.25]])).sum().backward()
    master = two.param_groups[0]["params"][0]
    assert there.weight.grad is None and master.grad.tolist() == [[0.5, -0.25]]
    assert (master.device.type, master.dtype) == ("cpu", torch.float32)
    two.zero_grad()
    steps(here, one, 400)
    steps(there, two, 400)
    assert torch.equal(here.weight, there.weight) and here.weight.tolist() != [[1.0, -2.0]]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_ppo_in_bfloat16(
    family: str,
    stage_run: Callable[..., Any],
    model_config: ModelConfig,
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
    tokenizer: Any,
) -> None:
    """Log-probabilities are float32, and what is saved is bfloat16."""
    low = model_config.model_copy(update={"dtype": "bfloat16"})
    run = stage_run("rl")
    model: Path = train_rl(rl_config(num_steps=2), low, rl_inputs(family), run)
    lines = read_metrics(run.folder.path, "rl")
    assert lines[1]["first_ratio"] == 1.0 and lines[1]["kl"] == 0.0 != lines[2]["kl"]
    assert {p.dtype for p in load_policy(model, tokenizer, low).parameters()} == {torch.bfloat16}
