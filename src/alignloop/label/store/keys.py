"""Secrets: made of the system's randomness, kept as hashes."""

import hashlib
import secrets

BITS = 256


def new_secret() -> str:
    """256 random bits, fit for a cookie, a header and a URL."""
    return secrets.token_urlsafe(BITS // 8)


def hashed(secret: str) -> str:
    """What the database keeps of a secret. It needs no salt: nobody can guess 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()
