"""Forged tokens are refused by both who verify: `auth.validate_jwt` of the client, and the server."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import jwt
import pytest
from conftest import MakeRig
from forged_tokens import FORGERIES, signed
from test_tokens import ALICE, Database, SystemKey, quick_keys

from dominus.errors import AuthenticationError
from dominus.orchestrator.identity.tokens import Tokens
from dominus.orchestrator.identity.vault import Vault
from dominus.testing import ok

__all__ = ["quick_keys"]
Verify = Callable[[str], Awaitable[Any]]


@pytest.fixture
async def tokens() -> Tokens:
    vault = Vault([secrets.token_bytes(32)])
    await vault.start(SystemKey())
    tokens = Tokens(Database(), vault)
    await tokens.start()
    return tokens


@pytest.fixture(params=["client", "server"])
def verify(request: pytest.FixtureRequest, tokens: Tokens, make_rig: MakeRig) -> Verify:
    if request.param == "server":
        return tokens.verify
    return make_rig(default=ok(tokens.jwks())).client.auth.validate_jwt


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_token_is_refused(verify: Verify, tokens: Tokens, name: str) -> None:
    key = tokens._keys.signing()
    claims = jwt.decode(tokens.mint(ALICE), options={"verify_signature": False})
    # The same claims, signed rightly, are fine: what is refused is refused for what was changed.
    assert await verify(signed(key.private, claims, {"kid": key.kid}))
    token = FORGERIES[name](key.private, key.kid, claims)
    for _ in range(2):
        with pytest.raises(AuthenticationError) as caught:
            await verify(token)
        assert caught.value.status_code == 401
        assert token not in str(caught.value)
        assert caught.value.code == ("token_expired" if name == "expired" else "token_invalid")


async def test_clocks_may_be_half_a_minute_apart(verify: Verify, tokens: Tokens) -> None:
    key = tokens._keys.signing()
    claims = jwt.decode(tokens.mint(ALICE), options={"verify_signature": False})
    soon = int(time.time()) + 20
    assert await verify(signed(key.private, claims | {"iat": soon, "nbf": soon}, {"kid": key.kid}))
