"""What is drawn by HMAC: the balanced order in which annotators see answers, and opaque ids."""

import base64
import hashlib
import hmac
from collections.abc import Sequence

# fits into a signed 64-bit column, with room to add positions
KEYED_BELOW = 2**62


def shown_order(secret: str, user_id: int, answers: Sequence[int], dealt: int) -> list[int]:
    """The order of K answers for the annotator's item number `dealt` (from 0) with K answers.

    K such items form a block. HMAC(secret, annotator, K, block) draws one permutation and the
    order of its K rotations, one per item of the block: within a block, every stored position
    appears at every screen position exactly once. So an annotator's counts differ by at most one,
    and without the secret no one can infer which answer was stored first.
    """
    size = len(answers)
    block, turn = divmod(dealt, size)
    name = f"{user_id}/{size}/{block}"
    base = shuffled(secret, f"answers/{name}", size)
    shift = shuffled(secret, f"rotations/{name}", size)[turn]
    return [answers[base[(index + shift) % size]] for index in range(size)]


def keyed(secret: str, name: str) -> int:
    """62 pseudo-random bits for a name, unpredictable without the secret."""
    digest = hmac.new(bytes.fromhex(secret), name.encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def opaque(secret: str, name: str) -> str:
    """An id that only this server can connect with a name: 96 bits of HMAC, safe in a URL."""
    digest = hmac.new(bytes.fromhex(secret), f"id/{name}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest[:12]).decode()


def shuffled(secret: str, name: str, size: int) -> list[int]:
    """The numbers below `size` in an order drawn for a name."""
    return sorted(range(size), key=lambda index: keyed(secret, f"{name}/{index}"))
