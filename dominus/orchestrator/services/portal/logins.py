"""Logging in, going on in another tenant, and who one is."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, cast

from dominus.contract import portal as contract
from dominus.contract.request import Empty
from dominus.errors import AuthenticationError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.identity.passwords import StoredPassword, psk_digest
from dominus.orchestrator.services.portal.failures import forgive, name_of, take
from dominus.orchestrator.services.portal.registry import (
    Session,
    digest_of,
    fetched,
    handlers,
    new_token,
    over,
    place_of,
    session_of,
)
from dominus.orchestrator.services.portal.subjects import answer_of, chosen_tenant, subject_of, tenants_of

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection, Record

__all__ = ["failed", "open_session", "stored_password"]

# One query, which looks both up whatever the name is and whether it is there: its time tells nothing.
_FIND_USER = """
SELECT u.id, u.status, p.salt, p.digest
FROM (
  SELECT 1 AS turn, project, environment, id, status FROM dominus.users
  WHERE project = $1 AND environment = $2 AND lower(email) = lower($3::text COLLATE "C")
  UNION ALL
  SELECT 2, project, environment, id, status FROM dominus.users
  WHERE project = $1 AND environment = $2 AND lower(username) = lower($3::text COLLATE "C")
) u
LEFT JOIN dominus.user_passwords p ON (p.project, p.environment, p.user_id) = (u.project, u.environment, u.id)
ORDER BY u.turn
LIMIT 1
"""
_FIND_CLIENT = """
SELECT c.id, c.status
FROM dominus.client_psks p
JOIN dominus.clients c ON (c.project, c.environment, c.id) = (p.project, p.environment, p.client_id)
WHERE p.project = $1 AND p.environment = $2 AND p.digest = $3 AND (p.expires_at IS NULL OR p.expires_at > now())
"""
# Whoever is suspended in this very moment gets no session that nobody ends.
_STILL_ACTIVE = """
SELECT status = 'active'
FROM dominus.{table}
WHERE project = $1 AND environment = $2 AND id = $3
FOR SHARE
"""
_STILL = {kind: _STILL_ACTIVE.format(table=f"{kind}s") for kind in ("user", "client")}
_OPEN = """
INSERT INTO dominus.portal_sessions (project, environment, id, subject_type, subject_id, tenant_id, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(days => $7))
RETURNING id, subject_type, subject_id, tenant_id
"""
_ADD_REFRESH = """
INSERT INTO dominus.refresh_tokens (project, environment, digest, session_id)
VALUES ($1, $2, $3, $4)
"""
_SWITCH = """
UPDATE dominus.portal_sessions
SET tenant_id = $4, last_used_at = now()
WHERE project = $1 AND environment = $2 AND id = $3 AND revoked_at IS NULL AND expires_at > now()
RETURNING id, subject_type, subject_id, tenant_id
"""


@handlers(contract.LOGIN)
async def login(ctx: Context, request: contract.LoginRequest) -> contract.Login:
    """Count the try, compare, open a session: the same steps for a name that nobody has, up to the answer."""
    name = name_of(ctx, "name", request.username)
    await take(ctx, name)
    rows = await fetched(ctx, _FIND_USER, request.username)
    row = rows[0] if rows else None
    is_right = await ctx.resources.passwords.verify(request.password, stored_password(row))
    if not is_right or row is None or row["status"] != "active":
        raise failed()
    return await _begin(ctx, "user", str(row["id"]), request.tenant_id, name)


@handlers(contract.LOGIN_CLIENT)
async def login_client(ctx: Context, request: contract.LoginClientRequest) -> contract.ClientLogin:
    """A PSK is found by its digest: no comparison takes longer for a better guess."""
    rows = await fetched(ctx, _FIND_CLIENT, psk_digest(ctx.resources.vault, request.psk))
    if not rows or rows[0]["status"] != "active":
        raise failed("there is no such PSK")
    return await _begin(ctx, "client", str(rows[0]["id"]), request.tenant_id, None)


async def _begin(
    ctx: Context, subject_type: contract.SubjectType, subject_id: str, tenant: str | None, name: bytes | None
) -> Any:
    """Open a session, and forget the failures of the name."""
    tenants = await tenants_of(ctx, subject_type, subject_id)
    try:
        async with ctx.resources.postgres.system.acquire() as connection:
            if name is not None:
                await forgive(ctx, connection, name)
            chosen = chosen_tenant(tenants, tenant)
            tenant_id = chosen["id"] if chosen else None
            async with connection.transaction():
                session, token = await open_session(ctx, connection, subject_type, subject_id, tenant_id)
    except FAILURES as error:
        raise from_postgres(error) from error
    return answer_of(ctx, await subject_of(ctx, session), token)


async def open_session(
    ctx: Context,
    connection: Connection,
    subject_type: contract.SubjectType,
    subject_id: str,
    tenant_id: str | None,
) -> tuple[Session, str]:
    """Open a session in the transaction of a connection; return it and its first refresh token.

    Raises:
        AuthenticationError: the subject may not log in any more.
    """
    if not await connection.fetchval(_STILL[subject_type], *place_of(ctx), subject_id):
        raise failed()
    days = ctx.resources.settings.portal_session_days
    row = await connection.fetchrow(
        _OPEN, *place_of(ctx), str(uuid.uuid4()), subject_type, subject_id, tenant_id, days
    )
    if row is None:
        raise RuntimeError("the session was not stored")
    token = new_token()
    session = Session.of(row)
    await connection.execute(_ADD_REFRESH, *place_of(ctx), digest_of(token), session.id)
    return session, token


@handlers(contract.SWITCH_TENANT)
async def switch_tenant(ctx: Context, request: contract.TenantRequest) -> contract.Refreshed:
    """The session goes on in another tenant; tokens of before keep theirs until they end."""
    session = await session_of(ctx)
    chosen = chosen_tenant(await tenants_of(ctx, session.subject_type, session.subject_id), request.tenant_id)
    rows = await fetched(ctx, _SWITCH, session.id, chosen["id"] if chosen else None)
    if not rows:
        raise over()
    return answer_of(ctx, await subject_of(ctx, Session.of(rows[0])))


@handlers(contract.ME)
async def me(ctx: Context, _: Empty) -> contract.Me:
    """A login with its rights of now; any other token with what it says itself."""
    principal = ctx.principal
    if principal.session_id is None:
        return {
            "subject_type": "user" if principal.use == "user" else "service",
            "subject": principal.subject,
            "session_id": None,
            "tenant": None,
            "tenants": [],
            "scopes": sorted(principal.scopes),
            "roles": [],
        }
    subject = await subject_of(ctx, await session_of(ctx))
    session = subject.session
    found: dict[str, Any] = {
        "subject_type": session.subject_type,
        "subject": session.subject_id,
        session.subject_type: subject.info,
        "session_id": session.id,
        "tenant": subject.tenant,
        "tenants": subject.tenants,
        "scopes": sorted(subject.rights.scopes),
        "roles": sorted(subject.rights.roles),
    }
    return cast("contract.Me", found)


def stored_password(row: Record | None) -> StoredPassword | None:
    """Return what is kept of a user's password; None for nobody, and for a user who has none."""
    if row is None or row["salt"] is None:
        return None
    return StoredPassword(row["salt"], row["digest"])


def failed(why: str = "name and password do not fit, or the user may not log in") -> AuthenticationError:
    """Return the error of every login that fails, whatever the reason is."""
    return AuthenticationError(why, code="login_failed")
