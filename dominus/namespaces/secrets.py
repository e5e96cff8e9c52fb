"""dominus.secrets: encrypted, versioned secrets of a project and environment."""

from __future__ import annotations

import asyncio
import builtins
import hashlib
import logging
from collections.abc import Sequence
from typing import Any, TypeVar, overload

from pydantic_core import from_json, to_json

from dominus.contract import secrets as contract
from dominus.contract.values import wire_value
from dominus.errors import (
    DominusConnectionError,
    DominusError,
    DominusTimeoutError,
    NotFoundError,
    ServiceError,
)
from dominus.namespaces.base import Namespace, as_list, check_seconds, unwrap
from dominus.result import MISSING, Missing

__all__ = ["Secrets"]

T = TypeVar("T")
_log = logging.getLogger("dominus.secrets")
_AWAY = (DominusConnectionError, DominusTimeoutError, ServiceError)
STALE_TIMEOUT = 5.0
"""Seconds that a reader who holds a last known value waits for the orchestrator, unless `timeout=` says more."""


class Secrets(Namespace):
    """Values that are encrypted at rest (AES-256-GCM) and versioned; `list` and `versions` never show them.

    A key has 1 to 256 characters and no control characters, a value is any JSON value of up to 1 MiB. Secrets belong to
    the project and environment of the token.
    """

    @overload
    async def get(
        self,
        key: str,
        *,
        version: int | None = None,
        stale_if_error: float | None = None,
        timeout: float | None = None,
    ) -> Any: ...
    @overload
    async def get(
        self,
        key: str,
        default: T,
        *,
        version: int | None = None,
        stale_if_error: float | None = None,
        timeout: float | None = None,
    ) -> Any | T: ...
    async def get(
        self,
        key: str,
        default: Any = MISSING,
        *,
        version: int | None = None,
        stale_if_error: float | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Return a secret's value: the JSON value that was stored, most often text.

        Args:
            key: 1 to 256 characters.
            default: returned when there is no such secret, instead of NotFoundError.
            version: an older version, from 1; the newest without it.
            stale_if_error: seconds; when the orchestrator is away, return the last known value if it is at most
                this old, and say so in a log line. Values are kept, encrypted in memory, for such readers only,
                and with one at hand the orchestrator is waited for no longer than 5 seconds.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such secret (or version) and no default.

        Example:
            ```python
            password = await dominus.secrets.get("SMTP_PASSWORD")
            region = await dominus.secrets.get("REGION", "eu-north-1")
            key = await dominus.secrets.get("SMTP_PASSWORD", stale_if_error=600)
            ```
        """
        request = contract.SecretGet(key=key, version=version)
        try:
            if stale_if_error is not None:
                check_seconds(stale_if_error, "stale_if_error")
                return await self._get_or_stale(request, stale_if_error, timeout)
            return await self._get(request, timeout)
        except NotFoundError:
            if isinstance(default, Missing):
                raise
            return default

    async def _get(self, request: contract.SecretGet, timeout: float | None) -> Any:
        answer = await self._call(contract.GET, request, timeout=timeout)
        return unwrap(contract.GET, answer, lambda data: data["secret"]["value"])

    async def _get_or_stale(self, request: contract.SecretGet, max_age: float, timeout: float | None) -> Any:
        from dominus.transport.deadline import deadline

        shared = self._caller.shared
        cache, clock = shared.cache, shared.clock
        name = f"{_reader(self._caller.user_token)}\x00{request.key}\x00{request.version or ''}"
        pipeline = await self._caller.core.pipeline()
        kept = cache.get(name, max_age, clock.monotonic(), pipeline.box)
        try:
            if timeout is None and kept is not None:
                timeout = STALE_TIMEOUT
            # Who has a value at hand does not wait for a service that fails.
            with deadline(None, fail_fast=True if kept is not None else None):
                value = await self._get(request, timeout)
        except NotFoundError:
            cache.drop(name)
            raise
        except _AWAY as error:
            if kept is None:
                raise
            cache.hits += 1
            _log.warning(
                "secret %r: the orchestrator is away (%s), using the value of %.0f s ago",
                request.key,
                error.code,
                kept[1],
            )
            return from_json(kept[0])
        cache.put(name, to_json(value), clock.monotonic(), pipeline.box)
        return value

    async def get_many(self, keys: Sequence[str], *, timeout: float | None = None) -> dict[str, Any]:
        """Return the values of several secrets by key, in one call.

        Args:
            keys: 1 to 100 keys.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: some do not exist; `details["missing"]` names them all.

        Example:
            ```python
            smtp = await dominus.secrets.get_many(["SMTP_USER", "SMTP_PASSWORD"])
            print(smtp["SMTP_USER"])
            ```
        """
        request = contract.SecretGetMany(keys=as_list(keys, "keys"))
        try:
            answer = await self._call(contract.GET_MANY, request, timeout=timeout)
        except DominusError as error:
            if (await self._caller.core.pipeline()).speaks_json or error.status_code not in {400, 404, 422}:
                raise
            # A server of the published client: it knows no get_many.
            values = await asyncio.gather(*(self.get(key, timeout=timeout) for key in request.keys))
            return dict(zip(request.keys, values, strict=True))
        if answer["missing"]:
            raise NotFoundError(
                f"no such secrets: {', '.join(answer['missing'])}",
                details={"missing": answer["missing"]},
                endpoint=contract.GET_MANY.name,
            )
        return answer["values"]

    async def upsert(
        self, key: str, value: Any, comment: str | None = None, *, timeout: float | None = None
    ) -> contract.SecretStored:
        """Store a new version, creating the secret where it is missing.

        Args:
            key: 1 to 256 characters.
            value: text, or any JSON value up to 1 MiB.
            comment: up to 1,000 characters, shown by `list` and `versions`.
            timeout: seconds for the whole call; the client's without it.

        Returns:
            `{"key", "version", "operation": "create" | "update"}`

        Example:
            ```python
            stored = await dominus.secrets.upsert("API_KEY", "k-123", comment="rotated")
            print(stored["version"])
            ```
        """
        fields: dict[str, Any] = {"key": key, "value": wire_value(value), "comment": comment}
        try:
            stored = await self._call(contract.UPSERT, contract.SecretUpsert(**fields), timeout=timeout)
        except NotFoundError:
            # Servers of the published client may keep `update` and `create` apart.
            request = contract.SecretUpsert(action="create", **fields)
            stored = await self._call(contract.UPSERT, request, timeout=timeout)
        return stored

    async def list(
        self, prefix: str | None = None, *, timeout: float | None = None
    ) -> builtins.list[contract.SecretInfo]:
        """List secrets by the beginning of their keys, in key order; never their values.

        Args:
            prefix: what the keys begin with, up to 256 characters; all secrets without it.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            for secret in await dominus.secrets.list(prefix="SMTP_"):
                print(secret["key"], secret["version"])
            ```
        """
        answer = await self._call(contract.LIST, contract.SecretsList(prefix=prefix), timeout=timeout)
        return answer["secrets"]

    async def versions(self, key: str, *, timeout: float | None = None) -> builtins.list[contract.SecretInfo]:
        """List the versions of a secret, newest first; never their values.

        Args:
            key: 1 to 256 characters.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such secret.

        Example:
            ```python
            newest, *older = await dominus.secrets.versions("SMTP_PASSWORD")
            print(newest["version"], newest["comment"])
            ```
        """
        answer = await self._call(contract.VERSIONS, contract.SecretVersions(key=key), timeout=timeout)
        return answer["secrets"]

    async def delete(self, key: str, *, timeout: float | None = None) -> bool:
        """Delete a secret with all its versions; false when there was none.

        Args:
            key: 1 to 256 characters.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            await dominus.secrets.upsert("OLD_KEY", "x")
            assert await dominus.secrets.delete("OLD_KEY")
            ```
        """
        answer = await self._call(contract.DELETE, contract.SecretDelete(key=key), timeout=timeout)
        return bool(answer.get("deleted", True))


def _reader(user_token: str | None) -> str:
    # Whoever may read a secret, others who read through the same client may not.
    return "" if user_token is None else hashlib.sha256(user_token.encode()).hexdigest()
