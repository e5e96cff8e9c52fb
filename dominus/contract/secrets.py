"""secrets: encrypted, versioned values."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NotRequired

from pydantic import AfterValidator, Field, StringConstraints
from typing_extensions import TypedDict

from dominus.contract.operation import Service
from dominus.contract.request import Example, Omit, Request, plain_text

MAX_SECRET_KEY = 256


MAX_SECRETS_AT_ONCE = 100


SecretKey = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_SECRET_KEY), AfterValidator(plain_text)
]


class Secret(TypedDict):
    """A secret with its value."""

    key: str
    value: Any
    version: NotRequired[int]
    comment: NotRequired[str | None]
    updated_at: NotRequired[str]


class SecretAnswer(TypedDict):
    """The answer of a read."""

    secret: Secret


class SecretInfo(TypedDict):
    """What is known of a secret or of one of its versions; never its value."""

    key: str
    version: NotRequired[int]
    comment: NotRequired[str | None]
    created_at: NotRequired[str]
    updated_at: NotRequired[str]
    updated_by: NotRequired[str]


class SecretList(TypedDict):
    """Secrets in the order of their keys; versions newest first."""

    secrets: list[SecretInfo]


class SecretValues(TypedDict):
    """Found secrets by key, and the keys that do not exist."""

    values: dict[str, Any]
    missing: list[str]


class SecretStored(TypedDict, total=False):
    """What an upsert did: `operation` is `create` or `update`."""

    key: str
    version: int
    operation: str


class SecretDeleted(TypedDict, total=False):
    """`deleted` is true when the secret existed; all its versions are gone."""

    key: str
    deleted: bool


class SecretGet(Request):
    """Read one secret, by default its newest version."""

    example: ClassVar[Example] = {"action": "get", "key": "STRIPE_KEY"}

    action: Literal["get"] = "get"
    key: SecretKey
    version: Omit[Annotated[int, Field(ge=1)]]


class SecretGetMany(Request):
    """Read several secrets at once."""

    example: ClassVar[Example] = {"action": "get_many", "keys": ["STRIPE_KEY", "SMTP_PASSWORD"]}

    action: Literal["get_many"] = "get_many"
    keys: Annotated[list[SecretKey], Field(min_length=1, max_length=MAX_SECRETS_AT_ONCE)]


class SecretUpsert(Request):
    """Store a new version, creating the secret where it is missing."""

    example: ClassVar[Example] = {
        "action": "update",
        "key": "STRIPE_KEY",
        "value": "sk_live_1",
        "comment": "rotated in May",
    }

    action: Literal["update", "create"] = "update"
    key: SecretKey
    value: Any
    comment: Omit[Annotated[str, StringConstraints(max_length=1000)]]


class SecretsList(Request):
    """List secrets by the beginning of their keys."""

    example: ClassVar[Example] = {"action": "list", "prefix": "STRIPE_"}

    action: Literal["list"] = "list"
    prefix: Omit[Annotated[str, StringConstraints(max_length=MAX_SECRET_KEY)]]


class SecretVersions(Request):
    """List the versions of one secret."""

    example: ClassVar[Example] = {"action": "versions", "key": "STRIPE_KEY"}

    action: Literal["versions"] = "versions"
    key: SecretKey


class SecretDelete(Request):
    """Delete a secret with all its versions."""

    example: ClassVar[Example] = {"action": "delete", "key": "STRIPE_KEY"}

    action: Literal["delete"] = "delete"
    key: SecretKey


secrets = Service("secrets", "/api/warden")
GET = secrets.read(
    "get",
    SecretGet,
    SecretAnswer,
    "Read a secret.",
    path="secrets",
    select=("action", ("get",)),
    errors=("secret_not_found",),
)
GET_MANY = secrets.read(
    "get_many",
    SecretGetMany,
    SecretValues,
    "Read several secrets in one call.",
    path="secrets",
    select=("action", ("get_many",)),
    errors=("invalid_text", "answer_too_large"),
)
UPSERT = secrets.write(
    "upsert",
    SecretUpsert,
    SecretStored,
    "Store a new version of a secret, creating it where it is missing.",
    path="secrets",
    select=("action", ("update", "create")),
)
LIST = secrets.read(
    "list",
    SecretsList,
    SecretList,
    "List secrets, without values.",
    path="secrets",
    select=("action", ("list",)),
    list_key="secrets",
    errors=("invalid_text",),
)
VERSIONS = secrets.read(
    "versions",
    SecretVersions,
    SecretList,
    "List the versions of a secret, newest first, without values.",
    path="secrets",
    select=("action", ("versions",)),
    errors=("secret_not_found",),
)
DELETE = secrets.write(
    "delete",
    SecretDelete,
    SecretDeleted,
    "Delete a secret with all its versions.",
    path="secrets",
    select=("action", ("delete",)),
)
