"""This machine's speed, measured in a few seconds: large products, a small model, copying."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.autograd import backward
from transformers import AutoModelForCausalLM, LlamaConfig

from alignloop.models import token_logprobs
from alignloop.models.library import untyped
from alignloop.plan.memory import Shape
from alignloop.plan.stages import StagePlan, Work
from alignloop.tensors import RANDOM

SECONDS = 1.0  # for each of the three measurements


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Operations per second of large products and of a small model's training; bytes copied."""

    device: str
    products: float
    training: float
    bandwidth: float


def measure(dtype: str, threads: int | None = None) -> Speed:
    """This machine's speed in a dtype, on the GPU if there is one.

    `threads` is that of the planned run; the process's own number is restored afterwards.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        return _measured(dtype)
    finally:
        torch.set_num_threads(before)


def _measured(dtype: str) -> Speed:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = getattr(torch, dtype)
    # large enough that a product, not its launch, is measured
    size = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    products = 2 * size**3 / _seconds(lambda: torch.mm(a, b), device)
    large = torch.zeros(2**26, dtype=torch.uint8, device=device)
    bandwidth = 2 * large.numel() / _seconds(lambda: large.clone(), device)
    return Speed(
        device=device, products=products, training=_training(device, kind), bandwidth=bandwidth
    )


def _training(device: str, kind: torch.dtype) -> float:
    """Operations per second of forward and backward passes of a small model of four layers."""
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    with RANDOM.fork_rng():
        model = untyped(AutoModelForCausalLM).from_config(config, dtype=kind).to(device).eval()
        ids = torch.randint(0, 1024, (8, 64))
    mask, response = torch.ones_like(ids, dtype=torch.bool), torch.ones_like(ids, dtype=torch.bool)
    response[:, 0] = False

    def run() -> None:
        backward(token_logprobs(model, ids, mask, response).logprobs.sum())

    # 6 operations per parameter and token: 2 forward, 4 backward; embeddings cost none
    parameters = sum(p.numel() for p in model.parameters()) - model.config.vocab_size * 256
    return 6 * parameters * ids.numel() / _seconds(run, device)


def _seconds(work: Callable[[], object], device: str) -> float:
    """Mean seconds of a call, over as many as fit in SECONDS, after one to warm up."""
    work()
    count, began = 0, time.perf_counter()
    while True:
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        count += 1
        spent = time.perf_counter() - began
        if spent > SECONDS:
            return spent / count


def seconds_per_step(plan: StagePlan, shape: Shape, speed: Speed) -> tuple[float, float]:
    """The range of seconds per step: at the speed of large products, and of a small model.

    For the texts that were counted, else for the longest that the settings allow. A forward pass
    takes 2 operations per weight and token. A decoded token reads all weights once for all rows
    decoded together, which dominates with few rows.
    """
    most = Work(tokens=plan.tokens, passes=plan.passes, drawn=plan.drawn, rounds=plan.rounds)
    short, long = plan.typical or (most, most)
    # the truth lies between: real layers are neither all large nor all small
    fast, slow = _rates(speed)
    return _seconds_of(short, plan, shape, speed, fast), _seconds_of(long, plan, shape, speed, slow)


def seconds_in_all(plan: StagePlan, shape: Shape, speed: Speed) -> tuple[float, float] | None:
    """The range of seconds of the whole stage; None if its number of steps is unknown."""
    if plan.steps is None:
        return None
    each, found = seconds_per_step(plan, shape, speed), list[float]()
    for seconds, rate in zip(each, _rates(speed), strict=True):
        once = _seconds_of(plan.beside, plan, shape, speed, rate) if plan.beside else 0.0
        found.append(plan.steps * seconds + once)
    return found[0], found[1]


def _rates(speed: Speed) -> tuple[float, float]:
    return max(speed.products, speed.training), min(speed.products, speed.training)


def _seconds_of(work: Work, plan: StagePlan, shape: Shape, speed: Speed, rate: float) -> float:
    weights = shape.linear + shape.vocabulary * shape.hidden
    reading = work.rounds * plan.roles[0].weights / speed.bandwidth
    drawing = max(2 * weights * work.drawn / rate, reading)
    return 2 * weights * work.tokens * work.passes / rate + drawing
