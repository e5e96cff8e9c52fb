"""What takes mails: one method, and what may come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dominus.orchestrator.engines.mail.message import Mail

__all__ = ["Delivery", "Relay", "plain"]

MAX_SAID = 500
"""Characters of a relay's answer that are kept."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one try."""

    accepted: tuple[str, ...] = ()
    """The recipients for whom the relay took the mail."""
    refused: Mapping[str, str] = field(default_factory=dict[str, str])
    """Those whom it will never take it for, and what it said."""
    error: str | None = None
    """Why the others have to be tried again."""
    is_uncertain: bool = False
    """The mail was on its way, and no answer came: it may have been taken."""
    is_away: bool = False
    """No mail would get through now: the relay is not reached, or does not let us in."""
    retry_after: float | None = None
    """Seconds that the relay asks to wait."""


class Relay(Protocol):
    """Takes mails, several at a time."""

    async def deliver(self, mail: Mail) -> Delivery:
        """Try once. Whatever the relay does is a Delivery; nothing is raised but for a mistake of our own."""
        ...

    async def rest(self) -> None:
        """Close what is idle: there is nothing to send for now."""
        ...

    async def aclose(self) -> None:
        """Close everything."""
        ...


def plain(said: str) -> str:
    """Return what a relay said as one short line."""
    return " ".join(said.split())[:MAX_SAID]
