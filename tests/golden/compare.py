"""Two builds side by side on this machine: every number and every weight, bit by bit.

    python tests/golden/compare.py OTHER_CHECKOUT

A refactoring changes none of them; says what differs, and then ends with 1. Both run the stages of
this checkout's golden run, one process each, by the source of their own checkout.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SCRIPT = """
import json, sys
from pathlib import Path
from golden_run import run_all_stages
golden = run_all_stages(Path(sys.argv[1]))
Path(sys.argv[1], "curves.json").write_text(json.dumps(golden.curves))
"""


def main() -> None:
    """Run both, compare, and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="a checkout of the other build")
    other = parser.parse_args().other
    here, there = fingerprint(REPOSITORY), fingerprint(other)
    differing = [
        f"{key}: {here.get(key)} here, {there.get(key)} there"
        for key in sorted(here.keys() | there.keys())
        if here.get(key) != there.get(key)
    ]
    print(*differing, f"{len(here) - len(differing)} of {len(here)} are the same", sep="\n")
    raise SystemExit(bool(differing))


def fingerprint(checkout: Path) -> dict[str, str]:
    """Every number of a golden run, as written with all its digits, and digests of the weights."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = (checkout.resolve() / "src", REPOSITORY / "tests/support")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
        command = [sys.executable, "-c", SCRIPT, scratch]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the golden run of {checkout} failed:\n{done.stderr}")
        curves = json.loads(Path(scratch, "curves.json").read_text(encoding="utf-8"))
        found = {
            f"{place}: {name}": repr(value)
            for place, numbers in curves.items()
            for name, value in numbers.items()
        }
        for file in sorted(Path(scratch, "run").rglob("model/*.safetensors")):
            name = file.relative_to(scratch).as_posix()
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


if __name__ == "__main__":
    main()
