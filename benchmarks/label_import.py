"""How long `alignloop label import` takes, of this checkout and another, in turn.

    python benchmarks/label_import.py --other OTHER_CHECKOUT/src --pairs 100000 --rounds 3
    python benchmarks/label_import.py --other OTHER_CHECKOUT/src --postgres postgresql://label@127.0.0.1/

Each import is a process of its own, into an empty folder or database. Seconds are of the clock and
of the importing process; the peak of its memory is `ru_maxrss`. With --postgres the URL names a
server on which databases may be created.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parents[1] / "src"
WORDS = [f"word{number}" for number in range(3000)]


def write_pairs(path: Path, count: int) -> None:
    """Pairs of 60 words an answer, in TRL's columns; the same for every run."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            asked, *answers = (" ".join(draw.choices(WORDS, k=size)) for size in (20, 60, 60))
            row = {"prompt": f"Question {number}: {asked}"}
            row |= dict(zip(("chosen", "rejected"), answers, strict=True))
            file.write(json.dumps(row) + "\n")


def label(source: Path, *words: str) -> tuple[float, float, int]:
    """Run `alignloop label`; seconds of the clock, of the processor, and the peak in bytes."""
    command = [sys.executable, "-m", "alignloop", "label", *words]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, command
    taken = time.perf_counter() - begun
    return taken, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


@contextmanager
def place(url: str, name: str) -> Iterator[list[str]]:
    """The options that name an empty folder, or an empty database of a server."""
    if not url:
        with tempfile.TemporaryDirectory() as folder:
            yield ["--project", folder]
        return
    from sqlalchemy import create_engine, text

    server = url.replace("postgresql:", "postgresql+pg8000:").rstrip("/")
    admin = create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield ["--database", f"{url.rstrip('/')}/{name}"]
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


def main() -> None:
    """Import in turn and print each time, and the quotient of the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", required=True, help="src of the other checkout")
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", default="", metavar="URL")
    options = parser.parse_args()
    taken: dict[str, list[float]] = {"other": [], "this": []}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.jsonl"
        write_pairs(file, options.pairs)
        for _ in range(options.rounds):
            for name, source in (("other", Path(options.other)), ("this", HERE)):
                with place(options.postgres, f"label_import_{name}") as where:
                    label(source, "project", "add", "demo", *where)
                    wall, cpu, peak = label(source, "import", str(file), "--batch", "b", *where)
                taken[name].append(wall)
                row = f"{name:6} {wall:7.1f} s   processor {cpu:7.1f} s   {peak / 2**20:5.0f} MiB"
                print(row, flush=True)
    middle = {name: sorted(values)[len(values) // 2] for name, values in taken.items()}
    print(f"other / this: {middle['other'] / middle['this']:.2f} (medians of {options.rounds})")


if __name__ == "__main__":
    main()
