"""dominus.fastapi: guards for the routes of a web service, and its set-up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from dominus.errors import ServiceError, ValidationError
from dominus.hints import install_command, unknown_name

try:
    from fastapi import FastAPI
except ModuleNotFoundError as missing:
    raise ServiceError(
        "FastAPI is not installed", code="extra_missing", retryable=False, hint=install_command("fastapi")
    ) from missing

from dominus.integrations.decorators import guarded
from dominus.integrations.guards import Guard, Guards, check_scopes
from dominus.integrations.installing import install
from dominus.integrations.psk_logins import PskLogins
from dominus.namespaces.auth import Auth
from dominus.namespaces.health import Health

if TYPE_CHECKING:
    from dominus.caller import Caller

__all__ = ["FastAPINamespace"]

R = TypeVar("R")
WARM_UP_SECONDS = 5.0


class FastAPINamespace:
    """Guards for the routes of a FastAPI application, as decorators and as dependencies, and `install`."""

    def __init__(self, caller: Caller, as_user: Callable[[str], Any]) -> None:
        self._caller = caller
        self._auth = Auth(caller)
        self.as_user = as_user
        self._logins = PskLogins(caller)
        self._guards = Guards(lambda _: self)

    def __repr__(self) -> str:
        return "<dominus.fastapi>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise unknown_name(self, name)

    @property
    def require_jwt(self) -> Guard:
        """A dependency: `principal: Annotated[Principal, Depends(dominus.fastapi.require_jwt)]`."""
        return self._guards.require_jwt

    @property
    def require_psk(self) -> Guard:
        """A dependency: a client, by its pre-shared key."""
        return self._guards.require_psk

    def require_scopes(self, *scopes: str, any: bool = False) -> Guard:
        """Return a dependency that lets a request pass whose token has all the scopes.

        Args:
            *scopes: such as `orders:read`; a token with `*` has them all.
            any: one of them is enough.

        Example:
            ```python
            Writer = Annotated[Principal, Depends(dominus.fastapi.require_scopes("orders:write"))]
            ```
        """
        return self._guards.require_scopes(scopes, is_any=any)

    def jwt(self, function: Callable[..., R]) -> Callable[..., R]:
        """Decorate a route: its requests need a valid token, whose claims its parameter `claims` is given.

        The route's own decorator stands above it. Without a token, or with one that is not valid, the answer is 401.

        Args:
            function: `def` or `async def`, with a parameter `claims: dict` or without.

        Example:
            ```python
            @app.get("/me")
            @dominus.fastapi.jwt
            async def me(claims: dict):
                return {"id": claims["sub"]}
            # @dominus.fastapi.jwt is the same as me = dominus.fastapi.jwt(me)
            ```
        """
        return guarded(function, self.require_jwt, "claims")

    def psk(self, function: Callable[..., R]) -> Callable[..., R]:
        """Decorate a route: its requests need a client's pre-shared key; the parameter `client` is given its claims.

        Args:
            function: `def` or `async def`, with a parameter `client: dict` or without.

        Example:
            ```python
            @app.post("/import")
            @dominus.fastapi.psk
            async def take(client: dict):
                return {"from": client["sub"]}
            # @dominus.fastapi.psk is the same as take = dominus.fastapi.psk(take)
            ```
        """
        return guarded(function, self.require_psk, "client")

    def scopes(self, allowed_scopes: Iterable[str]) -> Callable[[Callable[..., R]], Callable[..., R]]:
        """Decorate a route: its requests need a token with one of these scopes, else the answer is 403.

        Args:
            allowed_scopes: a list, of which any one is enough.

        Example:
            ```python
            @app.get("/reports")
            @dominus.fastapi.scopes(["reports:read", "reports:admin"])
            def reports(claims: dict):
                return {"for": claims["sub"]}
            ```
        """
        if isinstance(allowed_scopes, str) or callable(allowed_scopes):
            raise ValidationError(
                "scopes: a list is needed", hint='write @dominus.fastapi.scopes(["orders:read"])'
            )
        wanted = tuple(allowed_scopes)
        check_scopes(wanted)
        guard = self._guards.require_scopes(wanted, is_any=True)
        return lambda function: guarded(function, guard, "claims")

    def install(self, app: FastAPI, *, warm_up: bool = True, close: bool = True) -> None:
        """Set an application up: problem+json for errors, request ids, a start that warms up, an end that closes.

        Every DominusError that a route lets out is answered with its status and a body of RFC 9457. The id of a
        request, `X-Request-Id`, is taken over or made, goes with every call that is made for it, and comes back in
        the answer. Its own lifespan runs inside of this one.

        Args:
            app: before its first request.
            warm_up: connect, mint and fetch the keys before the first request; a server that is away delays the start
                by 5 seconds and does not stop it, wrong settings do.
            close: close the client at the end.

        Raises:
            ValidationError: it was done before. When the application starts: a route leads around its guard, or the
                settings are wrong.

        Example:
            ```python
            app = FastAPI()
            dominus.fastapi.install(app)
            ```
        """
        install(
            app,
            self,
            warm_up=self._warm_up if warm_up else None,
            close=self._caller.core.aclose if close else None,
        )

    async def _warm_up(self) -> None:
        await Health(self._caller).warmup(timeout=WARM_UP_SECONDS)
        await self._auth.fetch_keys(timeout=WARM_UP_SECONDS)

    async def claims_of_token(self, token: str) -> dict[str, Any]:
        """Return the claims of a valid token: what `require_jwt` asks.

        Args:
            token: without `Bearer`.

        Raises:
            AuthenticationError: it is not valid.

        Example:
            ```python
            minted = await dominus.auth.token()
            claims = await dominus.fastapi.claims_of_token(minted["access_token"])
            ```
        """
        return await self._auth.validate_jwt(token)

    async def claims_of_psk(self, psk: str) -> dict[str, Any]:
        """Return the claims of the client that a pre-shared key belongs to: what `require_psk` asks.

        A key is looked up once in five seconds, so that one that was withdrawn opens nothing after them.

        Args:
            psk: the client's own key.

        Raises:
            AuthenticationError: there is no such key.

        Example:
            ```py
            client = await dominus.fastapi.claims_of_psk(psk)
            ```
        """
        return await self._auth.validate_jwt(await self._logins.token(psk))
