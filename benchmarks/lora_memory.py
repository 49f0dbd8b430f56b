"""Peak memory of one PPO step: four roles on one trunk against four full models.

    python benchmarks/lora_memory.py [--out benchmarks/results/lora_memory.json]

Each variant runs in a process of its own, on a random model of 100 million parameters in float32 on
the CPU: loading, rollouts, scoring by policy, reference, reward model and critic, and the update of
policy and critic. What is compared is the largest resident set that the kernel saw, with what the
imports alone take beside it.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
WORK = {"prompts": 8, "prompt_tokens": 64, "new_tokens": 64, "micro_batch_tokens": 512}
RANK = 16
VARIANTS = ("imports", "lora", "full")


def peak_mib() -> float:
    """The largest resident set of this process so far; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def prepare(folder: Path) -> dict[str, Any]:
    """The base, a full reward model and a reward adapter, with the playground's tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    from alignloop.config import LoraConfig, ModelConfig
    from alignloop.models import load_tokenizer, new_reward_model, save_model
    from alignloop.models.initialise import init_reward_model
    from alignloop.playground import BASE_MODEL

    torch.manual_seed(0)
    tokenizer, config = load_tokenizer(BASE_MODEL), ModelConfig(device="cpu")
    model = AutoModelForCausalLM.from_config(Qwen2Config(**SIZES))
    for name in ("base", "full", "lora"):
        (folder / name).mkdir()
    save_model(folder / "base", model, tokenizer)
    save_model(folder / "full", new_reward_model(folder / "base", tokenizer, config, 1), tokenizer)
    adapter = init_reward_model(folder / "base", tokenizer, config, LoraConfig(rank=RANK), 1)
    save_model(folder / "lora", adapter, tokenizer)
    return {"parameters": model.num_parameters()}


def step(folder: Path, variant: str) -> dict[str, Any]:
    """One PPO step; returns the peak before and after it."""
    import torch

    import alignloop.rl.train  # noqa: F401
    from alignloop.rl.build import build
    from alignloop.rl.experience import Experience

    torch.set_num_threads(1)
    if variant != "full":
        import peft.tuners.lora  # noqa: F401
    imports = peak_mib()
    if variant == "imports":
        return {"peak_mib": imports}
    config, model_config, inputs = work(folder, variant)
    parts = build(config, model_config, inputs, seed=0, observer=None)
    loaded, began = peak_mib(), time.perf_counter()
    rollouts = parts.sampler.generate(parts.stream.at(1), parts.stream.seeds(1))
    scored = parts.scorer.score(rollouts)
    algorithm = parts.learner.algorithm
    experience = Experience(scored=scored, credit=algorithm.credit(scored, algorithm.start))
    parts.learner.update(experience, seed=0, step=1, rate=1.0)
    return {
        "peak_mib": peak_mib(),
        "imports_mib": imports,
        "loaded_mib": loaded,
        "step_seconds": time.perf_counter() - began,
        "tokens": int(scored.attention_mask.sum()),
    }


def work(folder: Path, variant: str) -> Any:
    """Settings and inputs of the step: random token ids stand for prompts."""
    from alignloop.config import ALL_WEIGHTS, LoraConfig, ModelConfig, RlConfig
    from alignloop.records import Message, Prompt
    from alignloop.rl.build import RlInputs

    texts = [
        " ".join(["tea"] * (WORK["prompt_tokens"] - 8 + i % 3)) for i in range(WORK["prompts"])
    ]
    prompts = [
        Prompt(prompt_id=str(i), messages=(Message(role="user", content=text),))
        for i, text in enumerate(texts)
    ]
    config = RlConfig.model_validate(
        {
            "batch_size": WORK["prompts"],
            "micro_batch_tokens": WORK["micro_batch_tokens"],
            "sampling": {"max_new_tokens": WORK["new_tokens"], "batch_size": WORK["prompts"]},
            "max_prompt_tokens": 256,
            "algorithm": {"num_epochs": 1},
        }
    )
    inputs = RlInputs(
        policy_dir=folder / "base",
        reward_dir=folder / variant,
        held_out_dir=None,
        prompts=prompts,
        validation_prompts=prompts[:1],
        lora=LoraConfig(rank=RANK) if variant == "lora" else ALL_WEIGHTS,
    )
    return config, ModelConfig(device="cpu"), inputs


def child(job: str, folder: Path) -> dict[str, Any]:
    """Run a job in a process of its own and read what it prints last."""
    command = [sys.executable, __file__, "--job", job, "--folder", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(ended.stderr)
    return json.loads(ended.stdout.splitlines()[-1])


def main() -> None:
    """Measure all variants and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/lora_memory.json"))
    parser.add_argument("--job")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.job:
        done = prepare(options.folder) if options.job == "prepare" else None
        print(json.dumps(done or step(options.folder, options.job)))
        return
    with tempfile.TemporaryDirectory() as name:
        model = child("prepare", Path(name))
        found = {variant: child(variant, Path(name)) for variant in VARIANTS}
    lora, full = (found[v]["peak_mib"] for v in ("lora", "full"))
    imports = found["imports"]["peak_mib"]
    figures = {
        "date": time.strftime("%Y-%m-%d"),
        "processor": platform.processor() or platform.machine(),
        "model": {**SIZES, **model},
        "rank": RANK,
        "work": WORK,
        "variants": found,
        "ratio": lora / full,
        "ratio_without_imports": (lora - imports) / (full - imports),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(f"one trunk {lora:.0f} MiB, four models {full:.0f} MiB, imports {imports:.0f} MiB")
    print(f"ratio {lora / full:.3f}, without imports {figures['ratio_without_imports']:.3f}")


if __name__ == "__main__":
    main()
