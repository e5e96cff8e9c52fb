"""Reading a request's body: whole and bounded, or as a stream of JSON lines behind a header line."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, MutableMapping
from typing import Any, cast

from dominus.contract.envelope import Dialect, decode
from dominus.errors import DominusConnectionError, DominusError, ValidationError

__all__ = ["BodyReader", "Receive", "document_of", "fields_of"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
MAX_HEADER_LINE = 64 * 1024
IDLE_SECONDS = 30.0
"""A body that stands still for so long is given up: it holds memory, and a stream a database connection."""
RATE_WINDOW_SECONDS = 20.0
"""Of waiting for the client; the time in which nobody asked for more of the body does not count."""
LARGE_BYTES = 64 * 1024
DRAIN_SECONDS, DRAIN_IDLE_SECONDS = 10.0, 1.0


class BodyReader:
    """The body of one request."""

    def __init__(self, receive: Receive, declared: str | None, limit: int, least_rate: int = 0) -> None:
        self._receive = receive
        self._declared = declared
        self._limit = limit
        self._is_done = False
        self._least_rate = least_rate
        self._waited_seconds = 0.0
        self._waited_bytes = 0

    def restrict(self, limit: int) -> None:
        """Take no more than so many bytes: the caller is not known."""
        self._limit = min(self._limit, limit)

    async def _next(self) -> bytes:
        began = time.monotonic()
        chunk = await self._received()
        self._waited_seconds += time.monotonic() - began
        self._waited_bytes += len(chunk)
        if self._waited_seconds >= RATE_WINDOW_SECONDS:
            if not self._is_done and self._waited_bytes < self._least_rate * self._waited_seconds:
                self._is_done = True
                raise DominusError(
                    f"the body comes with less than {self._least_rate} bytes a second",
                    code="body_too_slow",
                    status_code=408,
                    hint="gather the rows first, and send them when they are there",
                )
            self._waited_seconds, self._waited_bytes = 0.0, 0
        return chunk

    async def _received(self) -> bytes:
        scope = asyncio.timeout(IDLE_SECONDS)
        try:
            async with scope:
                message = await self._receive()
        except TimeoutError as error:
            if not scope.expired():
                raise
            self._is_done = True
            raise DominusError(
                f"nothing of the body came for {IDLE_SECONDS:g} s", code="body_stalled", status_code=408
            ) from error
        if message["type"] == "http.disconnect":
            self._is_done = True
            raise DominusConnectionError("the client went away before its request was complete")
        self._is_done = not message.get("more_body", False)
        return message.get("body", b"")

    async def whole(self) -> bytes:
        """Return the body.

        Raises:
            DominusError: 413, it is larger than the limit.
        """
        if self._declared is not None and self._declared.isdecimal() and int(self._declared) > self._limit:
            raise self._too_large()
        first = await self._next()
        if self._is_done and len(first) <= self._limit:
            return first
        chunks, size = [first], len(first)
        while not self._is_done:
            if size > self._limit:
                raise self._too_large()
            chunk = await self._next()
            chunks.append(chunk)
            size += len(chunk)
        if size > self._limit:
            raise self._too_large()
        return b"".join(chunks)

    async def header_line(self) -> tuple[bytes, bytes]:
        """Return the first line of a stream, and what of the rest has arrived with it."""
        got = b""
        while b"\n" not in got and not self._is_done:
            got += await self._next()
            if len(got) > MAX_HEADER_LINE and b"\n" not in got[:MAX_HEADER_LINE]:
                raise ValidationError("the header line of a stream has at most 64 KiB", code="bad_stream")
        line, _, rest = got.partition(b"\n")
        return line, rest

    async def rest(self, first: bytes) -> AsyncIterator[bytes]:
        """Iterate over what comes after the header line."""
        if first:
            yield first
        while not self._is_done:
            chunk = await self._next()
            if chunk:
                yield chunk

    async def until_gone(self) -> None:
        """Wait until the client goes away; the body has been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def drain(self) -> None:
        """Read what a refused request still sends, for a while: a client that writes does not read answers."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._is_done:
                    async with asyncio.timeout(DRAIN_IDLE_SECONDS):
                        await self._next()
        except (TimeoutError, DominusConnectionError):
            self._is_done = True

    def _too_large(self) -> DominusError:
        return DominusError(
            f"the body is larger than {self._limit} bytes",
            code="body_too_large",
            status_code=413,
            hint="send less at once; db.bulk_insert streams any number of rows",
        )


def document_of(body: bytes, dialect: Dialect) -> bytes:
    """Return the JSON of a body: a write that is repeated in the other dialect is the same write.

    Raises:
        ValidationError: it is not what the dialect says.
    """
    try:
        return body if dialect is Dialect.JSON else b64decode(body, validate=True)
    except ValueError as error:
        raise ValidationError(f"the body is not base64: {error}", code="bad_body") from None


@contextlib.contextmanager
def _no_collection() -> Generator[None]:
    """Keep the garbage collector from walking what is being made, again and again: ten times the time of parsing."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def fields_of(document: bytes) -> dict[str, Any]:
    """Return the fields of a JSON object.

    Raises:
        ValidationError: it is none.
    """
    try:
        with _no_collection() if len(document) > LARGE_BYTES else contextlib.nullcontext():
            found = decode(document, Dialect.JSON)
    except (ValueError, RecursionError) as error:
        raise ValidationError(f"the body is not JSON: {error}", code="bad_body") from None
    if not isinstance(found, dict):
        raise ValidationError("the body must be a JSON object", code="bad_body")
    return cast("dict[str, Any]", found)
