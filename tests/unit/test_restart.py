"""A server that restarts is waited out by every call whose deadline holds the wait."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest
from conftest import MakeRig, Rig

from dominus.errors import CircuitOpenError, DominusConnectionError, DominusError
from dominus.testing import Reply, failure, ok, raises

HIT = ok({"found": True, "value": 7})
COUNTED = ok({"value": 1})
REFUSED = raises(httpx.ConnectError("All connection attempts failed: connection refused"))
NO_ROUTE = raises(httpx.ConnectError("no route to host"))
SLOW_CONNECT = raises(httpx.ConnectTimeout("no answer"))
BROKE = raises(httpx.ReadError("reset"))


def away_for(rig: Rig, seconds: float, how: Reply = REFUSED) -> None:
    """Refuse everything from now on, for so long; then answer."""
    back = rig.clock.monotonic() + seconds
    rig.server.default = lambda _request: HIT if rig.clock.monotonic() >= back else how


@pytest.mark.parametrize(
    "how", [REFUSED, NO_ROUTE, SLOW_CONNECT], ids=["refused", "no-route", "connect-timeout"]
)
@pytest.mark.parametrize("seconds", [0.36, 2.0, 5.0, 10.0])
async def test_a_warm_client_waits_and_is_served_within_a_second_of_the_return(
    make_rig: MakeRig, seconds: float, how: Reply
):
    rig = make_rig(auto=False)
    await rig.warm_up()
    away_for(rig, seconds, how)
    call = asyncio.create_task(rig.client.redis.get("k"))
    await rig.clock.advance(seconds)
    assert not call.done()
    await rig.clock.advance(1.0)
    assert await call == 7


async def test_a_keyed_write_that_was_refused_is_sent_when_the_server_is_back_with_its_key(make_rig: MakeRig):
    rig = make_rig(*[REFUSED] * 6, COUNTED, auto=False)
    await rig.warm_up()
    call = asyncio.create_task(rig.client.redis.incr("n", timeout=30))
    await rig.clock.advance(10)
    assert await call == 1
    assert len({request.headers["idempotency-key"] for request in rig.server.calls}) == 1


async def test_waiting_costs_no_budget(make_rig: MakeRig):
    rig = make_rig(auto=False)
    await rig.warm_up()
    before = rig.client.stats()["retry_budget_left"]
    away_for(rig, 10)
    calls = [asyncio.create_task(rig.client.redis.get("k")) for _ in range(100)]
    await rig.clock.advance(11)
    assert await asyncio.gather(*calls) == [7] * 100
    assert rig.client.stats()["retry_budget_left"] == before


async def test_a_hundred_callers_make_fifteen_attempts_while_it_is_down_for_twenty_seconds(make_rig: MakeRig):
    rig = make_rig(auto=False)
    await rig.warm_up()
    rig.server.then(*[BROKE] * 100)
    calls = [asyncio.create_task(rig.client.redis.get("k")) for _ in range(100)]
    away_for(rig, 20)
    await rig.clock.advance(0)
    rig.server.requests.clear()
    await rig.clock.advance(19.9)
    assert len(rig.server.calls) <= 16
    await rig.clock.advance(5)
    assert await asyncio.gather(*calls) == [7] * 100


async def test_a_failing_server_gets_fifteen_attempts_of_a_hundred_callers_in_twenty_seconds(
    make_rig: MakeRig,
):
    rig = make_rig(auto=False)
    await rig.warm_up()
    back = rig.clock.monotonic() + 20

    async def caller() -> None:
        while rig.clock.monotonic() < back:
            try:
                await rig.client.redis.get("k", timeout=10)
            except DominusError:
                await rig.clock.sleep(0.5)

    callers = [asyncio.create_task(caller()) for _ in range(100)]
    rig.server.default = failure(503, "down")
    await rig.clock.advance(0)
    first = len(rig.server.calls)
    assert first <= 100
    await rig.clock.advance(19.9)
    assert len(rig.server.calls) - first <= 15
    rig.server.default = HIT
    await rig.clock.advance(31)
    await asyncio.gather(*callers)


async def test_a_deadline_ends_the_wait_with_the_reason(make_rig: MakeRig):
    rig = make_rig(auto=False, default=REFUSED)
    await rig.warm_up()
    began = rig.clock.monotonic()
    call = asyncio.create_task(rig.client.redis.get("k", timeout=10))
    while not call.done():
        await rig.clock.advance(0.1)
    with pytest.raises(DominusConnectionError, match="refused") as caught:
        await call
    assert 8.5 < rig.clock.monotonic() - began <= 10.2
    assert caught.value.retryable
    assert caught.value.attempts > 4


async def test_a_long_deadline_waits_through_an_outage_that_others_found(make_rig: MakeRig):
    rig = make_rig(auto=False)
    await rig.warm_up()
    away_for(rig, 40)
    early = asyncio.create_task(rig.client.redis.get("k", timeout=5))
    await rig.clock.advance(20)
    with pytest.raises(DominusConnectionError):
        await early
    late = asyncio.create_task(rig.client.redis.get("k", timeout=60))
    await rig.clock.advance(35)
    assert await late == 7


async def test_a_token_that_ran_out_in_an_outage_is_minted_after_it(make_rig: MakeRig):
    rig = make_rig(auto=False, token_lifetime=60)
    await rig.warm_up()
    await rig.clock.advance(100)
    rig.server._mints = [REFUSED] * 10
    rig.server.default = HIT
    call = asyncio.create_task(rig.client.redis.get("k", timeout=60))
    await rig.clock.advance(20)
    assert await call == 7


async def test_a_mint_that_gave_up_is_tried_again_for_a_caller_with_more_time(make_rig: MakeRig):
    rig = make_rig(auto=False, token_lifetime=60)
    await rig.warm_up()
    await rig.clock.advance(100)
    back = rig.clock.monotonic() + 45
    rig.server._mints = [
        lambda _r: REFUSED if rig.clock.monotonic() < back else ok({"access_token": "t2"})
    ] * 99
    rig.server.default = HIT
    call = asyncio.create_task(rig.client.redis.get("k", timeout=100))
    await rig.clock.advance(44)
    assert not call.done()
    await rig.clock.advance(20)
    assert await call == 7


async def test_who_fails_fast_does_not_ask_again_where_nobody_listens(make_rig: MakeRig):
    rig = make_rig(auto=False, default=REFUSED, client={"fail_fast": True})
    await rig.warm_up()
    calls = [asyncio.create_task(rig.client.redis.get("k")) for _ in range(100)]
    await rig.clock.advance(0.1)
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, DominusConnectionError)
    rig.server.requests.clear()
    for _ in range(100):
        with pytest.raises(CircuitOpenError):
            await rig.client.redis.get("k")
    assert rig.server.calls == []


async def test_one_attempt_means_one(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOMINUS_MAX_ATTEMPTS", "1")
    rig = make_rig(auto=False, default=REFUSED)
    await rig.warm_up()
    with pytest.raises(DominusConnectionError):
        await rig.client.redis.get("k")
    assert len(rig.server.calls) == 1


async def test_the_log_tells_of_an_outage_once_and_of_its_end(
    make_rig: MakeRig, caplog: pytest.LogCaptureFixture
):
    rig = make_rig(auto=False)
    await rig.warm_up()
    away_for(rig, 10)
    call = asyncio.create_task(rig.client.redis.get("k"))
    with caplog.at_level(logging.INFO, logger="dominus.transport"):
        await rig.clock.advance(11)
        await call
    assert [record.getMessage() for record in caplog.records] == [
        "the breaker of redis is open",
        "the breaker of redis is closed",
    ]
