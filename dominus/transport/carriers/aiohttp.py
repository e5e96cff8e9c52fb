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

from dominus.settings import Settings
from dominus.transport.carriers.base import MAX_KNOWN_URLS, USER_AGENT, Outgoing, Received, bounded
from dominus.transport.carriers.failures import broken, not_reached, timed_out

__all__ = ["AiohttpCarrier"]

KEEP_ALIVE_SECONDS = 55.0


LARGE_BYTES = 1024 * 1024


@dataclass(slots=True)
class AiohttpCarrier:
    """One pooled connector of one event loop: no cookies, no redirects, no decompression."""

    base_url: str
    session: aiohttp.ClientSession
    max_bytes: int
    _urls: dict[str, URL] = field(default_factory=dict[str, URL])

    @classmethod
    async def open(cls, settings: Settings, url: str) -> AiohttpCarrier:
        """Make the pool; connections come with the calls."""
        # Reading the CA bundle is file work, and only TLS needs it.
        context = await asyncio.to_thread(httpx.create_ssl_context) if url.startswith("https:") else False
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=settings.max_connections, ssl=context, keepalive_timeout=KEEP_ALIVE_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"User-Agent": USER_AGENT},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout),
            # Looking up proxies costs more than the rest of a request: only where one is set for this host.
            trust_env=_has_proxy(url),
        )
        return cls(url, session, settings.max_response_bytes)

    async def carry(self, out: Outgoing) -> Received:
        """Send once."""
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
        except aiohttp.ConnectionTimeoutError as error:
            raise timed_out(error, out.endpoint, never_left=True) from error
        except aiohttp.ClientConnectorError as error:
            raise not_reached(error, out.endpoint) from error
        except TimeoutError as error:
            # The network's own; a deadline arrives here as a cancellation.
            raise timed_out(error, out.endpoint, never_left=False) from error
        except (aiohttp.ClientError, OSError) as error:
            raise broken(error, out.endpoint) from error

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


def _has_proxy(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")
