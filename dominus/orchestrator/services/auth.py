"""auth: tokens for services and users, and the keys that verify them."""

from __future__ import annotations

from dataclasses import replace

from dominus.contract import auth as contract
from dominus.contract.request import Empty, plain_text
from dominus.errors import AuthorizationError, ValidationError
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.handlers.registry import Handlers
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.identity.psks import RESERVED_SUBJECTS

__all__ = ["handlers"]

handlers = Handlers(contract.auth)


@handlers(contract.MINT)
async def mint(ctx: Context, _: contract.MintRequest) -> contract.MintAnswer:
    """The app knows the PSK already: its principal gets a token."""
    return _minted(ctx, ctx.principal, ctx.resources.tokens.lifetime_seconds)


@handlers(contract.MINT_FOR)
async def mint_for(ctx: Context, request: contract.MintForRequest) -> contract.MintAnswer:
    """A user's token has exactly the scopes that are asked for, and no more than its maker's."""
    asked = request.params
    if asked.user_id.startswith(RESERVED_SUBJECTS):
        raise ValidationError(f"params.user_id: must not begin with {' or '.join(RESERVED_SUBJECTS)}")
    if asked.system != "user":
        raise ValidationError(f"params.system: {asked.system!r} is unknown, tokens are minted for 'user'")
    scopes = frozenset(asked.scope or ())
    try:
        for text in scopes:
            plain_text(text)
    except ValueError as error:
        raise ValidationError(f"params.scope: {error}") from None
    if not asked.user_id.isprintable():
        # Not only control characters: marks of direction make a line of a log read as another.
        raise ValidationError("params.user_id: must not contain characters that cannot be seen")
    refused = sorted(scope for scope in scopes if not ctx.principal.may(scope))
    if refused:
        raise AuthorizationError(f"the caller lacks {', '.join(refused)}, and cannot give it to a user")
    user = replace(ctx.principal, subject=asked.user_id, use="user", scopes=scopes)
    return _minted(ctx, user, asked.expires_in)


def _minted(ctx: Context, principal: Principal, lifetime_seconds: int) -> contract.MintAnswer:
    token = ctx.resources.tokens.mint(principal, lifetime_seconds)
    return {"access_token": token, "token_type": "Bearer", "expires_in": lifetime_seconds}


@handlers(contract.PUBLIC_KEY)
async def public_key(ctx: Context, _: contract.PublicKeyRequest) -> contract.PublicKey:
    """PEM for the published client, the set for everybody else."""
    tokens = ctx.resources.tokens
    return {"public_key": tokens.public_pem(), "keys": tokens.jwks()["keys"]}


@handlers(contract.KEY_SET)
async def key_set(ctx: Context, _: Empty) -> contract.KeySet:
    """RFC 7517."""
    return {"keys": ctx.resources.tokens.jwks()["keys"]}
