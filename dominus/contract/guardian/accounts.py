"""Who logs in: users and clients; the items of navigation; and what is done with passwords and keys."""

from __future__ import annotations

import unicodedata
from typing import Annotated, ClassVar, Literal, NotRequired

from pydantic import AfterValidator, Field, StringConstraints
from typing_extensions import TypedDict

from dominus.contract.guardian.derive import derive, derive_link, guardian
from dominus.contract.guardian.entities import (
    PAGES,
    ROLES,
    SCOPES,
    SUBTYPES,
    TENANT_CATEGORIES,
    TENANTS,
    Name,
    Status,
    Text,
)
from dominus.contract.guardian.records import EXAMPLE_ID, Column, Entity, Id, Link, Sorting
from dominus.contract.mail_address import parse_address
from dominus.contract.request import Example, Omit, Request, plain_text

MAX_PASSWORD_BYTES = 72
"""bcrypt reads no more."""
DEFAULT_GRACE_SECONDS = 3600
MAX_GRACE_SECONDS = 30 * 86_400


def check_password(password: str) -> str:
    """Refuse what bcrypt would cut.

    Raises:
        ValueError: it is empty, longer than 72 bytes, or holds a NUL.
    """
    try:
        size = len(password.encode())
    except UnicodeEncodeError:
        raise ValueError("is not Unicode text") from None
    if not 1 <= size <= MAX_PASSWORD_BYTES:
        raise ValueError(f"must have 1 to {MAX_PASSWORD_BYTES} bytes in UTF-8, not {size}")
    if "\0" in password:
        raise ValueError("must not contain NUL")
    return password


def _username(text: str) -> str:
    if text != text.strip():
        raise ValueError("must not begin or end with a space")
    # Of texts that look the same, one is kept.
    return unicodedata.normalize("NFC", text)


def _email(text: str) -> str:
    found = parse_address(text)
    if found.name:
        raise ValueError("must be an address alone, without a name")
    return found.address


Username = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100),
    AfterValidator(plain_text),
    AfterValidator(_username),
]
Email = Annotated[str, StringConstraints(min_length=3, max_length=320), AfterValidator(_email)]
Password = Annotated[str, AfterValidator(check_password)]
PasswordHash = Annotated[
    str, StringConstraints(pattern=r"^\$2[aby]\$1[0-4]\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}$")
]
"""bcrypt, of cost 10 to 14: weaker ones are not kept, stronger ones would let a login cost seconds."""
ItemType = Literal["link", "header", "group_label"]


class User(TypedDict):
    """A person who logs in. `email_verified` ends with another address."""

    id: str
    username: str
    email: str
    status: Status
    email_verified: NotRequired[bool]
    created_at: str
    updated_at: str


class Client(TypedDict):
    """A program that logs in with a pre-shared key."""

    id: str
    label: str
    description: str | None
    status: Status
    created_at: str
    updated_at: str


class ClientWithPsk(Client):
    """A client and its key, which is shown this once. `previous_valid_until` is when the key before ends."""

    psk: str
    previous_valid_until: NotRequired[str | None]


class NavItem(TypedDict):
    """An entry of navigation, which leads to a page or groups others."""

    id: str
    title: str
    icon: str | None
    description: str | None
    page_id: str | None
    parent_id: str | None
    item_type: ItemType
    is_active: bool
    sort_order: int
    is_expanded_default: bool
    created_at: str
    updated_at: str


_STATUS = Column(kind=Status, example="active", default="active", is_filter=True)
_DESCRIPTION = Column(kind=Text, example="What it is for.", default=None)

USERS = derive(
    Entity(
        name="user",
        plural="users",
        row=User,
        order="username",
        columns={
            "username": Column(kind=Username, example="ada", is_unique=True),
            "email": Column(kind=Email, example="ada@example.com", is_unique=True),
            "status": _STATUS,
        },
        extra={
            "password": Column(kind=Password, example="correct horse", default=None, is_secret=True),
            "password_hash": Column(kind=PasswordHash, example=None, default=None, is_secret=True),
        },
        sorting=Sorting(("created_at", "updated_at", "username", "email"), is_descending=True),
    )
)
CLIENTS = derive(
    Entity(
        name="client",
        plural="clients",
        row=Client,
        made_row=ClientWithPsk,
        order="label",
        columns={
            "label": Column(kind=Name, example="Nightly import"),
            "description": _DESCRIPTION,
            "status": Column(kind=Status, example="active", in_create=False),
        },
    )
)
_NAV_COLUMNS = {
    "title": Column(kind=Name, example="Articles"),
    "icon": Column(kind=Text, example="newspaper", default=None),
    "description": _DESCRIPTION,
    "page_id": Column(kind=Id, example=EXAMPLE_ID, default=None, references=PAGES.entity, is_clearable=True),
    "parent_id": Column(kind=Id, example=EXAMPLE_ID, default=None, is_filter=True, is_clearable=True),
    "item_type": Column(kind=ItemType, example="link", default="link"),
    "is_active": Column(kind=bool, example=True, default=True, is_filter=True),
    "sort_order": Column(kind=Annotated[int, Field(ge=-(2**31), le=2**31 - 1)], example=10, default=0),
    "is_expanded_default": Column(kind=bool, example=False, default=False),
}
_NAV_ITEM = Entity(
    name="nav_item",
    plural="nav_items",
    short="nav",
    row=NavItem,
    order="title",
    columns=_NAV_COLUMNS,
    sorting=Sorting(("sort_order", "title", "created_at", "updated_at")),
    link_filters={"tenant_id": "nav_tenants"},
)
# The parent of an item is an item.
_NAV_COLUMNS["parent_id"] = Column(
    kind=Id, example=EXAMPLE_ID, default=None, is_filter=True, is_clearable=True, references=_NAV_ITEM
)
NAV_ITEMS = derive(_NAV_ITEM, "nav_cycle")
ACCOUNTS = (USERS, CLIENTS, NAV_ITEMS)

USER_ROLES = derive_link(Link(owner=USERS.entity, name="roles", target=ROLES.entity))
USER_SCOPES = derive_link(Link(owner=USERS.entity, name="scopes", target=SCOPES.entity))
USER_TENANTS = derive_link(Link(owner=USERS.entity, name="tenants", target=TENANTS.entity))
USER_SUBTYPES = derive_link(Link(owner=USERS.entity, name="subtypes", target=SUBTYPES.entity))
CLIENT_TENANTS = derive_link(Link(owner=CLIENTS.entity, name="tenants", target=TENANTS.entity))
CLIENT_ROLES = derive_link(Link(owner=CLIENTS.entity, name="roles", target=ROLES.entity))
CLIENT_SCOPES = derive_link(Link(owner=CLIENTS.entity, name="scopes", target=SCOPES.entity))
CLIENT_SUBTYPES = derive_link(Link(owner=CLIENTS.entity, name="subtypes", target=SUBTYPES.entity))
NAV_TENANTS = derive_link(Link(owner=NAV_ITEMS.entity, name="tenants", target=TENANTS.entity))
NAV_SCOPES = derive_link(Link(owner=NAV_ITEMS.entity, name="scopes", target=SCOPES.entity))
NAV_ROLES = derive_link(Link(owner=NAV_ITEMS.entity, name="roles", target=ROLES.entity))
NAV_SUBTYPES = derive_link(Link(owner=NAV_ITEMS.entity, name="subtypes", target=SUBTYPES.entity))
NAV_CATEGORIES = derive_link(Link(owner=NAV_ITEMS.entity, name="categories", target=TENANT_CATEGORIES.entity))
ACCOUNT_LINKS = (
    USER_ROLES,
    USER_SCOPES,
    USER_TENANTS,
    USER_SUBTYPES,
    CLIENT_TENANTS,
    CLIENT_ROLES,
    CLIENT_SCOPES,
    CLIENT_SUBTYPES,
    NAV_TENANTS,
    NAV_SCOPES,
    NAV_ROLES,
    NAV_SUBTYPES,
    NAV_CATEGORIES,
)


class UpdatePassword(Request):
    """A new password of a user: itself, or its bcrypt hash, never both."""

    example: ClassVar[Example] = {"user_id": EXAMPLE_ID, "password": "correct horse"}

    user_id: Id
    password: Omit[Password] = Field(default=None, repr=False)
    password_hash: Omit[PasswordHash] = Field(default=None, repr=False)


class VerifyPassword(Request):
    """Whether a password is a user's."""

    example: ClassVar[Example] = {"user_id": EXAMPLE_ID, "password": "correct horse"}

    user_id: Id
    password: str = Field(min_length=1, max_length=1000, repr=False)


class RegeneratePsk(Request):
    """A new key of a client; the one before stays valid for `grace_seconds`."""

    example: ClassVar[Example] = {"client_id": EXAMPLE_ID}

    client_id: Id
    grace_seconds: Annotated[int, Field(ge=0, le=MAX_GRACE_SECONDS)] = DEFAULT_GRACE_SECONDS


class VerifyPsk(Request):
    """Whether a key is a client's."""

    example: ClassVar[Example] = {"client_id": EXAMPLE_ID, "psk": "the-key-that-was-shown-once"}

    client_id: Id
    psk: str = Field(min_length=1, max_length=1000, repr=False)


class PasswordUpdated(TypedDict):
    """Whose password is another one now."""

    id: str
    updated: bool


class Verified(TypedDict):
    """Whether it was the right one."""

    valid: bool


UPDATE_PASSWORD = guardian.write(
    "update_password",
    UpdatePassword,
    PasswordUpdated,
    "Give a user a new password.",
    path="users/{user_id}/password",
    method="PUT",
    errors=("not_found",),
)
VERIFY_PASSWORD = guardian.read(
    "verify_password",
    VerifyPassword,
    Verified,
    "Tell whether a password is a user's.",
    path="users/{user_id}/verify-password",
    errors=("not_found",),
)
REGENERATE_PSK = guardian.write(
    "regenerate_psk",
    RegeneratePsk,
    ClientWithPsk,
    "Give a client a new key.",
    path="clients/{client_id}/regenerate-psk",
    errors=("not_found",),
)
VERIFY_PSK = guardian.read(
    "verify_psk",
    VerifyPsk,
    Verified,
    "Tell whether a key is a client's.",
    path="clients/{client_id}/verify-psk",
    errors=("not_found",),
)
