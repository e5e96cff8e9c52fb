"""Passwords: changed by who knows the old one, reset by who has the mail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dominus.contract import portal as contract
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import exactly_once, written
from dominus.orchestrator.services.guardian.accounts import set_password
from dominus.orchestrator.services.portal.failures import forgive, name_of, take
from dominus.orchestrator.services.portal.links import (
    RESET,
    answered_evenly,
    consume,
    mail_link,
    may_mail,
    no_link,
    rehearsed,
)
from dominus.orchestrator.services.portal.logins import failed, stored_password
from dominus.orchestrator.services.portal.registry import fetched, handlers, place_of, user_of

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection
    from dominus.orchestrator.identity.passwords import StoredPassword

__all__ = ["keep_password"]

_STORED = """
SELECT salt, digest
FROM dominus.user_passwords
WHERE project = $1 AND environment = $2 AND user_id = $3
"""
# A trigger ends the sessions of the user, but for the one that is named here.
_SPARE = "SELECT set_config('dominus.keep_session', $1, true)"
_ACTIVE = """
SELECT id, username
FROM dominus.users
WHERE project = $1 AND environment = $2 AND lower(email) = lower($3::text COLLATE "C") AND status = 'active'
"""
_NAMES = """
SELECT username, email
FROM dominus.users
WHERE project = $1 AND environment = $2 AND id = $3 AND status = 'active' AND lower(email) = $4
FOR UPDATE
"""


async def keep_password(
    ctx: Context, connection: Connection, user_id: str, password: StoredPassword, *, spare: str = ""
) -> None:
    """Store a password; the user's sessions end, but for the one to be spared."""
    await connection.execute(_SPARE, spare)
    await set_password(ctx, connection, user_id, password)


@handlers(contract.CHANGE_PASSWORD)
async def change_password(ctx: Context, request: contract.ChangePasswordRequest) -> RawJson:
    """A wrong current password counts as a failed login of this user: a stolen token guesses no further."""
    session = await user_of(ctx)
    user_id = session.subject_id
    name = name_of(ctx, "user", user_id)

    async def write() -> RawJson:
        await take(ctx, name)
        rows = await fetched(ctx, _STORED, user_id)
        known = stored_password(rows[0]) if rows else None
        if not await ctx.resources.passwords.verify(request.current_password, known):
            raise failed("the current password is wrong")
        made = await ctx.resources.passwords.store(request.new_password, request.new_password_hash)

        async def change(connection: Connection) -> contract.Done:
            await keep_password(ctx, connection, user_id, made, spare=session.id)
            await forgive(ctx, connection, name)
            return {"success": True}

        return await written(ctx, change)

    # A repeat finds the new password in place of the current one, and is answered as the first try was.
    return await exactly_once(ctx, write)


@handlers(contract.REQUEST_RESET)
async def request_password_reset(ctx: Context, request: contract.EmailRequest) -> RawJson:
    """Mail a link, or do as if."""

    async def change(connection: Connection) -> contract.Done:
        row = await connection.fetchrow(_ACTIVE, *place_of(ctx), request.email)
        is_free = await may_mail(ctx, connection, request.email)
        model: dict[str, Any] = {"name": row["username"] if row else "nobody"}
        if row is None or not is_free:
            await rehearsed(ctx, connection, RESET, request.email, model)
        else:
            await mail_link(ctx, connection, RESET, request.email, model, user_id=str(row["id"]))
        return {"success": True}

    async with answered_evenly():
        return await written(ctx, change)


@handlers(contract.CONFIRM_RESET)
async def confirm_password_reset(ctx: Context, request: contract.ConfirmResetRequest) -> RawJson:
    """The link is used up together with the change; who forgot a password may be locked, and is free again."""
    made = await ctx.resources.passwords.store(request.new_password, request.new_password_hash)

    async def change(connection: Connection) -> contract.Done:
        link = await consume(ctx, connection, RESET, request.token)
        user = await connection.fetchrow(_NAMES, *place_of(ctx), link["user_id"], link["email"])
        if user is None:
            raise no_link()
        await keep_password(ctx, connection, str(link["user_id"]), made)
        for named in (user["username"], user["email"]):
            await forgive(ctx, connection, name_of(ctx, "name", named))
        return {"success": True}

    return await written(ctx, change)
