"""Who calls, as a verified token says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["Principal"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, as the verified token says."""

    subject: str
    """The id of a service or user; it names the caller in audit trails and rate limits."""
    use: str
    """`service` or `user`, or `session` for a token of the gateway."""
    scopes: frozenset[str]
    """`service:verb`, or `*` for everything."""
    project: str = "default"
    environment: str = "development"
    target: str | None = None
    """What a session token opens; None for every other token."""
    expires_at: float = field(default=math.inf, compare=False)
    """Unix time at which the token ends; nothing that is made with it lives longer. A PSK has no end."""

    session_id: str | None = None
    """The login that this token belongs to; None for a token that no login gave."""
    tenant_id: str | None = None
    """The tenant that a user or client is active in; None: none, or no login."""

    @property
    def place(self) -> tuple[str, str]:
        """Project and environment."""
        return self.project, self.environment

    def may(self, scope: str | None) -> bool:
        """Return whether a scope is covered; None asks for nothing."""
        return scope is None or "*" in self.scopes or scope in self.scopes
