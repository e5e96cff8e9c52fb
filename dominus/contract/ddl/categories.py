"""Categories as templates of tenants' schemas, and the tenants' schemas."""
# Over 350 lines of data: a request, an answer and an operation for each of 24 calls.

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from typing_extensions import TypedDict

from dominus.contract.codes import SHAPED
from dominus.contract.ddl.migrations import Migration, MigrationFile, OfCategory, SyncStatus, TenantStatus
from dominus.contract.ddl.shapes import (
    CREATE_EXAMPLE,
    AddColumnShape,
    CreateIndexShape,
    CreateTableShape,
    DropColumnShape,
    DropTableShape,
    MigrationName,
    OperationName,
    TenantSlug,
    Version,
    ddl,
)
from dominus.contract.request import Empty, Example, Omit, Request

__all__ = [
    "APPLY_BUILDER_MIGRATION",
    "CATEGORY_ADD_COLUMN",
    "CATEGORY_CREATE_INDEX",
    "CATEGORY_CREATE_TABLE",
    "CATEGORY_DROP_COLUMN",
    "CATEGORY_DROP_TABLE",
    "CATEGORY_STATUS",
    "DELETE_MIGRATION",
    "DEPROVISION_TENANT",
    "GET_BUILDER_MIGRATION_FILE",
    "GET_CATEGORY_MIGRATION_HISTORY",
    "GET_CATEGORY_STRUCTURE",
    "GET_TENANT_SYNC_STATUS",
    "LIST_CATEGORIES",
    "LIST_PROVISIONS",
    "PREVIEW_MIGRATION",
    "PROVISION_FROM_CATEGORY",
    "PROVISION_STATUS",
    "PROVISION_TENANT",
    "RESET_CATEGORY_SCHEMA",
    "RESET_TENANT_SCHEMA",
    "SYNC_TENANTS_TO_LATEST",
    "TENANTS_BY_CATEGORY",
    "BuilderApplied",
    "BuilderFile",
    "BuilderMigration",
    "CategoryAddColumn",
    "CategoryChanged",
    "CategoryCreateIndex",
    "CategoryCreateTable",
    "CategoryDropColumn",
    "CategoryDropTable",
    "CategoryHistory",
    "CategoryReset",
    "CategoryStatus",
    "CategoryStructure",
    "CategoryTenants",
    "CategoryVersion",
    "Deprovision",
    "MigrationDeleted",
    "OfTenant",
    "Preview",
    "Provision",
    "ProvisionFromCategory",
    "Provisioned",
    "SyncTenants",
    "Synced",
    "TenantOfCategory",
    "TenantReset",
]


class CategoryChanged(TypedDict, total=False):
    """A change of a category: recorded for all of its tenants, and applied to those that `synced_count` counts.

    `success` is false when it failed for a tenant, which stays as it was; `results` says why.
    """

    success: bool
    category_slug: str
    target: str
    table: str
    migration_id: str
    migration_version: str
    tenant_count: int
    applied_schemas: list[str]
    synced_count: int
    failed_count: int
    pending_count: int
    results: list[TenantStatus]


class BuilderApplied(CategoryChanged, total=False):
    """As a change of a category; `b2_key` names its file."""

    b2_key: str
    versions_recorded: int


class Provisioned(TypedDict, total=False):
    """A tenant's schema. `version` is the last migration that it has."""

    tenant_slug: str
    schema: str
    provisioned: bool
    created: bool
    dropped: bool
    category_slug: str | None
    version: str | None
    initial_version: str | None
    latest_version: str | None
    status: str
    applied_migrations: list[str]
    provisioned_at: str | None
    error: str | None


class CategoryStatus(TypedDict, total=False):
    """A category and how many tenants it has."""

    id: str
    slug: str
    name: str
    category_slug: str
    tenant_count: int
    provisioned_count: int
    synced_count: int
    pending_count: int
    failed_count: int
    migration_count: int
    latest_version: str | None


class CategoryTenants(TypedDict):
    """The tenants of a category."""

    category_slug: str
    tenants: list[Provisioned]
    total: int


class CategoryStructure(TypedDict):
    """What the migrations of a category make."""

    category: str
    tenant_count: int
    tables: list[dict[str, Any]]
    current_version: str | None
    migration_count: int


class CategoryHistory(TypedDict):
    """The migrations of a category, oldest first, deleted ones too."""

    category_slug: str
    migrations: list[Migration]
    stored_versions: list[str]
    current_version: str | None
    total: int


class Preview(TypedDict):
    """What a migration would do; nothing is changed."""

    category_slug: str
    affected_tenants: list[str]
    migration_preview: dict[str, Any]
    sql_preview: str


class BuilderFile(MigrationFile, total=False):
    """A migration of a category with its SQL."""

    version_id: str
    migration_name: str
    b2_key: str


class Synced(TypedDict):
    """Which tenants were brought up to date. Repeat the call while `pending_count` is not 0."""

    success: bool
    message: str
    latest_version: str | None
    total_tenants: int
    synced_count: int
    failed_count: int
    pending_count: int
    results: list[TenantStatus]


class CategoryReset(TypedDict):
    """Which tenants lost their tables."""

    success: bool
    message: str
    reset_count: int
    failed_count: int
    migrations_deleted: int
    results: list[TenantStatus]


class TenantReset(TypedDict):
    """An emptied schema."""

    success: bool
    message: str
    tenant_slug: str
    schema: str
    versions_cleared: int


class MigrationDeleted(TypedDict):
    """A migration that new tenants will not get."""

    success: bool
    message: str
    version_id: str
    category_slug: str


class _Change(OfCategory):
    target: Literal["category", "public"] = "category"


_OF = {"category_slug": "schools", "target": "category"}


class CategoryCreateTable(_Change, CreateTableShape):
    """A new table for the tenants of a category."""

    example: ClassVar[Example] = {**_OF, **CREATE_EXAMPLE}


class CategoryAddColumn(_Change, AddColumnShape):
    """A new column."""

    example: ClassVar[Example] = {
        **_OF,
        "table": "orders",
        "column": "note",
        "type": "text",
        "nullable": True,
    }


class CategoryDropTable(_Change, DropTableShape):
    """Drop a table with its rows, of all tenants."""

    example: ClassVar[Example] = {**_OF, "table": "orders"}


class CategoryDropColumn(_Change, DropColumnShape):
    """Drop a column with its values, of all tenants."""

    example: ClassVar[Example] = {**_OF, "table": "orders", "column": "customer"}


class CategoryCreateIndex(_Change, CreateIndexShape):
    """A new index."""

    example: ClassVar[Example] = {
        **_OF,
        "table": "orders",
        "index_name": "orders_customer",
        "columns": ["customer"],
    }


class OfTenant(Request):
    """Names a tenant, whose schema is `tenant_{slug}`."""

    example: ClassVar[Example] = {"tenant_slug": "hill"}

    tenant_slug: TenantSlug


class Provision(OfTenant):
    """A schema for a tenant."""


class Deprovision(OfTenant):
    """Drop a tenant's schema; with `cascade` whatever is in it."""

    example: ClassVar[Example] = {"tenant_slug": "hill", "cascade": True}

    cascade: bool = False


class ProvisionFromCategory(OfTenant, OfCategory):
    """A schema for a tenant, with the tables of a category."""

    example: ClassVar[Example] = {"tenant_slug": "hill", "category_slug": "schools"}


class BuilderMigration(OfCategory):
    """A change of a category, as data: the fields of `params` are those of the operation."""

    example: ClassVar[Example] = {
        "category_slug": "schools",
        "operation": "create_table",
        "params": CREATE_EXAMPLE,
        "migration_name": "add orders",
    }

    operation: OperationName
    params: dict[str, Any]
    migration_name: MigrationName


class CategoryVersion(OfCategory):
    """Names a migration of a category."""

    example: ClassVar[Example] = {"category_slug": "schools", "version_id": "20260101120000000000"}

    version_id: Version


class SyncTenants(OfCategory):
    """Names a category whose tenants are brought up to date, `limit` of them at most."""

    limit: Omit[Annotated[int, Field(ge=1, le=10_000)]]


class TenantOfCategory(OfCategory, OfTenant):
    """Names a tenant of a category."""

    example: ClassVar[Example] = {"category_slug": "schools", "tenant_slug": "hill"}


_CATEGORY = ("unknown_category",)
_CHANGING = (*SHAPED, "unknown_category", "unknown_table")
CATEGORY_CREATE_TABLE = ddl.write(
    "category_create_table",
    CategoryCreateTable,
    CategoryChanged,
    "Create a table for all tenants of a category.",
    path="category/create-table",
    errors=(*_CHANGING, "table_exists", "object_exists"),
)
CATEGORY_ADD_COLUMN = ddl.write(
    "category_add_column",
    CategoryAddColumn,
    CategoryChanged,
    "Add a column for all tenants of a category.",
    path="category/add-column",
    errors=(*_CHANGING, "column_exists"),
)
CATEGORY_DROP_TABLE = ddl.write(
    "category_drop_table",
    CategoryDropTable,
    CategoryChanged,
    "Drop a table of all tenants of a category.",
    path="category/drop-table",
    method="DELETE",
    errors=(*_CHANGING, "dependent_objects"),
)
CATEGORY_DROP_COLUMN = ddl.write(
    "category_drop_column",
    CategoryDropColumn,
    CategoryChanged,
    "Drop a column of all tenants of a category.",
    path="category/drop-column",
    method="DELETE",
    errors=(*_CHANGING, "unknown_column", "dependent_objects"),
)
CATEGORY_CREATE_INDEX = ddl.write(
    "category_create_index",
    CategoryCreateIndex,
    CategoryChanged,
    "Create an index for all tenants of a category.",
    path="category/create-index",
    errors=(*_CHANGING, "unknown_column", "table_exists"),
)
PROVISION_TENANT = ddl.write(
    "provision_tenant",
    Provision,
    Provisioned,
    "Make the schema of a tenant.",
    path="provision/tenant-schema",
    errors=("schema_exists",),
)
DEPROVISION_TENANT = ddl.write(
    "deprovision_tenant",
    Deprovision,
    Provisioned,
    "Drop the schema of a tenant.",
    path="provision/tenant-schema",
    method="DELETE",
    scope="ddl:admin",
    errors=("not_provisioned", "dependent_objects", "table_is_secure"),
)
PROVISION_FROM_CATEGORY = ddl.write(
    "provision_from_category",
    ProvisionFromCategory,
    Provisioned,
    "Make the schema of a tenant with the tables of a category.",
    path="provision/tenant-from-category",
    errors=("unknown_category", "schema_exists", "other_category"),
)
PROVISION_STATUS = ddl.read(
    "provision_status",
    OfTenant,
    Provisioned,
    "Say whether a tenant has a schema, and how far it is.",
    path="provision/status/{tenant_slug}",
    method="GET",
)
LIST_PROVISIONS = ddl.read(
    "list_provisions",
    Empty,
    list[Provisioned],
    "List the tenants that have a schema.",
    path="provision/list",
    method="GET",
)
LIST_CATEGORIES = ddl.read(
    "list_categories",
    Empty,
    list[CategoryStatus],
    "List the categories of tenants.",
    path="provision/categories",
    method="GET",
)
CATEGORY_STATUS = ddl.read(
    "category_status",
    OfCategory,
    CategoryStatus,
    "Say how many tenants of a category are provisioned and up to date.",
    path="provision/category-status/{category_slug}",
    method="GET",
    errors=_CATEGORY,
)
TENANTS_BY_CATEGORY = ddl.read(
    "tenants_by_category",
    OfCategory,
    CategoryTenants,
    "List the tenants of a category.",
    path="provision/tenants-by-category/{category_slug}",
    method="GET",
    errors=_CATEGORY,
)
GET_CATEGORY_STRUCTURE = ddl.read(
    "get_category_structure",
    OfCategory,
    CategoryStructure,
    "Describe the tables that the migrations of a category make.",
    path="builder/category/{category_slug}/structure",
    method="GET",
    errors=_CATEGORY,
)
GET_CATEGORY_MIGRATION_HISTORY = ddl.read(
    "get_category_migration_history",
    OfCategory,
    CategoryHistory,
    "List the migrations of a category, deleted ones too.",
    path="builder/category/{category_slug}/migrations",
    method="GET",
    errors=_CATEGORY,
)
PREVIEW_MIGRATION = ddl.read(
    "preview_migration",
    BuilderMigration,
    Preview,
    "Show the SQL of a change, and whom it reaches; nothing is changed.",
    path="builder/category/{category_slug}/preview-migration",
    errors=_CHANGING,
)
APPLY_BUILDER_MIGRATION = ddl.write(
    "apply_builder_migration",
    BuilderMigration,
    BuilderApplied,
    "Record a change of a category, and apply it to its tenants.",
    path="builder/category/{category_slug}/apply-migration",
    errors=_CHANGING,
)
GET_BUILDER_MIGRATION_FILE = ddl.read(
    "get_builder_migration_file",
    CategoryVersion,
    BuilderFile,
    "Read a migration of a category with the SQL of both ways.",
    path="builder/category/{category_slug}/migrations/{version_id}",
    method="GET",
    errors=("unknown_category", "unknown_migration"),
)
GET_TENANT_SYNC_STATUS = ddl.read(
    "get_tenant_sync_status",
    OfCategory,
    SyncStatus,
    "Say how far each tenant of a category is.",
    path="builder/category/{category_slug}/sync-status",
    method="GET",
    errors=_CATEGORY,
)
SYNC_TENANTS_TO_LATEST = ddl.write(
    "sync_tenants_to_latest",
    SyncTenants,
    Synced,
    "Bring the tenants of a category up to date.",
    path="builder/category/{category_slug}/sync-tenants",
    errors=_CATEGORY,
)
RESET_CATEGORY_SCHEMA = ddl.write(
    "reset_category_schema",
    OfCategory,
    CategoryReset,
    "Empty the schemas of all tenants of a category, and delete its migrations.",
    path="builder/category/{category_slug}/reset",
    method="DELETE",
    scope="ddl:admin",
    errors=_CATEGORY,
)
RESET_TENANT_SCHEMA = ddl.write(
    "reset_tenant_schema",
    TenantOfCategory,
    TenantReset,
    "Empty the schema of a tenant.",
    path="builder/category/{category_slug}/tenants/{tenant_slug}/reset",
    method="DELETE",
    scope="ddl:admin",
    errors=("unknown_category", "not_provisioned", "table_is_secure"),
)
DELETE_MIGRATION = ddl.write(
    "delete_migration",
    CategoryVersion,
    MigrationDeleted,
    "Delete a migration of a category; tenants that have it keep it.",
    path="builder/category/{category_slug}/migrations/{version_id}",
    method="DELETE",
    scope="ddl:admin",
    errors=("unknown_category", "unknown_migration", "later_migrations"),
)
