"""Small things that public signatures need."""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["MISSING", "Missing"]


class Missing(enum.Enum):
    """Tells `default` not given from `default=None`."""

    MISSING = "not given"

    def __repr__(self) -> str:
        return "..."


MISSING: Final = Missing.MISSING
