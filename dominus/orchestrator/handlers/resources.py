"""What the orchestrator stands on; each engine embedded or remote by its URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.pools import Postgres
    from dominus.orchestrator.engines.redis.client import RedisEngine
    from dominus.orchestrator.gateway.running import RunningGateway
    from dominus.orchestrator.identity.tokens import Tokens
    from dominus.orchestrator.identity.vault import Vault
    from dominus.orchestrator.settings import ServerSettings

__all__ = ["Resources"]


@dataclass(slots=True)
class Resources:
    """All engines of one running orchestrator."""

    settings: ServerSettings
    postgres: Postgres
    redis: RedisEngine
    vault: Vault
    tokens: Tokens
    gateway: RunningGateway | None = None
    """None: this server runs no gateway."""
