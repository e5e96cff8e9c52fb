"""auth: the records of who may do what. `entities` and `accounts` are the table, `derive` makes operations of it."""

from __future__ import annotations

from dominus.contract.guardian import accounts, entities
from dominus.contract.guardian.derive import guardian

ENTITIES = (*entities.ENTITIES, *accounts.ACCOUNTS)
LINKS = (*entities.LINKS, *accounts.ACCOUNT_LINKS)

__all__ = ["ENTITIES", "LINKS", "guardian"]
