"""Why and for whom a secure table is used."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SecureAccessContext"]


@dataclass(frozen=True, slots=True)
class SecureAccessContext:
    """What the audit trail tells of an access, beside the caller's own token."""

    reason: str
    """Why; not empty, up to 1,000 characters."""
    actor: str | None = None
    """Who, where that is not the token's subject itself; up to 1,000 characters."""
