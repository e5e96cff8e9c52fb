"""One call on its way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dominus.contract.operation import Operation
from dominus.contract.request import Request
from dominus.transport.encode import Lines

__all__ = ["Call"]


@dataclass(slots=True)
class Call:
    """One call, over all its attempts; moments are on the client's clock."""

    op: Operation[Any, Any]
    request: Request = field(repr=False)
    path: str = field(repr=False)
    fields: bytes | None = field(repr=False)
    """The JSON of the body, None for a GET."""
    bearer: str | None = field(repr=False)
    """A token that is sent as it is: the PSK, or a user's."""
    key: str | None
    lines: Lines | None
    ends: float
    began: float
    was_cold: bool
    fails_fast: bool = False
    """It does not wait for a service that fails."""
    was_counted: bool = False
    """Its failure counts in the breaker already; a call counts once, however many attempts it makes."""
    attempts: int = 0
    has_reminted: bool = False
    sent_at: float | None = None
    """Since when an attempt is under way."""

    @property
    def is_replayable(self) -> bool:
        """Whether it can be sent once more; the rows of an iterator are gone when they were read."""
        return self.lines is None or self.lines.is_replayable
