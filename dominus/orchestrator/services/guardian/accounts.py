"""Users, clients and navigation: what their operations do beside keeping records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from dominus.contract.guardian import accounts as contract
from dominus.errors import ConflictError
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import written
from dominus.orchestrator.identity.passwords import StoredPassword, new_psk_nonce, psk_digest, psk_of
from dominus.orchestrator.services.guardian.entities import (
    EntityHandlers,
    changed,
    fetched,
    missing,
    place_of,
)

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection
    from dominus.orchestrator.handlers.registry import Handlers

__all__ = ["Clients", "NavItems", "Users", "account_handlers", "set_password"]

_STORE = """
INSERT INTO dominus.user_passwords (project, environment, user_id, salt, digest)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (project, environment, user_id)
DO UPDATE SET salt = EXCLUDED.salt, digest = EXCLUDED.digest, changed_at = now()
"""
_STORED = """
SELECT p.salt, p.digest
FROM dominus.users AS u
LEFT JOIN dominus.user_passwords AS p ON (p.project, p.environment, p.user_id) = (u.project, u.environment, u.id)
WHERE u.project = $1 AND u.environment = $2 AND u.id = $3
"""
_ADD_PSK = """
INSERT INTO dominus.client_psks (digest, project, environment, client_id)
VALUES ($4, $1, $2, $3)
"""
# A key that ends already ends no later; those that have ended are gone.
_END_PSKS = """
UPDATE dominus.client_psks
SET expires_at = least(expires_at, now() + make_interval(secs => $4))
WHERE project = $1 AND environment = $2 AND client_id = $3
"""
_DROP_PSKS = """
DELETE FROM dominus.client_psks
WHERE project = $1 AND environment = $2 AND client_id = $3 AND expires_at <= now()
"""
_LAST_END = """
SELECT max(expires_at)
FROM dominus.client_psks
WHERE project = $1 AND environment = $2 AND client_id = $3
"""
_HAS_PSK = """
SELECT EXISTS (
  SELECT
  FROM dominus.client_psks
  WHERE project = $1 AND environment = $2 AND client_id = $3 AND digest = $4
    AND (expires_at IS NULL OR expires_at > now())
)
"""
# Two who move items below each other take turns: each locks all of them, in the same order. By rows, not by an advisory
# lock, which a native session could hold.
_TURN = """
SELECT id
FROM dominus.nav_items
WHERE project = $1 AND environment = $2
ORDER BY id
FOR NO KEY UPDATE
"""
_IS_ABOVE = """
WITH RECURSIVE above AS (
  SELECT id, parent_id
  FROM dominus.nav_items
  WHERE project = $1 AND environment = $2 AND id = $4
  UNION
  SELECT n.id, n.parent_id
  FROM above AS a
  JOIN dominus.nav_items AS n ON n.project = $1 AND n.environment = $2 AND n.id = a.parent_id
)
SELECT EXISTS (SELECT FROM above WHERE id = $3)
"""


def account_handlers(handlers: Handlers, users: Users, clients: Clients) -> None:
    """Register the handlers of passwords and keys."""
    handlers(contract.UPDATE_PASSWORD)(users.update_password)
    handlers(contract.VERIFY_PASSWORD)(users.verify_password)
    handlers(contract.REGENERATE_PSK)(clients.regenerate_psk)
    handlers(contract.VERIFY_PSK)(clients.verify_psk)


async def set_password(ctx: Context, connection: Connection, user_id: str, stored: StoredPassword) -> None:
    """Give a user a password, in a transaction that has begun."""
    await connection.execute(_STORE, *place_of(ctx), user_id, stored.salt, stored.digest)


class Users(EntityHandlers):
    """The operations of users."""

    def __init__(self) -> None:
        super().__init__(contract.USERS.entity)

    async def create(self, ctx: Context, request: Any) -> RawJson:
        """Make a user with a password."""
        # Hashed before a connection is taken: it takes a while.
        stored = await ctx.resources.passwords.store(request.password, request.password_hash)

        async def change(connection: Connection) -> dict[str, Any]:
            made = await self.insert(ctx, connection, request)
            await set_password(ctx, connection, made["id"], stored)
            return made

        return await written(ctx, change)

    async def update_password(self, ctx: Context, request: contract.UpdatePassword) -> RawJson:
        """Replace a password."""
        stored = await ctx.resources.passwords.store(request.password, request.password_hash)

        async def change(connection: Connection) -> contract.PasswordUpdated:
            await self.lock(ctx, connection, request.user_id)
            await set_password(ctx, connection, request.user_id, stored)
            return {"id": request.user_id, "updated": True}

        return await written(ctx, change)

    async def verify_password(self, ctx: Context, request: contract.VerifyPassword) -> contract.Verified:
        """Compare a password with the stored one; a user without one has none that is right."""
        rows = await fetched(ctx, _STORED, request.user_id)
        if not rows:
            raise missing(contract.USERS.entity, [request.user_id])
        row = rows[0]
        stored = None if row["salt"] is None else StoredPassword(row["salt"], row["digest"])
        return {"valid": await ctx.resources.passwords.verify(request.password, stored)}


class Clients(EntityHandlers):
    """The operations of clients. Their keys are derived of nonces, which are what the outcome of a write keeps."""

    def __init__(self) -> None:
        super().__init__(contract.CLIENTS.entity)

    async def create(self, ctx: Context, request: Any) -> RawJson:
        """Make a client with a key."""

        async def change(connection: Connection) -> dict[str, Any]:
            made = await self.insert(ctx, connection, request)
            return {**made, "psk": await _add_psk(ctx, connection, made["id"])}

        return _with_psk(ctx, await written(ctx, change))

    async def regenerate_psk(self, ctx: Context, request: contract.RegeneratePsk) -> RawJson:
        """Make a new key; those before end after the grace, at once when there is none."""
        client_id = request.client_id

        async def change(connection: Connection) -> dict[str, Any]:
            client = await self.lock(ctx, connection, client_id)
            await connection.execute(_END_PSKS, *place_of(ctx), client_id, float(request.grace_seconds))
            await connection.execute(_DROP_PSKS, *place_of(ctx), client_id)
            last = await connection.fetchval(_LAST_END, *place_of(ctx), client_id)
            psk = await _add_psk(ctx, connection, client_id)
            return {**client, "psk": psk, "previous_valid_until": last.isoformat() if last else None}

        return _with_psk(ctx, await changed(ctx, change))

    async def verify_psk(self, ctx: Context, request: contract.VerifyPsk) -> contract.Verified:
        """Look for a key among those of a client that have not ended."""
        if not await fetched(ctx, self.sql.get, request.client_id):
            raise missing(contract.CLIENTS.entity, [request.client_id])
        digest = psk_digest(ctx.resources.vault, request.psk)
        return {"valid": (await fetched(ctx, _HAS_PSK, request.client_id, digest))[0][0]}


async def _add_psk(ctx: Context, connection: Connection, client_id: str) -> str:
    nonce, vault = new_psk_nonce(), ctx.resources.vault
    digest = psk_digest(vault, psk_of(vault, nonce))
    await connection.execute(_ADD_PSK, *place_of(ctx), client_id, digest)
    return nonce


def _with_psk(ctx: Context, stored: RawJson) -> RawJson:
    answer = from_json(stored)
    answer["psk"] = psk_of(ctx.resources.vault, answer["psk"])
    return RawJson.of(to_json(answer))


class NavItems(EntityHandlers):
    """The operations of the items of navigation."""

    def __init__(self) -> None:
        super().__init__(contract.NAV_ITEMS.entity)

    async def changing(self, ctx: Context, connection: Connection, request: Any) -> None:
        """Refuse to put an item below itself."""
        if not request.parent_id:
            return
        await connection.execute(_TURN, *place_of(ctx))
        if await connection.fetchval(_IS_ABOVE, *place_of(ctx), request.nav_id, request.parent_id):
            raise ConflictError(
                "the item would be below itself",
                code="nav_cycle",
                details={"nav_id": request.nav_id, "parent_id": request.parent_id},
            )
