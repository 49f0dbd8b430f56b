"""What affects the last digits of a run besides its settings: threads, processor, libraries."""

import math
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from alignloop.run.files import is_object

_PACKAGES = (
    *("alignloop", "torch", "transformers", "tokenizers", "safetensors", "peft", "numpy"),
    "pydantic",
)
_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2; version 1 has the two files below
_QUOTA_1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def available_cores() -> int:
    """The cores this process may use: by affinity (taskset), or by a container's quota if lower.

    More threads than that would wait for each other. A quota of 1.5 cores counts as 2.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # missing on macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    share = _container_share()
    return max(1, cores if share is None else min(cores, math.ceil(share)))


def machine(threads: int) -> dict[str, Any]:
    """The facts for `changes_of`: number of threads, processor, versions of the libraries."""
    return {
        "threads": threads,
        "processor": _processor(),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def changes_of(before: object, now: dict[str, Any]) -> list[str]:
    """What has changed, in words: "threads: 2, and now 1"."""
    if not is_object(before):
        return []
    old, new = _flat(before), _flat(now)
    # keys new in this release are no change of the machine
    return [f"{key}: {old[key]}, and now {new[key]}" for key in old if old[key] != new.get(key)]


def _flat(described: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in described.items():
        inner = value if is_object(value) else {key: value}
        found |= {str(name): str(one) for name, one in inner.items()}
    return found


def _container_share() -> float | None:
    """The number of cores that a control group grants; None if it sets no limit."""
    try:
        if _QUOTA.exists():
            quota, period = _QUOTA.read_text().split()[:2]
        else:
            quota, period = (file.read_text().strip() for file in _QUOTA_1)
        limit = -1.0 if quota == "max" else float(quota)
        return limit / float(period) if limit > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _processor() -> str:
    """The processor's name, and PyTorch's instruction set if PyTorch is loaded."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        name = next(named, name)
    except OSError:
        pass
    torch: Any = sys.modules.get("torch")  # do not import it just to read a run folder
    if torch is None:
        return name
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # run from a source tree, or without the model libraries
    return found
