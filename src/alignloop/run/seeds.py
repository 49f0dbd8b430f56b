"""One seed for a whole run, from which every random choice gets its own.

Stages draw every random number from generators derived from (seed, stage, step, ...). Step 500 thus
draws the same numbers in a resumed run as in an uninterrupted one, and checkpoints need not store
random states.
"""

import hashlib
import json
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed in 0 .. 2^63 - 1 for one purpose: `derive_seed(7, "ppo", step)`.

    The first 63 bits of blake2b (64-bit digest, RFC 7693) of the compact JSON list
    [seed, *names], so 1 and "1" differ and every Python version agrees.
    """
    text = json.dumps([seed, *names], separators=(",", ":"))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    # 63 bits: torch takes signed 64-bit seeds
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *names: str | int, device: str = "cpu") -> "torch.Generator":
    """A fresh torch generator on `device`, seeded by `derive_seed(seed, *names)`."""
    import torch

    return torch.Generator(device).manual_seed(derive_seed(seed, *names))


def row_seeds(count: int, seed: int, *names: str | int) -> list[int]:
    """A seed for each row of a batch: `derive_seed(seed, *names, row)` for row = 0 .. count - 1.

    `count` is that of the whole batch: a process that computes some of its rows takes its part of
    this list, and draws the same numbers as a single process.
    """
    return [derive_seed(seed, *names, row) for row in range(count)]


def set_determinism(seed: int) -> None:
    """Seed the global generators of random, numpy and torch, for libraries that draw from them.

    Our own code uses `generator` instead.
    """
    import numpy

    from alignloop.tensors import RANDOM

    random.seed(derive_seed(seed, "random"))
    numpy.random.seed(derive_seed(seed, "numpy") % 2**32)  # numpy takes 32 bits
    RANDOM.manual_seed(derive_seed(seed, "torch"))
