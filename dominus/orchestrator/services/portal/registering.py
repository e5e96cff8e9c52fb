"""How users come in: they register and show that an address is theirs, or are invited.

Whether a name or an address is known is told to the owner of the address alone, by mail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dominus.contract import portal as contract
from dominus.errors import AuthorizationError, ConflictError, NotFoundError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import written
from dominus.orchestrator.services.portal.failures import forgive, name_of, take
from dominus.orchestrator.services.portal.links import (
    INVITATION,
    NOTICE,
    VERIFICATION,
    answered_evenly,
    consume,
    find,
    mail_link,
    may_mail,
    no_link,
    rehearsed,
)
from dominus.orchestrator.services.portal.logins import failed, open_session, stored_password
from dominus.orchestrator.services.portal.passwords import keep_password
from dominus.orchestrator.services.portal.registry import Session, fetched, handlers, iso, place_of
from dominus.orchestrator.services.portal.subjects import answer_of, subject_of, user_info

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection, Record
    from dominus.orchestrator.identity.passwords import StoredPassword

_OPEN_TENANT = """
SELECT id
FROM dominus.tenants
WHERE project = $1 AND environment = $2 AND $3 IN (id::text, slug) AND status = 'active' AND registration_open
FOR KEY SHARE
"""
_KNOWN = """
SELECT u.id, u.username, u.email, u.status, u.email_verified, r.user_id IS NOT NULL AS is_pending, p.salt, p.digest
FROM dominus.users u
LEFT JOIN dominus.user_registrations r ON (r.project, r.environment, r.user_id) = (u.project, u.environment, u.id)
LEFT JOIN dominus.user_passwords p ON (p.project, p.environment, p.user_id) = (u.project, u.environment, u.id)
WHERE u.project = $1 AND u.environment = $2 AND lower(u.email) = lower($3::text COLLATE "C")
"""
_DROP = "DELETE FROM dominus.users WHERE project = $1 AND environment = $2 AND id = $3"
_ADD_USER = """
INSERT INTO dominus.users (project, environment, username, email, status, email_verified)
VALUES ($1, $2, $3, $4, $5, $5 = 'active')
ON CONFLICT DO NOTHING
RETURNING id
"""
_JOIN = """
INSERT INTO dominus.user_tenants (project, environment, user_id, tenant_id)
VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
"""
# A role that is gone by now is not given.
_GIVE = """
INSERT INTO dominus.user_roles (project, environment, user_id, role_id)
SELECT $1, $2, $3, id
FROM dominus.roles
WHERE project = $1 AND environment = $2 AND id = ANY ($4::uuid[])
ON CONFLICT DO NOTHING
"""
_AWAIT = "INSERT INTO dominus.user_registrations (project, environment, user_id) VALUES ($1, $2, $3)"
_VERIFY = """
WITH pending AS (
  DELETE FROM dominus.user_registrations
  WHERE project = $1 AND environment = $2 AND user_id = $3
  RETURNING user_id
)
UPDATE dominus.users
SET email_verified = true, updated_at = now(),
  status = CASE WHEN status = 'inactive' AND EXISTS (SELECT FROM pending) THEN 'active' ELSE status END
WHERE project = $1 AND environment = $2 AND id = $3 AND lower(email) = $4
RETURNING id, username, email, status, email_verified
"""
_TENANT = """
SELECT id, coalesce(display_name, name) AS name
FROM dominus.tenants
WHERE project = $1 AND environment = $2 AND id = $3
FOR KEY SHARE
"""
_ROLES = "SELECT id FROM dominus.roles WHERE project = $1 AND environment = $2 AND id = ANY ($3::uuid[])"


@handlers(contract.REGISTER)
async def register(ctx: Context, request: contract.RegisterRequest) -> RawJson:
    """Make a user who waits for the mail; an address or name that is taken is told by mail."""
    made = await ctx.resources.passwords.store(request.password, request.password_hash)

    async def change(connection: Connection) -> contract.Registered:
        tenant_id = await connection.fetchval(_OPEN_TENANT, *place_of(ctx), request.tenant_id.lower())
        if tenant_id is None:
            raise AuthorizationError(
                "nobody can register with this tenant",
                code="registration_closed",
                hint="a tenant is opened by auth.tenants.update(..., registration_open=True)",
            )
        if await may_mail(ctx, connection, request.email):
            await _register(ctx, connection, request, made, str(tenant_id))
        else:
            await rehearsed(ctx, connection, VERIFICATION, request.email, {"name": request.username})
        return {
            "user": {"username": request.username, "email": request.email, "status": "inactive"},
            "verification_status": "pending",
        }

    async with answered_evenly():
        return await written(ctx, change)


async def _register(
    ctx: Context,
    connection: Connection,
    request: contract.RegisterRequest,
    password: StoredPassword,
    tenant_id: str,
) -> None:
    known = await connection.fetchrow(_KNOWN, *place_of(ctx), request.email)
    model: dict[str, Any] = {"name": request.username}
    if known is not None and not known["is_pending"]:
        await mail_link(ctx, connection, NOTICE, request.email, {**model, "has_account": True})
        return
    if known is not None:
        # Who registers again takes the place of who did before, and links of before are void.
        await connection.execute(_DROP, *place_of(ctx), known["id"])
    user_id = await connection.fetchval(
        _ADD_USER, *place_of(ctx), request.username, request.email, "inactive"
    )
    if user_id is None:
        await mail_link(ctx, connection, NOTICE, request.email, {**model, "has_account": False})
        return
    await keep_password(ctx, connection, user_id, password)
    await connection.execute(_JOIN, *place_of(ctx), user_id, tenant_id)
    await connection.execute(_AWAIT, *place_of(ctx), user_id)
    await mail_link(ctx, connection, VERIFICATION, request.email, model, user_id=str(user_id))


@handlers(contract.VERIFY_EMAIL)
async def verify_email(ctx: Context, request: contract.TokenRequest) -> RawJson:
    """The address is the user's, if it still has it; who registered is active now."""

    async def change(connection: Connection) -> contract.Verified:
        link = await consume(ctx, connection, VERIFICATION, request.token)
        row = await connection.fetchrow(_VERIFY, *place_of(ctx), link["user_id"], link["email"])
        if row is None:
            raise no_link()
        return {"success": True, "user": user_info(row)}

    return await written(ctx, change)


@handlers(contract.RESEND_VERIFICATION)
async def resend_verification(ctx: Context, request: contract.EmailRequest) -> RawJson:
    """Mail a link to who registered, or whose address was never shown to be its own; or do as if."""

    async def change(connection: Connection) -> contract.Done:
        row = await connection.fetchrow(_KNOWN, *place_of(ctx), request.email)
        is_free = await may_mail(ctx, connection, request.email)
        waits = row is not None and (
            row["is_pending"] or (row["status"] == "active" and not row["email_verified"])
        )
        model: dict[str, Any] = {"name": row["username"] if row else "nobody"}
        if row is None or not waits or not is_free:
            await rehearsed(ctx, connection, VERIFICATION, request.email, model)
        else:
            await mail_link(ctx, connection, VERIFICATION, request.email, model, user_id=str(row["id"]))
        return {"success": True}

    async with answered_evenly():
        return await written(ctx, change)


@handlers(contract.CREATE_INVITATION)
async def create_invitation(ctx: Context, request: contract.InvitationRequest) -> RawJson:
    """The link is in the mail alone: who invites cannot come in as who is invited."""

    async def change(connection: Connection) -> contract.Invitation:
        tenant = await connection.fetchrow(_TENANT, *place_of(ctx), request.tenant_id)
        if tenant is None:
            raise _missing("tenant", [request.tenant_id])
        wanted = list(dict.fromkeys(request.role_ids))
        known = {str(row["id"]) for row in await connection.fetch(_ROLES, *place_of(ctx), wanted)}
        if unknown := [each for each in wanted if each not in known]:
            raise _missing("role", unknown)
        model = {"name": request.email, "inviter_name": tenant["name"]}
        made = await mail_link(
            ctx, connection, INVITATION, request.email, model, tenant_id=request.tenant_id, role_ids=wanted
        )
        return {
            "id": str(made["id"]),
            "email": request.email,
            "tenant_id": request.tenant_id,
            "role_ids": wanted,
            "expires_at": iso(made["expires_at"]),
        }

    return await written(ctx, change)


@handlers(contract.ACCEPT_INVITATION)
async def accept_invitation(ctx: Context, request: contract.AcceptInvitationRequest) -> contract.Login:
    """A new user comes with its password; who has the address already shows its own."""
    try:
        async with ctx.resources.postgres.system.acquire() as connection:
            link = await find(ctx, connection, INVITATION, request.token)
    except FAILURES as error:
        raise from_postgres(error) from error
    rows = await fetched(ctx, _KNOWN, link["email"])
    known = rows[0] if rows and not rows[0]["is_pending"] else None
    name = None if known is None else name_of(ctx, "user", str(known["id"]))
    password: StoredPassword | None = None
    if known is None or name is None:
        password = await ctx.resources.passwords.store(request.password, None)
    else:
        await take(ctx, name)
        is_right = await ctx.resources.passwords.verify(request.password, stored_password(known))
        if not is_right or known["status"] != "active":
            raise failed("the address has a user already, and this is not its password")
    try:
        async with ctx.resources.postgres.system.acquire() as connection, connection.transaction():
            if name is not None:
                await forgive(ctx, connection, name)
            session, token = await _accepted(ctx, connection, request.token, known, password)
    except FAILURES as error:
        raise from_postgres(error) from error
    # The others are notified; the token of this answer shall not have to race with that.
    ctx.resources.rights.forget()
    return answer_of(ctx, await subject_of(ctx, session), token)


async def _accepted(
    ctx: Context,
    connection: Connection,
    token: str,
    known: Record | None,
    password: StoredPassword | None,
) -> tuple[Session, str]:
    """Use the link up, make the user unless there is one, give it what it was invited to, and log it in."""
    link = await consume(ctx, connection, INVITATION, token)
    if known is None and password is not None:
        pending = await connection.fetchrow(_KNOWN, *place_of(ctx), link["email"])
        if pending is not None and pending["is_pending"]:
            # It never showed that the address is its own; who has this link just did.
            await connection.execute(_DROP, *place_of(ctx), pending["id"])
        user_id = await _new_user(ctx, connection, link["email"], password)
    elif known is not None:
        user_id = str(known["id"])
    else:
        raise no_link()
    await connection.execute(_JOIN, *place_of(ctx), user_id, link["tenant_id"])
    await connection.execute(_GIVE, *place_of(ctx), user_id, link["role_ids"])
    return await open_session(ctx, connection, "user", user_id, str(link["tenant_id"]))


async def _new_user(ctx: Context, connection: Connection, email: str, password: StoredPassword) -> str:
    user_id = await connection.fetchval(_ADD_USER, *place_of(ctx), email, email, "active")
    if user_id is None:
        raise ConflictError("there is a user of this name or address already", code="already_exists")
    await keep_password(ctx, connection, str(user_id), password)
    return str(user_id)


def _missing(what: str, ids: list[str]) -> NotFoundError:
    return NotFoundError(
        f"there is no {what} {', '.join(ids[:5])}", code="not_found", details={"missing": ids}
    )
