"""The RSA keys that sign tokens: in PostgreSQL, encrypted, shared by all replicas, replaced without a gap."""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key

from dominus.errors import ServiceError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Executor, Pool, Record
    from dominus.orchestrator.identity.vault import Vault

__all__ = ["SigningKey", "SigningKeys"]

_KEY_BITS = 2048
# A token lives a day at most.
_OVERLAP = dt.timedelta(days=1)
_RELOAD_SECONDS = 3.0
# Not an advisory lock: those are everybody's, and a session could hold it for ever.
_LOCK = "SET LOCAL lock_timeout = '30s'; LOCK TABLE dominus.signing_keys IN SHARE ROW EXCLUSIVE MODE"
_LOAD_KEYS = """
SELECT kid, private_encrypted, created_at, expires_at
FROM dominus.signing_keys
WHERE expires_at IS NULL OR expires_at > $1
ORDER BY created_at DESC, kid
"""
_NEWEST_KEY = """
SELECT max(created_at)
FROM dominus.signing_keys
"""
_ADD_KEY = """
INSERT INTO dominus.signing_keys (kid, private_encrypted, public_pem, created_at)
VALUES ($1, $2, $3, $4)
"""
_RETIRE_OTHERS = """
UPDATE dominus.signing_keys
SET expires_at = $2
WHERE kid <> $1 AND expires_at IS NULL
"""
_DELETE_EXPIRED = """
DELETE FROM dominus.signing_keys
WHERE expires_at < $1
"""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An RSA key of this orchestrator."""

    kid: str
    private: RSAPrivateKey = field(repr=False)
    public: RSAPublicKey
    created_at: dt.datetime
    expires_at: dt.datetime | None
    """A day after its successor was made; None while it signs."""

    def pem(self) -> str:
        """Return the public half."""
        return self.public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()


class SigningKeys:
    """All keys that verify, the signing one first."""

    def __init__(self, pool: Pool, vault: Vault, clock: Callable[[], float]) -> None:
        self._pool, self._vault, self._clock = pool, vault, clock
        self._keys: dict[str, SigningKey] = {}
        self._loaded_at = float("-inf")
        self._loading = asyncio.Lock()

    async def start(self) -> None:
        """Read the keys; make the first one where there is none."""
        await self._load()
        if not self._keys:
            await self._add(max_age=None)

    async def rotate_if_due(self, days: float) -> bool:
        """Make a new key when the newest is older. Returns whether this replica made it."""
        await self._load()
        max_age = dt.timedelta(days=days)
        if self._now() - self.signing().created_at < max_age:
            return False
        return await self._add(max_age)

    def signing(self) -> SigningKey:
        """Return the newest key."""
        if not self._keys:
            raise RuntimeError("there is no signing key: await start() first")
        return next(iter(self._keys.values()))

    def living(self) -> list[SigningKey]:
        """Return the keys that verify now, the signing one first."""
        return [key for key in self._keys.values() if self._is_living(key)]

    async def named(self, kid: object) -> SigningKey | None:
        """Return the key of that name if it verifies now."""
        if not isinstance(kid, str):
            return None
        if kid not in self._keys:
            # Another replica may have made it. Invented names must not become a load on the database.
            async with self._loading:
                if kid not in self._keys and self._clock() - self._loaded_at >= _RELOAD_SECONDS:
                    await self._load()
        key = self._keys.get(kid)
        return key if key is not None and self._is_living(key) else None

    def _is_living(self, key: SigningKey) -> bool:
        return key.expires_at is None or key.expires_at > self._now()

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock(), dt.UTC)

    async def _load(self) -> None:
        try:
            rows = await self._pool.fetch(_LOAD_KEYS, self._now())
        except FAILURES as error:
            raise from_postgres(error) from error
        self._keys = {row["kid"]: self._loaded(row) for row in rows}
        self._loaded_at = self._clock()

    def _loaded(self, row: Record) -> SigningKey:
        kid: str = row["kid"]
        known = self._keys.get(kid)
        # The public key is taken from the encrypted private one: whoever can only write rows cannot forge.
        private = known.private if known else self._opened(row["private_encrypted"], kid)
        return SigningKey(kid, private, private.public_key(), row["created_at"], row["expires_at"])

    def _opened(self, sealed: bytes, kid: str) -> RSAPrivateKey:
        # The vault has authenticated it; checking its primes once more takes longer than the rest of a start.
        private = serialization.load_der_private_key(
            self._vault.open_signing_key(sealed, kid), password=None, unsafe_skip_rsa_key_validation=True
        )
        if not isinstance(private, RSAPrivateKey):
            raise ServiceError(f"signing key {kid!r} is not RSA", code="secret_corrupt", retryable=False)
        return private

    async def _add(self, max_age: dt.timedelta | None) -> bool:
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                # One replica at a time; the others then find that it is done.
                await connection.execute(_LOCK)
                newest: dt.datetime | None = await connection.fetchval(_NEWEST_KEY)
                is_due = newest is None or (max_age is not None and self._now() - newest >= max_age)
                if is_due:
                    await self._insert(connection)
        except FAILURES as error:
            raise from_postgres(error) from error
        await self._load()
        return is_due

    async def _insert(self, connection: Executor) -> None:
        private = await asyncio.to_thread(generate_private_key, public_exponent=65537, key_size=_KEY_BITS)
        kid, now = secrets.token_hex(8), self._now()
        key = SigningKey(kid, private, private.public_key(), now, None)
        plain = private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        sealed = self._vault.seal_signing_key(plain, kid)
        await connection.execute(_ADD_KEY, kid, sealed, key.pem(), now)
        await connection.execute(_RETIRE_OTHERS, kid, now + _OVERLAP)
        await connection.execute(_DELETE_EXPIRED, now)
