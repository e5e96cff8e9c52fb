"""What the network's errors mean: the one table in which those of aiohttp and httpx become ours."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable

import aiohttp
import httpx
from aiohttp.http_exceptions import HttpProcessingError

from dominus.errors import DominusConnectionError, DominusTimeoutError
from dominus.transport.failure import Failure

__all__ = ["NETWORK_ERRORS", "failure_of", "read_on"]


async def read_on(chunks: AsyncIterator[bytes], endpoint: str) -> AsyncIterator[bytes]:
    """Iterate over the rest of an answer.

    Raises:
        Failure: it broke off.
    """
    try:
        async for chunk in chunks:
            yield chunk
    except NETWORK_ERRORS as error:
        raise failure_of(error, endpoint) from error


def failure_of(error: Exception, endpoint: str) -> Failure:
    """Return the failure of an attempt that ended with one of NETWORK_ERRORS."""
    return next(meaning for kinds, meaning in _MEANINGS if isinstance(error, kinds))(error, endpoint)


def _not_connected_in_time(error: Exception, endpoint: str) -> Failure:
    return Failure(
        DominusTimeoutError(f"timed out: {_said(error)}", endpoint=endpoint, hint=_HINT), never_left=True
    )


def _timed_out(error: Exception, endpoint: str) -> Failure:
    # The network's own; a deadline arrives in a carrier as a cancellation.
    return Failure(DominusTimeoutError(f"timed out: {_said(error)}", endpoint=endpoint))


def _not_reached(error: Exception, endpoint: str) -> Failure:
    causes = _causes(error)
    tls = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    if tls is None:
        hint = _HINT
    elif isinstance(tls, ssl.SSLCertVerificationError):
        hint = "its TLS certificate does not fit"
    else:
        hint = "it does not speak TLS there: should DOMINUS_URL begin with http://?"
    is_refused = (
        any(isinstance(cause, ConnectionRefusedError) for cause in causes) or "refused" in str(error).lower()
    )
    return Failure(
        DominusConnectionError(
            f"the server was not reached: {_where(error)}",
            endpoint=endpoint,
            hint=hint,
            retryable=tls is None,
        ),
        never_left=True,
        is_refused=is_refused,
        is_cold_sign=is_refused,
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


_HINT = "is DOMINUS_URL right, and is it running?"
# The first row that fits counts: the later ones hold base classes of the earlier.
_MEANINGS: tuple[tuple[tuple[type[Exception], ...], Callable[[Exception, str], Failure]], ...] = (
    ((aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout, httpx.PoolTimeout), _not_connected_in_time),
    (
        (
            aiohttp.ClientConnectorError,
            aiohttp.ClientHttpProxyError,
            httpx.ConnectError,
            httpx.ProxyError,
            httpx.UnsupportedProtocol,
        ),
        _not_reached,
    ),
    ((httpx.TimeoutException, TimeoutError), _timed_out),
    (
        (aiohttp.ClientError, HttpProcessingError, httpx.TransportError, httpx.InvalidURL, OSError),
        _broken,
    ),
)
NETWORK_ERRORS: tuple[type[Exception], ...] = tuple(kind for kinds, _ in _MEANINGS for kind in kinds)
"""What a carrier catches."""


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in chain:
        chain.append(found)
        found = getattr(found, "os_error", None) or found.__cause__ or found.__context__
    return chain


def _where(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ConnectionRefusedError):
            reason = "connection refused"
        else:
            reason = error.os_error.strerror or str(error.os_error)
        return f"{error.host}:{error.port}: {reason.partition(chr(10))[0]}"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        # Its own text has the proxy's URL, and that may have a password.
        return f"the proxy answered {error.status}"
    return _said(error)


def _said(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
