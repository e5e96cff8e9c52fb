"""What follows from a try, decided apart from doing it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from dominus.orchestrator.engines.mail.relay import Delivery

__all__ = ["BackOff", "Verdict", "decide"]


@dataclass(frozen=True, slots=True)
class BackOff:
    """The waits between tries: doubled each time, cut to between a half and the whole of it."""

    base_seconds: float
    cap_seconds: float

    def seconds(self, attempt: int, chance: random.Random) -> float:
        """Return the wait after a try, counted from 1."""
        whole = min(self.cap_seconds, self.base_seconds * 2.0 ** min(attempt - 1, 30))
        return whole * (0.5 + chance.random() / 2)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is recorded of a try."""

    status: str
    pending: tuple[str, ...]
    """The recipients for whom it is tried again, or was given up."""
    error: str | None = None
    delay_seconds: float = 0.0


def decide(
    delivery: Delivery,
    pending: Sequence[str],
    *,
    attempt: int,
    has_accepted: bool,
    is_last: bool,
    back_off: BackOff,
    chance: random.Random,
) -> Verdict:
    """Return what becomes of a mail.

    Args:
        delivery: what the relay said.
        pending: the recipients of this try.
        attempt: its number, from 1.
        has_accepted: whether an earlier try reached some recipients.
        is_last: whether the mail is too old for another try.
        back_off: the waits.
        chance: of the waits.
    """
    left = tuple(one for one in pending if one not in delivery.accepted and one not in delivery.refused)
    if not left:
        if has_accepted or delivery.accepted:
            return Verdict("sent", ())
        said = next(iter(delivery.refused.values()), delivery.error)
        return Verdict("dead", (), error=said)
    if is_last:
        return Verdict("dead", left, error=f"given up: {delivery.error}")
    delay = max(back_off.seconds(attempt, chance), min(delivery.retry_after or 0.0, back_off.cap_seconds))
    status = "uncertain" if delivery.is_uncertain else "queued"
    return Verdict(status, left, error=delivery.error, delay_seconds=delay)
