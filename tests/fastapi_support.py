"""An application over a scripted server, and tokens that its keys verify."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
from conftest import Rig
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from fastapi import FastAPI
from forged_tokens import signed

from dominus.testing import Reply, failure, ok
from dominus.testing.script import Recorded

KEY = generate_private_key(public_exponent=65537, key_size=2048)
PSK = "psk-of-a-client-0123456789abcdef0123456789abcdef"


def token(**changes: Any) -> str:
    now = int(time.time())
    claims = {"iss": "dominus", "sub": "ada", "use": "user", "scopes": [], "iat": now, "exp": now + 900}
    return signed(KEY, claims | changes, {"kid": "key"})


def bearer(text: str | None = None, **changes: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {text or token(**changes)}"}


def serves(request: Recorded) -> Reply:
    """Answer as an orchestrator would that knows one client."""
    if request.path == "/api/warden/jwks":
        found = jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
        return ok({"keys": [{"kty": "RSA", "kid": "key", "n": found["n"], "e": found["e"]}]})
    if request.path == "/api/portal/auth/login-client":
        if request.body == {"psk": PSK}:
            given = token(sub="client-1", scopes=["import"], tenant_id="t-1", sid="s-1")
            login = {"access_token": given, "token_type": "Bearer", "expires_in": 900, "session_id": "s-1"}
            return ok(login)
        return failure(401, "the key is not known", code="login_failed")
    if request.path == "/api/whisperer/incr":
        return ok({"value": 1})
    return ok({"status": "ok"})


def paths(rig: Rig) -> list[str]:
    return [request.path for request in rig.server.requests]


@contextlib.asynccontextmanager
async def web(app: FastAPI, *, is_started: bool = False) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, inside of its lifespan if `is_started`."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with contextlib.AsyncExitStack() as stack:
        if is_started:
            await stack.enter_async_context(app.router.lifespan_context(app))
        yield await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://web"))
