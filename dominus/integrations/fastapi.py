"""Dependencies for FastAPI: `Depends(require_jwt)`, `Depends(require_scopes("orders:read"))`, and `install(app)`.

They verify with the client of `install(app, client)`, or with `dominus` where nothing was installed. Those of one
client in particular are at `client.fastapi`.
"""

from __future__ import annotations

from typing import Annotated, Any

from dominus import Dominus
from dominus import dominus as default_client
from dominus.integrations.namespace import FastAPINamespace  # isort: split

from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection

from dominus.integrations.guards import Guard, Guards, bearer_token
from dominus.integrations.installing import CLIENT
from dominus.integrations.principal import Principal
from dominus.integrations.problems import RefusedError

__all__ = [
    "FastAPINamespace",
    "Guard",
    "Principal",
    "RefusedError",
    "install",
    "require_jwt",
    "require_psk",
    "require_scopes",
    "user_client",
]


def _verifies(connection: HTTPConnection) -> FastAPINamespace:
    found: Any = connection.scope.get(CLIENT)
    return found if isinstance(found, FastAPINamespace) else default_client.fastapi


_GUARDS = Guards(_verifies)
require_jwt: Guard = _GUARDS.require_jwt
"""Lets a request with a valid token pass, and is its Principal: `Annotated[Principal, Depends(require_jwt)]`."""
require_psk: Guard = _GUARDS.require_psk
"""Lets a request with the pre-shared key of a client pass, and is its Principal."""


def require_scopes(*scopes: str, any: bool = False) -> Guard:
    """Return a dependency that lets a request pass whose token has all the scopes.

    Args:
        *scopes: such as `orders:read`; a token with `*` has them all.
        any: one of them is enough.

    Example:
        ```python
        Writer = Annotated[Principal, Depends(require_scopes("orders:write"))]
        ```
    """
    return _GUARDS.require_scopes(scopes, is_any=any)


async def user_client(
    connection: HTTPConnection, _principal: Annotated[Principal, Depends(require_jwt)]
) -> Dominus:
    """Return a client that sends the token of whoever calls: the orchestrator decides what it may do.

    Args:
        connection: the request; FastAPI gives it.
        _principal: that the token is valid; FastAPI gives it.

    Example:
        ```python
        @app.get("/orders")
        async def orders(user: Annotated[Dominus, Depends(user_client)]):
            return await user.db.query("orders", limit=10)
        ```
    """
    return _verifies(connection).as_user(bearer_token(connection) or "")


def install(app: FastAPI, client: Dominus | None = None, *, warm_up: bool = True, close: bool = True) -> None:
    """Set an application up: problem+json for errors, request ids, a start that warms up, an end that closes.

    Args:
        app: before its first request.
        client: whom the dependencies of this module verify with; `dominus` without it.
        warm_up: connect, mint and fetch the keys before the first request.
        close: close the client at the end.

    Example:
        ```python
        app = FastAPI()
        install(app)
        ```
    """
    (client or default_client).fastapi.install(app, warm_up=warm_up, close=close)
