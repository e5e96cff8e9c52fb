r"""The vault: what is secret in PostgreSQL is encrypted before it gets there.

    master key --wraps--> data key of (project, environment) --AES-256-GCM--> one version of one secret
               \-wraps--> system key ----------------------------------------> signing keys, fingerprints

Each ciphertext is bound to its place (project, environment, key, version) as associated data: moved to
another row it does not open. PostgreSQL sees ciphertext and wrapped keys, never a plaintext.

Rotation of the master key, with every replica up all the time: deploy `DOMINUS_MASTER_KEY=old,new`
everywhere (all can unwrap under both), then `new,old` (each start re-wraps what is left), then `new`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dominus.errors import ServiceError, ValidationError

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Executor, Record

__all__ = ["MASTER_KEY_BYTES", "DataKey", "Sealed", "Vault", "parse_master_keys"]

T = TypeVar("T")

MASTER_KEY_BYTES = 32
_NONCE_BYTES = 12
_MAX_CACHED_KEYS = 1000
# No project of a caller has an empty name, so this data key is nobody's but ours.
_SYSTEM = ("", "")

_FIND_KEY = """
SELECT id, wrapped, master_id
FROM dominus.data_keys
WHERE project = $1 AND environment = $2
"""
_ADD_KEY = """
INSERT INTO dominus.data_keys (project, environment, wrapped, master_id)
VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
"""
_FIND_MASTERS = """
SELECT DISTINCT master_id
FROM dominus.data_keys
"""
_FIND_FOREIGN_KEYS = """
SELECT id, project, environment, wrapped, master_id
FROM dominus.data_keys
WHERE master_id <> $1
"""
# Another replica may have been first; then there is nothing left to change.
_REWRAP_KEY = """
UPDATE dominus.data_keys
SET wrapped = $3, master_id = $4
WHERE id = $1 AND wrapped = $2
"""


@dataclass(frozen=True, slots=True)
class DataKey:
    """The unwrapped key of one project and environment."""

    id: int
    cipher: AESGCM = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sealed:
    """One version of a secret, as PostgreSQL keeps it."""

    nonce: bytes
    ciphertext: bytes
    data_key_id: int


class Vault:
    """Encrypts secrets, signing keys and fingerprints. `start` it before use."""

    def __init__(self, master_keys: Sequence[bytes]) -> None:
        if not master_keys:
            raise ValidationError("there is no master key", hint="set DOMINUS_MASTER_KEY")
        if any(len(key) != MASTER_KEY_BYTES for key in master_keys):
            raise ValidationError(f"a master key has {MASTER_KEY_BYTES} bytes")
        masters = {_derive(key, b"master-id")[:8].hex(): key for key in master_keys}
        self._wrappers = {id_: AESGCM(_derive(key, b"wrapping")) for id_, key in masters.items()}
        self._primary_id = next(iter(masters))
        # By owner and wrapped form, which PostgreSQL hands over with every row: it can never be stale.
        self._unwrapped: dict[tuple[str, str, bytes], AESGCM] = {}
        self._signing_keys: AESGCM | None = None
        self._fingerprint_key: bytes | None = None

    def __repr__(self) -> str:
        return f"Vault(primary={self._primary_id!r})"

    async def start(self, database: Executor) -> None:
        """Read the system key, or make it, and prove that the master keys unwrap what is in this database.

        Raises:
            ServiceError: code `wrong_master_key`.
        """
        row = await self._key_row(database, _SYSTEM)
        for known in await database.fetch(_FIND_MASTERS):
            self._wrapper(known["master_id"])
        system = self._unwrap(row["wrapped"], row["master_id"], _SYSTEM)
        self._signing_keys = AESGCM(_derive(system, b"signing-keys"))
        self._fingerprint_key = _derive(system, b"fingerprints")

    async def rewrap(self, database: Executor) -> int:
        """Wrap under the first master key what is wrapped under another, and return how many keys that was.

        Secrets themselves are not touched. Any number of replicas may do it at once.
        """
        changed_count = 0
        for row in await database.fetch(_FIND_FOREIGN_KEYS, self._primary_id):
            owner = (row["project"], row["environment"])
            wrapped = self._wrap(self._unwrap(row["wrapped"], row["master_id"], owner), owner)
            said = await database.execute(_REWRAP_KEY, row["id"], row["wrapped"], wrapped, self._primary_id)
            changed_count += int(said.removeprefix("UPDATE "))
        return changed_count

    async def data_key(self, database: Executor, project: str, environment: str) -> DataKey:
        """Return the data key of a project and environment, made with the first secret."""
        row = await self._key_row(database, (project, environment))
        return DataKey(row["id"], self._cipher(row["wrapped"], row["master_id"], (project, environment)))

    def seal(
        self, data: bytes, under: DataKey, *, project: str, environment: str, key: str, version: int
    ) -> Sealed:
        """Encrypt one version of a secret, bound to its place."""
        nonce = os.urandom(_NONCE_BYTES)
        bound = _bound("secret", project, environment, key, str(version))
        return Sealed(nonce, under.cipher.encrypt(nonce, data, bound), under.id)

    def open(self, row: Record, *, project: str, environment: str, key: str, version: int) -> bytes:
        """Decrypt a row with `nonce`, `ciphertext` and its data key's `wrapped` and `master_id`.

        Raises:
            ServiceError: code `secret_corrupt`: the row was changed or comes from another place.
        """
        cipher = self._cipher(row["wrapped"], row["master_id"], (project, environment))
        bound = _bound("secret", project, environment, key, str(version))
        try:
            return cipher.decrypt(row["nonce"], row["ciphertext"], bound)
        except (InvalidTag, ValueError):
            raise _corrupt(f"version {version} of secret {key!r}") from None

    def seal_signing_key(self, data: bytes, kid: str) -> bytes:
        """Encrypt a private signing key."""
        return _enclose(self._started(self._signing_keys), data, _bound("signing-key", kid))

    def open_signing_key(self, sealed: bytes, kid: str) -> bytes:
        """Decrypt a private signing key. Raises ServiceError, code `secret_corrupt`, when it was changed."""
        try:
            return _disclose(self._started(self._signing_keys), sealed, _bound("signing-key", kid))
        except (InvalidTag, ValueError):
            raise _corrupt(f"signing key {kid!r}") from None

    def fingerprint(self, *parts: bytes) -> str:
        """Return a keyed hash: equal for equal parts on every replica, and no help in guessing them."""
        return hmac.digest(self._started(self._fingerprint_key), _framed(parts), "sha256").hex()

    def fingerprinter(self, *parts: bytes) -> hmac.HMAC:
        """Return the hash begun with `parts`, to `update` with a stream; `hexdigest` ends it."""
        return hmac.new(self._started(self._fingerprint_key), _framed(parts), "sha256")

    async def _key_row(self, database: Executor, owner: tuple[str, str]) -> Record:
        row = await database.fetchrow(_FIND_KEY, *owner)
        if row is None:
            wrapped = self._wrap(AESGCM.generate_key(256), owner)
            # Of several replicas one inserts; the others wait for it here and read its key.
            await database.execute(_ADD_KEY, *owner, wrapped, self._primary_id)
            row = await database.fetchrow(_FIND_KEY, *owner)
        if row is None:
            raise ServiceError("a data key vanished while it was being made", code="secret_corrupt")
        return row

    def _cipher(self, wrapped: bytes, master_id: str, owner: tuple[str, str]) -> AESGCM:
        place = (*owner, wrapped)
        cipher = self._unwrapped.get(place)
        if cipher is None:
            cipher = AESGCM(self._unwrap(wrapped, master_id, owner))
            while len(self._unwrapped) >= _MAX_CACHED_KEYS:
                del self._unwrapped[next(iter(self._unwrapped))]
            self._unwrapped[place] = cipher
        return cipher

    def _wrap(self, key: bytes, owner: tuple[str, str]) -> bytes:
        return _enclose(self._wrappers[self._primary_id], key, _bound("data-key", *owner))

    def _unwrap(self, wrapped: bytes, master_id: str, owner: tuple[str, str]) -> bytes:
        try:
            return _disclose(self._wrapper(master_id), wrapped, _bound("data-key", *owner))
        except (InvalidTag, ValueError):
            raise _corrupt(f"the data key of project {owner[0]!r}, environment {owner[1]!r}") from None

    def _wrapper(self, master_id: str) -> AESGCM:
        wrapper = self._wrappers.get(master_id)
        if wrapper is None:
            raise ServiceError(
                f"this database was encrypted under master key {master_id}, which is not among the"
                f" {len(self._wrappers)} in DOMINUS_MASTER_KEY ({', '.join(self._wrappers)})",
                code="wrong_master_key",
                retryable=False,
                hint="set DOMINUS_MASTER_KEY to the key this database began with; for a rotation list both",
            )
        return wrapper

    @staticmethod
    def _started(value: T | None) -> T:
        if value is None:
            raise RuntimeError("the vault was not started: await vault.start(pool) first")
        return value


def parse_master_keys(text: str) -> list[bytes]:
    """Read `DOMINUS_MASTER_KEY`: 32 bytes in base64, several separated by commas, the first one wraps.

    Raises:
        ValidationError: which of them is wrong and how, never what it is.
    """
    keys: list[bytes] = []
    for number, part in enumerate(text.split(","), start=1):
        encoded = part.strip().replace("-", "+").replace("_", "/").rstrip("=")
        try:
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise _bad_master_key(number, "is not base64") from None
        if len(key) != MASTER_KEY_BYTES:
            raise _bad_master_key(number, f"has {len(key)} bytes, not {MASTER_KEY_BYTES}")
        if key in keys:
            raise _bad_master_key(number, "stands there twice")
        keys.append(key)
    return keys


def _derive(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"dominus/vault/v1/" + purpose).derive(key)


def _framed(parts: Sequence[bytes]) -> bytes:
    # With lengths, ("ab", "c") and ("a", "bc") stay two things.
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def _bound(*parts: str) -> bytes:
    return _framed([part.encode() for part in parts])


def _enclose(cipher: AESGCM, data: bytes, bound: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, data, bound)


def _disclose(cipher: AESGCM, sealed: bytes, bound: bytes) -> bytes:
    return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)


def _corrupt(what: str) -> ServiceError:
    return ServiceError(
        f"{what} does not open: its row was changed outside of Dominus",
        code="secret_corrupt",
        retryable=False,
        hint="restore the row from a backup",
    )


def _bad_master_key(number: int, how: str) -> ValidationError:
    return ValidationError(
        f"DOMINUS_MASTER_KEY: key {number} {how}",
        hint='make one: python -c "import secrets; print(secrets.token_urlsafe(32))"',
    )
