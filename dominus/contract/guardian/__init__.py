"""auth: the records of who may do what. `entities` is the table, `derive` makes operations of its rows."""

from __future__ import annotations

from dominus.contract.guardian.derive import guardian
from dominus.contract.guardian.entities import ENTITIES, LINKS

__all__ = ["ENTITIES", "LINKS", "guardian"]
