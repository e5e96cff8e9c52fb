"""Passwords are hashed here, before they travel."""

from __future__ import annotations

import asyncio

from dominus.contract.guardian.accounts import check_password
from dominus.errors import ValidationError

__all__ = ["hashed", "hashed_password"]

ROUNDS = 12


async def hashed_password(password: str, name: str = "password") -> str:
    """Return the bcrypt hash of a new password, made in a thread.

    Raises:
        ValidationError: it is empty, longer than 72 bytes in UTF-8 (bcrypt reads no more), or holds a NUL.
    """
    if not isinstance(password, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValidationError(f"{name}: text, not {type(password).__name__}")
    try:
        raw = check_password(password).encode()
    except ValueError as error:
        raise ValidationError(f"{name}: {error}") from None
    return await asyncio.to_thread(hashed, raw)


def hashed(raw: bytes) -> str:
    """Return the bcrypt hash of a password that was checked. It takes about 0.2 s."""
    import bcrypt

    return bcrypt.hashpw(raw, bcrypt.gensalt(ROUNDS)).decode("ascii")
