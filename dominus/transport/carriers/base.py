"""What carries a request: one small protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dominus._version import __version__
from dominus.errors import ServiceError
from dominus.transport.failure import Failure

__all__ = [
    "MAX_KNOWN_URLS",
    "USER_AGENT",
    "Carrier",
    "Headers",
    "OpenAnswer",
    "Outgoing",
    "Received",
    "bounded",
]

USER_AGENT = f"dominus-sdk/{__version__}"
MAX_KNOWN_URLS = 512


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request, ready for the wire."""

    method: str
    path: str
    """With its query, percent-encoded."""
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | AsyncIterator[bytes] | None = field(repr=False)
    endpoint: str
    """How errors name it: the operation."""
    is_raw: bool = False
    """The answer may be bytes, which are no JSON."""
    is_lines: bool = False
    """The answer may be lines, which are read one by one."""


class Headers(Protocol):
    """The headers of an answer, by any case."""

    def get(self, key: str, /) -> str | None:
        """Return a header."""
        ...


@dataclass(frozen=True, slots=True)
class OpenAnswer:
    """The body of an answer that is still to be read; whoever has it closes it."""

    chunks: AsyncIterator[bytes] = field(repr=False)
    """It raises Failure."""
    aclose: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Received:
    """An answer, whole but for `rest`."""

    status: int
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    rest: OpenAnswer | None = None


class Carrier(Protocol):
    """Carries one request to the server and its whole answer back."""

    async def carry(self, out: Outgoing) -> Received:
        """Send once.

        Raises:
            Failure: nothing, or only a part, came back.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...

    def abandon(self) -> None:
        """Let go of them without a loop, at the end of the program."""
        ...


async def bounded(chunks: AsyncIterator[bytes], limit: int, endpoint: str) -> bytes:
    """Read an answer of at most `limit` bytes.

    Raises:
        Failure: it is longer.
    """
    read: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            error = ServiceError(
                f"the answer is larger than {limit} bytes and was not read to its end",
                code="answer_too_large",
                endpoint=endpoint,
                retryable=False,
                hint="ask for less at once, or raise DOMINUS_MAX_RESPONSE_BYTES",
            )
            raise Failure(error, is_system=False, is_final=True)
        read.append(chunk)
    return read[0] if len(read) == 1 else b"".join(read)
