"""auth: tokens."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NotRequired

from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from dominus.contract.kinds import Auth
from dominus.contract.operation import Service
from dominus.contract.request import Empty, Example, Request


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


class MintRequest(Request):
    """Exchange the PSK for a service token."""

    example: ClassVar[Example] = {"method": "auth.self"}

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

    example: ClassVar[Example] = {
        "method": "auth.mint",
        "params": {"user_id": "user-42", "scope": ["db:read"]},
    }

    method: Literal["auth.mint"] = "auth.mint"
    params: MintForParams


class PublicKeyRequest(Request):
    """Ask for the current public key."""

    example: ClassVar[Example] = {"method": "auth.jwks"}

    method: Literal["auth.jwks"] = "auth.jwks"
    params: dict[str, Any] = Field(default_factory=dict[str, Any])


class PublicKey(TypedDict):
    """`public_key` is PEM; `keys` is the JWK set."""

    public_key: str
    keys: NotRequired[list[dict[str, Any]]]


class KeySet(TypedDict):
    """A JWK set (RFC 7517)."""

    keys: list[dict[str, Any]]


auth = Service("auth", "/api/warden")
MINT = auth.read(
    "self",
    MintRequest,
    MintAnswer,
    "Exchange the pre-shared key for a service token.",
    path="mint",
    scope=None,
    auth=Auth.PSK,
    select=("method", ("auth.self",)),
)
MINT_FOR = auth.read(
    "mint",
    MintForRequest,
    MintAnswer,
    "Mint a token for a user, with some of the caller's scopes.",
    scope=None,
    auth=Auth.PSK,
    select=("method", ("auth.mint",)),
)
PUBLIC_KEY = auth.read(
    "jwks",
    PublicKeyRequest,
    PublicKey,
    "The public key as PEM, and the JWK set.",
    scope=None,
    auth=Auth.NONE,
    select=("method", ("auth.jwks",)),
)
KEY_SET = auth.read(
    "get_jwks",
    Empty,
    KeySet,
    "The JWK set that verifies this server's tokens.",
    path="jwks",
    method="GET",
    scope=None,
    auth=Auth.NONE,
)
