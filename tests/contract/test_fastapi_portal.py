"""Guards of FastAPI over a real orchestrator: keys of clients, logins of users, and what ends them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
import pytest_asyncio
from fastapi import Depends, FastAPI
from fastapi_support import bearer, web
from portal_support import PASSWORD, a_user
from server_support import Server, make_server, process_resources, server
from test_portal import client_of

from dominus import Dominus
from dominus.integrations.fastapi import Principal, install, require_jwt, require_psk, user_client
from dominus.testing import MovableClock

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
User = Annotated[Principal, Depends(require_jwt)]


@pytest.fixture(scope="module")
def clock() -> MovableClock:
    return MovableClock()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(server: Server, clock: MovableClock) -> AsyncIterator[Dominus]:
    yield client_of(server, clock=clock)


@pytest_asyncio.fixture(loop_scope="module")
async def caller(client: Dominus) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    install(app, client, close=False)

    @app.get("/me")
    async def me(principal: User) -> dict[str, Any]:
        return {
            "sub": principal.sub,
            "tenant": principal.tenant_id,
            "session": principal.session_id,
            "roles": sorted(principal.roles),
        }

    @app.get("/asks")
    async def asks(user: Annotated[Dominus, Depends(user_client)]) -> str:
        return (await user.portal.me())["subject_type"]

    @app.get("/import")
    async def take(principal: Annotated[Principal, Depends(require_psk)]) -> str:
        return principal.sub

    async with web(app, is_started=True) as made:
        yield made


async def test_the_key_of_a_client_opens_until_it_is_withdrawn(
    client: Dominus, caller: httpx.AsyncClient, clock: MovableClock
) -> None:
    made = await client.auth.clients.create("Guarded import")
    opened = await caller.get("/import", headers=bearer(made["psk"]))
    assert (opened.status_code, opened.json()) == (200, made["id"])
    renewed = await client.auth.clients.regenerate_psk(made["id"], grace_seconds=0)
    await clock.advance(5)
    refused = await caller.get("/import", headers=bearer(made["psk"]))
    assert (refused.status_code, refused.json()["code"]) == (401, "login_failed")
    assert (await caller.get("/import", headers=bearer(renewed["psk"]))).status_code == 200


async def test_a_login_is_a_principal_and_its_end_is_noticed_by_the_server(
    client: Dominus, caller: httpx.AsyncClient
) -> None:
    person = await a_user(client)
    session = await client.portal.login(person.username, PASSWORD)
    headers = bearer(session["access_token"])
    found = (await caller.get("/me", headers=headers)).json()
    tenant = session["tenant"]
    assert (found["sub"], found["session"]) == (session["user"]["id"], session["session_id"])
    assert found["tenant"] == (tenant["id"] if tenant else None)
    assert (await caller.get("/asks", headers=headers)).json() == "user"
    await client.portal.logout(user_token=session["access_token"])
    # The guard asks nobody; who calls with the token is told.
    assert (await caller.get("/me", headers=headers)).status_code == 200
    refused = await caller.get("/asks", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (401, "session_revoked")
