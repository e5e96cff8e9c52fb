"""Who carries a request: aiohttp's pool, or any httpx transport that the user brings.

The pool is used directly, below httpx: on one connector, an httpx request and response around each call cost as much
again as the call itself, and the SDK would do 0.5 of bare aiohttp's calls per second instead of 0.7
(docs/architecture.md).
"""

# ruff: noqa: SLF001 - neither aiohttp nor asyncio has a public way to close a connection without its loop.

from __future__ import annotations

import asyncio
import contextlib
import io
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from yarl import URL

from dominus.contract.envelope import JSON_LINES
from dominus.errors import ValidationError
from dominus.settings import Settings
from dominus.transport.carriers.base import (
    MAX_KNOWN_URLS,
    USER_AGENT,
    OpenAnswer,
    Outgoing,
    Received,
    bounded,
)
from dominus.transport.carriers.direct import SMALL_BYTES, DirectExchange, fits
from dominus.transport.carriers.failures import NETWORK_ERRORS, failure_of, read_on

__all__ = ["AiohttpCarrier"]

KEEP_ALIVE_SECONDS = 55.0
LARGE_BYTES = 1024 * 1024


@dataclass(slots=True)
class AiohttpCarrier:
    """One pooled connector of one event loop: no cookies, no redirects, no decompression."""

    base_url: str
    session: aiohttp.ClientSession
    max_bytes: int
    direct: DirectExchange | None
    """For small requests; None where a proxy is in between, or aiohttp is another than was known."""
    _urls: dict[str, URL] = field(default_factory=dict[str, URL])

    @classmethod
    async def open(cls, settings: Settings, url: str) -> AiohttpCarrier:
        """Make the pool; connections come with the calls."""
        # Reading the CA bundle is file work, and only TLS needs it.
        context = await asyncio.to_thread(httpx.create_ssl_context) if url.startswith("https:") else False
        proxy = _proxy_of(url)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=settings.max_connections, ssl=context, keepalive_timeout=KEEP_ALIVE_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"User-Agent": USER_AGENT},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout),
            # Not aiohttp's own `trust_env`: it looks for proxies at every request, and takes a login for the server
            # itself out of `.netrc`, which contradicts the token.
            proxy=proxy,
        )
        limit = settings.max_response_bytes
        direct = DirectExchange(session, url, limit) if proxy is None and fits() else None
        return cls(url, session, limit, direct)

    async def carry(self, out: Outgoing) -> Received:
        """Send once."""
        content = out.content
        if out.is_lines:
            return await self._carry_lines(out)
        if self.direct is not None and (
            content is None or (isinstance(content, bytes) and len(content) <= SMALL_BYTES)
        ):
            try:
                return await self.direct.carry(out, content or b"")
            except NETWORK_ERRORS as error:
                raise failure_of(error, out.endpoint) from error
        return await self._carry_by_session(out)

    def _url(self, out: Outgoing) -> URL:
        url = self._urls.get(out.path)
        if url is None:
            url = URL(self.base_url + out.path, encoded=True)
            if len(self._urls) < MAX_KNOWN_URLS:
                self._urls[out.path] = url
        return url

    async def _carry_lines(self, out: Outgoing) -> Received:
        try:
            response = await self.session.request(
                out.method, self._url(out), data=out.content, headers=out.headers, allow_redirects=False
            )
            if response.headers.get("content-type") != JSON_LINES:
                async with response:
                    body = await bounded(response.content.iter_any(), self.max_bytes, out.endpoint)
                return Received(response.status, response.headers, body)
        except NETWORK_ERRORS as error:
            raise failure_of(error, out.endpoint) from error

        async def close() -> None:
            response.close()

        rest = OpenAnswer(read_on(response.content.iter_any(), out.endpoint), close)
        return Received(response.status, response.headers, b"", rest)

    async def _carry_by_session(self, out: Outgoing) -> Received:
        url = self._url(out)
        content = out.content
        if isinstance(content, bytes) and len(content) > LARGE_BYTES:
            # aiohttp warns of large bytes, which it would write in one piece; a file is written in parts.
            content = io.BytesIO(content)
        try:
            async with self.session.request(
                out.method, url, data=content, headers=out.headers, allow_redirects=False
            ) as response:
                length = response.content_length
                if length is not None and length <= self.max_bytes:
                    body = await response.read()
                else:
                    body = await bounded(response.content.iter_any(), self.max_bytes, out.endpoint)
                return Received(response.status, response.headers, body)
        except NETWORK_ERRORS as error:
            raise failure_of(error, out.endpoint) from error

    async def aclose(self) -> None:
        """Close the pool."""
        await self.session.close()

    def abandon(self) -> None:
        """Close the pool from outside its loop, which may be closed, or another thread's."""
        connector: Any = self.session.connector
        self.session.detach()
        endings = [_Ending(transport) for transport in _taken_from(connector)]
        # RuntimeError: the loop is closed, and each ending does without.
        with contextlib.suppress(RuntimeError):
            for ending in endings:
                connector._loop.call_soon_threadsafe(ending)


def _taken_from(connector: Any) -> list[Any]:
    """Take all connections out of a pool, so that it has nothing to complain of."""
    try:
        idle = [protocol for waiting in connector._conns.values() for protocol, *_ in waiting]
        transports = [protocol.transport for protocol in (*idle, *connector._acquired)]
        connector._conns.clear()
    except (AttributeError, TypeError, ValueError):
        # Another aiohttp than was known, or a session that is closed. Then they end when they are collected, with
        # the warnings that are asyncio's; the first call of another loop must not fail for that.
        return []
    return transports


class _Ending:
    """Closes a connection in its loop; or without, when the loop is closed before it comes to that."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __call__(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def __del__(self) -> None:
        if self._transport is not None:
            _close(self._transport)


def _close(transport: Any) -> None:
    """Close a connection whose loop is closed. asyncio itself cannot, and only warns of it."""
    if (tls := getattr(transport, "_ssl_protocol", None)) is not None:
        transport._closed = True
        transport = tls._transport
    sock = getattr(transport, "_sock", None)
    # uvloop's have none: they end with their loop.
    if sock is not None:
        sock.close()
        transport._sock = None


def _proxy_of(url: str) -> URL | None:
    """Return the proxy that the environment names for the server.

    Raises:
        ValidationError: it names none that can be used; the message does not show it, a password may stand in it.
    """
    parts = urlsplit(url)
    found = getproxies().get(parts.scheme)
    if not found or proxy_bypass(parts.hostname or ""):
        return None
    try:
        proxy = URL(found if "://" in found else f"http://{found}")
    except ValueError:
        proxy = URL()
    if proxy.scheme not in {"http", "https"} or not proxy.host:
        raise ValidationError(
            f"{parts.scheme}_proxy names no proxy of the form http://host:port",
            code="settings",
            hint="correct it, or name the server's host in no_proxy",
        )
    return proxy
