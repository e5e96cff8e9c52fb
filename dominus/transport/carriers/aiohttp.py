"""Who carries a request: aiohttp's pool, or any httpx transport that the user brings.

The pool is used directly, below httpx: on one connector, an httpx request and response around each call cost as much
again as the call itself, and the SDK would do 0.5 of bare aiohttp's calls per second instead of 0.7
(docs/architecture.md).
"""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from yarl import URL

from dominus.errors import ValidationError
from dominus.settings import Settings
from dominus.transport.carriers.base import MAX_KNOWN_URLS, USER_AGENT, Outgoing, Received, bounded
from dominus.transport.carriers.direct import SMALL_BYTES, DirectExchange, fits
from dominus.transport.carriers.failures import NETWORK_ERRORS, failure_of

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
        if self.direct is not None and (
            content is None or (isinstance(content, bytes) and len(content) <= SMALL_BYTES)
        ):
            try:
                return await self.direct.carry(out, content or b"")
            except NETWORK_ERRORS as error:
                raise failure_of(error, out.endpoint) from error
        return await self._carry_by_session(out)

    async def _carry_by_session(self, out: Outgoing) -> Received:
        url = self._urls.get(out.path)
        if url is None:
            url = URL(self.base_url + out.path, encoded=True)
            if len(self._urls) < MAX_KNOWN_URLS:
                self._urls[out.path] = url
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
        """Let go of the pool without a loop, at the end of a program that closed its loop and nothing else."""
        connector = self.session.connector
        self.session.detach()
        if connector is not None:
            # Its sockets end with the process; unregistered, it has nothing to complain of.
            connector._conns.clear()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - no public way without a loop


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
