"""sessions: the HTTP calls around a native connection."""

from __future__ import annotations

from typing import Annotated, ClassVar, NotRequired

from pydantic import AfterValidator, Field, StringConstraints
from typing_extensions import TypedDict

from dominus.contract.kinds import Auth, Retry
from dominus.contract.operation import Service
from dominus.contract.request import Example, Omit, Request, plain_text

AUDIENCE = "gateway"


TargetName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$"),
    AfterValidator(plain_text),
    Field(title="target"),
]


def scope_of(target: str) -> str:
    """Return the scope that a target needs; `*` covers it."""
    return f"gateway:{target}"


class SessionTokenRequest(Request):
    """For which target, and for how many seconds."""

    example: ClassVar[Example] = {"target": "postgres", "expires_in": 900}

    target: TargetName
    expires_in: Annotated[int, Field(ge=60, le=3600)] = 900


class SessionToken(TypedDict):
    """A token for the gateway only: `aud` is `gateway`, and its claim `target` names what it opens."""

    access_token: str
    token_type: str
    expires_in: int
    target: str


class NoBody(Request):
    """Nothing is asked."""


class Resolved(TypedDict):
    """Where the gateway listens. `tls` and `endpoints` are ours; the published client reads host and port."""

    dns: str
    gateway_host: str
    port: int
    tls: NotRequired[bool]
    target: NotRequired[str]
    endpoints: NotRequired[int]
    """How many addresses the target has."""


class CredentialsRequest(Request):
    """Which database; the token's own target without it."""

    example: ClassVar[Example] = {"db_type": "postgres"}

    database: Omit[Annotated[str, StringConstraints(max_length=63), AfterValidator(plain_text)]]
    db_type: Omit[Annotated[str, StringConstraints(max_length=63), AfterValidator(plain_text)]]


class DatabaseCredentials(TypedDict):
    """A login that ends by itself; `database` and `expires_in` are ours."""

    username: str
    password: str
    host: str
    port: int
    database: NotRequired[str]
    expires_in: NotRequired[int]


class ReleaseRequest(Request):
    """Which login is no longer needed."""

    example: ClassVar[Example] = {"username": "dominus_s_5f0c"}

    username: Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(plain_text)]


class Released(TypedDict):
    """True when there was such a login of this caller."""

    released: bool


sessions = Service("sessions", "/api/warden")
SESSION_TOKEN = sessions.read(
    "token",
    SessionTokenRequest,
    SessionToken,
    "Mint a token for the gateway; needs the target's scope.",
    path="session",
    scope=None,
    errors=("unknown_target", "no_gateway", "credentials_unavailable", "redis_unprotected"),
)
RESOLVE = sessions.read(
    "gateway.resolve",
    NoBody,
    Resolved,
    "Where the gateway listens.",
    path="/api/v1/gateway/resolve",
    scope=None,
    auth=Auth.SESSION,
    is_plain=True,
    errors=("unknown_target", "no_gateway"),
)
CREDENTIALS = sessions.read(
    "gateway.credentials",
    CredentialsRequest,
    DatabaseCredentials,
    "Make a database login that ends by itself.",
    path="/v1/db/credentials",
    scope=None,
    retry=Retry.NEVER,
    auth=Auth.SESSION,
    is_plain=True,
    errors=(
        *("unknown_target", "unknown_database", "credentials_unavailable", "redis_unprotected"),
        *("too_many_logins", "no_gateway"),
    ),
)
RELEASE = sessions.read(
    "gateway.release",
    ReleaseRequest,
    Released,
    "End a login made by gateway.credentials.",
    path="/v1/db/release",
    scope=None,
    auth=Auth.SESSION,
    is_plain=True,
    errors=("no_gateway",),
)
