"""What `alignloop plan` prints: for people, and for programs."""

import json
from dataclasses import asdict

from alignloop.plan.memory import RoleMemory
from alignloop.plan.recipe import Plan
from alignloop.plan.stages import StagePlan

GIB = 2**30
COLUMNS = ("trained", "frozen", "weights", "masters", "gradients", "optimiser")


def as_json(plan: Plan) -> str:
    """All numbers: bytes, parameters, tokens, seconds."""
    stages = [
        asdict(stage)
        | {
            "update_bytes": stage.update,
            "rollout_bytes": stage.rollout,
            "peak_bytes": stage.peak,
            "host_bytes": stage.host,
            "seconds_per_step": plan.seconds.get(stage.stage),
        }
        for stage in plan.stages
    ]
    speed = None if plan.speed is None else asdict(plan.speed)
    facts = {"recipe": plan.name, "model": plan.model, "shape": asdict(plan.shape)}
    return json.dumps({**facts, "speed": speed, "stages": stages}, indent=1)


def as_text(plan: Plan) -> str:
    """Tables of a width that a terminal has; memory in GiB, parameters in millions."""
    shape = plan.shape
    head = (
        f"{plan.name}: {plan.model}, {shape.parameters / 1e9:.2f} billion parameters"
        f" ({shape.layers} layers of {shape.hidden}, vocabulary {shape.vocabulary})"
    )
    parts = [head, *(_stage(stage, plan) for stage in plan.stages)]
    if plan.speed is not None:
        parts.append(_speed(plan))
    parts.append(
        "Memory in GiB, for the longest texts that the settings allow; beside it the libraries take"
        "\nup to 1 GiB. docs/performance.md says how close this comes."
    )
    return "\n\n".join(parts)


def _stage(stage: StagePlan, plan: Plan) -> str:
    drawing = f", rollouts {_gib(stage.rollout)}" if stage.drawn else ""
    peak = f"{stage.stage}: peak {_gib(stage.peak)} GiB (update {_gib(stage.update)}{drawing})"
    if stage.host:
        peak += f", and {_gib(stage.host)} GiB of the host's memory"
    lines = [peak, f"  {'role':24}" + "".join(f"{name:>11}" for name in COLUMNS)]
    lines += [f"  {r.role:24}" + "".join(f"{text:>11}" for text in _row(r)) for r in stage.roles]
    extra = {
        "activations": stage.activations,
        "logits": stage.logits,
        "KV cache": stage.cache,
        "the sampler's copies": stage.copies,
    }
    lines.append("  " + ", ".join(f"{name} {_gib(size)}" for name, size in extra.items() if size))
    return "\n".join([*lines, _work(stage, plan)])


def _work(stage: StagePlan, plan: Plan) -> str:
    work = f"  at most {stage.tokens:,} tokens per step"
    if stage.stage not in plan.seconds:
        return work
    low, high = plan.seconds[stage.stage]
    work += f"; {_duration(low)} to {_duration(high)} per step"
    if stage.steps and stage.steps > 1:
        work += f", {_duration(low * stage.steps)} to {_duration(high * stage.steps)} for all"
    return work


def _row(role: RoleMemory) -> list[str]:
    millions = [f"{n / 1e6:,.1f} M" if n else "-" for n in (role.trainable, role.frozen)]
    sizes = (role.weights, role.masters, role.gradients, role.optimizer)
    return [*millions, *(_gib(size) if size else "-" for size in sizes)]


def _speed(plan: Plan) -> str:
    speed = plan.speed
    assert speed is not None
    return (
        f"This machine ({speed.device}): {speed.products / 1e9:,.0f} GFLOP/s in large products,"
        f" {speed.training / 1e9:,.0f} in a small model,\n{speed.bandwidth / 1e9:,.0f} GB/s copied;"
        " times are between these two speeds, for texts of full length."
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
