"""How well phrases tell refusals: python benchmarks/refusals.py COMPLETIONS.csv ...

Reads the model completions of XSTest (columns completion and final_label, as published in
paul-rottger/exaggerated-safety, model_completions/) and prints recall among what people labelled
full refusals and precision among full refusals and full compliance, over all rows and over the
odd rows, which the phrases were not chosen by.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from alignloop.stats import looks_like_refusal


def measure(rows: Sequence[dict[str, str]]) -> tuple[float, float, int]:
    """Recall, precision, and the number of refusals."""
    hits = [(row["final_label"][0], looks_like_refusal(row["completion"])) for row in rows]
    refused = [hit for label, hit in hits if label == "2"]
    wrong = sum(hit for label, hit in hits if label == "1")
    return sum(refused) / len(refused), sum(refused) / (sum(refused) + wrong), len(refused)


def main() -> None:
    """One line of a table per file."""
    print("| completions of | refusals | recall | precision | recall, odd rows | precision |")
    print("|---|---|---|---|---|---|")
    for name in sys.argv[1:]:
        with Path(name).open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        (recall, precision, count), (odd, sure, _) = measure(rows), measure(rows[1::2])
        model = Path(name).stem.rpartition("_")[2]
        print(f"| {model} | {count} | {recall:.3f} | {precision:.3f} | {odd:.3f} | {sure:.3f} |")


if __name__ == "__main__":
    main()
