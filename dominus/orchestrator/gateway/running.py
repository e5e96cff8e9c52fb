"""The gateway as a part of the orchestrator: opened with the engines, drained before they close."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dominus.errors import ServiceError, ValidationError
from dominus.orchestrator.gateway.limits import Limits
from dominus.orchestrator.gateway.logins.redis import SharedLogin
from dominus.orchestrator.gateway.metrics import GatewayMetrics
from dominus.orchestrator.gateway.postgres_startup import StartupScreen
from dominus.orchestrator.gateway.server import Gateway
from dominus.orchestrator.gateway.upstream.connection import RedisLogin
from dominus.orchestrator.gateway.upstream.targets import Target, builtin_targets, parse_targets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from prometheus_client import CollectorRegistry

    from dominus.orchestrator.engines.redis.client import RedisEngine
    from dominus.orchestrator.gateway.listener import ListenerFactory
    from dominus.orchestrator.gateway.logins.credentials import Credentials
    from dominus.orchestrator.identity.tokens import SessionGrant
    from dominus.orchestrator.settings import ServerSettings

__all__ = ["PublicAddress", "RunningGateway", "public_name", "restricted"]

_log = logging.getLogger("dominus.gateway")
DRAIN_SECONDS = 5.0
"""The most that native connections get to have their answers when the server stops; HTTP had its own grace before."""


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """Where clients reach the gateway."""

    host: str
    port: int
    is_tls: bool


class RunningGateway:
    """One gateway of one event loop, with its targets and the logins beside it.

    Attributes:
        targets: what it leads to, by name.
        credentials: the database logins of sessions.
    """

    def __init__(
        self,
        listener: ListenerFactory,
        settings: ServerSettings,
        *,
        credentials: Credentials,
        redis: RedisEngine,
        verify: Callable[[str], Awaitable[SessionGrant]],
        secret: str,
        dsn: str,
        redis_url: str | None,
    ) -> None:
        """Prepare; `open` listens.

        Args:
            listener: where it listens.
            settings: the orchestrator's.
            credentials: the database logins of sessions.
            redis: what sessions see.
            verify: reads a session token.
            secret: known to all replicas, for the login that they share on Redis.
            dsn: the database behind the target `postgres`.
            redis_url: the Redis behind the target `redis`; None: the one in this process.
        """
        self.credentials = credentials
        builtin = builtin_targets(dsn, redis_url, redis)
        screen = StartupScreen(self.credentials.find_database)
        builtin["postgres"] = replace(builtin["postgres"], screen=screen)
        if redis_url is not None and "redis" in builtin:
            builtin["redis"] = restricted(builtin["redis"], redis, secret, settings)
        self.targets: Mapping[str, Target] = _targets(settings, builtin)
        self._listener = listener
        self._verify = verify
        self._settings = settings
        self._metrics = GatewayMetrics()
        self._gateway: Gateway | None = None
        self._opening = asyncio.Lock()
        self._bound: tuple[str, int] | None = None

    @property
    def registry(self) -> CollectorRegistry:
        """What Prometheus sees of it."""
        return self._metrics.registry

    async def open(self) -> None:
        """Listen, unless that waits for the first session."""
        if not self._listener.is_lazy:
            await self._listen()

    async def aclose(self) -> None:
        """Take no more connections, and end those that do not end by themselves within the grace."""
        if self._gateway is not None:
            await self._gateway.drain(min(self._settings.shutdown_grace, DRAIN_SECONDS))

    async def place(self, called_host: str = "") -> PublicAddress:
        """Return where clients reach it; `called_host` is the `Host` under which one reached the HTTP side."""
        address, port = await self._listen()
        name = self._settings.gateway_host or public_name(address, called_host)
        return PublicAddress(name, port, self._settings.gateway_certfile is not None)

    async def _listen(self) -> tuple[str, int]:
        async with self._opening:
            if self._bound is None:
                await self._say_what_is_closed()
                self._gateway = Gateway(
                    self.targets,
                    self._verify,
                    limits=Limits.of(self._settings),
                    metrics=self._metrics,
                    tls=_tls(self._settings),
                )
                self._bound = await self._gateway.start(self._listener.listen())
            return self._bound

    async def check(self, target: Target) -> None:
        """Make ready what the sessions of a target need.

        Raises:
            ServiceError: it can have none; the hint says what to change.
        """
        if target.login is not None and target.login.prepare is not None:
            await target.login.prepare()

    async def _say_what_is_closed(self) -> None:
        for target in self.targets.values():
            try:
                await self.check(target)
            except ServiceError as error:
                _log.warning("no sessions of %r for now: %s", target.name, error)


def restricted(target: Target, redis: RedisEngine, secret: str, settings: ServerSettings) -> Target:
    """Let the gateway log in to Redis as one who reaches data only; the orchestrator's own user may do more."""
    shared = SharedLogin(redis, secret, target.addresses[0], has_scripts=settings.gateway_redis_scripts)
    database = target.login.database if target.login is not None else 0
    login = RedisLogin(shared.username, shared.password, database, prepare=shared.ensure, renew=shared.make)
    return replace(target, login=login)


def _targets(settings: ServerSettings, builtin: dict[str, Target]) -> dict[str, Target]:
    more = parse_targets(settings.gateway_targets)
    if clash := sorted(more.keys() & {"postgres", "redis"}):
        raise ValidationError(
            f"DOMINUS_GATEWAY_TARGETS: {', '.join(clash)}: these names belong to the orchestrator's own engines",
            code="settings",
        )
    return builtin | more


def _tls(settings: ServerSettings) -> ssl.SSLContext | None:
    if settings.gateway_certfile is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.gateway_certfile, settings.gateway_keyfile, password=lambda: "")
    return context


def public_name(address: str, called_host: str) -> str:
    """Return the host that clients use: of a gateway that listens everywhere it is the one they used for HTTP."""
    try:
        is_everywhere = ipaddress.ip_address(address.partition("%")[0]).is_unspecified
    except ValueError:
        return address
    if not is_everywhere:
        return address
    if called_host.startswith("["):
        return called_host[1:].partition("]")[0] or "127.0.0.1"
    return called_host.partition(":")[0] or "127.0.0.1"
