"""auth: the records of who may do what, all answered by the same few handlers."""

from __future__ import annotations

from dominus.contract import guardian as contract
from dominus.contract.guardian.accounts import CLIENTS, NAV_ITEMS, USERS
from dominus.contract.guardian.entities import ROLES, SECURE_TABLES, TENANT_CATEGORIES, TENANTS
from dominus.orchestrator.handlers.registry import Handlers
from dominus.orchestrator.services.guardian.accounts import Clients, NavItems, Users, account_handlers
from dominus.orchestrator.services.guardian.entities import entity_handlers
from dominus.orchestrator.services.guardian.links import link_handlers
from dominus.orchestrator.services.guardian.roles import Roles
from dominus.orchestrator.services.guardian.secure_tables import SecureTables
from dominus.orchestrator.services.guardian.tenancy import Categories, Tenants

__all__ = ["handlers"]

handlers = Handlers(contract.guardian)
_users, _clients = Users(), Clients()
_doing_more = {
    ROLES.entity.name: Roles(),
    SECURE_TABLES.entity.name: SecureTables(),
    USERS.entity.name: _users,
    CLIENTS.entity.name: _clients,
    NAV_ITEMS.entity.name: NavItems(),
    TENANTS.entity.name: Tenants(),
    TENANT_CATEGORIES.entity.name: Categories(),
}
"""What does more than keep records."""
for calls in contract.ENTITIES:
    entity_handlers(handlers, calls, _doing_more.get(calls.entity.name))
account_handlers(handlers, _users, _clients)
for link in contract.LINKS:
    link_handlers(handlers, link)
