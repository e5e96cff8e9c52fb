"""Sessions while they last: refreshed, listed, ended."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from dominus.contract import portal as contract
from dominus.contract.request import Empty
from dominus.errors import AuthenticationError, NotFoundError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.services.portal.registry import (
    Session,
    digest_of,
    fetched,
    handlers,
    iso,
    over,
    place_of,
    session_of,
)
from dominus.orchestrator.services.portal.subjects import answer_of, subject_of, tenants_of

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection

__all__ = ["GRACE_SECONDS"]

GRACE_SECONDS = 10
"""In which a refresh token that was used may come again: its answer was lost, or two tabs sent it at once."""
_FIND = (
    "SELECT session_id FROM dominus.refresh_tokens WHERE project = $1 AND environment = $2 AND digest = $3"
)
# The lock of the family: of two who refresh at once the second sees what the first did.
_LOCK = """
SELECT id, subject_type, subject_id, tenant_id, revoked_at IS NOT NULL AS is_over, expires_at <= now() AS is_old
FROM dominus.portal_sessions
WHERE project = $1 AND environment = $2 AND id = $3
FOR UPDATE
"""
_STATE = f"""
SELECT t.used_at IS NOT NULL AS is_used,
  t.used_at > clock_timestamp() - interval '{GRACE_SECONDS} seconds' AND next.used_at IS NULL AS is_repeat
FROM dominus.refresh_tokens t
LEFT JOIN dominus.refresh_tokens next ON (next.project, next.environment, next.digest) = ($1, $2, $4)
WHERE t.project = $1 AND t.environment = $2 AND t.digest = $3
"""
_USE = """
UPDATE dominus.refresh_tokens
SET used_at = clock_timestamp()
WHERE project = $1 AND environment = $2 AND digest = $3
"""
_NEXT = """
INSERT INTO dominus.refresh_tokens (project, environment, digest, session_id)
VALUES ($1, $2, $3, $4)
"""
_TOUCH = """
UPDATE dominus.portal_sessions
SET last_used_at = now()
WHERE project = $1 AND environment = $2 AND id = $3 AND revoked_at IS NULL
"""
_REVOKE = """
UPDATE dominus.portal_sessions
SET revoked_at = now()
WHERE project = $1 AND environment = $2 AND id = $3 AND revoked_at IS NULL
RETURNING id
"""
_REVOKE_OTHERS = """
UPDATE dominus.portal_sessions
SET revoked_at = now()
WHERE project = $1 AND environment = $2 AND subject_id = $3 AND id <> $4
  AND revoked_at IS NULL AND expires_at > now()
RETURNING id
"""
_IS_OWN = """
SELECT id
FROM dominus.portal_sessions
WHERE project = $1 AND environment = $2 AND id = $3 AND subject_id = $4
"""
_LIST = """
SELECT id, tenant_id, created_at, last_used_at, expires_at
FROM dominus.portal_sessions
WHERE project = $1 AND environment = $2 AND subject_id = $3 AND revoked_at IS NULL AND expires_at > now()
ORDER BY created_at DESC, id
LIMIT 1000
"""


@handlers(contract.REFRESH)
async def refresh(ctx: Context, request: contract.RefreshRequest) -> contract.Refreshed:
    """By a refresh token, which is used up; or by an access token, as the published client does."""
    if request.refresh_token is None:
        session = await session_of(ctx)
        await fetched(ctx, _TOUCH, session.id)
        return answer_of(ctx, await subject_of(ctx, session))
    following = _following(ctx, request.refresh_token)
    try:
        async with ctx.resources.postgres.system.acquire() as connection, connection.transaction():
            session = await _rotated(ctx, connection, request.refresh_token, following)
    except FAILURES as error:
        raise from_postgres(error) from error
    if session is None:
        raise AuthenticationError(
            "the refresh token was used before: somebody has a copy, and the login is over",
            code="refresh_reused",
            hint="log in again",
        )
    return answer_of(ctx, await subject_of(ctx, session), following)


def _following(ctx: Context, token: str) -> str:
    """Return the refresh token that follows one: made of it with the server's key, so that a repeat gives the same."""
    made = ctx.resources.vault.fingerprint(
        b"refresh", *(part.encode() for part in place_of(ctx)), token.encode()
    )
    return base64.urlsafe_b64encode(bytes.fromhex(made)).rstrip(b"=").decode()


async def _rotated(ctx: Context, connection: Connection, token: str, following: str) -> Session | None:
    """Use a refresh token up; None: it was used before, and its session is over with the end of this transaction."""
    place, digest, next_digest = place_of(ctx), digest_of(token), digest_of(following)
    session_id = await connection.fetchval(_FIND, *place, digest)
    row = None if session_id is None else await connection.fetchrow(_LOCK, *place, session_id)
    own = ctx.principal.session_id
    if row is None or row["is_old"] or (own is not None and own != str(session_id)):
        raise AuthenticationError(
            "the refresh token is unknown or expired", code="refresh_invalid", hint="log in again"
        )
    if row["is_over"]:
        raise over()
    state = await connection.fetchrow(_STATE, *place, digest, next_digest)
    if state is not None and not state["is_used"]:
        await connection.execute(_USE, *place, digest)
        await connection.execute(_NEXT, *place, next_digest, session_id)
    elif state is None or not state["is_repeat"]:
        await connection.execute(_REVOKE, *place, session_id)
        return None
    await connection.execute(_TOUCH, *place, session_id)
    return Session.of(row)


@handlers(contract.LOGOUT)
async def logout(ctx: Context, _: Empty) -> contract.LoggedOut:
    """End the caller's session."""
    session = await session_of(ctx)
    await _ended(ctx, _REVOKE, session.id)
    return {"logged_out": True}


@handlers(contract.LIST_SESSIONS)
async def list_sessions(ctx: Context, _: Empty) -> list[contract.SessionInfo]:
    """The caller's, the newest first."""
    session = await session_of(ctx)
    tenants = {each["id"]: each for each in await tenants_of(ctx, session.subject_type, session.subject_id)}
    return [
        {
            "session_id": str(row["id"]),
            "tenant": tenants.get(str(row["tenant_id"])),
            "is_current": str(row["id"]) == session.id,
            "created_at": iso(row["created_at"]),
            "last_used_at": iso(row["last_used_at"]),
            "expires_at": iso(row["expires_at"]),
        }
        for row in await fetched(ctx, _LIST, session.subject_id)
    ]


@handlers(contract.REVOKE_SESSION)
async def revoke_session(ctx: Context, request: contract.SessionRequest) -> contract.SessionRevoked:
    """End one of the caller's; another's is as unknown as none."""
    session = await session_of(ctx)
    if not await fetched(ctx, _IS_OWN, request.session_id, session.subject_id):
        raise NotFoundError("there is no such session", code="session_not_found")
    return {"session_id": request.session_id, "revoked": bool(await _ended(ctx, _REVOKE, request.session_id))}


@handlers(contract.REVOKE_ALL)
async def revoke_all_sessions(ctx: Context, _: Empty) -> contract.SessionsRevoked:
    """End the caller's other sessions."""
    session = await session_of(ctx)
    return {"revoked": await _ended(ctx, _REVOKE_OTHERS, session.subject_id, session.id)}


async def _ended(ctx: Context, statement: str, *values: str) -> int:
    """End sessions; return how many were open. This replica knows at once, the others are told."""
    rows = await fetched(ctx, statement, *values)
    for row in rows:
        ctx.resources.revocations.note(str(row["id"]))
    return len(rows)
