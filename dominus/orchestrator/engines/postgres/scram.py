"""Passwords as PostgreSQL keeps them: statements are logged, so no password is ever in one."""

from __future__ import annotations

import base64
import hashlib
import hmac

__all__ = ["scram_verifier"]

_ITERATIONS = 4096
"""The least that RFC 7677 allows: our passwords are random, there is nothing to guess."""


def scram_verifier(password: str, salt: bytes) -> str:
    """Return what PostgreSQL keeps of a password (RFC 5803): it proves the password and does not tell it."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    said = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${_ITERATIONS}:{said[0]}${said[1]}:{said[2]}"
