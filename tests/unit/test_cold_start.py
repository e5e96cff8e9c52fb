"""A server that is starting is waited for, once in the log, and costs neither breaker nor budget."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest
from conftest import MakeRig

from dominus.errors import AuthenticationError, DominusConnectionError, DominusTimeoutError, ServiceError
from dominus.testing import bad_gateway, failure, hang, ok, raises
from dominus.transport.shared import ColdStart

HIT = ok({"found": True, "value": 7})
REFUSED = raises(httpx.ConnectError("All connection attempts failed: connection refused"))
SIGNS = {
    "refused": REFUSED,
    "502": bad_gateway(502),
    "503": bad_gateway(503),
    "504": bad_gateway(504),
    "mint-401-retry-after": bad_gateway(401, headers={"Retry-After": "1"}),
}
BUDGET = 500.0


@pytest.mark.parametrize("sign", SIGNS, ids=str)
async def test_it_is_waited_for_far_beyond_four_attempts(
    make_rig: MakeRig, sign: str, caplog: pytest.LogCaptureFixture
):
    told: list[ColdStart] = []
    rig = make_rig(HIT, mints=(SIGNS[sign],) * 12, client={"on_cold_start": told.append})
    with caplog.at_level(logging.INFO, logger="dominus"):
        assert await rig.client.redis.get("k") == 7
    assert len(rig.server.mints) == 13
    waiting = [record for record in caplog.records if "waiting up to 60 s" in record.getMessage()]
    assert len(waiting) == 1
    assert [one.attempt for one in told] == list(range(1, 13))
    assert told[0].waited_seconds == 0
    assert told[-1].waited_seconds > 0
    assert told[-1].reason
    stats = rig.client.stats()
    assert stats["retry_budget_left"] == BUDGET
    assert set(stats["breakers"].values()) == {"closed"}


async def test_a_data_call_is_waited_for_too(make_rig: MakeRig):
    rig = make_rig(*[bad_gateway(503)] * 8, HIT)
    assert await rig.client.redis.get("k") == 7
    assert rig.client.stats()["retry_budget_left"] == BUDGET
    assert rig.breaker() == "closed"


async def test_it_ends_after_cold_start_timeout_with_the_reason(make_rig: MakeRig):
    rig = make_rig(mints=(REFUSED,) * 500)
    began = rig.clock.monotonic()
    with pytest.raises(DominusConnectionError, match="connection refused"):
        await rig.client.redis.get("k")
    assert 50 < rig.clock.monotonic() - began <= 60
    assert rig.client.stats()["retry_budget_left"] > BUDGET - 5 * 14


async def test_the_setting_bounds_it(make_rig: MakeRig):
    rig = make_rig(mints=(REFUSED,) * 500, client={"cold_start_timeout": 5.0})
    began = rig.clock.monotonic()
    with pytest.raises(DominusConnectionError):
        await rig.client.redis.get("k")
    assert rig.clock.monotonic() - began <= 10


async def test_zero_turns_it_off(make_rig: MakeRig):
    rig = make_rig(mints=(REFUSED,) * 500, client={"cold_start_timeout": 0.0})
    with pytest.raises(DominusConnectionError):
        await rig.client.redis.get("k")
    assert len(rig.server.mints) == 4


async def test_an_explicit_timeout_wins(make_rig: MakeRig):
    rig = make_rig(mints=(REFUSED,) * 500, auto=False)
    task = asyncio.create_task(rig.client.redis.get("k", timeout=3.0))
    await rig.clock.advance(3.01)
    with pytest.raises(DominusConnectionError, match="refused, for 3 s"):
        await task


async def test_a_block_deadline_wins(make_rig: MakeRig):
    rig = make_rig(mints=(REFUSED,) * 500, auto=False)

    async def bounded() -> None:
        with rig.client.deadline(3.0):
            await rig.client.redis.get("k")

    task = asyncio.create_task(bounded())
    await rig.clock.advance(3.01)
    with pytest.raises(DominusConnectionError):
        await task


async def test_a_short_timeout_against_nobody_says_so_and_that_a_repeat_may_help(make_rig: MakeRig):
    rig = make_rig(default=REFUSED, mints=(REFUSED,) * 500, auto=False)
    for call in (rig.client.redis.get("k", timeout=0.5), rig.client.health.ping(timeout=0.5)):
        task = asyncio.create_task(call)
        await rig.clock.advance(0.51)
        with pytest.raises(DominusConnectionError, match="was not reached") as caught:
            await task
        assert caught.value.retryable
        assert caught.value.endpoint in {"redis.get", "health.ping"}
        assert isinstance(caught.value, ConnectionError)
        assert caught.value.hint


async def test_a_server_that_hangs_after_it_was_refused_is_a_timeout(make_rig: MakeRig):
    rig = make_rig(REFUSED, hang(), auto=False)
    task = asyncio.create_task(rig.client.health.ping(timeout=5.0))
    await rig.clock.advance(5.01)
    with pytest.raises(DominusTimeoutError, match="no answer within 5 s"):
        await task


async def test_a_server_that_fails_is_a_timeout_and_not_away(make_rig: MakeRig):
    rig = make_rig(mints=(bad_gateway(503),) * 500, auto=False)
    task = asyncio.create_task(rig.client.redis.get("k", timeout=3.0))
    await rig.clock.advance(3.01)
    with pytest.raises(DominusTimeoutError, match="503"):
        await task


LOOPBACK = {"url": "http://127.0.0.1:8080"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.9.1", "api.localhost"])
async def test_a_wrong_port_on_this_machine_is_told_at_once(make_rig: MakeRig, host: str):
    rig = make_rig(default=REFUSED, mints=(REFUSED,) * 9, client={"url": f"http://{host}:8080"})
    for _ in range(10):
        rig.server._mints = [REFUSED] * 4
        rig.server.requests.clear()
        began = rig.clock.monotonic()
        with pytest.raises(DominusConnectionError, match="refused") as caught:
            await rig.client.redis.get("k")
        assert len(rig.server.mints) == 4
        assert rig.clock.monotonic() - began < 0.4
        assert caught.value.retryable


async def test_a_cold_start_that_was_chosen_is_waited_for_on_this_machine_too(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
):
    chosen = make_rig(HIT, mints=(REFUSED,) * 9, client={**LOOPBACK, "cold_start_timeout": 60.0})
    assert await chosen.client.redis.get("k") == 7
    watched = make_rig(HIT, mints=(REFUSED,) * 9, client={**LOOPBACK, "on_cold_start": lambda _start: None})
    assert await watched.client.redis.get("k") == 7
    monkeypatch.setenv("DOMINUS_COLD_START_TIMEOUT", "60")
    by_environment = make_rig(HIT, mints=(REFUSED,) * 9, client=LOOPBACK)
    assert await by_environment.client.redis.get("k") == 7


@pytest.mark.parametrize("sign", ["502", "503", "504"])
async def test_a_server_of_this_machine_that_answers_is_waited_for(make_rig: MakeRig, sign: str):
    rig = make_rig(HIT, mints=(SIGNS[sign],) * 9, client=LOOPBACK)
    assert await rig.client.redis.get("k") == 7


async def test_a_server_of_this_machine_that_was_there_is_waited_for(make_rig: MakeRig):
    rig = make_rig(client=LOOPBACK)
    await rig.warm_up()
    await rig.clock.advance(301)
    rig.server._mints = [REFUSED] * 9
    rig.server.then(HIT)
    assert await rig.client.redis.get("k") == 7


async def test_a_warm_server_that_fails_is_not_starting(make_rig: MakeRig):
    rig = make_rig(default=failure(503, "down"))
    await rig.warm_up()
    with pytest.raises(ServiceError, match="down"):
        await rig.client.redis.get("k")
    assert len(rig.server.calls) == 4
    assert rig.client.stats()["retry_budget_left"] < BUDGET


async def test_after_five_idle_minutes_it_may_be_asleep_again(make_rig: MakeRig):
    rig = make_rig()
    await rig.warm_up()
    await rig.clock.advance(301)
    rig.server.then(*[bad_gateway(503)] * 8, HIT)
    assert await rig.client.redis.get("k") == 7


async def test_four_idle_minutes_are_not_enough(make_rig: MakeRig):
    rig = make_rig(default=bad_gateway(503))
    await rig.warm_up()
    await rig.clock.advance(240)
    with pytest.raises(ServiceError):
        await rig.client.redis.get("k")
    assert len(rig.server.calls) == 4


async def test_each_cold_start_has_its_own_log_line(make_rig: MakeRig, caplog: pytest.LogCaptureFixture):
    rig = make_rig(bad_gateway(503), bad_gateway(503), HIT)
    await rig.client.redis.get("k")
    await rig.clock.advance(301)
    rig.server.then(bad_gateway(503), bad_gateway(503), HIT)
    await rig.client.redis.get("k")
    assert caplog.text.count("waiting up to 60 s") == 2


async def test_a_401_without_retry_after_is_a_wrong_token_and_not_a_cold_start(make_rig: MakeRig):
    rig = make_rig(mints=(failure(401, "unknown"),) * 9)
    with pytest.raises(AuthenticationError):
        await rig.client.redis.get("k")
    assert len(rig.server.mints) == 1


async def test_an_answer_of_ours_comes_from_a_server_that_is_awake(make_rig: MakeRig):
    rig = make_rig(default=failure(503, "Redis is out of memory", code="redis_unavailable"))
    began = rig.clock.monotonic()
    with pytest.raises(ServiceError, match="out of memory"):
        await rig.client.redis.get("k")
    assert len(rig.server.calls) == 4
    assert rig.clock.monotonic() - began < 1


async def test_a_500_is_no_cold_start(make_rig: MakeRig):
    rig = make_rig(mints=(failure(500, "bug"),) * 9)
    with pytest.raises(ServiceError, match="bug"):
        await rig.client.redis.get("k")
    assert len(rig.server.mints) == 4


async def test_an_unknown_host_is_no_cold_start(make_rig: MakeRig):
    rig = make_rig(mints=(raises(httpx.ConnectError("Name or service not known")),) * 99)
    with pytest.raises(DominusConnectionError):
        await rig.client.redis.get("k")
    assert len(rig.server.mints) == 4


async def test_a_progress_hook_that_fails_is_the_callers_own_error(make_rig: MakeRig):
    def broken(_progress: ColdStart) -> None:
        raise LookupError("hook")

    rig = make_rig(HIT, mints=(), client={"on_cold_start": broken})
    rig.server._steps.insert(0, bad_gateway(503))
    with pytest.raises(LookupError, match="hook"):
        await rig.client.redis.get("k")
