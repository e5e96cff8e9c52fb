"""How much of the gateway one principal may use, and when a connection has to end. Nothing here does anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dominus.contract.handshake import HANDSHAKE_SECONDS
from dominus.orchestrator.net.addresses import spare_descriptors

if TYPE_CHECKING:
    from dominus.orchestrator.settings import ServerSettings

__all__ = ["Admission", "Limits", "Quiet", "why_end"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one worker; times in seconds."""

    connections: int = 4096
    """Open at a time."""
    per_principal: int = 200
    """Open at a time, of one subject."""
    pending: int = 512
    """That have not said who they are; one more ends the oldest."""
    pending_per_address: int = 64
    """The same of one address; 0: any. Who has just come is let be."""
    handshake: float = HANDSHAKE_SECONDS
    """For all of a handshake."""
    connect: float = 5.0
    """For verifying the token and reaching the database."""
    idle: float = 3600.0
    """Without a byte either way."""
    half_closed: float = 120.0
    """Without a byte, after one side has said that it is done."""
    linger: float = 30.0
    """In which a peer does not take what is still to be sent to it."""
    max_lifetime: float | None = None

    @classmethod
    def of(cls, settings: ServerSettings) -> Limits:
        """Read them from the settings, no more connections than this process may have descriptors for."""
        return cls(
            connections=min(settings.gateway_connections, max(16, spare_descriptors() // 2)),
            per_principal=settings.gateway_connections_per_principal,
            pending_per_address=settings.unfinished_per_address,
            idle=settings.gateway_idle,
            max_lifetime=settings.gateway_max_lifetime,
        )


class Admission:
    """Counts the connections that are open, or about to be."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_subject: Counter[str] = Counter()
        self.count = 0

    def why_not(self, subject: str) -> tuple[str, str] | None:
        """Return code and message of a refusal; None: there is room."""
        if self.count >= self._limits.connections:
            return "gateway_full", "the gateway has no room for another connection"
        if self._by_subject[subject] >= self._limits.per_principal:
            return (
                "too_many_connections",
                f"this caller has {self._limits.per_principal} connections open, and may not have more",
            )
        return None

    def enter(self, subject: str) -> None:
        """Count one more."""
        self.count += 1
        self._by_subject[subject] += 1

    def leave(self, subject: str) -> None:
        """Count one less."""
        self.count -= 1
        self._by_subject[subject] -= 1
        if self._by_subject[subject] <= 0:
            del self._by_subject[subject]


@dataclass(frozen=True, slots=True)
class Quiet:
    """A connection as it stands."""

    age: float
    quiet_for: float
    """Seconds since a byte moved; while closing, since a byte was taken."""
    is_half_closed: bool = False
    is_closing: bool = False


def why_end(now: Quiet, limits: Limits) -> str | None:
    """Return why a connection has to end, None while it may live. A closing one that lingers is cut off."""
    if now.is_closing:
        return "lingering" if now.quiet_for >= limits.linger else None
    if limits.max_lifetime is not None and now.age >= limits.max_lifetime:
        return "lifetime"
    if now.quiet_for >= limits.idle:
        return "idle"
    if now.is_half_closed and now.quiet_for >= limits.half_closed:
        return "half_closed"
    return None
