"""Pre-shared keys, which are exchanged for tokens: the root PSK of the settings, and the table `dominus.psks`."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from dominus.errors import AuthorizationError, ValidationError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.settings import MIN_PSK_LENGTH

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Pool, Record

__all__ = ["RESERVED_SUBJECTS", "Psks", "digest_of"]

_ROOT, _PSK = "service:root", "psk:"
RESERVED_SUBJECTS = ("service:", _PSK)
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


class Psks:
    """Knows whom each PSK speaks for; of a PSK only its digest is kept."""

    def __init__(
        self, pool: Pool, *, root_token: str | None = None, clock: Callable[[], float] = time.time
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
            subject, scopes, own_project, own_environment = _ROOT, ["*"], None, None
        else:
            row = await self._row(digest)
            if row is None:
                return None
            subject, scopes = f"{_PSK}{row['id']}", row["scopes"]
            own_project, own_environment = row["project"], row["environment"]
        return Principal(
            subject,
            "service",
            frozenset(scopes),
            _partition("project", project, own_project, _DEFAULT_PROJECT),
            _partition("environment", environment, own_environment, _DEFAULT_ENVIRONMENT),
        )

    def forget(self, _: object = None) -> None:
        """Look every PSK up anew: some have changed."""
        self._known.clear()

    async def _row(self, digest: bytes) -> Record | None:
        known = self._known.get(digest)
        now = self._clock()
        if known is not None and now < known[1]:
            return known[0]
        try:
            # Few at a time: invented PSKs are free, and must not crowd out the pool.
            async with self._looking_up:
                row = await self._pool.fetchrow(_FIND, digest)
        except FAILURES as error:
            raise from_postgres(error) from error
        self._known[digest] = (row, now + _TTL_SECONDS)
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
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
