"""What the network's errors mean: the one place where those of aiohttp and httpx become ours."""

from __future__ import annotations

import ssl

import aiohttp
import httpx

from dominus.errors import DominusConnectionError, DominusTimeoutError
from dominus.transport.failure import Failure

__all__ = ["broken", "not_reached", "timed_out"]


def timed_out(error: Exception, endpoint: str, *, never_left: bool) -> Failure:
    """Return the failure of an attempt that the network let wait too long."""
    return Failure(
        DominusTimeoutError(f"timed out: {_said(error)}", endpoint=endpoint), never_left=never_left
    )


def not_reached(error: Exception, endpoint: str) -> Failure:
    """Return the failure of an attempt that found no server."""
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


def broken(error: Exception, endpoint: str) -> Failure:
    """Return the failure of an attempt whose connection ended too early."""
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
