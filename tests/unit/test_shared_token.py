"""One token for all loops and threads of a process: minted once, aged once, replaced for all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from conftest import TOKEN, URL

from dominus import Dominus
from dominus.contract.envelope import Dialect
from dominus.crypto import SecretBox
from dominus.testing import MovableClock, Recorded, Reply, ScriptedTransport, failure, hang, ok
from dominus.transport.credentials import Credentials, SealedToken, SharedToken

HIT = ok({"found": True, "value": 7})


@pytest.fixture
def server() -> ScriptedTransport:
    return ScriptedTransport(default=HIT)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock(auto=True)


@pytest.fixture
def client(server: ScriptedTransport, clock: MovableClock) -> Dominus:
    return Dominus(URL, TOKEN, transport=server, clock=clock)


@pytest.fixture
def runners() -> Iterator[list[asyncio.Runner]]:
    """Two loops that live at the same time."""
    made = [asyncio.Runner(), asyncio.Runner()]
    yield made
    for runner in made:
        runner.close()


def test_three_hundred_runs_mint_once(server: ScriptedTransport):
    client = Dominus(URL, TOKEN, transport=server)
    for _ in range(300):
        assert asyncio.run(client.redis.get("k")) == 7
    assert len(server.mints) == client.stats()["mints"] == 1
    assert {call.bearer for call in server.calls} == {"token-1"}
    assert len(server.calls) == client.stats()["attempts"] - 1 == 300


def test_a_new_loop_knows_that_the_server_keeps_keys(server: ScriptedTransport, client: Dominus):
    asyncio.run(client.redis.get("k"))
    server.then(failure(500), ok({"stored": True}))
    assert asyncio.run(client.redis.set("k", 1)) is True
    first, second = server.calls[-2:]
    assert first.dialect is second.dialect is Dialect.JSON
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_loops_that_end_before_their_refresh_does_begin_one_now_and_then(clock: MovableClock):
    first = ok({"access_token": "old", "expires_in": 900})
    server = ScriptedTransport(default=HIT, mints=(first, hang(), hang()))
    client = Dominus(URL, TOKEN, transport=server, clock=clock)
    asyncio.run(client.redis.get("k"))
    asyncio.run(clock.advance(800))
    for _ in range(50):
        assert asyncio.run(client.redis.get("k")) == 7
    assert len(server.mints) == 2, "not one for each loop"
    asyncio.run(clock.advance(6))
    asyncio.run(client.redis.get("k"))
    assert len(server.mints) == 3
    assert {call.bearer for call in server.calls} == {"old"}
    asyncio.run(clock.advance(90))
    asyncio.run(client.redis.get("k"))
    assert server.calls[-1].bearer == "token-1"


def test_a_token_that_was_refused_in_one_loop_is_replaced_in_all(
    server: ScriptedTransport, client: Dominus, runners: list[asyncio.Runner]
):
    def by_token(request: Recorded) -> Reply:
        return failure(401, "revoked") if request.bearer == "token-1" else HIT

    for runner in runners:
        runner.run(client.redis.get("k"))
    server.default = by_token
    for runner in runners:
        assert runner.run(client.redis.get("k")) == 7
    assert [call.bearer for call in server.calls[2:]] == ["token-1", "token-2", "token-2"]
    assert len(server.mints) == 2


def test_another_psk_after_aclose_mints_anew(server: ScriptedTransport, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOMINUS_URL", URL)
    client = Dominus(transport=server)
    for psk in (TOKEN, TOKEN[::-1]):
        monkeypatch.setenv("DOMINUS_TOKEN", psk)
        asyncio.run(client.redis.get("k"))
        asyncio.run(client.redis.get("k"))
        assert server.mints[-1].bearer == psk
        asyncio.run(client.aclose())
    assert [call.bearer for call in server.calls] == ["token-1", "token-1", "token-2", "token-2"]


async def test_a_token_that_another_psk_sealed_is_not_used():
    async def mint() -> dict[str, object]:
        return {"access_token": "mine", "expires_in": 900}

    clock, shared = MovableClock(), SharedToken()
    strange = SecretBox(TOKEN[::-1], "memory").seal(b"not mine")
    for ask in ("token", "replace"):
        shared.latest = SealedToken(strange, clock.monotonic(), 900)
        credentials = Credentials(clock, SecretBox(TOKEN, "memory"), mint, shared)  # type: ignore[arg-type]
        assert await (credentials.token() if ask == "token" else credentials.replace("refused")) == "mine"
        assert shared.latest.sealed != strange


def test_a_token_that_comes_late_does_not_displace_a_younger_one():
    shared = SharedToken()
    young, old = SealedToken(b"young", 20.0, 900), SealedToken(b"old", 10.0, 900)
    shared.put(young)
    shared.put(old)
    assert shared.latest is young


def test_the_sealed_token_is_in_no_repr():
    assert "sealed" not in repr(SealedToken(b"...", 0.0, 900.0))
