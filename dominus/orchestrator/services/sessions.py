"""gateway: tokens for native sessions, where to take them, and the database logins beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dominus.contract import sessions as contract
from dominus.errors import AuthorizationError, NotFoundError, ServiceError, ValidationError
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.handlers.registry import Handlers

if TYPE_CHECKING:
    from dominus.orchestrator.gateway.running import RunningGateway
    from dominus.orchestrator.gateway.upstream.targets import Target

__all__ = ["handlers"]

handlers = Handlers(contract.sessions)


@handlers(contract.SESSION_TOKEN)
async def session_token(ctx: Context, request: contract.SessionTokenRequest) -> contract.SessionToken:
    """For one target; it opens nothing else, and ends with the token that asked for it if not sooner."""
    scope = contract.scope_of(request.target)
    # Before the look at the targets: who has no right to one learns nothing of them.
    if not ctx.principal.may(scope):
        raise AuthorizationError(
            f"a session of {request.target!r} needs the scope {scope}", details={"scope": scope}
        )
    host = _host(ctx)
    await host.check(_target(host, request.target))
    tokens = ctx.resources.tokens
    seconds = tokens.session_seconds(ctx.principal, request.expires_in)
    token = tokens.mint_session(ctx.principal, request.target, seconds)
    return {
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": seconds,
        "target": request.target,
    }


@handlers(contract.RESOLVE)
async def resolve(ctx: Context, _: contract.NoBody) -> contract.Resolved:
    """Of the gateway of this server, or of the load balancer before all of them."""
    host = _host(ctx)
    target = _target(host, ctx.principal.target)
    place = await host.place(ctx.called_host)
    return {
        "dns": place.host,
        "gateway_host": place.host,
        "port": place.port,
        "tls": place.is_tls,
        "target": target.name,
        "endpoints": len(target.addresses),
    }


@handlers(contract.CREDENTIALS)
async def credentials(ctx: Context, request: contract.CredentialsRequest) -> contract.DatabaseCredentials:
    """For the target of the session's token, which has to be the one that is asked for."""
    host = _host(ctx)
    target = _target(host, ctx.principal.target)
    if request.db_type not in {None, target.name}:
        raise ValidationError(f"db_type: this token is for {target.name!r}")
    await host.check(target)
    place = await host.place(ctx.called_host)
    login = await host.credentials.create(ctx.principal, target.name, request.database)
    found: contract.DatabaseCredentials = {
        "username": login.username,
        "password": login.password,
        "host": place.host,
        "port": place.port,
        "expires_in": login.expires_in,
    }
    if login.database is not None:
        found["database"] = login.database
    return found


@handlers(contract.RELEASE)
async def release(ctx: Context, request: contract.ReleaseRequest) -> contract.Released:
    """Its connections end with it; nobody else's login is touched."""
    return {"released": await _host(ctx).credentials.release(ctx.principal, request.username)}


def _host(ctx: Context) -> RunningGateway:
    if ctx.resources.gateway is None:
        raise ServiceError(
            "this server runs no gateway for native sessions",
            code="no_gateway",
            status_code=503,
            retryable=False,
            hint="set DOMINUS_GATEWAY_PORT where `dominus serve` runs",
        )
    return ctx.resources.gateway


def _target(host: RunningGateway, name: str | None) -> Target:
    target = host.targets.get(name or "")
    if target is None:
        raise NotFoundError(
            f"the gateway has no target {name!r}, only {', '.join(sorted(host.targets))}",
            code="unknown_target",
            hint="more targets are named by DOMINUS_GATEWAY_TARGETS",
        )
    return target
