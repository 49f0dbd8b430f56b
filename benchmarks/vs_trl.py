"""alignloop against TRL on the same work, in turn, in one run: `make bench`.

Writes results/vs_trl.json, results/vs_trl.md and results/vs_trl.png. The ratio is taken pair by
pair (ours, theirs, ours, theirs, ...), so a machine that becomes slower hits both sides.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from work import SIZES

HERE = Path(__file__).parent
RESULTS = HERE / "results"
VARIED = ("--eos-prob", "0.03125")
# name: (work, further arguments, is it TRL 1.12's)
RUNS: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "ppo_fixed": ("ppo", (), True),
    "ppo_varied": ("ppo", VARIED, True),
    "grpo": ("grpo", (), False),
    "dpo": ("dpo", (), False),
    "sft": ("sft", (), False),
    "reward": ("reward", (), False),
    "rollout": ("rollout", (), False),  # both sides in one process: transformers' generate
}


def main() -> None:
    """Run the chosen work, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trl-python", required=True, help="Python of an environment with TRL")
    parser.add_argument("--trl-ppo-path", required=True, help="folder that holds TRL 1.12.0")
    parser.add_argument("--runs", nargs="*", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--sizes", nargs="*", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / ("vs_trl.json" if options.threads == 1 else f"vs_trl_{options.threads}.json")
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    results["machine"] = {
        "date": date.today().isoformat(),
        "machine": platform.machine(),
        "threads": options.threads,
        "pairs": options.pairs,
        "steps": options.steps,
    }
    for name in options.runs:
        for size in options.sizes:
            found = compare(name, size, options)
            results.setdefault(name, {})[size] = found
            print(f"{name:<20} {size:<6} {found['ratio']:.2f}x  {json.dumps(found)}", flush=True)
            file.write_text(json.dumps(results, indent=1) + "\n")
    if options.threads == 1:
        (RESULTS / "vs_trl.md").write_text(table(results))
        plot(results, RESULTS / "vs_trl.png")


def compare(name: str, size: str, options: argparse.Namespace) -> dict[str, Any]:
    """One kind of work at one size: both sides in turn, and their ratios."""
    task, arguments, old_trl = RUNS[name]
    common = (task, "--size", size, "--steps", str(options.steps), *arguments)
    common += ("--threads", str(options.threads))
    extra = ("--trl-path", options.trl_ppo_path) if old_trl else ()
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    for _ in range(options.pairs):
        ours.append(run(sys.executable, "ours.py", common, options.threads))
        if task == "rollout":
            theirs.append(_same_process(ours[-1]))
        else:
            theirs.append(run(options.trl_python, "theirs.py", (*common, *extra), options.threads))
    return {
        "ratio": round(statistics.median(map(ratio, ours, theirs)), 2),
        "ratios": [round(ratio(a, b), 2) for a, b in zip(ours, theirs, strict=True)],
        "ours_s": middle(ours, "step_s"),
        "trl_s": middle(theirs, "step_s"),
        # one process for both sides has one peak, which tells nothing of either
        "ours_peak_mb": None if task == "rollout" else middle(ours, "peak_mb"),
        "trl_peak_mb": None if task == "rollout" else middle(theirs, "peak_mb"),
        "ours_mfu": middle(ours, "mfu"),
        "trl_mfu": middle(theirs, "mfu"),
        "bound_s": middle(ours, "bound_s"),
        "ours_import_s": middle(ours, "import_s"),
        "trl_import_s": middle(theirs, "import_s"),
        "ours_phase_s": ours[-1].get("phase_s", {}),
        "trl_phase_s": theirs[-1].get("phase_s", {}),
        "ours_phase_bound_s": ours[-1].get("phase_bound_s", {}),
    }


def _same_process(ours: dict[str, Any]) -> dict[str, Any]:
    """The other side of a run that did both: the same FLOPs in its own seconds."""
    seconds = ours["generate_step_s"]
    return ours | {"step_s": seconds, "mfu": round(ours["mfu"] * ours["step_s"] / seconds, 3)}


def ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Their seconds over ours for the same number of real tokens (lengths are drawn)."""
    if "generate_step_s" in ours:
        return ours["ratio"]
    speeds = [r["tokens"] / r["steps"] / r["step_s"] for r in (ours, theirs)]
    return speeds[0] / speeds[1]


def middle(results: list[dict[str, Any]], key: str) -> float:
    """The median over the pairs."""
    return round(statistics.median(result[key] for result in results), 4)


def run(python: str, script: str, arguments: tuple[str, ...], threads: int) -> dict[str, Any]:
    """One process, pinned to as many cores as it has threads; its JSON line."""
    command = [python, str(HERE / script), *arguments]
    if hasattr(os, "sched_setaffinity"):
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
        command = ["taskset", "-c", cores, *command]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    columns = ("work", "size", "ratio", "ours s", "TRL s", "ours MB", "TRL MB", "ours MFU")
    columns += ("TRL MFU",)
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for name in RUNS:
        for size, r in results.get(name, {}).items():
            lines.append(
                f"| {name} | {size} | {r['ratio']:.2f} ({min(r['ratios']):.2f} to"
                f" {max(r['ratios']):.2f}) | {r['ours_s']:.2f} | {r['trl_s']:.2f} |"
                f" {r['ours_peak_mb'] or '–'} | {r['trl_peak_mb'] or '–'} | {r['ours_mfu']:.2f} |"
                f" {r['trl_mfu']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def plot(results: dict[str, Any], path: Path) -> None:
    """The ratios as bars; 1 is TRL."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [name for name in RUNS if name in results]
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for offset, size in enumerate(SIZES):
        measured = [i for i, name in enumerate(names) if size in results[name]]
        if not measured:
            continue
        places = [i + 0.4 * offset - 0.2 for i in measured]
        heights = [results[names[i]][size]["ratio"] for i in measured]
        bars = axes.bar(places, heights, 0.38, label=size)
        axes.bar_label(bars, [f"{h:.2f}" for h in heights], fontsize=7)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
    axes.set_ylabel("times as fast as TRL")
    axes.legend()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
