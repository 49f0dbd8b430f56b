"""Secrets: from the system's randomness, stored as hashes."""

import hashlib
import secrets

BITS = 256


def new_secret() -> str:
    """256 random bits, safe in a cookie, a header and a URL."""
    return secrets.token_urlsafe(BITS // 8)


def hashed(secret: str) -> str:
    """The stored hash of a secret. No salt or slow hash: 256 random bits cannot be guessed."""
    return hashlib.sha256(secret.encode()).hexdigest()
