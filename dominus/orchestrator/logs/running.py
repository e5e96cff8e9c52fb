"""What the handlers of lines stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from dominus.orchestrator.logs.days import LogDays
from dominus.orchestrator.logs.forward import Forwarder

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.pools import Postgres
    from dominus.orchestrator.settings import ServerSettings

__all__ = ["LogKeeping"]


@dataclass(slots=True)
class LogKeeping:
    """The days of which lines are kept, and where they go besides."""

    days: LogDays
    forwarder: Forwarder | None = None

    @classmethod
    def of(cls, postgres: Postgres, settings: ServerSettings) -> Self:
        """Return what the settings ask for."""
        forwarder = None
        if settings.log_forward_url:
            token = settings.log_forward_token
            forwarder = Forwarder(
                settings.log_forward_url,
                token.get_secret_value() if token is not None else None,
                settings.log_forward_format,
            )
        return cls(LogDays(postgres, settings.log_retention_days), forwarder)
