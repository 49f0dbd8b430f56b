"""What `alignloop plan` prints, as text or JSON."""

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
            "seconds_in_all": plan.totals.get(stage.stage),
        }
        for stage in plan.stages
    ]
    speed = None if plan.speed is None else asdict(plan.speed)
    facts = {"recipe": plan.name, "model": plan.model, "shape": asdict(plan.shape)}
    facts |= {"threads": plan.threads, "seconds_of_run": _of_run(plan)}
    return json.dumps({**facts, "speed": speed, "stages": stages}, indent=1)


def as_text(plan: Plan) -> str:
    """Tables that fit a terminal; memory in GiB, parameters in millions."""
    shape = plan.shape
    head = (
        f"{plan.name}: {plan.model}, {shape.parameters / 1e9:.2f} billion parameters"
        f" ({shape.layers} layers of {shape.hidden}, vocabulary {shape.vocabulary})"
    )
    parts = [head, *(_stage(stage, plan) for stage in plan.stages)]
    if plan.speed is not None:
        parts.append(_speed(plan))
    parts.append(
        "Memory in GiB, for the longest texts that the settings allow; libraries take up to 1 GiB\n"
        "more. docs/performance.md shows how accurate this is."
    )
    return "\n\n".join(parts)


def _stage(stage: StagePlan, plan: Plan) -> str:
    drawing = f", rollouts {_gib(stage.rollout)}" if stage.drawn else ""
    peak = f"{stage.stage}: peak {_gib(stage.peak)} GiB (update {_gib(stage.update)}{drawing})"
    if stage.host:
        peak += f", plus {_gib(stage.host)} GiB of host memory"
    lines = [peak, f"  {'role':24}" + "".join(f"{name:>11}" for name in COLUMNS)]
    lines += [f"  {r.role:24}" + "".join(f"{text:>11}" for text in _row(r)) for r in stage.roles]
    extra = {
        "activations": stage.activations,
        "logits": stage.logits,
        "KV cache": stage.cache,
        "sampler copies": stage.copies,
    }
    lines.append("  " + ", ".join(f"{name} {_gib(size)}" for name, size in extra.items() if size))
    return "\n".join([*lines, _work(stage, plan)])


def _work(stage: StagePlan, plan: Plan) -> str:
    lines = [_counted(stage)] if stage.rows is not None else []
    work = f"  at most {stage.tokens:,} tokens per step"
    if stage.stage in plan.seconds:
        low, high = plan.seconds[stage.stage]
        work += f"; {_duration(low)} to {_duration(high)} per step"
    if stage.stage in plan.totals and (stage.rows is not None or (stage.steps or 1) > 1):
        low, high = plan.totals[stage.stage]
        work += f", {_duration(low)} to {_duration(high)} in all"
    return "\n".join([*lines, work])


def _counted(stage: StagePlan) -> str:
    """The counts from the stage's files."""
    rows = stage.rows
    assert rows is not None
    what = {"sft": "demonstrations", "rl": "prompts", "evaluate": "prompts"}
    text = f"  {rows.count:,} {what.get(stage.stage, 'pairs')}"
    if rows.tokens is not None:
        text += f", {rows.tokens:.0f} tokens on average"
    if stage.stage == "evaluate":
        return f"{text}, {rows.models} models answer"
    return text + (f", {stage.steps:,} steps" if stage.steps else "")


def _of_run(plan: Plan) -> tuple[float, float] | None:
    """Seconds of `alignloop run`, if every stage but DPO, which it does not include, is known."""
    stages = [stage.stage for stage in plan.stages if stage.stage != "dpo"]
    if not all(name in plan.totals for name in stages):
        return None
    low, high = (sum(plan.totals[name][i] for name in stages) for i in (0, 1))
    return low, high


def _row(role: RoleMemory) -> list[str]:
    millions = [f"{n / 1e6:,.1f} M" if n else "-" for n in (role.trainable, role.frozen)]
    sizes = (role.weights, role.masters, role.gradients, role.optimizer)
    return [*millions, *(_gib(size) if size else "-" for size in sizes)]


def _speed(plan: Plan) -> str:
    speed, of_run = plan.speed, _of_run(plan)
    assert speed is not None
    threads = (
        f", {plan.threads} thread{'s' * (plan.threads > 1)}"
        if plan.threads and speed.device == "cpu"
        else ""
    )
    counted = any(stage.typical for stage in plan.stages)
    texts = (
        "texts as long as yours (full length for stages without a count)"
        if counted
        else "texts of full length"
    )
    whole = ""
    if of_run is not None:
        low, high = map(_duration, of_run)
        whole = f"`alignloop run` in all: {low} to {high}.\n"
    return (
        f"{whole}This machine ({speed.device}{threads}): {speed.products / 1e9:,.0f} GFLOP/s"
        f" in large products,"
        f" {speed.training / 1e9:,.0f} in a small model,\n{speed.bandwidth / 1e9:,.0f} GB/s copied;"
        f" times are between these two speeds, for {texts}."
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
