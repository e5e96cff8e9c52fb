"""What a handler is given: who calls, with which engines, under which request id."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dominus.orchestrator.identity.principal import Principal

if TYPE_CHECKING:
    from dominus.orchestrator.handlers.resources import Resources


__all__ = ["Context", "Idempotency", "RawBytes", "RawJson", "RawLines"]


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The key of a write, and what the write was: the same key with another fingerprint is a conflict."""

    key: str
    fingerprint: str
    """An HMAC of operation, path and body: equal for a repeat, and no help in guessing a secret."""
    deadline_seconds: float = 0.0
    """From now on, in which the caller may send the write again."""


@dataclass(slots=True)
class Context:
    """One request, as its handler sees it."""

    principal: Principal
    resources: Resources
    request_id: str
    idempotency: Idempotency | None = None
    """None when the caller sent no key, and for reads."""
    stream: AsyncIterator[bytes] | None = None
    """The rest of a streamed body: chunks of JSON lines, cut anywhere; or of a raw one, unbounded."""
    seal: Callable[[], Idempotency | None] | None = None
    """For a streamed body: call it when the stream is read, for the idempotency of all that was in it."""
    ends_at: float | None = None
    """When the caller's deadline passes, by the event loop's clock; None: nobody said."""
    called_host: str = ""
    """The name under which the caller reached this server, as it says."""
    called_scheme: str = "http"
    """How it was reached, as a trusted proxy says, or as it is."""


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


@dataclass(slots=True)
class RawLines:
    """An answer of any length: lists of rows as JSON, which are sent as they come."""

    types: bytes
    """As of RawJson; `{}` for none."""
    parts: AsyncGenerator[bytes]
    """Each a JSON list. It raises DominusError, and is closed when nobody reads on."""


class RawBytes(bytes):
    """An answer that is bytes: sent as they are to who accepts that, else as `{"data": base64}`."""
