"""How cost grows with the model, the response and the batch: python benchmarks/scaling.py

One PPO step (rollout, scoring by four models, one epoch of updates of policy and critic) per point,
each in a process of its own; everything but one quantity as at the base point. Writes
results/scaling.json and results/scaling.png.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import types
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import work
from work import BATCH, SIZES, Size

RESULTS = Path(__file__).parent / "results"
MODELS = {
    "1M": SIZES["tiny"],
    "3M": Size(vocab=4096, hidden=192, layers=5, heads=6, inter=512),
    "10M": SIZES["small"],
    "30M": Size(vocab=16384, hidden=512, layers=8, heads=8, inter=1376),
}
AXES: dict[str, list[Any]] = {
    "model": list(MODELS),
    "length": [32, 64, 128, 256, 512],
    "batch": [8, 32, 128, 256],
}
BASE = {"model": "1M", "length": 64, "batch": 32}


def main() -> None:
    """Every point on one and on two threads, as far as the machine has them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--axes", nargs="*", choices=list(AXES), default=list(AXES))
    parser.add_argument("--point", help="measure one point, given as JSON, and print it")
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure(**json.loads(options.point))))
        return
    RESULTS.mkdir(exist_ok=True)
    points = []
    for threads in options.threads:
        for axis in options.axes:
            for value in AXES[axis]:
                point = run({**BASE, axis: value, "threads": threads})
                points.append({"axis": axis, **point})
                print(json.dumps(points[-1]), flush=True)
    found = {"date": date.today().isoformat(), "points": points}
    (RESULTS / "scaling.json").write_text(json.dumps(found, indent=1) + "\n")
    plot(points, RESULTS / "scaling.png")


def run(point: dict[str, Any]) -> dict[str, Any]:
    """One point in its own process, on as many cores as threads."""
    threads = point["threads"]
    command = [sys.executable, __file__, "--point", json.dumps(point)]
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0), reverse=True)[:threads]
        command = ["taskset", "-c", ",".join(map(str, cores)), *command]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{point} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(*, model: str, length: int, batch: int, threads: int) -> dict[str, Any]:
    """Seconds (the median of three steps) and tokens of one step."""
    import torch

    torch.set_num_threads(threads)
    import ours

    BATCH["ppo"], work.NEW_TOKENS, work.PPO_EPOCHS = batch, length, 1
    options = types.SimpleNamespace(steps=3, eos_prob=0.0)
    with tempfile.TemporaryDirectory() as folder:
        found = ours.ppo(MODELS[model], options, Path(folder))
    per_step = found["tokens"] / found["steps"]
    return {
        "model": model,
        "length": length,
        "batch": batch,
        "threads": threads,
        "step_s": found["step_s"],
        "tokens_per_second": round(per_step / found["step_s"], 1),
        "phase_s": found["phase_s"],
        "gflop_per_second": round(found["gflop"] / found["seconds"], 1),
        "peak_mb": round(work.peak_mb()),
        "shape": asdict(MODELS[model]),
    }


def plot(points: list[dict[str, Any]], path: Path) -> None:
    """Tokens per second above, peak memory below, a column for each axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    axes = list(dict.fromkeys(point["axis"] for point in points))
    figure, grid = plt.subplots(
        2, len(axes), figsize=(3.4 * len(axes), 5), layout="constrained", squeeze=False
    )
    for column, axis in enumerate(axes):
        for threads in sorted({point["threads"] for point in points}):
            line = [p for p in points if p["axis"] == axis and p["threads"] == threads]
            names = [str(p[axis]) for p in line]
            for row, key in enumerate(("tokens_per_second", "peak_mb")):
                grid[row][column].plot(names, [p[key] for p in line], "o-", label=f"{threads} thr.")
        for row, label in enumerate(("tokens per second", "peak MB")):
            grid[row][column].set_ylabel(label)
            grid[row][column].set_ylim(bottom=0)  # with all lines there, or it cuts the later ones
        grid[1][column].set_xlabel(axis)
    grid[0][0].legend()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
