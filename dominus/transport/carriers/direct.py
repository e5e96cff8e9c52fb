"""One request and its answer on a connection of aiohttp's pool, without a ClientSession around it.

The session's part of a call (merging headers, cookies, redirects, a task that writes the body) costs more than the rest
of it: without that, a call takes less than one of bare aiohttp instead of a third more (docs/benchmarks.md). Used for
what most calls are: a small body, and no proxy. The pool, the parser and the protocol are aiohttp's own.
"""

from __future__ import annotations

import asyncio
import inspect

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from dominus.errors import ValidationError
from dominus.transport.carriers.base import USER_AGENT, Outgoing, Received, bounded

__all__ = ["SMALL_BYTES", "DirectExchange", "fits"]

SMALL_BYTES = 64 * 1024
"""A body up to this is handed to the socket at once; the memory that a slow peer can hold is bounded by it."""


def fits() -> bool:
    """Return whether this version of aiohttp has what is used here: none of it is in its documents."""
    connect = inspect.signature(aiohttp.BaseConnector.connect).parameters
    answer = inspect.signature(ResponseHandler.set_response_params).parameters
    return (
        {"req", "traces", "timeout"} <= connect.keys()
        and {"read_until_eof", "auto_decompress"} <= answer.keys()
        and hasattr(ResponseHandler, "read")
    )


class DirectExchange:
    """Belongs to one carrier and its loop."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, max_bytes: int) -> None:
        if session.connector is None:
            raise RuntimeError("the session is closed")
        url = URL(base_url, encoded=True)
        self._connector = session.connector
        self._timeout = session.timeout
        self._max_bytes = max_bytes
        # What the pool knows its connections by; it is never sent.
        self._target = aiohttp.ClientRequest("POST", url, loop=asyncio.get_running_loop(), session=session)
        self._prefix = url.raw_path.rstrip("/")
        self._fixed = f" HTTP/1.1\r\nHost: {url.host_port_subcomponent}\r\nUser-Agent: {USER_AGENT}\r\n"

    async def carry(self, out: Outgoing, content: bytes) -> Received:
        """Send once; raises what aiohttp raises."""
        head = self._head(out, len(content))
        try:
            connection = await self._connector.connect(self._target, traces=[], timeout=self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"no connection to {self._target.url} in time") from error
        try:
            received = await self._exchange(connection.protocol, head + content, out.endpoint)
        except BaseException:
            connection.close()
            raise
        connection.release()
        return received

    async def _exchange(self, protocol: ResponseHandler | None, data: bytes, endpoint: str) -> Received:
        if protocol is None or protocol.transport is None or protocol.transport.is_closing():
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(read_until_eof=True, auto_decompress=False)
        protocol.transport.write(data)
        message, payload = await protocol.read()
        while 100 <= message.code < 200 and message.code != 101:
            message, payload = await protocol.read()
        length = message.headers.get("Content-Length")
        if length is not None and int(length) <= self._max_bytes:
            body = await payload.read()
        else:
            body = await bounded(payload.iter_any(), self._max_bytes, endpoint)
        return Received(message.code, message.headers, body)

    def _head(self, out: Outgoing, length: int) -> bytes:
        fields = "".join([f"{name}: {value}\r\n" for name, value in out.headers.items()])
        # A line end in a value would begin a header, or a request, of its own.
        if fields.count("\n") != len(out.headers) or fields.count("\r") != len(out.headers):
            raise ValidationError("a header has a line end", endpoint=out.endpoint)
        size = "" if out.content is None and out.method == "GET" else f"Content-Length: {length}\r\n"
        return f"{out.method} {self._prefix}{out.path}{self._fixed}{fields}{size}\r\n".encode()
