"""The table of entities and links: who may do what, and where. A row here is five operations, or three."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints
from typing_extensions import TypedDict

from dominus.contract.guardian.derive import derive, derive_fixed, derive_link, derive_replaceable
from dominus.contract.guardian.records import EXAMPLE_ID, MAX_LINKS, Column, Entity, Id, Link
from dominus.contract.request import Identifier, plain_text

Name = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(plain_text)]
Text = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00]*$")]
"""PostgreSQL has no NUL in its texts."""
ScopeSlug = Annotated[str, StringConstraints(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")]
"""Never `*`, which stands for every scope in a token."""
ScopeSlugs = Annotated[list[ScopeSlug], Field(max_length=MAX_LINKS)]
Slug = Annotated[str, StringConstraints(max_length=50, pattern=r"^[a-z0-9]+([_-][a-z0-9]+)*$")]
"""Short enough for the name of a tenant's schema."""
Color = Annotated[str, StringConstraints(pattern=r"^#[0-9A-Fa-f]{6}$")]
PagePath = Annotated[
    str, StringConstraints(min_length=1, max_length=500, pattern="^/"), AfterValidator(plain_text)
]
Status = Literal["active", "inactive", "suspended"]


class Scope(TypedDict):
    """A right that roles give. `slug` is what tokens and programs call it."""

    id: str
    slug: str
    display_name: str
    description: str | None
    created_at: str
    updated_at: str


class Role(TypedDict):
    """A named set of scopes."""

    id: str
    name: str
    description: str | None
    created_at: str
    updated_at: str


class TenantCategory(TypedDict):
    """A kind of tenant."""

    id: str
    name: str
    slug: str
    description: str | None
    color: str
    created_at: str
    updated_at: str


class Tenant(TypedDict):
    """A customer, whose users and data are apart from those of others."""

    id: str
    name: str
    slug: str
    category_id: str | None
    display_name: str | None
    description: str | None
    status: Status
    registration_open: bool
    created_at: str
    updated_at: str


class Subtype(TypedDict):
    """A kind of user or client."""

    id: str
    name: str
    slug: str
    description: str | None
    created_at: str
    updated_at: str


class Page(TypedDict):
    """A page of an application, and whether navigation shows it."""

    id: str
    path: str
    name: str
    description: str | None
    is_active: bool
    show_in_nav: bool
    created_at: str
    updated_at: str


class SecureTable(TypedDict):
    """A table whose rows are touched with a reason only."""

    id: str
    table_name: str
    schema_name: str
    created_at: str
    updated_at: str


_DESCRIPTION = Column(kind=Text, example="What it is for.", default=None)

SCOPES = derive(
    Entity(
        name="scope",
        plural="scopes",
        row=Scope,
        order="slug",
        columns={
            "slug": Column(kind=ScopeSlug, example="articles:write", is_unique=True),
            "display_name": Column(kind=Name, example="Write articles"),
            "description": _DESCRIPTION,
        },
    )
)
ROLES = derive(
    Entity(
        name="role",
        plural="roles",
        row=Role,
        order="name",
        columns={
            "name": Column(kind=Name, example="editor", is_unique=True),
            "description": _DESCRIPTION,
        },
        extra={"scope_slugs": Column(kind=ScopeSlugs, example=None, default=None, references=SCOPES.entity)},
    )
)
TENANT_CATEGORIES = derive(
    Entity(
        name="tenant_category",
        plural="tenant_categories",
        short="category",
        row=TenantCategory,
        order="slug",
        columns={
            "name": Column(kind=Name, example="Schools"),
            "slug": Column(kind=Slug, example="schools", is_unique=True, in_update=False),
            "description": _DESCRIPTION,
            "color": Column(kind=Color, example="#0EA5E9", default="#3B82F6"),
        },
    )
)
TENANTS = derive(
    Entity(
        name="tenant",
        plural="tenants",
        row=Tenant,
        order="slug",
        columns={
            "name": Column(kind=Name, example="Hill School"),
            "slug": Column(kind=Slug, example="hill-school", is_unique=True, in_update=False),
            "category_id": Column(
                kind=Id,
                example=EXAMPLE_ID,
                default=None,
                is_filter=True,
                in_update=False,
                references=TENANT_CATEGORIES.entity,
            ),
            "display_name": Column(kind=Name, example="The Hill School", default=None),
            "description": replace(_DESCRIPTION, in_update=False),
            "status": Column(kind=Status, example="active", is_filter=True, in_create=False),
            "registration_open": Column(kind=bool, example=True, default=False),
        },
    )
)
SUBTYPES = derive(
    Entity(
        name="subtype",
        plural="subtypes",
        row=Subtype,
        order="slug",
        columns={
            "name": Column(kind=Name, example="Teachers"),
            "slug": Column(kind=Slug, example="teachers", is_unique=True, in_update=False),
            "description": _DESCRIPTION,
        },
    )
)
PAGES = derive(
    Entity(
        name="page",
        plural="pages",
        row=Page,
        order="path",
        columns={
            "path": Column(kind=PagePath, example="/articles", is_unique=True),
            "name": Column(kind=Name, example="Articles"),
            "description": _DESCRIPTION,
            "is_active": Column(kind=bool, example=True, default=True, is_filter=True),
            "show_in_nav": Column(kind=bool, example=False, default=True),
        },
    )
)
SECURE_TABLES = derive_fixed(
    Entity(
        name="secure_table",
        plural="secure_tables",
        row=SecureTable,
        order="table_name",
        columns={
            "table_name": Column(kind=Identifier, example="patients", is_unique=True),
            "schema_name": Column(kind=Identifier, example="public", default="public"),
        },
    ),
    "unknown_table",
    "unknown_schema",
    "cannot_be_secure",
    "secure_tables_unavailable",
    "lock_timeout",
)
ENTITIES = (SCOPES, ROLES, TENANT_CATEGORIES, TENANTS, SUBTYPES, PAGES, SECURE_TABLES)

ROLE_SCOPES = derive_link(Link(owner=ROLES.entity, name="scopes", target=SCOPES.entity))
ROLE_TENANTS = derive_link(Link(owner=ROLES.entity, name="tenants", target=TENANTS.entity))
ROLE_CATEGORIES = derive_link(Link(owner=ROLES.entity, name="categories", target=TENANT_CATEGORIES.entity))
ROLE_SUBTYPES = derive_link(Link(owner=ROLES.entity, name="subtypes", target=SUBTYPES.entity))
SCOPE_TENANTS = derive_link(Link(owner=SCOPES.entity, name="tenants", target=TENANTS.entity))
SCOPE_CATEGORIES = derive_link(Link(owner=SCOPES.entity, name="categories", target=TENANT_CATEGORIES.entity))
SUBTYPE_TENANTS = derive_link(Link(owner=SUBTYPES.entity, name="tenants", target=TENANTS.entity))
SUBTYPE_CATEGORIES = derive_link(
    Link(owner=SUBTYPES.entity, name="categories", target=TENANT_CATEGORIES.entity)
)
SUBTYPE_SCOPES = derive_link(Link(owner=SUBTYPES.entity, name="scopes", target=SCOPES.entity))
PAGE_TENANTS = derive_replaceable(Link(owner=PAGES.entity, name="tenants", target=TENANTS.entity))
PAGE_SCOPES = derive_replaceable(Link(owner=PAGES.entity, name="scopes", target=SCOPES.entity))
PAGE_CATEGORIES = derive_replaceable(
    Link(owner=PAGES.entity, name="categories", target=TENANT_CATEGORIES.entity)
)
PAGE_EXCLUDED_SCOPES = derive_replaceable(
    Link(owner=PAGES.entity, name="excluded_scopes", target=SCOPES.entity)
)
PAGE_EXCLUDED_ROLES = derive_replaceable(Link(owner=PAGES.entity, name="excluded_roles", target=ROLES.entity))
SECURE_TABLE_SCOPES = derive_link(Link(owner=SECURE_TABLES.entity, name="scopes", target=SCOPES.entity))
LINKS = (
    ROLE_SCOPES,
    ROLE_TENANTS,
    ROLE_CATEGORIES,
    ROLE_SUBTYPES,
    SCOPE_TENANTS,
    SCOPE_CATEGORIES,
    SUBTYPE_TENANTS,
    SUBTYPE_CATEGORIES,
    SUBTYPE_SCOPES,
    PAGE_TENANTS,
    PAGE_SCOPES,
    PAGE_CATEGORIES,
    PAGE_EXCLUDED_SCOPES,
    PAGE_EXCLUDED_ROLES,
    SECURE_TABLE_SCOPES,
)
