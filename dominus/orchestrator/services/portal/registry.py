"""Where the modules of portal register their handlers, and what they ask of a caller."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dominus.contract.portal import SubjectType, portal
from dominus.errors import AuthenticationError, AuthorizationError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.handlers.registry import Handlers

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Record

__all__ = [
    "Session",
    "digest_of",
    "fetched",
    "handlers",
    "iso",
    "new_token",
    "over",
    "place_of",
    "session_of",
    "user_of",
]

handlers = Handlers(portal)

_FIND = """
SELECT id, subject_type, subject_id, tenant_id
FROM dominus.portal_sessions
WHERE project = $1 AND environment = $2 AND id = $3 AND revoked_at IS NULL AND expires_at > now()
"""


@dataclass(frozen=True, slots=True)
class Session:
    """A login that is not over."""

    id: str
    subject_type: SubjectType
    subject_id: str
    tenant_id: str | None
    """The active tenant; the subject may have lost it since."""

    @classmethod
    def of(cls, row: Record) -> Session:
        """Read a row."""
        tenant_id = row["tenant_id"]
        return cls(
            str(row["id"]),
            row["subject_type"],
            str(row["subject_id"]),
            None if tenant_id is None else str(tenant_id),
        )


def place_of(ctx: Context) -> tuple[str, str]:
    """Return the first two parameters of every statement."""
    return ctx.principal.project, ctx.principal.environment


async def fetched(ctx: Context, sql: str, *values: Any) -> list[Record]:
    """Return the rows of a query of the caller's project and environment."""
    try:
        return await ctx.resources.postgres.system.fetch(sql, *place_of(ctx), *values)
    except FAILURES as error:
        raise from_postgres(error) from error


async def session_of(ctx: Context) -> Session:
    """Return the caller's session.

    Raises:
        AuthorizationError: the token is of no login.
        AuthenticationError: it is over.
    """
    if ctx.principal.session_id is None:
        raise AuthorizationError(
            "this is a user's to call: the token belongs to no login",
            code="no_session",
            hint="send the access_token of portal.login, as user_token= or with as_user(...)",
        )
    rows = await fetched(ctx, _FIND, ctx.principal.session_id)
    if not rows:
        raise over()
    return Session.of(rows[0])


async def user_of(ctx: Context) -> Session:
    """Return the caller's session, which is a user's.

    Raises:
        AuthorizationError: it is not.
        AuthenticationError: it is over.
    """
    session = await session_of(ctx)
    if session.subject_type != "user":
        raise AuthorizationError("only users have this, clients do not", code="users_only")
    return session


def over() -> AuthenticationError:
    """Return the error for a session that is over."""
    return AuthenticationError("this login is over", code="session_revoked", hint="log in again")


def new_token() -> str:
    """Return a token that nobody guesses."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def digest_of(token: str) -> bytes:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def iso(moment: dt.datetime) -> str:
    """Return a time as it travels."""
    return moment.isoformat()
