"""`alignloop data check` and `alignloop data convert`, as called by the command line."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from alignloop.data.check import check
from alignloop.data.convert import convert
from alignloop.data.lengths import load_counter
from alignloop.errors import UserError, harmless


def run_check(options: argparse.Namespace, tokenizer: Path, name: str) -> int:
    """Print what is in the files; the exit code is 1 if any row is refused."""
    reports = check(options.files, load_counter(tokenizer), options.format)
    if options.json:
        listed = [{**report.as_json(), "tokenizer": name} for report in reports]
        print(json.dumps(listed, ensure_ascii=False, indent=1))
    else:
        from rich.console import Console

        from alignloop.data.check_view import show

        show(reports, name, Console())
    return 1 if any(report.num_refused for report in reports) else 0


def run_convert(options: argparse.Namespace) -> int:
    """Convert a file and print how many records were written, left out and refused."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    if not 0 < options.near_duplicate <= 1:
        problem = f"{options.near_duplicate} is not a share above 0 and up to 1"
        raise UserError(problem, where="--near-duplicate")
    counts = convert(
        options.source,
        Path(options.out),
        options.to,
        format=options.format,
        skip_refused=options.skip_refused,
        exclude=options.exclude,
        near_duplicate=options.near_duplicate,
        shares=shares_of(options.split),
        overwrite=options.overwrite,
    )
    names = {"exact": "held out", "near": "near duplicates of held-out prompts"}
    summary = ", ".join(f"{names.get(name, name)}: {count}" for name, count in counts.items())
    print(harmless(summary))
    return 0


def shares_of(words: Sequence[str]) -> dict[str, float] | None:
    """ "train=0.9", "test=0.1" as {"train": 0.9, "test": 0.1}; None if there are none.

    Raises UserError for anything but NAME=NUMBER.
    """
    shares: dict[str, float] = {}
    for word in words:
        name, _, share = word.partition("=")
        try:
            shares[name] = float(share)
        except ValueError:
            problem = f"{word!r} is not a split"
            raise UserError(problem, where="--split", fix="write --split train=0.9") from None
        if not name.replace("_", "").replace("-", "").isalnum():
            raise UserError(f"{name!r} is not a valid name for a split", where="--split")
    return shares or None
