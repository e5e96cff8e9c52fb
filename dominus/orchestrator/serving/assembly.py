"""From settings to running engines, in two layers.

`ProcessResources` belong to the process: the home, the embedded PostgreSQL, the keys. `Resources` belong to an event
loop and stand on them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dominus.crypto import generate_token
from dominus.errors import DominusError, ValidationError
from dominus.hints import shell_command
from dominus.orchestrator.engines.objects.store import LocalFolder, Objects, objects_at
from dominus.orchestrator.engines.postgres.embedded import EmbeddedPostgres
from dominus.orchestrator.engines.postgres.pools import Postgres
from dominus.orchestrator.engines.postgres.public_dsn import PublicDsn
from dominus.orchestrator.engines.redis.client import RedisEngine
from dominus.orchestrator.gateway.listener import ListenerFactory, local_listener
from dominus.orchestrator.gateway.logins.credentials import Credentials
from dominus.orchestrator.gateway.running import RunningGateway
from dominus.orchestrator.handlers.refused_writes import RefusedWrites
from dominus.orchestrator.handlers.resources import Resources
from dominus.orchestrator.home import HomeLock, hold, open_home, read_or_create_secret
from dominus.orchestrator.identity.psks import ClientKeys, Psks
from dominus.orchestrator.identity.rights import RightsOf
from dominus.orchestrator.identity.sessions import Revocations
from dominus.orchestrator.identity.tokens import Tokens
from dominus.orchestrator.identity.vault import MASTER_KEY_BYTES, Vault, parse_master_keys
from dominus.orchestrator.net.tasks import end_task
from dominus.orchestrator.outbox.relays import relay_of
from dominus.orchestrator.outbox.worker import OutboxWorker
from dominus.orchestrator.serving.link_listener import LinkListener
from dominus.orchestrator.settings import SERVE_RATE_LIMIT, ServerSettings

__all__ = [
    "OpenResources",
    "ProcessResources",
    "check_process_resources",
    "open_process_resources",
    "open_resources",
]

_log = logging.getLogger("dominus.orchestrator")
WATCH_SECONDS = 1.0


@dataclass(slots=True)
class ProcessResources:
    """What the engines of every loop of this process stand on."""

    settings: ServerSettings
    dsn: str = field(repr=False)
    master_keys: list[bytes] = field(repr=False)
    root_token: str = field(repr=False)
    home: Path | None = None
    hold: HomeLock | None = None
    postgres: EmbeddedPostgres | None = None
    gateway: ListenerFactory | None = None
    """How native sessions come in; None: they do not."""
    is_inside: bool = False
    """No server listens: the client's calls stay in its process."""

    def close(self) -> None:
        """End the embedded PostgreSQL and free the home. Blocks."""
        if self.postgres is not None:
            self.postgres.stop()
        if self.hold is not None:
            self.hold.release()


def open_process_resources(settings: ServerSettings, what: str) -> ProcessResources:
    """Take the home, start the embedded PostgreSQL unless a URL names another, and make what keys are missing.

    Blocks: call it through `asyncio.to_thread`. `what` names this process to others that want the home.

    Raises:
        ConflictError: another process holds the home; the message says which.
    """
    home = open_home(settings.home)
    held = hold(home, what)
    server: EmbeddedPostgres | None = None
    try:
        token = _given(settings.root_token) or read_or_create_secret(home, "token", generate_token)
        master = _given(settings.master_key) or read_or_create_secret(home, "master-key", _new_master_key)
        dsn = _given(settings.database_url)
        if dsn is None:
            server = EmbeddedPostgres(home, is_durable=settings.is_durable)
            dsn = server.start()
        return ProcessResources(
            settings=settings,
            dsn=dsn,
            master_keys=parse_master_keys(master),
            root_token=token,
            home=home,
            hold=held,
            postgres=server,
            gateway=local_listener(),
        )
    except BaseException:
        if server is not None:
            server.stop()
        held.release()
        raise


def check_process_resources(settings: ServerSettings) -> ProcessResources:
    """Check that everything a production server stands on is named; nothing is embedded.

    Raises:
        ValidationError: something is missing; the message lists all of it.
    """
    needed = {
        "DOMINUS_DATABASE_URL": (settings.database_url, "postgresql://user:password@host/database"),
        "DOMINUS_REDIS_URL": (settings.redis_url, "redis://:password@host:6379/0"),
        "DOMINUS_MASTER_KEY": (settings.master_key, "32 random bytes in base64: openssl rand -base64 32"),
        "DOMINUS_ROOT_TOKEN": (settings.root_token, "43 or more characters: openssl rand -base64 48"),
    }
    missing = [f"{name} ({how})" for name, (value, how) in needed.items() if not _given(value)]
    if missing:
        raise ValidationError(
            f"not set: {'; '.join(missing)}",
            code="settings_missing",
            hint=f"`dominus serve` embeds nothing; for a laptop there is `{shell_command('dev')}`",
        )
    if url := _given(settings.files_url):
        objects_at(url)
    if settings.rate_limit is None:
        settings.rate_limit = SERVE_RATE_LIMIT
    return ProcessResources(
        settings=settings,
        dsn=_given(settings.database_url) or "",
        master_keys=parse_master_keys(_given(settings.master_key) or ""),
        root_token=_given(settings.root_token) or "",
    )


class OpenResources:
    """The engines of the running loop, for a block.

    No generator: asyncio ends all generators of a loop at once when the loop ends, and the client's own, which closes
    the embedded orchestrator in order, is one of them.
    """

    def __init__(self, process: ProcessResources) -> None:
        self._process = process
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Resources:
        async with contextlib.AsyncExitStack() as stack:
            resources = await self._open(stack)
            self._stack = stack.pop_all()
        return resources

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _open(self, stack: contextlib.AsyncExitStack) -> Resources:
        settings = self._process.settings
        vault = Vault(self._process.master_keys)
        refused_writes = RefusedWrites()
        postgres = await Postgres.open(self._process.dsn, settings, vault)
        stack.push_async_callback(postgres.aclose)
        if self._process.postgres is not None:
            watch = asyncio.create_task(
                _keep_running(self._process.postgres, refused_writes.note), name="dominus-postgres"
            )
            stack.push_async_callback(end_task, watch)
        server_key = str(self._process.home or "default")
        redis = await RedisEngine.open(_given(settings.redis_url), server_key=server_key)
        stack.push_async_callback(redis.aclose)
        await vault.rewrap(postgres.system)
        revocations = Revocations(postgres.system, postgres.listen, lifetime_seconds=settings.token_lifetime)
        stack.push_async_callback(revocations.aclose)
        tokens = Tokens(
            postgres.system, vault, lifetime_seconds=settings.token_lifetime, revocations=revocations
        )
        rights = RightsOf(postgres)
        clients = ClientKeys(vault, rights)
        psks = Psks(postgres.system, root_token=self._process.root_token, clients=clients)
        await tokens.start()
        of_sessions = redis.of_sessions()
        if of_sessions is not redis:
            stack.push_async_callback(of_sessions.aclose)
        credentials = Credentials(postgres, of_sessions, settings)
        reaper = asyncio.create_task(credentials.keep_reaping(), name="dominus-login-reaper")
        stack.push_async_callback(end_task, reaper)
        resources = Resources(
            settings=settings,
            public_dsn=PublicDsn(self._process.dsn, settings.open_address),
            credentials=credentials,
            postgres=postgres,
            redis=redis,
            vault=vault,
            tokens=tokens,
            psks=psks,
            revocations=revocations,
            rights=rights,
            refused_writes=refused_writes,
        )
        resources.objects = _objects(self._process)
        if resources.logs.forwarder is not None:
            await resources.logs.forwarder.open()
            stack.push_async_callback(resources.logs.forwarder.aclose)
        relay = relay_of(settings)
        if relay is not None:
            outbox = OutboxWorker(postgres, relay, settings)
            stack.push_async_callback(outbox.aclose)
            await outbox.open()
        if self._process.gateway is not None:
            gateway = RunningGateway(
                self._process.gateway,
                settings,
                credentials=credentials,
                redis=of_sessions,
                verify=tokens.verify_session,
                secret=vault.fingerprint(b"gateway", b"redis"),
                dsn=self._process.dsn,
                redis_url=_given(settings.redis_url),
            )
            stack.push_async_callback(gateway.aclose)
            await gateway.open()
            resources.gateway = gateway
        if self._process.is_inside:
            links = LinkListener(resources)
            stack.push_async_callback(links.aclose)
            resources.link_base = links.base
        return resources


def open_resources(process: ProcessResources) -> OpenResources:
    """Return the engines of the running loop, to be opened with `async with`."""
    return OpenResources(process)


def _objects(process: ProcessResources) -> Objects | None:
    settings = process.settings
    url = _given(settings.files_url)
    if url is not None:
        return objects_at(url, is_durable=settings.is_durable)
    if process.home is None:
        return None
    return LocalFolder(process.home / "files", is_durable=settings.is_durable)


async def _keep_running(server: EmbeddedPostgres, note: Callable[[DominusError], None]) -> None:
    """Start the embedded PostgreSQL again when it ended by itself; the pools find it where it was."""
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        if server.is_running:
            continue
        _log.error("the embedded PostgreSQL ended by itself: starting it again")
        try:
            await asyncio.to_thread(server.start)
        except DominusError as error:
            _log.error("it does not start: %s", error)
            note(error)
        except OSError as error:
            # A home without space or rights may have both again.
            _log.error("it does not start: %s", error.strerror)


def _given(value: object) -> str | None:
    reveal = getattr(value, "get_secret_value", None)
    return (reveal() or None) if reveal is not None else None


def _new_master_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(MASTER_KEY_BYTES)).decode()
