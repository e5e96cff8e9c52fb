"""Dependencies of FastAPI that let a request pass, and say whose it is."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol

from fastapi import Depends
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from dominus.errors import AuthenticationError, AuthorizationError, DominusError, ValidationError
from dominus.integrations.principal import Principal
from dominus.integrations.problems import RefusedError, is_own_fault, log_failure

__all__ = ["Guard", "Guards", "bearer_token", "check_scopes"]

Guard = Callable[..., Awaitable[Principal]]
_TOKEN = re.compile("[!-~]+")


class Verifies(Protocol):
    """What guards ask: whose a token is, and whose a key."""

    async def claims_of_token(self, token: str) -> dict[str, Any]:
        """Return the claims of a token, or raise DominusError."""
        ...

    async def claims_of_psk(self, psk: str) -> dict[str, Any]:
        """Return the claims of a client, or raise DominusError."""
        ...


class BearerScheme(SecurityBase):
    """Reads `Authorization: Bearer ...`, and stands in the OpenAPI document."""

    def __init__(self, scheme_name: str, bearer_format: str, description: str) -> None:
        self.scheme_name = scheme_name
        self.model = HTTPBearer(bearerFormat=bearer_format, description=description)

    async def __call__(self, connection: HTTPConnection) -> str | None:
        """Return what was sent, or None."""
        return bearer_token(connection)


def bearer_token(connection: HTTPConnection) -> str | None:
    """Return the bearer token of a request; None where there is none, or more than one."""
    sent = connection.headers.getlist("authorization")
    kind, _, token = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    token = token.strip(" ")
    return token if kind.lower() == "bearer" and _TOKEN.fullmatch(token) else None


_JWT = BearerScheme("DominusToken", "JWT", "A token of a user or a service.")
_PSK = BearerScheme("DominusKey", "PSK", "The pre-shared key of a client.")


class Guards:
    """The dependencies, for whoever verifies a connection's token."""

    def __init__(self, verifies: Callable[[HTTPConnection], Verifies]) -> None:
        async def require_jwt(
            connection: HTTPConnection, token: Annotated[str | None, Depends(_JWT)]
        ) -> Principal:
            """Let a request with a valid token pass."""
            return await _passed(connection, token, verifies(connection).claims_of_token)

        async def require_psk(
            connection: HTTPConnection, psk: Annotated[str | None, Depends(_PSK)]
        ) -> Principal:
            """Let a request with the pre-shared key of a client pass."""
            return await _passed(connection, psk, verifies(connection).claims_of_psk)

        self.require_jwt: Guard = require_jwt
        self.require_psk: Guard = require_psk

    def require_scopes(self, scopes: tuple[str, ...], *, is_any: bool) -> Guard:
        """Return the dependency that lets a request pass whose token has the scopes."""
        check_scopes(scopes)
        verified: Any = Depends(self.require_jwt)

        async def require_scopes(principal: Principal = verified) -> Principal:
            """Let a request pass whose token has the scopes."""
            if not principal.may(*scopes, any=is_any):
                wanted = (" or " if is_any else " and ").join(scopes)
                raise RefusedError(AuthorizationError(f"the token lacks a scope: {wanted}"))
            return principal

        return require_scopes


def check_scopes(scopes: tuple[Any, ...]) -> None:
    """Refuse a guard that would guard nothing, or what no token has."""
    if not scopes or not all(isinstance(scope, str) and scope for scope in scopes):
        raise ValidationError(
            f"scopes: one or more texts are needed, not {scopes!r}",
            hint='require_scopes("orders:read", "orders:write"), @dominus.fastapi.scopes(["orders:read"])',
        )


async def _passed(
    connection: HTTPConnection, sent: str | None, claims_of: Callable[[str], Awaitable[dict[str, Any]]]
) -> Principal:
    if sent is None:
        raise RefusedError(AuthenticationError("no bearer token was sent", code="token_missing"), 401)
    try:
        return Principal.of(await claims_of(sent))
    except AuthenticationError as error:
        if not is_own_fault(error):
            raise RefusedError(error) from None
        raise _unchecked(connection, error) from error
    except DominusError as error:
        raise _unchecked(connection, error) from error


def _unchecked(connection: HTTPConnection, error: DominusError) -> RefusedError:
    """Return the refusal for a check that could not be made: no fault of the caller's, unless it guesses keys."""
    if error.code == "login_locked":
        return RefusedError(error)
    status = 500 if is_own_fault(error) or not error.retryable else 503
    log_failure(connection, error, status)
    return RefusedError(error, status)
