"""How far the numbers of the golden run lie apart on other kernels, and what tests may tolerate.

    PYTHONPATH=src python tests/golden/spread.py            # the table, against the stored curves
    PYTHONPATH=src python tests/golden/spread.py --write    # curves.json and spread.json anew
    PYTHONPATH=src python tests/golden/spread.py --curves   # curves.json alone: one run, not twenty

Two sources of float32's freedom are measured against the stored curves. Kernels: the same run by
other instruction sets of ATen, MKL and oneDNN, on one thread and on two. Rounding: the same run
from weights of which each was moved by one unit in its last place or not at all; this tells how
much the run itself makes of a rounding error, whichever processor makes it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

from golden_run import Curves, run_all_stages  # noqa: E402
from golden_tolerance import deviations, scales  # noqa: E402

CURVES, SPREAD = HERE / "curves.json", HERE / "spread.json"
NUM_SHAKEN = 8

LOWEST = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}
KERNELS: dict[str, tuple[dict[str, str], int]] = {
    "as it is": ({}, 1),
    "ATen default": ({"ATEN_CPU_CAPABILITY": "default"}, 1),
    "ATen AVX2": ({"ATEN_CPU_CAPABILITY": "avx2"}, 1),
    "MKL compatible": ({"MKL_CBWR": "COMPATIBLE"}, 1),
    "MKL SSE4.2": ({"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "MKL_CBWR": "SSE4_2"}, 1),
    "MKL AVX2": ({"MKL_CBWR": "AVX2"}, 1),
    "oneDNN SSE4.1": ({"ONEDNN_MAX_CPU_ISA": "SSE41"}, 1),
    "lowest": (LOWEST, 1),
    "two threads": ({}, 2),
    "lowest, two threads": (LOWEST, 2),
}
if torch.backends.cpu.get_cpu_capability() == "AVX512":
    KERNELS["ATen AVX512"] = ({"ATEN_CPU_CAPABILITY": "avx512"}, 1)


def main() -> None:
    """Run under every setting, print what lies how far apart, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write curves.json and spread.json")
    parser.add_argument("--curves", action="store_true", help="write curves.json alone")
    parser.add_argument("--one", type=Path, help="write one run's numbers into this file")
    parser.add_argument("--draws", type=Path, help="draws near an edge fall as this file says")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ulps", type=int, help="seed of the change of the weights")
    options = parser.parse_args()
    if options.one:
        _one_run(options)
        return
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "stored.json"
        stored_file = CURVES
        if options.write or options.curves:
            _start(out, {}, ())
            stored_file = out
        if options.curves:
            _write_curves(json.loads(out.read_text(encoding="utf-8")))
            return
        stored: dict[str, Any] = json.loads(stored_file.read_text(encoding="utf-8"))
        runs = {
            name: _start(Path(scratch) / "run.json", env, ("--threads", str(threads)), stored_file)
            for name, (env, threads) in KERNELS.items()
        }
        shaken = {
            f"weights shaken ({seed})": _start(
                Path(scratch) / "run.json", {}, ("--ulps", str(seed)), stored_file
            )
            for seed in range(NUM_SHAKEN)
        }
    spread = _table(stored["curves"], runs, shaken)
    if options.write:
        _write(CURVES, stored)
        _write(SPREAD, spread)


def _write_curves(stored: dict[str, Any]) -> None:
    """The spread that is known stays; a quantity that is new has none yet, and is named."""
    _write(CURVES, stored)
    spread = json.loads(SPREAD.read_text(encoding="utf-8"))
    if new := sorted(scales(stored["curves"]).keys() - spread.keys()):
        print(f"needs --write, because these have no spread yet: {', '.join(new)}", file=sys.stderr)


def _one_run(options: argparse.Namespace) -> None:
    draws = None
    if options.draws:
        draws = json.loads(options.draws.read_text(encoding="utf-8"))["draws"]
    with tempfile.TemporaryDirectory() as folder:
        golden = run_all_stages(
            Path(folder), draws=draws, threads=options.threads, ulps=options.ulps
        )
    options.one.write_text(json.dumps(vars(golden)), encoding="utf-8")


def _start(
    out: Path, env: dict[str, str], options: tuple[str, ...], draws: Path | None = None
) -> Curves:
    """One run in a process of its own: instruction sets are chosen when torch is loaded."""
    command = [sys.executable, __file__, "--one", str(out), *options]
    command += ["--draws", str(draws)] if draws else []
    surroundings = {**os.environ, **env}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} with {env} failed:\n{done.stderr}")
    return json.loads(out.read_text(encoding="utf-8"))["curves"]


def _table(stored: Curves, runs: dict[str, Curves], shaken: dict[str, Curves]) -> dict[str, float]:
    """Print the deviations of every quantity; returns the largest of each."""
    kernels = {name: deviations(stored, curves) for name, curves in runs.items()}
    rounding = {name: deviations(stored, curves) for name, curves in shaken.items()}
    print(
        "| run | largest deviation in units of the quantity's largest value | of |\n|---|---|---|"
    )
    scale = scales(stored)
    for name, found in (kernels | rounding).items():
        relative = {key: value / (scale[key] or 1) for key, value in found.items()}
        worst = max(relative, key=lambda key: relative[key])
        print(f"| {name} | {relative[worst]:.1e} | {worst} |")
    print("\n| quantity | largest value | kernels | rounding |\n|---|---|---|---|")
    spread: dict[str, float] = {}
    for key in sorted(scale):
        of_kernels = max(found[key] for found in kernels.values())
        of_rounding = max(found[key] for found in rounding.values())
        spread[key] = max(of_kernels, of_rounding)
        if spread[key]:
            print(f"| {key} | {scale[key]:.4g} | {of_kernels:.1e} | {of_rounding:.1e} |")
    return spread


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"wrote {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
