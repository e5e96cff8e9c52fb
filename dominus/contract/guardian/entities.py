"""The table of entities and links: who may do what, and where. A row here is five operations, or three."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, StringConstraints
from typing_extensions import TypedDict

from dominus.contract.guardian.derive import Column, Entity, Link, derive, derive_link
from dominus.contract.request import plain_text

Name = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(plain_text)]
Text = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00]*$")]
"""PostgreSQL has no NUL in its texts."""
ScopeSlug = Annotated[str, StringConstraints(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")]
"""Never `*`, which stands for every scope in a token."""


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


_DESCRIPTION = Column(kind=Text, example="May change articles.", default=None)

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
    )
)
ENTITIES = (SCOPES, ROLES)

ROLE_SCOPES = derive_link(Link(owner=ROLES.entity, name="scopes", target=SCOPES.entity))
LINKS = (ROLE_SCOPES,)
