"""What a handler is given: who calls, with which engines, under which request id."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dominus.contract.operation import Operation, Request

if TYPE_CHECKING:
    from dominus.orchestrator.engines import Engines

__all__ = ["HANDLERS", "Context", "Idempotency", "Principal", "RawJson", "handles"]

Req = TypeVar("Req", bound=Request)
Data = TypeVar("Data")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, as the verified token says."""

    subject: str
    """The id of a service or user; it names the caller in audit trails and rate limits."""
    use: str
    """`service` or `user`, or `session` for a token of the gateway."""
    scopes: frozenset[str]
    """`service:verb`, or `*` for everything."""
    project: str = "default"
    environment: str = "development"
    target: str | None = None
    """What a session token opens; None for every other token."""

    def may(self, scope: str | None) -> bool:
        """Return whether a scope is covered; None asks for nothing."""
        return scope is None or "*" in self.scopes or scope in self.scopes


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The key of a write, and what the write was: the same key with another fingerprint is a conflict."""

    key: str
    fingerprint: str
    """An HMAC of operation, path and body: equal for a repeat, and no help in guessing a secret."""


@dataclass(slots=True)
class Context:
    """One request, as its handler sees it."""

    principal: Principal
    engines: Engines
    request_id: str
    idempotency: Idempotency | None = None
    """None when the caller sent no key, and for reads."""
    stream: AsyncIterator[bytes] | None = None
    """The rest of a streamed body: chunks of JSON lines, cut anywhere."""
    seal: Callable[[], Idempotency | None] | None = None
    """For a streamed body: call it when the stream is read, for the idempotency of all that was in it."""
    called_host: str = ""
    """The name under which the caller reached this server, as it says."""


class RawJson(bytes):
    """An answer that is JSON already (PostgreSQL wrote it); sent as it is.

    `types` is a JSON object column -> type, for what JSON cannot say (see contract/values.py), or None.
    """

    types: bytes | None = None

    @classmethod
    def of(cls, text: bytes, types: bytes | None = None) -> RawJson:
        """Mark a JSON document as ready to be sent."""
        raw = cls(text)
        raw.types = types
        return raw


Handler = Callable[[Context, Any], Awaitable[Any]]
HANDLERS: dict[str, Handler] = {}


def handles(
    operation: Operation[Req, Data],
) -> Callable[
    [Callable[[Context, Req], Awaitable[Data | RawJson]]], Callable[[Context, Req], Awaitable[Data | RawJson]]
]:
    """Register the one handler of an operation."""

    def register(
        handler: Callable[[Context, Req], Awaitable[Data | RawJson]],
    ) -> Callable[[Context, Req], Awaitable[Data | RawJson]]:
        if operation.name in HANDLERS:
            raise RuntimeError(f"operation {operation.name} has two handlers")
        HANDLERS[operation.name] = cast("Handler", handler)
        return handler

    return register
