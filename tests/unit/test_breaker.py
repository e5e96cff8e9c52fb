"""The circuit breaker: its transitions alone, and one per service in front of a scripted server."""

from __future__ import annotations

import asyncio
import threading

import httpx
import pytest
from conftest import MakeRig, Rig

from dominus.errors import (
    CircuitOpenError,
    DominusConnectionError,
    DominusTimeoutError,
    NotFoundError,
    ServiceError,
)
from dominus.testing import MovableClock, failure, hang, ok, raises
from dominus.transport.breaker import Breaker, probe_wait

HIT = ok({"found": True, "value": 7})
THRESHOLD = 5


def broken(clock: MovableClock) -> Breaker:
    breaker = Breaker(clock, threshold=THRESHOLD, longest_wait=30.0)
    for _ in range(THRESHOLD):
        assert breaker.enter() is None
        breaker.failure()
    return breaker


def test_five_failures_in_a_row_open_it_and_four_do_not():
    breaker = Breaker(MovableClock(), threshold=THRESHOLD)
    for _ in range(THRESHOLD - 1):
        breaker.failure()
    assert breaker.state == "closed"
    assert breaker.enter() is None
    breaker.failure()
    assert breaker.state == "open"


def test_a_success_in_between_starts_the_count_anew():
    breaker = Breaker(MovableClock(), threshold=THRESHOLD)
    for _ in range(3):
        for _ in range(THRESHOLD - 1):
            breaker.failure()
        breaker.success()
    assert breaker.state == "closed"


async def test_open_it_says_how_long_to_wait():
    clock = MovableClock()
    breaker = broken(clock)
    assert breaker.enter() == 1.0
    await clock.advance(0.75)
    assert breaker.enter() == 0.25


async def test_half_open_lets_one_probe_through_at_a_time():
    clock = MovableClock()
    breaker = broken(clock)
    await clock.advance(1)
    assert breaker.state == "half-open"
    assert breaker.enter() is None
    assert breaker.enter() == 1.0
    assert breaker.enter() == 1.0


async def test_a_good_probe_closes_it():
    clock = MovableClock()
    breaker = broken(clock)
    await clock.advance(1)
    assert breaker.enter() is None
    breaker.success()
    assert breaker.state == "closed"
    assert breaker.enter() is None


async def test_each_bad_probe_makes_the_next_wait_twice_as_long_up_to_the_longest():
    clock = MovableClock()
    breaker = broken(clock)
    waits: list[float] = []
    for _ in range(8):
        wait = breaker.enter()
        assert wait is not None
        waits.append(wait)
        await clock.advance(wait)
        assert breaker.state == "half-open"
        assert breaker.enter() is None
        breaker.failure()
        assert breaker.state == "open"
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]


async def test_a_success_makes_the_waits_short_again():
    clock = MovableClock()
    breaker = broken(clock)
    for wait in (1, 2, 4):
        await clock.advance(wait)
        assert breaker.enter() is None
        breaker.failure()
    await clock.advance(8)
    assert breaker.enter() is None
    breaker.success()
    for _ in range(THRESHOLD):
        breaker.failure()
    assert breaker.enter() == 1.0


@pytest.mark.parametrize(("jitter", "wait"), [(0.0, 4.0), (0.5, 3.0), (1.0, 2.0)])
def test_chance_shortens_a_wait_by_up_to_a_half_so_that_clients_do_not_probe_together(
    jitter: float, wait: float
):
    assert probe_wait(3, 30.0, jitter) == wait


@pytest.mark.parametrize("openings", [20, 10_000])
def test_a_long_outage_does_not_overflow_the_wait(openings: int):
    assert probe_wait(openings, 30.0, 0.0) == 30.0


async def test_an_abandoned_probe_gives_its_place_to_the_next():
    clock = MovableClock()
    breaker = broken(clock)
    await clock.advance(1)
    assert breaker.enter() is None
    breaker.abandon()
    assert breaker.state == "half-open"
    assert breaker.enter() is None


async def test_a_straggler_that_fails_late_does_not_prolong_the_opening():
    clock = MovableClock()
    breaker = broken(clock)
    await clock.advance(0.5)
    breaker.failure()
    await clock.advance(0.5)
    assert breaker.enter() is None


async def test_a_straggler_that_succeeds_late_closes_it():
    breaker = broken(MovableClock())
    breaker.success()
    assert breaker.state == "closed"
    assert breaker.enter() is None


async def test_the_listener_hears_each_change_when_it_has_happened():
    clock = MovableClock()
    heard: list[tuple[str, str, str]] = []
    breaker = Breaker(
        clock,
        threshold=THRESHOLD,
        on_change=lambda old, new: heard.append((old, new, breaker.state)),
    )
    for _ in range(THRESHOLD):
        breaker.failure()
    await clock.advance(1)
    assert breaker.enter() is None
    breaker.failure()
    await clock.advance(2)
    assert breaker.enter() is None
    breaker.success()
    assert heard == [
        ("closed", "open", "open"),
        ("open", "half-open", "half-open"),
        ("half-open", "open", "open"),
        ("open", "half-open", "half-open"),
        ("half-open", "closed", "closed"),
    ]


def test_a_listener_that_fails_is_logged_and_breaks_nothing(caplog: pytest.LogCaptureFixture):
    def broken_listener(old: str, new: str) -> None:
        raise LookupError("listener")

    breaker = Breaker(MovableClock(), threshold=1, on_change=broken_listener)
    breaker.failure()
    assert breaker.state == "open"
    assert "on_breaker_change failed" in caplog.text


def test_a_service_that_never_failed_has_no_circuit():
    breaker = Breaker(MovableClock())
    for _ in range(3):
        assert breaker.enter() is None
        breaker.success()
    assert breaker._circuit is None


def test_threads_that_fail_together_open_it_once():
    heard: list[str] = []
    breaker = Breaker(MovableClock(), threshold=THRESHOLD, on_change=lambda _old, new: heard.append(new))
    threads = [threading.Thread(target=breaker.failure) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == ["open"]


async def open_breaker(rig: Rig) -> None:
    """Fail five times in a row: a whole call of four attempts, and the first of a second one."""
    await rig.warm_up()
    rig.server.then(*[failure(503, "down")] * THRESHOLD)
    with pytest.raises(ServiceError, match="down"):
        await rig.client.redis.get("k")
    with pytest.raises(CircuitOpenError):
        await rig.client.redis.get("k")
    assert rig.breaker() == "open"
    assert len(rig.server.calls) == THRESHOLD


async def test_an_open_breaker_ends_the_retry_loop_and_sends_nothing(make_rig: MakeRig):
    rig = make_rig()
    await open_breaker(rig)
    with pytest.raises(CircuitOpenError) as caught:
        await rig.client.redis.set("k", 1)
    assert isinstance(caught.value, ServiceError)
    assert 0 < caught.value.retry_after <= 1
    assert caught.value.endpoint == "redis.set"
    assert "redis" in caught.value.message
    assert len(rig.server.calls) == THRESHOLD


async def test_one_service_s_breaker_does_not_stop_another(make_rig: MakeRig):
    rig = make_rig()
    await open_breaker(rig)
    rig.server.then(ok({"schemas": ["public"]}))
    assert await rig.client.db.schemas() == ["public"]
    assert rig.client.stats()["breakers"]["db"] == "closed"


async def test_a_second_later_one_probe_closes_it(make_rig: MakeRig):
    rig = make_rig()
    await open_breaker(rig)
    await rig.clock.advance(1)
    rig.server.then(HIT, HIT)
    assert await rig.client.redis.get("k") == 7
    assert rig.breaker() == "closed"


async def test_of_many_callers_one_probes_and_the_others_fail_at_once(make_rig: MakeRig):
    rig = make_rig()
    await open_breaker(rig)
    await rig.clock.advance(1)
    rig.server.then(HIT)
    outcomes = await asyncio.gather(*(rig.client.redis.get("k") for _ in range(10)), return_exceptions=True)
    assert [outcome for outcome in outcomes if outcome == 7] == [7]
    assert sum(isinstance(outcome, CircuitOpenError) for outcome in outcomes) == 9
    assert len(rig.server.calls) == THRESHOLD + 1


async def test_a_cancelled_probe_frees_its_place(make_rig: MakeRig):
    rig = make_rig()
    await open_breaker(rig)
    await rig.clock.advance(1)
    rig.server.then(hang(), HIT)
    probe = asyncio.create_task(rig.client.redis.get("k"))
    await rig.clock.advance(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert await rig.client.redis.get("k") == 7


async def test_a_probe_that_meets_its_deadline_frees_its_place(make_rig: MakeRig):
    rig = make_rig(auto=False, client={"settings": None})
    await rig.warm_up()
    breaker = rig.shared.breaker("redis")
    for _ in range(THRESHOLD):
        breaker.failure()
    await rig.clock.advance(1)
    rig.server.then(hang(), HIT)
    probe = asyncio.create_task(rig.client.redis.get("k", timeout=2))
    await rig.clock.advance(3)
    with pytest.raises(DominusTimeoutError):
        await probe
    assert await rig.client.redis.get("k") == 7


@pytest.mark.parametrize("code", [400, 403, 404, 408, 409, 413, 422, 425, 429])
async def test_4xx_never_counts(make_rig: MakeRig, code: int):
    rig = make_rig(default=failure(code))
    await rig.warm_up()
    for _ in range(THRESHOLD * 2):
        with pytest.raises(Exception, match="it failed"):
            await rig.client.redis.get("k")
    assert rig.breaker() == "closed"


async def test_a_4xx_ends_a_row_of_failures(make_rig: MakeRig):
    rig = make_rig(*[*[failure(503)] * 3, failure(404)] * 3)
    await rig.warm_up()
    for _ in range(3):
        with pytest.raises(NotFoundError):
            await rig.client.redis.get("k")
    assert rig.breaker() == "closed"


@pytest.mark.parametrize(
    "broken_wire",
    [raises(httpx.ConnectError("no")), raises(httpx.ReadError("no")), raises(httpx.ReadTimeout("no"))],
    ids=str,
)
async def test_broken_connections_count(make_rig: MakeRig, broken_wire: object):
    rig = make_rig(default=broken_wire)
    await rig.warm_up()
    with pytest.raises((DominusConnectionError, DominusTimeoutError)):
        await rig.client.redis.get("k")
    with pytest.raises(CircuitOpenError):
        await rig.client.redis.get("k")


async def test_a_token_that_is_known_lets_other_services_work_while_the_mint_is_down(make_rig: MakeRig):
    rig = make_rig(
        token_lifetime=900, mints=(ok({"access_token": "first", "expires_in": 900}), *[failure(500)] * 40)
    )
    await rig.warm_up()
    warden = rig.shared.breaker("auth")
    for _ in range(THRESHOLD):
        warden.failure()
    rig.server.then(HIT)
    assert await rig.client.redis.get("k") == 7
    assert rig.client.stats()["breakers"] == {"auth": "open", "health": "closed", "redis": "closed"}


async def test_without_a_token_an_open_warden_is_what_the_caller_hears(make_rig: MakeRig):
    rig = make_rig(token_lifetime=60)
    await rig.warm_up()
    await rig.clock.advance(100)
    warden = rig.shared.breaker("auth")
    for _ in range(THRESHOLD):
        warden.failure()
    with pytest.raises(CircuitOpenError, match="auth"):
        await rig.client.redis.get("k")
    assert rig.server.requests == []
    assert rig.breaker() == "closed"
