"""In which order an annotator sees the answers: drawn by HMAC, and balanced by construction."""

import hashlib
import hmac
from collections.abc import Sequence

KEYED_BELOW = 2**62


def shown_order(secret: str, user_id: int, answers: Sequence[int], dealt: int) -> list[int]:
    """The order of K answers for the annotator's item number `dealt` (from 0) of that many.

    K such items form a block. HMAC(secret, annotator, K, block) draws one permutation and the
    order of its K rotations, one for each item of the block: within it, every stored position is
    shown at every place exactly once. So the places of an annotator differ by one at most, and
    who does not know the secret cannot tell which answer was stored first.
    """
    size = len(answers)
    block, turn = divmod(dealt, size)
    name = f"{user_id}/{size}/{block}"
    base = _shuffled(secret, f"answers/{name}", size)
    shift = _shuffled(secret, f"rotations/{name}", size)[turn]
    return [answers[base[(place + shift) % size]] for place in range(size)]


def keyed(secret: str, name: str) -> int:
    """62 pseudo-random bits of a name, which nobody without the secret can foretell."""
    digest = hmac.new(bytes.fromhex(secret), name.encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def _shuffled(secret: str, name: str, size: int) -> list[int]:
    return sorted(range(size), key=lambda place: keyed(secret, f"{name}/{place}"))
