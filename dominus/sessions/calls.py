"""The calls over HTTP around a session: its token, where the gateway is, logins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from dominus.contract.handshake import DEFAULT_PORT
from dominus.contract.sessions import (
    CREDENTIALS,
    RELEASE,
    RESOLVE,
    SESSION_TOKEN,
    CredentialsRequest,
    DatabaseCredentials,
    NoBody,
    Released,
    ReleaseRequest,
    Resolved,
    SessionToken,
    SessionTokenRequest,
)
from dominus.errors import AuthenticationError, CredentialError, DominusError, GatewayResolutionError
from dominus.sessions.tunnel import Endpoint, is_loopback

if TYPE_CHECKING:
    from dominus.caller import Caller

__all__ = ["TOKEN_SECONDS", "Calls", "endpoint_of"]

TOKEN_SECONDS = 900
"""How long a session token opens connections, when nobody says otherwise."""


class Calls:
    """Sends them, and says what failed in the words of sessions."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def token(self, target: str, expires_in: int, timeout: float | None = None) -> SessionToken:
        """Mint a session token."""
        request = SessionTokenRequest(target=target, expires_in=expires_in)
        return await self._caller.send(SESSION_TOKEN, request, timeout=timeout)

    async def resolve(self, token: str, timeout: float | None = None) -> Resolved:
        """Ask where the gateway listens.

        Raises:
            AuthenticationError: the session token is not taken.
            GatewayResolutionError: there is no answer.
        """
        try:
            return await self._caller.send(RESOLVE, NoBody(), timeout=timeout, session_token=token)
        except AuthenticationError:
            raise
        except DominusError as error:
            raise _as(GatewayResolutionError, "where the gateway listens was not said", error) from error

    async def credentials(
        self, token: str, database: str | None, db_type: str | None, timeout: float | None = None
    ) -> DatabaseCredentials:
        """Make a database login that ends by itself.

        Raises:
            AuthenticationError: the session token is not taken.
            CredentialError: there is no login.
        """
        request = CredentialsRequest(database=database, db_type=db_type)
        try:
            return await self._caller.send(CREDENTIALS, request, timeout=timeout, session_token=token)
        except AuthenticationError:
            raise
        except DominusError as error:
            raise _as(CredentialError, "no database login was made", error) from error

    async def release(self, token: str, username: str, timeout: float | None = None) -> Released:
        """End a database login."""
        request = ReleaseRequest(username=username)
        return await self._caller.send(RELEASE, request, timeout=timeout, session_token=token)


def endpoint_of(found: Resolved) -> Endpoint:
    """Read where the gateway listens. Bytes that leave this machine are encrypted, whatever the answer says.

    Raises:
        GatewayResolutionError: the answer makes no sense.
    """
    # Of another server's answer only the keys are checked, not the kinds of its values.
    answer = cast("dict[str, Any]", found)
    host = answer.get("dns") or answer.get("gateway_host")
    port, count = answer.get("port", DEFAULT_PORT), answer.get("endpoints", 1)
    if not isinstance(host, str) or not host or not _is_number(port, 65_535) or not _is_number(count, 1024):
        raise GatewayResolutionError("the answer does not say where the gateway listens", retryable=False)
    return Endpoint(host, port, has_tls=answer.get("tls") is True or not is_loopback(host), count=count)


def _is_number(value: object, most: int) -> bool:
    return type(value) is int and 0 < value <= most


def _as(kind: type[DominusError], what: str, error: DominusError) -> DominusError:
    return kind(
        f"{what}: {error.message}",
        status_code=error.status_code,
        details=error.details,
        endpoint=error.endpoint,
        request_id=error.request_id,
        attempts=error.attempts,
        retryable=error.retryable,
        hint=error.hint,
    )
