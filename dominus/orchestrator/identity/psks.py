"""Pre-shared keys, which are exchanged for tokens.

The root PSK of the settings; those of the table `dominus.psks`, with the scopes that stand there; and those of clients,
with the scopes that a client has in no tenant (see `rights`).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dominus.errors import AuthorizationError, ValidationError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.identity.passwords import psk_digest
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.settings import MIN_PSK_LENGTH

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Pool, Record
    from dominus.orchestrator.identity.rights import RightsOf
    from dominus.orchestrator.identity.vault import Vault

__all__ = ["RESERVED_SUBJECTS", "ClientKeys", "Psks", "digest_of"]

_ROOT, _PSK, _CLIENT = "service:root", "psk:", "client:"
RESERVED_SUBJECTS = ("service:", _PSK, _CLIENT)
"""No user's id begins so: whatever is kept by subject cannot be reached by a user of the same name."""
_TTL_SECONDS = 5.0
_MAX_KNOWN = 1000
_MAX_LOOKUPS = 2
_MAX_LENGTH = 512
_DEFAULT_PROJECT, _DEFAULT_ENVIRONMENT = "default", "development"
_PARTITION_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_FIND = """
SELECT id, scopes, project, environment
FROM dominus.psks
WHERE psk_sha256 = $1 AND (disabled_at IS NULL OR disabled_at > now())
"""
_FIND_CLIENT = """
SELECT client_id::text AS id, project, environment, extract(epoch FROM expires_at)::float8 AS ends_at
FROM dominus.client_psks
WHERE digest = $1 AND (expires_at IS NULL OR expires_at > now())
"""


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What the keys of clients are found by, and what clients may do."""

    vault: Vault
    rights: RightsOf


class Psks:
    """Knows whom each PSK speaks for; of a PSK only its digest is kept."""

    def __init__(
        self,
        pool: Pool,
        *,
        root_token: str | None = None,
        clients: ClientKeys | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if root_token is not None and not MIN_PSK_LENGTH <= len(root_token) <= _MAX_LENGTH:
            raise ValidationError(
                f"the root token has {len(root_token)} characters, not {MIN_PSK_LENGTH} to {_MAX_LENGTH}",
                hint="make one with dominus.crypto.generate_token()",
            )
        self._pool, self._clock = pool, clock
        self._root_digest = None if root_token is None else digest_of(root_token)
        self._looking_up = asyncio.Semaphore(_MAX_LOOKUPS)
        self._known: OrderedDict[bytes, tuple[Record | None, float]] = OrderedDict()
        self._generation = 0
        self._clients = clients
        self._known_clients: OrderedDict[bytes, tuple[Record | None, float]] = OrderedDict()
        if clients is not None:
            clients.rights.on_change(self.forget)

    async def principal_of(
        self, psk: str, project: str | None = None, environment: str | None = None
    ) -> Principal | None:
        """Return whom a PSK speaks for, in the project and environment asked for; None: there is no such PSK.

        Raises:
            ValidationError: project or environment is no name.
            AuthorizationError: the PSK is for another project or environment.
        """
        if not MIN_PSK_LENGTH <= len(psk) <= _MAX_LENGTH:
            return None
        digest = digest_of(psk)
        if self._root_digest is not None and hmac.compare_digest(digest, self._root_digest):
            subject, scopes, own_project, own_environment = _ROOT, frozenset({"*"}), None, None
        else:
            row = await self._row(_FIND, digest, self._known)
            if row is not None:
                subject, scopes = f"{_PSK}{row['id']}", frozenset[str](row["scopes"])
            else:
                row, scopes = await self._client(psk)
                if row is None:
                    return None
                subject = f"{_CLIENT}{row['id']}"
            own_project, own_environment = row["project"], row["environment"]
        return Principal(
            subject,
            "service",
            scopes,
            _partition("project", project, own_project, _DEFAULT_PROJECT),
            _partition("environment", environment, own_environment, _DEFAULT_ENVIRONMENT),
        )

    def forget(self, _: object = None) -> None:
        """Look every PSK up anew: some have changed."""
        self._generation += 1
        self._known.clear()
        self._known_clients.clear()

    async def _client(self, psk: str) -> tuple[Record | None, frozenset[str]]:
        """Return the row of a client's key, and what the client may do."""
        if self._clients is None:
            return None, frozenset()
        digest = psk_digest(self._clients.vault, psk)
        row = await self._row(_FIND_CLIENT, digest, self._known_clients)
        # What is remembered may have ended meanwhile.
        if row is None or (row["ends_at"] is not None and row["ends_at"] <= self._clock()):
            return None, frozenset()
        rights = await self._clients.rights.of(row["project"], row["environment"], "client", row["id"])
        return (row if rights.is_active else None), rights.scopes

    async def _row(
        self, sql: str, digest: bytes, all_known: OrderedDict[bytes, tuple[Record | None, float]]
    ) -> Record | None:
        known = all_known.get(digest)
        now, generation = self._clock(), self._generation
        if known is not None and now < known[1]:
            return known[0]
        try:
            # Few at a time: invented PSKs are free, and must not crowd out the pool.
            async with self._looking_up:
                row = await self._pool.fetchrow(sql, digest)
        except FAILURES as error:
            raise from_postgres(error) from error
        if generation == self._generation:
            all_known[digest] = (row, now + _TTL_SECONDS)
            if len(all_known) > _MAX_KNOWN:
                all_known.popitem(last=False)
        return row


def digest_of(text: str) -> bytes:
    """Return the digest under which a PSK or a token is known."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _partition(name: str, asked: str | None, own: str | None, default: str) -> str:
    if asked is not None and not _PARTITION_NAME.fullmatch(asked):
        raise ValidationError(f"{name}: 1 to 64 of the characters A-Z a-z 0-9 . _ - are allowed")
    if own is not None and asked not in {None, own}:
        raise AuthorizationError(f"this PSK is for the {name} {own!r}, not {asked!r}")
    return own or asked or default
