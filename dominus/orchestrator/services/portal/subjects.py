"""Users and clients as portal reads them: what they are, their tenants, and a token for their session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dominus.contract import portal as contract
from dominus.errors import AuthorizationError, ServiceError
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.services.portal.registry import Session, fetched, over, place_of

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Record
    from dominus.orchestrator.identity.rights import Rights

__all__ = ["Subject", "answer_of", "chosen_tenant", "subject_of", "tenant_info", "tenants_of", "user_info"]

_USER = """
SELECT id, username, email, status, email_verified
FROM dominus.users
WHERE project = $1 AND environment = $2 AND id = $3
"""
_CLIENT = "SELECT id, label, status FROM dominus.clients WHERE project = $1 AND environment = $2 AND id = $3"
_TENANTS = """
SELECT t.id, t.slug, t.name, t.display_name
FROM dominus.{kind}_tenants l
JOIN dominus.tenants t ON (t.project, t.environment, t.id) = (l.project, l.environment, l.tenant_id)
WHERE l.project = $1 AND l.environment = $2 AND l.{kind}_id = $3 AND t.status = 'active'
ORDER BY t.slug
"""
_TENANTS_OF = {kind: _TENANTS.format(kind=kind) for kind in ("user", "client")}


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is logged in, with what holds in its active tenant."""

    session: Session
    info: Any
    tenants: list[contract.TenantInfo]
    tenant: contract.TenantInfo | None
    rights: Rights


async def tenants_of(ctx: Context, subject_type: str, subject_id: str) -> list[contract.TenantInfo]:
    """Return the tenants that a subject belongs to and that are active, by slug."""
    return [tenant_info(row) for row in await fetched(ctx, _TENANTS_OF[subject_type], subject_id)]


def chosen_tenant(tenants: Sequence[contract.TenantInfo], named: str | None) -> contract.TenantInfo | None:
    """Return the tenant of an id or slug; the first one, or none, where none is named.

    Raises:
        AuthorizationError: it is not one of them, whether or not there is one.
    """
    if named is None:
        return tenants[0] if tenants else None
    for tenant in tenants:
        if named.lower() in (tenant["id"], tenant["slug"]):
            return tenant
    raise AuthorizationError("the login does not belong to this tenant", code="tenant_denied")


async def subject_of(ctx: Context, session: Session) -> Subject:
    """Return who is logged in.

    Raises:
        AuthenticationError: it is there no more, or may not log in any more.
    """
    rows = await fetched(ctx, _USER if session.subject_type == "user" else _CLIENT, session.subject_id)
    if not rows or rows[0]["status"] != "active":
        raise over()
    tenants = await tenants_of(ctx, session.subject_type, session.subject_id)
    tenant = next((each for each in tenants if each["id"] == session.tenant_id), None)
    rights = await ctx.resources.rights.of(
        *place_of(ctx), session.subject_type, session.subject_id, tenant["id"] if tenant else None
    )
    info = user_info(rows[0]) if session.subject_type == "user" else client_info(rows[0])
    return Subject(session, info, tenants, tenant, rights)


def answer_of(ctx: Context, subject: Subject, refresh_token: str | None = None) -> Any:
    """Return a session with a new access token."""
    tokens, session, tenant = ctx.resources.tokens, subject.session, subject.tenant
    project, environment = place_of(ctx)
    principal = Principal(
        session.subject_id,
        "user",
        subject.rights.scopes,
        project,
        environment,
        session_id=session.id,
        tenant_id=tenant["id"] if tenant else None,
    )
    claims = {
        "tenant": tenant["slug"] if tenant else None,
        "roles": sorted(subject.rights.roles),
        "subject_type": session.subject_type,
    }
    answer: dict[str, Any] = {
        "access_token": tokens.mint_login(principal, tokens.lifetime_seconds, claims),
        "token_type": "Bearer",
        "expires_in": tokens.lifetime_seconds,
        "session_id": session.id,
        "subject_type": session.subject_type,
        session.subject_type: subject.info,
        "tenant": tenant,
        "tenants": subject.tenants,
    }
    if refresh_token is not None:
        answer["refresh_token"] = refresh_token
    return answer


def user_info(row: Record | None) -> contract.UserInfo:
    """Return what a user sees of itself."""
    if row is None:
        raise ServiceError("the user vanished while it was written")
    return {
        "id": str(row["id"]),
        "username": row["username"],
        "email": row["email"],
        "status": row["status"],
        "email_verified": row["email_verified"],
    }


def client_info(row: Record) -> contract.ClientInfo:
    """Return what a client sees of itself."""
    return {"id": str(row["id"]), "label": row["label"], "status": row["status"]}


def tenant_info(row: Record) -> contract.TenantInfo:
    """Return what members see of a tenant."""
    return {
        "id": str(row["id"]),
        "slug": row["slug"],
        "name": row["name"],
        "display_name": row["display_name"],
    }
