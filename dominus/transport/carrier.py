"""Who carries a request: aiohttp's pool, or any httpx transport that the user brings.

The pool is used directly, below httpx: on one connector, an httpx request and response around each call cost as much
again as the call itself, and the SDK would do 0.5 of bare aiohttp's calls per second instead of 0.7
(docs/architecture.md).
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from yarl import URL

from dominus._version import __version__
from dominus.errors import DominusConnectionError, DominusTimeoutError, ServiceError
from dominus.settings import Settings
from dominus.transport.retry import Failure

__all__ = ["AiohttpCarrier", "Carrier", "HttpxCarrier", "Outgoing", "Received"]

USER_AGENT = f"dominus-sdk/{__version__}"
KEEP_ALIVE_SECONDS = 55.0
MAX_KNOWN_URLS = 512
LARGE_BYTES = 1024 * 1024


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


class Headers(Protocol):
    """The headers of an answer, by any case."""

    def get(self, key: str, /) -> str | None:
        """Return a header."""
        ...


@dataclass(frozen=True, slots=True)
class Received:
    """An answer, whole."""

    status: int
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)


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
                    body = await _bounded(response.content.iter_any(), self.max_bytes, out.endpoint)
                return Received(response.status, response.headers, body)
        except aiohttp.ConnectionTimeoutError as error:
            raise _timed_out(error, out.endpoint, never_left=True) from error
        except aiohttp.ClientConnectorError as error:
            raise _not_reached(error, out.endpoint) from error
        except TimeoutError as error:
            # The network's own; a deadline arrives here as a cancellation.
            raise _timed_out(error, out.endpoint, never_left=False) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(error, out.endpoint) from error

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


@dataclass(slots=True)
class HttpxCarrier:
    """Any `httpx.AsyncBaseTransport`, called directly: respx and MockTransport, the embedded app, special networks."""

    base_url: str
    transport: httpx.AsyncBaseTransport
    settings: Settings
    _urls: dict[str, httpx.URL] = field(default_factory=dict[str, httpx.URL])

    async def carry(self, out: Outgoing) -> Received:
        """Send once."""
        timeout = {"connect": self.settings.connect_timeout, "read": None, "write": None, "pool": None}
        try:
            url = self._urls.get(out.path)
            if url is None:
                url = httpx.URL(self.base_url + out.path)
                if len(self._urls) < MAX_KNOWN_URLS:
                    self._urls[out.path] = url
            request = httpx.Request(
                out.method,
                url,
                headers={"user-agent": USER_AGENT, **out.headers},
                content=out.content,
                extensions={"timeout": timeout},
            )
            response = await self.transport.handle_async_request(request)
            if not isinstance(response.stream, httpx.AsyncByteStream):
                raise TypeError("the transport's answer has no asynchronous stream")
            try:
                body = await _bounded(aiter(response.stream), self.settings.max_response_bytes, out.endpoint)
            finally:
                await response.aclose()
        except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _timed_out(error, out.endpoint, never_left=True) from error
        except (httpx.TimeoutException, TimeoutError) as error:
            raise _timed_out(error, out.endpoint, never_left=False) from error
        except (httpx.ConnectError, httpx.ProxyError, httpx.UnsupportedProtocol) as error:
            raise _not_reached(error, out.endpoint) from error
        except (httpx.TransportError, httpx.InvalidURL, OSError) as error:
            raise _broken(error, out.endpoint) from error
        return Received(response.status_code, response.headers, body)

    def abandon(self) -> None:
        """Leave the transport to whoever made it."""

    async def aclose(self) -> None:
        """Close the transport."""
        await self.transport.aclose()


async def _bounded(chunks: AsyncIterator[bytes], limit: int, endpoint: str) -> bytes:
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


def _has_proxy(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")


def _timed_out(error: Exception, endpoint: str, *, never_left: bool) -> Failure:
    return Failure(
        DominusTimeoutError(f"timed out: {_said(error)}", endpoint=endpoint), never_left=never_left
    )


def _not_reached(error: Exception, endpoint: str) -> Failure:
    causes = _causes(error)
    tls = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    if tls is None:
        hint = "is DOMINUS_URL right, and is it running?"
    elif isinstance(tls, ssl.SSLCertVerificationError):
        hint = "its TLS certificate does not fit"
    else:
        hint = "it does not speak TLS there: should DOMINUS_URL begin with http://?"
    return Failure(
        DominusConnectionError(
            f"the server was not reached: {_where(error)}",
            endpoint=endpoint,
            hint=hint,
            retryable=tls is None,
        ),
        never_left=True,
        is_cold_sign=any(isinstance(cause, ConnectionRefusedError) for cause in causes)
        or "refused" in str(error).lower(),
        is_final=tls is not None or isinstance(error, httpx.UnsupportedProtocol),
    )


def _broken(error: Exception, endpoint: str) -> Failure:
    # The request may have been seen and done: a write is not sent again without a key that the server keeps.
    return Failure(
        DominusConnectionError(
            f"the connection broke before the answer was complete: {_said(error)}",
            endpoint=endpoint,
            hint="if it always does: do scheme and port of DOMINUS_URL fit the server?",
        )
    )


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in chain:
        chain.append(found)
        found = getattr(found, "os_error", None) or found.__cause__ or found.__context__
    return chain


def _where(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = error.os_error.strerror or str(error.os_error)
        return f"{error.host}:{error.port}: {reason.partition(chr(10))[0]}"
    return _said(error)


def _said(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
