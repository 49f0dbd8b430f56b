"""One seed for a whole run, and a number of its own for every random choice.

Stages draw every random number from generators derived from (seed, stage, step, ...). So step 500
draws the same numbers whether the run came there in one go or was stopped and resumed, and no
random state has to be stored in a checkpoint.
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
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *names: str | int, device: str = "cpu") -> "torch.Generator":
    """A fresh torch generator on `device`, seeded by `derive_seed(seed, *names)`."""
    import torch

    return torch.Generator(device).manual_seed(derive_seed(seed, *names))


def row_seeds(count: int, seed: int, *names: str | int) -> list[int]:
    """A seed for each row of a batch: `derive_seed(seed, *names, row)` for row = 0 .. count - 1.

    `count` is of the whole batch, so that a process that computes some of its rows takes their part
    of this list, and draws what one process would.
    """
    return [derive_seed(seed, *names, row) for row in range(count)]


def set_determinism(seed: int) -> None:
    """Seed the global generators of random, numpy and torch, for libraries that draw from them.

    Our own code draws from `generator` instead.
    """
    import numpy
    import torch

    random.seed(derive_seed(seed, "random"))
    numpy.random.seed(derive_seed(seed, "numpy") % 2**32)  # numpy takes 32 bits
    torch.manual_seed(derive_seed(seed, "torch"))
