"""Hashes of passwords and pre-shared keys, random tokens, and a box for secrets that wait in memory.

    hashed = await ahash_password(password)         # in a thread: about 0.2 s of CPU
    if await averify_password(password, hashed): ...

bcrypt and cryptography are imported by the first call, not with this module.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import re
import secrets

from dominus.errors import ValidationError

__all__ = [
    "SecretBox",
    "ahash_password",
    "averify_password",
    "generate_token",
    "hash_password",
    "hash_psk",
    "verify_password",
    "verify_psk",
]

# 2**12 rounds: about 0.2 s on a server of 2024, and what the published client uses.
_BCRYPT_ROUNDS = 12
# bcrypt reads 72 bytes and no more.
_BCRYPT_BYTES = 72
# Before a bcrypt hash: what was hashed is base64(SHA-256(password)).
_PREHASHED = "$dominus-sha256-v1"
_SHA256_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
# Text of this length can hold 256 random bits, urlsafe.
_HIGH_ENTROPY_LENGTH = 43
_MIN_TOKEN_BYTES = 16
_NONCE_BYTES = 12


def hash_password(password: str) -> str:
    """Hash a password with bcrypt, cost 12. It takes about 0.2 s: in async code use `ahash_password`.

    Up to 71 bytes of UTF-8 give a plain `$2b$` hash that any bcrypt verifies. bcrypt ignores what follows
    byte 72 and confuses NUL bytes with the end, so a longer password, or one with a NUL, is hashed as
    base64(SHA-256(password)) and marked with the prefix `$dominus-sha256-v1`: every byte of it counts.

    Args:
        password: text of any length, not empty.

    Raises:
        ValidationError: the password is empty or not Unicode text.

    Example:
        ```python
        hashed = crypto.hash_password("correct horse")
        assert crypto.verify_password("correct horse", hashed)
        ```
    """
    import bcrypt

    raw = _encoded(password, "password")
    prefix = ""
    if len(raw) >= _BCRYPT_BYTES or 0 in raw:
        raw, prefix = _prehashed(raw), _PREHASHED
    return prefix + bcrypt.hashpw(raw, bcrypt.gensalt(_BCRYPT_ROUNDS)).decode("ascii")


def verify_password(password: str, hashed: str) -> bool:
    """Return whether `hashed` was made of `password`, by `hash_password` or by any other bcrypt.

    Other servers' hashes of passwords over 72 bytes were made of their first 72, and are verified so.
    The comparison takes the same time wherever the difference lies.

    Args:
        password: what the user gave.
        hashed: what was stored.

    Raises:
        ValidationError: `hashed` is no hash that this function knows.

    Example:
        ```python
        hashed = crypto.hash_password("correct horse")
        assert not crypto.verify_password("battery staple", hashed)
        ```
    """
    import bcrypt

    try:
        raw = _encoded(password, "password")
    except ValidationError:
        return False
    if hashed.startswith(_PREHASHED):
        raw, hashed = _prehashed(raw), hashed.removeprefix(_PREHASHED)
    elif 0 in raw:
        return False
    try:
        return bcrypt.checkpw(raw[:_BCRYPT_BYTES], hashed.encode())
    except ValueError:
        raise ValidationError(
            "the stored hash is no bcrypt hash", hint="pass the text that hash_password returned"
        ) from None


async def ahash_password(password: str) -> str:
    """Do as `hash_password`, in a thread: the event loop goes on.

    Args:
        password: text of any length, not empty.

    Raises:
        ValidationError: the password is empty or not Unicode text.

    Example:
        ```python
        hashed = await crypto.ahash_password("correct horse")
        ```
    """
    return await asyncio.to_thread(hash_password, password)


async def averify_password(password: str, hashed: str) -> bool:
    """Do as `verify_password`, in a thread: the event loop goes on.

    Args:
        password: what the user gave.
        hashed: what was stored.

    Raises:
        ValidationError: `hashed` is no hash that this function knows.

    Example:
        ```python
        hashed = await crypto.ahash_password("correct horse")
        assert await crypto.averify_password("correct horse", hashed)
        ```
    """
    return await asyncio.to_thread(verify_password, password, hashed)


def hash_psk(psk: str) -> str:
    """Hash a pre-shared key: SHA-256 as 64 hex digits.

    A fast hash is enough for a key that cannot be guessed (`generate_token`). A key of under 43 characters
    may be one that can, so it is hashed as a password is.

    Args:
        psk: the key, not empty.

    Raises:
        ValidationError: the key is empty or not Unicode text.

    Example:
        ```python
        psk = crypto.generate_token()
        assert crypto.verify_psk(psk, crypto.hash_psk(psk))
        ```
    """
    raw = _encoded(psk, "PSK")
    if len(psk) < _HIGH_ENTROPY_LENGTH:
        return hash_password(psk)
    return hashlib.sha256(raw).hexdigest()


def verify_psk(psk: str, hashed: str) -> bool:
    """Return whether `hashed` was made of `psk`, by `hash_psk` or by any bcrypt. In constant time.

    Args:
        psk: what the caller gave.
        hashed: what was stored.

    Raises:
        ValidationError: `hashed` is no hash that this function knows.

    Example:
        ```python
        stored = crypto.hash_psk(crypto.generate_token())
        assert not crypto.verify_psk(crypto.generate_token(), stored)
        ```
    """
    if not _SHA256_HEX.fullmatch(hashed):
        return verify_password(psk, hashed)
    try:
        digest = hashlib.sha256(_encoded(psk, "PSK")).hexdigest()
    except ValidationError:
        return False
    return hmac.compare_digest(digest, hashed)


def generate_token(nbytes: int = 32) -> str:
    """Return random text that is safe in URLs: 43 characters for the default 32 bytes.

    Args:
        nbytes: how many random bytes, 16 or more.

    Raises:
        ValidationError: `nbytes` is under 16, which could be guessed.

    Example:
        ```python
        assert len(crypto.generate_token()) == 43
        ```
    """
    if nbytes < _MIN_TOKEN_BYTES:
        raise ValidationError(f"nbytes: {nbytes} random bytes can be guessed, use 16 or more")
    return secrets.token_urlsafe(nbytes)


class SecretBox:
    """Keeps bytes encrypted in memory, under a key derived from a secret for one purpose.

    The key is HKDF-SHA256(secret) labelled with `purpose`, so boxes of other purposes cannot open what this
    one sealed; the cipher is AES-256-GCM. Nothing of the secret is kept, nor shown by `repr`.

    Args:
        secret: text that cannot be guessed, such as a pre-shared key; not empty.
        purpose: a label that separates boxes of one secret.

    Example:
        ```python
        box = crypto.SecretBox(crypto.generate_token(), "session-cookies")
        assert box.open(box.seal(b"ada")) == b"ada"
        ```
    """

    __slots__ = ("_cipher",)

    def __init__(self, secret: str, purpose: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        label = b"dominus/box/v1/" + purpose.encode()
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=label).derive(_encoded(secret, "secret"))
        self._cipher = AESGCM(key)

    def seal(self, data: bytes) -> bytes:
        """Encrypt. Equal data give different results.

        Args:
            data: up to 2 GiB.

        Example:
            ```python
            sealed = crypto.SecretBox(crypto.generate_token(), "cookies").seal(b"ada")
            ```
        """
        # Random, not counted: a fork would count on with the same numbers.
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, None)

    def open(self, sealed: bytes) -> bytes:
        """Decrypt what `seal` returned.

        Args:
            sealed: its result.

        Raises:
            ValidationError: it was changed, or sealed under another secret or for another purpose.

        Example:
            ```python
            box = crypto.SecretBox(crypto.generate_token(), "cookies")
            assert box.open(box.seal(b"ada")) == b"ada"
            ```
        """
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
        except (InvalidTag, ValueError):
            raise ValidationError("not sealed by this box, or changed since") from None

    def __repr__(self) -> str:
        return "SecretBox(...)"

    def __reduce__(self) -> str:
        raise TypeError("a SecretBox stays in its process: it cannot be pickled")


def _encoded(text: str, name: str) -> bytes:
    if not text:
        raise ValidationError(f"{name}: is empty")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValidationError(f"{name}: is not Unicode text") from None


def _prehashed(raw: bytes) -> bytes:
    return base64.b64encode(hashlib.sha256(raw).digest())
