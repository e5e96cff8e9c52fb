r"""Passwords and client keys, as they are kept: nothing that is stored verifies anything without the server's key.

    password --bcrypt, cost 12--> hash --HMAC-SHA256 under the vault's key--> digest
                   \-> salt, with the cost: its first 29 characters, stored beside the digest

bcrypt takes its quarter of a second in threads of its own, one for each core: logins can fill them, and nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dominus.contract.guardian.accounts import check_password
from dominus.errors import ValidationError

if TYPE_CHECKING:
    from dominus.orchestrator.identity.vault import Vault

__all__ = ["Passwords", "StoredPassword", "new_psk_nonce", "psk_digest", "psk_of"]

ROUNDS = 12
_SALT_LENGTH = 29
# Of nobody: what is hashed for a user who is not there costs what it costs for one who is.
_NOBODY = b"$2b$12$wZ4rT0c8Jq1mB6sYxV3kNe"
_PASSWORD, _PSK, _PSK_DIGEST = b"password", b"client-psk", b"client-psk-digest"


@dataclass(frozen=True, slots=True)
class StoredPassword:
    """What is kept of a password."""

    salt: str
    """The bcrypt salt, with version and cost."""
    digest: bytes = field(repr=False)


class Passwords:
    """Makes and verifies what is stored of passwords."""

    def __init__(self, vault: Vault, thread_count: int | None = None) -> None:
        """Prepare; threads begin with the first password.

        Args:
            vault: its key makes the digests.
            thread_count: of bcrypt at once; the number of cores without it.
        """
        self._vault = vault
        self._threads = ThreadPoolExecutor(
            thread_count or os.cpu_count() or 1, thread_name_prefix="dominus-bcrypt"
        )

    async def store(self, password: str | None, password_hash: str | None) -> StoredPassword:
        """Return what is kept of a new password, which came itself or as its bcrypt hash.

        Raises:
            ValidationError: neither came, or both.
        """
        if (password is None) == (password_hash is None):
            raise ValidationError(
                "password: give it, or its bcrypt hash as password_hash, and not both",
                details=[{"field": "password", "message": "is missing, or given twice"}],
            )
        if password_hash is None:
            import bcrypt

            raw = _checked(password or "")
            password_hash = await self._hashed(raw, bcrypt.gensalt(ROUNDS))
        return StoredPassword(password_hash[:_SALT_LENGTH], self._digest(password_hash))

    async def verify(self, password: str, stored: StoredPassword | None) -> bool:
        """Return whether a password is the stored one. None, for nobody, takes the same time and is never right."""
        try:
            raw = check_password(password).encode()
        except ValueError:
            # No password of anybody: hashed all the same, so that the answer tells nothing.
            raw, stored = b"x", None
        salt = _NOBODY if stored is None else stored.salt.encode()
        digest = self._digest(await self._hashed(raw, salt))
        expected = bytes(len(digest)) if stored is None else stored.digest
        return hmac.compare_digest(digest, expected) and stored is not None

    async def _hashed(self, raw: bytes, salt: bytes) -> str:
        import bcrypt

        # A caller who gives up takes the work along that no thread has begun.
        made = await asyncio.get_running_loop().run_in_executor(self._threads, bcrypt.hashpw, raw, salt)
        return made.decode("ascii")

    def _digest(self, password_hash: str) -> bytes:
        return bytes.fromhex(self._vault.fingerprint(_PASSWORD, password_hash.encode("ascii")))


def new_psk_nonce() -> str:
    """Return what a new key is made of. It may be stored: only the vault's key makes the PSK of it."""
    return secrets.token_hex(32)


def psk_of(vault: Vault, nonce: str) -> str:
    """Return the PSK of a nonce: 43 characters, 256 bits.

    It is derived, so that a repeated request can be answered as the first was though no PSK is stored.
    """
    raw = bytes.fromhex(vault.fingerprint(_PSK, bytes.fromhex(nonce)))
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def psk_digest(vault: Vault, psk: str) -> bytes:
    """Return what is stored of a PSK, and what it is found by."""
    return bytes.fromhex(vault.fingerprint(_PSK_DIGEST, psk.encode("utf-8", "surrogatepass")))


def _checked(password: str) -> bytes:
    try:
        return check_password(password).encode()
    except ValueError as error:
        raise ValidationError(f"password: {error}") from None
