"""What the orchestrator stands on; each engine embedded or remote by its URL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dominus.orchestrator.engines.objects.digests import PartDigests
from dominus.orchestrator.engines.postgres.fair_share import FairShare
from dominus.orchestrator.engines.postgres.pools import secure_pool_size
from dominus.orchestrator.handlers.refused_writes import RefusedWrites
from dominus.orchestrator.identity.passwords import Passwords
from dominus.orchestrator.logs.running import LogKeeping
from dominus.orchestrator.sql.catalog import Catalog

if TYPE_CHECKING:
    from dominus.orchestrator.engines.objects.store import Objects
    from dominus.orchestrator.engines.postgres.pools import Postgres
    from dominus.orchestrator.engines.postgres.public_dsn import PublicDsn
    from dominus.orchestrator.engines.redis.client import RedisEngine
    from dominus.orchestrator.gateway.logins.credentials import Credentials
    from dominus.orchestrator.gateway.running import RunningGateway
    from dominus.orchestrator.identity.psks import Psks
    from dominus.orchestrator.identity.rights import RightsOf
    from dominus.orchestrator.identity.sessions import Revocations
    from dominus.orchestrator.identity.tokens import Tokens
    from dominus.orchestrator.identity.vault import Vault
    from dominus.orchestrator.settings import ServerSettings

__all__ = ["Resources"]

DATA_WAIT_SECONDS = 10.0
BULK_WAIT_SECONDS = 30.0
"""Loads take their time; the next one waits for longer than a statement would."""

FILES_WAIT_SECONDS = 10.0
"""Shorter than the deadlines of callers, who would not hear why otherwise."""
PARTS_AT_ONCE = 8
"""Parts of files in the memory of one worker, of 8 MiB each."""


@dataclass(slots=True)
class Resources:
    """All engines of one running orchestrator."""

    settings: ServerSettings
    postgres: Postgres
    redis: RedisEngine
    vault: Vault
    tokens: Tokens
    psks: Psks
    rights: RightsOf
    """What users and clients may do."""
    credentials: Credentials
    """The database logins of sessions and of other programs."""
    public_dsn: PublicDsn
    revocations: Revocations
    """Which logins are over."""
    gateway: RunningGateway | None = None
    """None: this server runs no gateway."""
    refused_writes: RefusedWrites = field(default_factory=RefusedWrites)
    """Which engines are full."""
    objects: Objects | None = None
    """Where the bytes of files lie; None: this server keeps none."""
    link_base: Callable[[], Awaitable[str]] | None = None
    """How download links begin where nobody calls this orchestrator over a network; None: as the caller reached it."""
    digests: PartDigests = field(default_factory=PartDigests)
    files_share: FairShare = field(init=False)
    """Who may hold a part of a file in memory."""
    catalog: Catalog = field(init=False)
    """The tables of users, as they are known."""
    data_share: FairShare = field(init=False)
    """Who may use a connection of `postgres.data`."""
    secure_share: FairShare = field(init=False)
    """Who may use one of `postgres.secure()`."""
    bulk_share: FairShare = field(init=False)
    """Who may use one for a bulk load besides: a client decides how long that takes, so they are a quarter of all."""
    logs: LogKeeping = field(init=False)
    """The lines of programs."""
    passwords: Passwords = field(init=False)
    """Of users: how they are stored and verified."""

    def __post_init__(self) -> None:
        self.passwords = Passwords(self.vault)
        self.catalog = Catalog(self.postgres)
        self.files_share = FairShare(
            PARTS_AT_ONCE,
            wait_seconds=FILES_WAIT_SECONDS,
            what="places for parts of files",
            code="files_busy",
            own_code="too_many_parts",
            hint="send or read fewer parts at a time",
        )
        self.logs = LogKeeping.of(self.postgres, self.settings)
        size = self.settings.pool_size
        self.data_share = FairShare(size, wait_seconds=DATA_WAIT_SECONDS, what="database connections")
        self.secure_share = FairShare(
            secure_pool_size(size),
            wait_seconds=DATA_WAIT_SECONDS,
            what="database connections of secure tables",
        )
        self.postgres.data.limit.watch(self.data_share.resize)
        self.bulk_share = FairShare(
            max(min(2, size), size // 4), wait_seconds=BULK_WAIT_SECONDS, what="places for bulk loads"
        )
