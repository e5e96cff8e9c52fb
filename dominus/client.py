"""Dominus: lazy, holds the namespaces, owns one Runtime per event loop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from dominus.caller import Caller, Core
from dominus.contract.secure_context import SecureAccessContext
from dominus.errors import ValidationError
from dominus.hints import refuses, unknown_name
from dominus.result import MISSING
from dominus.transport.retry_policy import RetryPolicy

if TYPE_CHECKING:
    from types import TracebackType

    import httpx

    from dominus.contract.secrets import SecretStored
    from dominus.integrations.namespace import FastAPINamespace
    from dominus.namespaces.admin import Admin
    from dominus.namespaces.auth import Auth
    from dominus.namespaces.courier import Courier
    from dominus.namespaces.db import Db
    from dominus.namespaces.ddl import Ddl
    from dominus.namespaces.files import Files
    from dominus.namespaces.health import Health
    from dominus.namespaces.logs import Logs
    from dominus.namespaces.open import Open
    from dominus.namespaces.portal import Portal
    from dominus.namespaces.redis import Redis
    from dominus.namespaces.secrets import Secrets
    from dominus.namespaces.secure import Secure
    from dominus.sessions import Sessions
    from dominus.settings import Settings
    from dominus.transport.circuit import BreakerName
    from dominus.transport.clock import Clock
    from dominus.transport.shared import ColdStart, Stats

__all__ = ["Dominus", "RetryPolicy", "SecureAccessContext", "dominus"]


@refuses("with", instead="async with Dominus(...) as client:")
class Dominus:
    """One awaitable object for everything a backend needs around its business logic.

    `from dominus import dominus` is the usual one, set up by the environment (`DOMINUS_URL`, `DOMINUS_TOKEN`), which
    is read at the first call. An own instance closes itself: `async with Dominus(url=..., token=...) as d:`.

    Args:
        url: `http(s)://host[:port]`, or `embedded`.
        token: the pre-shared key (PSK).
        project: partitions secrets and cache entries; `CB_PROJECT_SLUG`.
        environment: likewise; `CB_ENVIRONMENT`.
        timeout: the deadline of a call that names none, in seconds (30).
        cold_start_timeout: how long a server that starts is waited for, in seconds (60).
        fail_fast: a call whose service fails raises CircuitOpenError at once, instead of waiting within its deadline
            until the service is tried again.
        home: where an embedded orchestrator keeps its data (`.dominus`).
        settings: a whole Settings instead of the values above and of the environment.
        transport: any httpx.AsyncBaseTransport, for tests and special networks.
        on_cold_start: called before each try while a server starts.
        on_breaker_change: called with (service, old, new) when a circuit breaker opens, probes or closes; the
            states are `closed`, `open` and `half-open`. What it raises is logged.
        retry: your own tenacity waits and conditions.
        clock: time itself, for tests.

    Example:
        ```python
        async with Dominus(url=os.environ["DOMINUS_URL"], token=os.environ["DOMINUS_TOKEN"], timeout=10) as client:
            await client.health.ping()
        ```
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        project: str | None = None,
        environment: str | None = None,
        timeout: float | None = None,
        cold_start_timeout: float | None = None,
        fail_fast: bool | None = None,
        home: str | None = None,
        settings: Settings | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        on_cold_start: Callable[[ColdStart], None] | None = None,
        on_breaker_change: Callable[[str, BreakerName, BreakerName], None] | None = None,
        retry: RetryPolicy | None = None,
        clock: Clock | None = None,
    ) -> None:
        if url:
            _check_url(url)
        if retry is not None and not isinstance(retry, RetryPolicy):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(
                f"retry: {type(retry).__name__} is no RetryPolicy",
                hint="from dominus import RetryPolicy; Dominus(retry=RetryPolicy(stop=...))",
            )
        options: dict[str, Any] = {
            "url": url,
            "token": token,
            "project": project,
            "environment": environment,
            "timeout": timeout,
            "cold_start_timeout": cold_start_timeout,
            "fail_fast": fail_fast,
            "home": home,
        }
        self._caller = Caller(
            Core(
                options,
                settings,
                transport,
                clock,
                on_cold_start,
                on_breaker_change=on_breaker_change,
                retry=retry,
            )
        )

    def __repr__(self) -> str:
        return "<Dominus as user>" if self._caller.user_token else "<Dominus>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):
                # A namespace did not load: its own error says why.
                return object.__getattribute__(self, name)
            raise unknown_name(self, name)

    @cached_property
    def secrets(self) -> Secrets:
        """Encrypted, versioned secrets."""
        from dominus.namespaces.secrets import Secrets

        return Secrets(self._caller)

    @cached_property
    def db(self) -> Db:
        """Rows of tables."""
        from dominus.namespaces.db import Db

        return Db(self._caller)

    @cached_property
    def open(self) -> Open:
        """SQL of your own, and logins for other programs."""
        from dominus.namespaces.open import Open

        return Open(self._caller)

    @cached_property
    def secure(self) -> Secure:
        """Rows of secure tables, and the trail of who touched them."""
        from dominus.namespaces.secure import Secure

        return Secure(self._caller)

    @property
    def db_secure(self) -> Secure:
        """The same, by its name in the published interface."""
        return self.secure

    @cached_property
    def ddl(self) -> Ddl:
        """The shape of tables."""
        from dominus.namespaces.ddl import Ddl

        return Ddl(self._caller)

    @cached_property
    def redis(self) -> Redis:
        """Cache entries, counters, hashes and locks."""
        from dominus.namespaces.redis import Redis

        return Redis(self._caller)

    @cached_property
    def auth(self) -> Auth:
        """Tokens for users, and their verification."""
        from dominus.namespaces.auth import Auth

        return Auth(self._caller)

    @cached_property
    def files(self) -> Files:
        """Files of any size."""
        from dominus.namespaces.files import Files

        return Files(self._caller)

    @cached_property
    def admin(self) -> Admin:
        """The records that whoever administers a project begins with."""
        from dominus.namespaces.admin import Admin

        return Admin(self._caller)

    @cached_property
    def health(self) -> Health:
        """Is it there, and does what it stands on answer."""
        from dominus.namespaces.health import Health

        return Health(self._caller)

    @cached_property
    def logs(self) -> Logs:
        """Log lines: shipped in the background, searched, followed."""
        from dominus.namespaces.logs import Logs

        return Logs(self._caller)

    @cached_property
    def sessions(self) -> Sessions:
        """Native clients of databases, through the gateway."""
        from dominus.sessions import Sessions

        return Sessions(self._caller)

    @cached_property
    def courier(self) -> Courier:
        """Mails from templates."""
        from dominus.namespaces.courier import Courier

        return Courier(self._caller)

    @cached_property
    def fastapi(self) -> FastAPINamespace:
        """Guards for the routes of a FastAPI application, and its set-up."""
        from dominus.integrations.namespace import FastAPINamespace

        # A guard asks as the service, on a user's view too.
        is_view = self._caller.user_token is not None
        return FastAPINamespace(Caller(self._caller.core) if is_view else self._caller, self.as_user)

    @cached_property
    def portal(self) -> Portal:
        """Logins of users and clients, and what they see."""
        from dominus.namespaces.portal import Portal

        return Portal(self._caller)

    async def get(self, key: str, default: Any = MISSING, *, timeout: float | None = None) -> Any:
        """Return a secret's value: `dominus.secrets.get`.

        Args:
            key: 1 to 256 characters.
            default: returned when there is no such secret, instead of NotFoundError.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such secret and no default.

        Example:
            ```python
            password = await dominus.get("SMTP_PASSWORD")
            ```
        """
        if default is MISSING:
            return await self.secrets.get(key, timeout=timeout)
        return await self.secrets.get(key, default, timeout=timeout)

    async def upsert(
        self, key: str, value: Any, comment: str | None = None, *, timeout: float | None = None
    ) -> SecretStored:
        """Store a secret: `dominus.secrets.upsert`.

        Args:
            key: 1 to 256 characters.
            value: text, or any JSON value up to 1 MiB.
            comment: up to 1,000 characters.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            await dominus.upsert("SMTP_HOST", "smtp.example.com", comment="moved")
            ```
        """
        return await self.secrets.upsert(key, value, comment, timeout=timeout)

    async def __call__(self, name: str, /, **params: Any) -> Any:
        """Call an operation by its name: `await dominus("secrets.get", key="K")`.

        Args:
            name: that of the method, such as `redis.set`; `dominus call --list` shows them all.
            **params: the arguments of that method.

        Raises:
            ValidationError: there is no such operation (the message suggests the nearest), or a parameter is wrong.

        Example:
            ```python
            await dominus("redis.set", key="greeting", value="hello", ttl=60)
            ```
        """
        from dominus.names import call_by_name

        return await call_by_name(self, name, params)

    def as_user(self, user_token: str) -> Dominus:
        """Return a light view of this client that sends a user's token instead of the service's.

        Args:
            user_token: a JWT, without `Bearer`. Make a view for each request; it shares the connections.

        Raises:
            AuthenticationError: the token is empty; a missing session must not become the service.

        Example:
            ```python
            minted = await dominus.auth.mint_jwt("ada", scope=["db:read"])
            found = await dominus.as_user(minted["access_token"]).db.query("people", filters={"name": "Ada"})
            ```
        """
        view = object.__new__(type(self))
        view._caller = self._caller.as_user(user_token, "as_user")
        return view

    def deadline(
        self, seconds: float | None = None, *, fail_fast: bool | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """Bound all calls of a block together: `with dominus.deadline(2.0): ...`.

        Args:
            seconds: for the whole block, more than 0. Blocks nest; the earliest end counts. None: each call has the
                deadline that it has without the block.
            fail_fast: whether calls are refused at once while their service fails, instead of waiting within their
                deadline until it is tried again; without it as outside of the block.

        Raises:
            DominusTimeoutError: from the call that is running when the time is over.
            CircuitOpenError: from a call that must not wait, or cannot wait long enough.

        Example:
            ```python
            with dominus.deadline(2.0):
                await dominus.redis.incr("visits:ada")
                await dominus.db.query("people", limit=10)
            ```
        """
        from dominus.transport.deadline import deadline

        return deadline(seconds, self._caller.core.clock.monotonic, fail_fast=fail_fast)

    def stats(self) -> Stats:
        """Return calls, attempts, retries, mints, cache hits, the retry budget left and the breakers' states.

        Example:
            ```python
            stats = dominus.stats()
            print(stats["calls"], stats["retries"], stats["breakers"])
            ```
        """
        return self._caller.shared.stats()

    async def aclose(self) -> None:
        """Close the connections of the running loop. The client can be used again, and then reads its settings again.

        Example:
            ```python
            await dominus.aclose()  # at the end of a program, or of a web application's lifespan
            ```
        """
        await self._caller.core.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _check_url(url: object) -> None:
    # Here already, since the first argument is easily another. It is not shown: it may be the token.
    is_text = isinstance(url, str)
    if is_text and (url == "embedded" or url.startswith(("http://", "https://"))):
        return
    looks_like_token = is_text and "." not in url and ":" not in url and "/" not in url
    raise ValidationError(
        "url, the first argument, must begin with http:// or https://, or be `embedded`",
        code="url_malformed",
        hint="did you mean Dominus(token=...)?"
        if looks_like_token
        else "for example Dominus('http://127.0.0.1:8700', token)",
    )


dominus = Dominus()
