"""The recorded migrations of a schema."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, PlainSerializer
from typing_extensions import TypedDict

from dominus.contract.codes import SHAPED
from dominus.contract.ddl.shapes import CategorySlug, Version, ddl
from dominus.contract.request import Empty, Example, Identifier, Request

__all__ = [
    "APPLY_MIGRATION",
    "CATEGORY_SYNC_STATUS",
    "COMPARE_VERSIONS",
    "GET_CATEGORY_MIGRATION_FILE",
    "GET_CURRENT_VERSION",
    "GET_MIGRATION_FILE",
    "LIST_CATEGORY_MIGRATIONS",
    "LIST_MIGRATIONS",
    "LIST_PUBLIC_MIGRATIONS",
    "MIGRATION_HISTORY",
    "ROLLBACK_MIGRATION",
    "ApplyMigration",
    "CategoryMigration",
    "Comparison",
    "Difference",
    "Migration",
    "MigrationFile",
    "MigrationList",
    "MigrationRun",
    "OfCategory",
    "OfSchema",
    "RollbackMigration",
    "SchemaHistory",
    "SchemaMigration",
    "SchemaVersion",
    "Schemas",
    "Step",
    "SyncStatus",
    "TenantStatus",
]


class Migration(TypedDict, total=False):
    """A recorded change. `version` is its time (UTC, to the microsecond), so versions sort."""

    id: str
    version: str
    name: str
    operation: str
    checksum: str
    author: str
    created_at: str
    is_applied: bool
    is_reversible: bool
    applied_at: str | None
    source: str
    """`schema`, or `category` for what a tenant's schema has of its category."""


class MigrationFile(Migration, total=False):
    """A migration with its SQL. `content` holds both ways, for people; `up` and `down` are lists of statements."""

    schema: str
    category_slug: str
    content: str
    up: list[str]
    down: list[str] | None


class Step(TypedDict):
    """One way that a migration went: up when it was applied, down when it was rolled back."""

    version: str
    name: str
    operation: str
    direction: str
    author: str
    at: str


class SchemaHistory(TypedDict):
    """Everything that was applied and rolled back, oldest first."""

    schema: str
    current_version: str | None
    migrations: list[Step]
    total: int


class SchemaVersion(TypedDict):
    """The last migration that is applied; None: there is none."""

    schema: str
    version: str | None
    name: str | None
    applied_at: str | None
    migration_count: int


class MigrationRun(TypedDict, total=False):
    """What was applied or rolled back."""

    schema: str
    version: str
    migration_id: str
    applied: bool
    rolled_back: bool
    current_version: str | None


class MigrationList(TypedDict, total=False):
    """Migrations, oldest first."""

    category_slug: str
    schema: str
    migrations: list[Migration]
    current_version: str | None
    total: int


class TenantStatus(TypedDict, total=False):
    """How far a tenant's schema is. `status` is `synced`, `pending` or `failed`."""

    tenant_slug: str
    schema: str
    status: str
    current_version: str | None
    pending_count: int
    applied: list[str]
    error: str | None
    failed_at: str | None


class SyncStatus(TypedDict):
    """How far the tenants of a category are."""

    category_slug: str
    latest_version: str | None
    total_tenants: int
    synced_count: int
    pending_count: int
    failed_count: int
    tenants: list[TenantStatus]


class Difference(TypedDict, total=False):
    """What is not the same in all schemas: its definition in each, None where it is missing."""

    table: str
    kind: str
    name: str
    definitions: dict[str, Any]


class Comparison(TypedDict):
    """How schemas differ."""

    schemas: dict[str, SchemaVersion]
    identical: bool
    differences: list[Difference]


class OfSchema(Request):
    """Names a schema."""

    example: ClassVar[Example] = {"schema": "public"}

    schema_: Annotated[Identifier, Field(alias="schema")] = "public"


class ApplyMigration(OfSchema):
    """Names a migration by its id or version."""

    example: ClassVar[Example] = {"schema": "public", "migration_id": "20260101120000000000"}

    migration_id: Version


class SchemaMigration(OfSchema):
    """Names a migration."""

    example: ClassVar[Example] = {"schema": "public", "version": "20260101120000000000"}

    version: Version


class RollbackMigration(SchemaMigration):
    """Names the migration to roll back."""


def _split(value: Any) -> Any:
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


SchemaNames = Annotated[
    list[Identifier],
    Field(min_length=2, max_length=50),
    BeforeValidator(_split),
    PlainSerializer(",".join, return_type=str),
]


class Schemas(Request):
    """Names schemas to compare: on the wire with commas between."""

    example: ClassVar[Example] = {"schemas": "public,public"}

    schemas: SchemaNames


class OfCategory(Request):
    """Names a category."""

    example: ClassVar[Example] = {"category_slug": "schools"}

    category_slug: CategorySlug


class CategoryMigration(OfCategory):
    """Names a migration of a category."""

    example: ClassVar[Example] = {"category_slug": "schools", "version": "20260101120000000000"}

    version: Version


_UNKNOWN = ("unknown_schema", "unknown_migration")
LIST_MIGRATIONS = ddl.read(
    "list_migrations",
    OfSchema,
    list[Migration],
    "List the migrations of a schema.",
    path="migrations/list/{schema}",
    method="GET",
    errors=("unknown_schema",),
)
APPLY_MIGRATION = ddl.write(
    "apply_migration",
    ApplyMigration,
    MigrationRun,
    "Apply a migration that a schema does not have, or no longer has.",
    path="migrations/apply/{schema}",
    errors=(*SHAPED, "unknown_migration", "migration_applied", "earlier_migrations"),
)
GET_CURRENT_VERSION = ddl.read(
    "get_current_version",
    OfSchema,
    SchemaVersion,
    "Say which migration of a schema was applied last.",
    path="migrations/current/{schema}",
    method="GET",
    errors=("unknown_schema",),
)
GET_MIGRATION_FILE = ddl.read(
    "get_migration_file",
    SchemaMigration,
    MigrationFile,
    "Read a migration with the SQL of both ways.",
    path="migrations/file/{schema}/{version}",
    method="GET",
    errors=_UNKNOWN,
)
MIGRATION_HISTORY = ddl.read(
    "migration_history",
    OfSchema,
    SchemaHistory,
    "List what was applied and rolled back in a schema, and by whom.",
    path="migrations/history/{schema}",
    method="GET",
    errors=("unknown_schema",),
)
ROLLBACK_MIGRATION = ddl.write(
    "rollback_migration",
    RollbackMigration,
    MigrationRun,
    "Undo the migration that was applied last.",
    path="migrations/rollback/{schema}",
    errors=(
        *SHAPED,
        "unknown_migration",
        "migration_not_applied",
        "later_migrations",
        "irreversible_migration",
        "dependent_objects",
    ),
)
COMPARE_VERSIONS = ddl.read(
    "compare_versions",
    Schemas,
    Comparison,
    "Compare schemas: their versions, and every table, column, constraint and index.",
    path="migrations/compare",
    method="GET",
    errors=("unknown_schema",),
)
LIST_CATEGORY_MIGRATIONS = ddl.read(
    "list_category_migrations",
    OfCategory,
    MigrationList,
    "List the migrations of a category.",
    path="migrations/category/{category_slug}/list",
    method="GET",
    errors=("unknown_category",),
)
GET_CATEGORY_MIGRATION_FILE = ddl.read(
    "get_category_migration_file",
    CategoryMigration,
    MigrationFile,
    "Read a migration of a category with the SQL of both ways.",
    path="migrations/category/{category_slug}/file/{version}",
    method="GET",
    errors=("unknown_category", "unknown_migration"),
)
CATEGORY_SYNC_STATUS = ddl.read(
    "category_sync_status",
    OfCategory,
    SyncStatus,
    "Say how far each tenant of a category is.",
    path="migrations/category/{category_slug}/sync-status",
    method="GET",
    errors=("unknown_category",),
)
LIST_PUBLIC_MIGRATIONS = ddl.read(
    "list_public_migrations",
    Empty,
    MigrationList,
    "List the migrations of the schema `public`.",
    path="migrations/public/list",
    method="GET",
)
