"""The room as a whole: importing it loads no torch."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_importing_the_room_loads_no_torch():
    script = (
        "import sys, alignloop.run\n"
        "heavy = {'torch', 'transformers', 'tensorboardX', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
