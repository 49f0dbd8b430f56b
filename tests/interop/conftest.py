"""An environment with TRL and PEFT, and without alignloop: `make interop` installs it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SUPPORT = HERE.parent / "support"


@pytest.fixture(scope="session")
def trl_python() -> Path:
    """The interpreter that ALIGNLOOP_TRL_PYTHON names, or that of .venv-trl; skips without one."""
    named = os.environ.get("ALIGNLOOP_TRL_PYTHON")
    found = Path(named) if named else HERE.parents[1] / ".venv-trl" / "bin" / "python"
    if not found.exists():
        assert not named, f"ALIGNLOOP_TRL_PYTHON names {named}, which is not there"
        pytest.skip("TRL is not installed: `make interop` does it")
    return found


@pytest.fixture(scope="session")
def with_trl(trl_python: Path) -> Callable[..., str]:
    """`with_trl(script, *arguments)`: run a file of this folder there; returns what it printed."""

    def run(script: str, *arguments: object) -> str:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COVERAGE"))},
            "PYTHONPATH": str(SUPPORT),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "TOKENIZERS_PARALLELISM": "false",
        }
        done = subprocess.run(
            [str(trl_python), str(HERE / script), *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{script} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        sys.stdout.write(done.stdout)
        return done.stdout

    return run
