"""The way to one target, as one event loop knows it: fresh tokens, where the gateway is, logins."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from dominus.contract.auth import MintAnswer
from dominus.errors import AuthenticationError, DominusError, GatewayError
from dominus.sessions.background import finish, is_here
from dominus.sessions.calls import TOKEN_SECONDS, Calls, endpoint_of
from dominus.sessions.tunnel import UNREACHABLE, Endpoint, Route, open_tunnel
from dominus.transport.credentials import Credentials

if TYPE_CHECKING:
    from dominus.caller import Caller

__all__ = ["Access", "GivenRoutes", "GivenToken", "Login", "MintedRoutes", "Routes"]

_log = logging.getLogger("dominus.sessions")
P = TypeVar("P", bound=asyncio.Protocol)
T = TypeVar("T")


class TokenSource(Protocol):
    """Who has the session tokens."""

    async def token(self) -> str:
        """Return a token that is good now."""
        ...

    async def replace(self, refused: str) -> str:
        """Return another one than was refused."""
        ...


class GivenToken:
    """A session token that the program was given; there is no other."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def token(self) -> str:
        """Return it."""
        return self._token

    async def replace(self, refused: str) -> str:
        """Say that there is no other."""
        del refused
        raise AuthenticationError("the session token was refused: it is expired, or not one for the gateway")


@dataclass(frozen=True, slots=True)
class Login:
    """A database login that ends by itself."""

    username: str
    password: str = field(repr=False)
    database: str | None
    good_until: float
    """On the loop's clock; later connections take another login."""


class Access:
    """Belongs to one event loop. Asks once however many sessions wait, and anew when an answer proved wrong."""

    def __init__(self, calls: Calls, tokens: TokenSource, target: str | None) -> None:
        self._calls = calls
        self._tokens = tokens
        self.target = target
        self._endpoint: Endpoint | None = None
        self._tls: ssl.SSLContext | None = None
        self._resolving = asyncio.Lock()

    async def endpoint(self) -> Endpoint:
        """Return where the gateway listens."""
        async with self._resolving:
            if self._endpoint is None:
                endpoint = endpoint_of(await self._with_token(self._calls.resolve))
                if endpoint.has_tls and self._tls is None:
                    self._tls = await asyncio.to_thread(_tls_context)
                self._endpoint = endpoint
            return self._endpoint

    async def _with_token(self, call: Callable[[str], Awaitable[T]]) -> T:
        token = await self._tokens.token()
        try:
            return await call(token)
        except AuthenticationError:
            return await call(await self._tokens.replace(token))

    async def route(self, index: int = 0) -> Route:
        """Return all that a connection needs, with a token that is good now."""
        endpoint = await self.endpoint()
        tls = self._tls if endpoint.has_tls else None
        return Route(endpoint, await self._tokens.token(), self.target, tls, index)

    async def route_after(self, failed: Route, error: DominusError) -> Route | None:
        """Return another way after one has failed, or None: a refused token is replaced, a gateway may have moved."""
        if isinstance(error, AuthenticationError):
            return replace(failed, token=await self._tokens.replace(failed.token))
        if isinstance(error, GatewayError) and error.code == UNREACHABLE:
            if self._endpoint == failed.endpoint:
                self._endpoint = None
            found = await self.route(failed.index)
            return found if found.endpoint != failed.endpoint else None
        return None

    async def open(self, factory: Callable[[], P], index: int = 0) -> tuple[asyncio.Transport, P]:
        """Open a connection to the target for a protocol of the running loop.

        Raises:
            AuthenticationError: the gateway does not take the token, nor a new one.
            GatewayError: it was not reached, or refused for another reason.
        """
        route = await self.route(index)
        try:
            return await open_tunnel(route, factory)
        except DominusError as error:
            another = await self.route_after(route, error)
            if another is None:
                raise
        return await open_tunnel(another, factory)

    async def login(self, database: str | None) -> Login:
        """Make a database login."""
        began = asyncio.get_running_loop().time()
        made = await self._with_token(lambda token: self._calls.credentials(token, database, self.target))
        lifetime = float(made.get("expires_in") or TOKEN_SECONDS)
        # Before its end: who connects with it still has to arrive.
        ends = began + lifetime * 0.8
        return Login(made["username"], made["password"], database or made.get("database"), ends)

    async def release(self, login: Login) -> None:
        """End a login. A failure is logged and no more: the login ends by itself."""
        try:
            await self._with_token(lambda token: self._calls.release(token, login.username))
        except DominusError as error:
            _log.warning("the login %s was not released, it ends by itself: %s", login.username, error)


def _tls_context() -> ssl.SSLContext:
    """Trust whom the calls over HTTP trust."""
    import httpx

    return httpx.create_ssl_context()


class Routes(Protocol):
    """Where sessions get their access from."""

    async def access(self, target: str) -> Access:
        """Return the running loop's access to a target."""
        ...

    async def aclose(self) -> None:
        """End what no other session needs."""
        ...


class MintedRoutes:
    """Accesses with tokens of a client's own, one for each event loop and target."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._calls = Calls(caller)
        self._lock = threading.Lock()
        self._is_known = False
        """Whether the client tells us when it is closed."""
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Access]] = (
            weakref.WeakKeyDictionary()
        )

    async def access(self, target: str) -> Access:
        """Return the running loop's access to a target."""
        with self._lock:
            if not self._is_known:
                self._is_known = True
                self._caller.core.also_close.append(self._forget)
            known = self._by_loop.setdefault(asyncio.get_running_loop(), {})
        if target not in known:
            pipeline = await self._caller.core.pipeline()

            async def mint() -> MintAnswer:
                made = await self._calls.token(target, TOKEN_SECONDS)
                return {"access_token": made["access_token"], "expires_in": made["expires_in"]}

            tokens = Credentials(self._caller.core.clock, pipeline.box, mint)
            known.setdefault(target, Access(self._calls, tokens, target))
        return known[target]

    async def _forget(self) -> None:
        """Begin anew after the client was closed: its settings may name another server by then."""
        with self._lock:
            self._by_loop.clear()
            self._is_known = False
        if not is_here():
            await finish(self._caller.core.aclose)

    async def aclose(self) -> None:
        """Do nothing: the client's other sessions go on."""


class GivenRoutes:
    """Accesses with the one token that the program was given; the target is the token's own."""

    def __init__(self, caller: Caller, token: str) -> None:
        self._caller = caller
        self._token = token

    async def access(self, target: str) -> Access:
        """Return an access for the running loop."""
        del target
        return Access(Calls(self._caller), GivenToken(self._token), None)

    async def aclose(self) -> None:
        """Close the connections to the orchestrator: this is for one session."""
        await self._caller.core.aclose()
