"""dominus.ddl: the shape of tables, its migrations, and the schemas of tenants."""

from __future__ import annotations

from dominus.namespaces.ddl.categories import Categories
from dominus.namespaces.ddl.migrations import Migrations
from dominus.namespaces.ddl.models import Models
from dominus.namespaces.ddl.tables import TableChanges
from dominus.namespaces.ddl.tenants import Tenants

__all__ = ["Ddl"]


class Ddl(TableChanges, Migrations, Categories, Tenants, Models):
    """The shape of tables: every change is a recorded migration, with the SQL of both ways.

    Types, defaults and constraints are SQL text, which the server parses and never pastes: a text default needs
    its own quotes, `"'open'"`. Constraints are `PRIMARY KEY`, `NOT NULL`, `UNIQUE`, `CHECK (age > 0)`,
    `REFERENCES users(id) ON DELETE CASCADE`. Errors: ConflictError (`table_exists`, `column_exists`),
    ValidationError (`unknown_type`, `invalid_sql`, `invalid_name`), NotFoundError (`unknown_schema`,
    `unknown_table`). There is no `if_not_exists`: catch the ConflictError.

    Categories are templates of tenants' schemas: `category_create_table`, `provision_tenant(slug, category_slug=)`,
    `sync_tenants_to_latest`. `pull` writes pydantic models of the tables.
    """
