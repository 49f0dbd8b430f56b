"""PPO and GRPO on one GPU, in bf16, with TRL beside them: python benchmarks/gpu.py

Random weights in the shapes of Qwen2-0.5B and 1.5B. Prints a table and writes results/gpu.json:
tokens per second by phase, MFU against a product of 8192 x 8192 matrices in bf16, peak memory.
`--smoke` runs the same code at the size "tiny" on a CPU.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import types
from datetime import date
from pathlib import Path
from typing import Any

import work
from work import BATCH, GPU_SIZES, SIZES

HERE = Path(__file__).parent
WORK = ("ppo", "grpo")


def main() -> None:
    """Ours in this process' children, one per point, so that each has its own peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", choices=list(GPU_SIZES), default=list(GPU_SIZES))
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128, help="responses per step")
    parser.add_argument("--new-tokens", type=int, default=256)
    parser.add_argument("--micro-batch-tokens", type=int, default=16384)
    parser.add_argument("--trl-python", help="Python of an environment with TRL")
    parser.add_argument("--trl-ppo-path", help="folder that holds TRL 1.12.0, for PPO")
    parser.add_argument("--smoke", action="store_true", help="tiny, on a CPU: does it run?")
    parser.add_argument("--point", nargs=2, metavar=("WORK", "SIZE"), help="measure one point")
    options = parser.parse_args()
    if not options.smoke:
        require_gpu()
    if options.smoke:
        options.sizes, options.steps, options.batch, options.new_tokens = ["tiny"], 1, 16, 16
    if options.point:
        print(json.dumps(measure(*options.point, options)))
        return
    results = []
    for size in options.sizes:
        for name in WORK:
            results.append(ours(name, size, options))
            print(line(results[-1]), flush=True)
            if options.trl_python:
                results.append(theirs(name, size, options))
                print(line(results[-1]), flush=True)
    if not options.smoke:
        found = {"date": date.today().isoformat(), "results": results}
        (HERE / "results" / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")


def require_gpu() -> None:
    """Stop where torch sees no GPU: numbers of a CPU would only mislead."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("there is no GPU that torch can use; --smoke runs a tiny size on a CPU")


def measure(name: str, size: str, options: argparse.Namespace) -> dict[str, Any]:
    """One kind of work at one size: the median over the steps and one more, which warms up."""
    import ours
    import torch

    gpu = not options.smoke
    BATCH[name], work.NEW_TOKENS = options.batch, options.new_tokens
    BATCH["ppo"] = max(BATCH["ppo"], options.batch)
    settings = types.SimpleNamespace(
        steps=options.steps + 1,
        eos_prob=0.0,
        dtype="bfloat16" if gpu else "float32",
        micro_batch_tokens=options.micro_batch_tokens,
    )
    with tempfile.TemporaryDirectory() as folder:
        found = ours.WORK[name]((SIZES | GPU_SIZES)[size], settings, Path(folder))
    peak = gemm_tflops() * 1e3 if gpu else work.gemm_gflops()
    per_step = found["gflop"] / found["steps"]
    return {
        "side": "ours",
        "work": name,
        "size": size,
        "step_s": found["step_s"],
        "tokens_per_second": round(found["tokens"] / found["steps"] / found["step_s"]),
        "phase_s": found["phase_s"],
        "mfu": round(per_step / found["step_s"] / peak, 3),
        "peak_mb": round(work.peak_mb(gpu)),
        "device": torch.cuda.get_device_name() if gpu else "cpu",
    }


def gemm_tflops(n: int = 8192) -> float:
    """The GPU's peak in bf16, in 1e12 FLOP/s, by the best of five products."""
    import torch

    a = torch.randn(n, n, device="cuda", dtype=torch.bfloat16)
    seconds = []
    for _ in range(6):
        torch.cuda.synchronize()
        began = time.perf_counter()
        torch.mm(a, a)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 2 * n**3 / min(seconds[1:]) / 1e12


def ours(name: str, size: str, options: argparse.Namespace) -> dict[str, Any]:
    """A point in a process of its own."""
    numbers = ("steps", "batch", "new_tokens", "micro_batch_tokens")
    command = [sys.executable, str(HERE / "gpu.py"), "--point", name, size]
    command += ["--smoke"] * options.smoke
    for key in numbers:
        command += [f"--{key.replace('_', '-')}", str(getattr(options, key))]
    return _run(command)


def theirs(name: str, size: str, options: argparse.Namespace) -> dict[str, Any]:
    """TRL on the same work."""
    command = [options.trl_python, str(HERE / "theirs.py"), name, "--size", size]
    command += ["--steps", str(options.steps + 1), "--batch", str(options.batch)]
    command += ["--new-tokens", str(options.new_tokens)]
    command += ["--gpu"] * (not options.smoke)
    if name == "ppo" and options.trl_ppo_path:
        command += ["--trl-path", options.trl_ppo_path]
    found = _run(command)
    speed = found["tokens"] / found["steps"] / found["step_s"]
    return found | {"tokens_per_second": round(speed)}


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def line(result: dict[str, Any]) -> str:
    """One result as a line of text."""
    phases = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in result["phase_s"].items())
    return (
        f"{result['side']:<5} {result['work']:<5} {result['size']:<5}"
        f" {result['tokens_per_second']:>8} tokens/s  step {result['step_s']:.2f} s ({phases})"
        f"  MFU {result['mfu']:.2f}  peak {result['peak_mb']} MB"
    )


if __name__ == "__main__":
    main()
