"""What the orchestrator stands on; each engine embedded or remote by its URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres import Postgres
    from dominus.orchestrator.engines.redis import RedisEngine
    from dominus.orchestrator.gateway.host import GatewayHost
    from dominus.orchestrator.settings import ServerSettings
    from dominus.orchestrator.tokens import Tokens
    from dominus.orchestrator.vault import Vault

__all__ = ["Engines"]


@dataclass(slots=True)
class Engines:
    """All engines of one running orchestrator."""

    settings: ServerSettings
    postgres: Postgres
    redis: RedisEngine
    vault: Vault
    tokens: Tokens
    gateway: GatewayHost | None = None
    """None: this server runs no gateway."""
