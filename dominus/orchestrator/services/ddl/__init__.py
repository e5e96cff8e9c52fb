"""ddl: the shape of users' tables, its migrations, and the schemas of tenants."""

from __future__ import annotations

from dominus.orchestrator.services.ddl import (
    categories,
    change,
    migrations,
    provisioning,
    tables,
    tenants,
)
from dominus.orchestrator.services.ddl.tables import add_column, create_table, drop_table, handlers

__all__ = [
    "add_column",
    "categories",
    "change",
    "create_table",
    "drop_table",
    "handlers",
    "migrations",
    "provisioning",
    "tables",
    "tenants",
]
