"""Which checkpoint RL keeps, beside the one with the best gold score: from runs on the playground.

    python benchmarks/choice.py runs/playground [runs/too-far ...]

One line a run, from its metrics.jsonl: the step with the best held-out score alone ("old"), the one
that `rl/stopping.py` keeps, and the one with the best gold score, which decides nothing.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from alignloop.rl.stopping import Evaluation, Watch
from alignloop.run import read_metrics

CHOICE_KL_COEF = 0.02


def row(path: Path) -> str:
    """The line of one run."""
    lines = [line for line in read_metrics(path, "rl") if "validation_gold" in line]
    gold = {line["step"]: line["validation_gold"] for line in lines}
    seen = [
        Evaluation(
            step=line["step"],
            held_out=line["validation_held_out_score"],
            climbed=line["validation_score"],
            kl=line["validation_kl"],
            outside=line["validation_outside"],
            eos_rate=line["validation_eos_rate"],
        )
        for line in lines
    ]
    price = CHOICE_KL_COEF * lines[0]["validation_held_out_std"]
    kept = _best(seen, Watch(patience=10**6, kl_budget=None, price=price))
    old = _best(seen, Watch(patience=10**6, kl_budget=None, price=0.0, bounded=False))
    best = max(gold, key=lambda step: gold[step])
    cells = (
        path.name,
        old.step,
        f"{gold[old.step]:.3f}",
        kept.step,
        f"{gold[kept.step]:.3f}",
        f"{gold[best]:.3f} at {best}",
        f"{100 * (gold[kept.step] / gold[best] - 1):+.1f} %",
        f"{100 * (kept.outside or 0):.0f} %",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _best(seen: Sequence[Evaluation], watch: Watch) -> Evaluation:
    for one in seen:
        watch = watch.evaluated(one)
    assert watch.best is not None, "a run without evaluations"
    return watch.best


if __name__ == "__main__":
    print("| RL run | old | gold | kept | gold | best gold | against it | outside |")
    print("|---|---|---|---|---|---|---|---|")
    for name in sys.argv[1:]:
        print(row(Path(name)))
