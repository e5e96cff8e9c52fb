"""warden: tokens and secrets."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, Field, StringConstraints
from typing_extensions import TypedDict

from dominus.contract.operation import Auth, Omit, Operation, Request, Retry, plain_text

SECRETS = "/api/warden/secrets"
MAX_SECRET_KEY = 256
MAX_SECRETS_AT_ONCE = 100

SecretKey = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_SECRET_KEY), AfterValidator(plain_text)
]


class MintedToken(TypedDict):
    """A token; `expires_in` is in seconds."""

    access_token: str
    token_type: NotRequired[str]
    expires_in: NotRequired[int]


class MintAnswer(TypedDict, total=False):
    """A minted token on the wire; some servers call it `token`."""

    access_token: str
    token: str
    token_type: str
    expires_in: int


class Empty(Request):
    """No parameters."""


class MintRequest(Request):
    """Exchange the PSK for a service token."""

    method: Literal["auth.self"] = "auth.self"
    params: dict[str, Any] = Field(default_factory=dict[str, Any])


class MintForParams(Request):
    """Whom a token is for. Without `scope` it has none, and opens what needs none."""

    user_id: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    scope: list[str] | None = None
    system: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "user"
    expires_in: Annotated[int, Field(ge=60, le=86_400)] = 900


class MintForRequest(Request):
    """Mint a token for a user."""

    method: Literal["auth.mint"] = "auth.mint"
    params: MintForParams


class PublicKeyRequest(Request):
    """Ask for the current public key."""

    method: Literal["auth.jwks"] = "auth.jwks"
    params: dict[str, Any] = Field(default_factory=dict[str, Any])


class PublicKey(TypedDict):
    """`public_key` is PEM; `keys` is the JWK set."""

    public_key: str
    keys: NotRequired[list[dict[str, Any]]]


class KeySet(TypedDict):
    """A JWK set (RFC 7517)."""

    keys: list[dict[str, Any]]


MINT = Operation(
    name="auth.self",
    method="POST",
    path="/api/warden/mint",
    request=MintRequest,
    result=MintAnswer,
    scope=None,
    retry=Retry.READ,
    auth=Auth.PSK,
    select=("method", ("auth.self",)),
    summary="Exchange the pre-shared key for a service token.",
)
MINT_FOR = Operation(
    name="auth.mint",
    method="POST",
    path="/api/warden/mint",
    request=MintForRequest,
    result=MintAnswer,
    scope=None,
    retry=Retry.READ,
    auth=Auth.PSK,
    select=("method", ("auth.mint",)),
    summary="Mint a token for a user, with some of the caller's scopes.",
)
PUBLIC_KEY = Operation(
    name="auth.jwks",
    method="POST",
    path="/api/warden/jwks",
    request=PublicKeyRequest,
    result=PublicKey,
    scope=None,
    retry=Retry.READ,
    auth=Auth.NONE,
    select=("method", ("auth.jwks",)),
    summary="The public key as PEM, and the JWK set.",
)
KEY_SET = Operation(
    name="auth.get_jwks",
    method="GET",
    path="/api/warden/jwks",
    request=Empty,
    result=KeySet,
    scope=None,
    retry=Retry.READ,
    auth=Auth.NONE,
    summary="The JWK set that verifies this server's tokens.",
)


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

    action: Literal["get"] = "get"
    key: SecretKey
    version: Omit[Annotated[int, Field(ge=1)]]


class SecretGetMany(Request):
    """Read several secrets at once."""

    action: Literal["get_many"] = "get_many"
    keys: Annotated[list[SecretKey], Field(min_length=1, max_length=MAX_SECRETS_AT_ONCE)]


class SecretUpsert(Request):
    """Store a new version, creating the secret where it is missing."""

    action: Literal["update", "create"] = "update"
    key: SecretKey
    value: Any
    comment: Omit[Annotated[str, StringConstraints(max_length=1000)]]


class SecretsList(Request):
    """List secrets by the beginning of their keys."""

    action: Literal["list"] = "list"
    prefix: Omit[Annotated[str, StringConstraints(max_length=MAX_SECRET_KEY)]]


class SecretVersions(Request):
    """List the versions of one secret."""

    action: Literal["versions"] = "versions"
    key: SecretKey


class SecretDelete(Request):
    """Delete a secret with all its versions."""

    action: Literal["delete"] = "delete"
    key: SecretKey


GET = Operation(
    name="secrets.get",
    method="POST",
    path=SECRETS,
    request=SecretGet,
    result=SecretAnswer,
    scope="secrets:read",
    retry=Retry.READ,
    select=("action", ("get",)),
    summary="Read a secret.",
)
GET_MANY = Operation(
    name="secrets.get_many",
    method="POST",
    path=SECRETS,
    request=SecretGetMany,
    result=SecretValues,
    scope="secrets:read",
    retry=Retry.READ,
    select=("action", ("get_many",)),
    is_own=True,
    summary="Read several secrets in one call.",
)
UPSERT = Operation(
    name="secrets.upsert",
    method="POST",
    path=SECRETS,
    request=SecretUpsert,
    result=SecretStored,
    scope="secrets:write",
    retry=Retry.KEYED,
    select=("action", ("update", "create")),
    summary="Store a new version of a secret, creating it where it is missing.",
)
LIST = Operation(
    name="secrets.list",
    method="POST",
    path=SECRETS,
    request=SecretsList,
    result=SecretList,
    scope="secrets:read",
    retry=Retry.READ,
    select=("action", ("list",)),
    list_key="secrets",
    summary="List secrets, without values.",
)
VERSIONS = Operation(
    name="secrets.versions",
    method="POST",
    path=SECRETS,
    request=SecretVersions,
    result=SecretList,
    scope="secrets:read",
    retry=Retry.READ,
    select=("action", ("versions",)),
    is_own=True,
    summary="List the versions of a secret, newest first, without values.",
)
DELETE = Operation(
    name="secrets.delete",
    method="POST",
    path=SECRETS,
    request=SecretDelete,
    result=SecretDeleted,
    scope="secrets:write",
    retry=Retry.KEYED,
    select=("action", ("delete",)),
    summary="Delete a secret with all its versions.",
)
