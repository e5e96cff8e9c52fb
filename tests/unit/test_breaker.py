"""The circuit breaker: its transitions alone, and one per service in front of a scripted server."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time

import httpx
import pytest
from conftest import MakeRig

from dominus.contract.codes import ALIVE
from dominus.errors import (
    CircuitOpenError,
    DominusConnectionError,
    DominusError,
    DominusTimeoutError,
    NotFoundError,
    ServiceError,
)
from dominus.testing import MovableClock, failure, hang, ok, raises
from dominus.transport.breaker import Breaker, probe_wait

HIT = ok({"found": True, "value": 7})
REFUSED = raises(httpx.ConnectError("connection refused"))
THRESHOLD = 5


def fail(breaker: Breaker, clock: MovableClock, count: int = 1, *, since: float = 0.0) -> None:
    for _ in range(count):
        breaker.failure(clock.monotonic() - since)


async def paused(clock: MovableClock) -> Breaker:
    breaker = Breaker(clock, threshold=THRESHOLD)
    fail(breaker, clock, THRESHOLD)
    return breaker


async def opened(clock: MovableClock, *, longest_wait: float = 30.0) -> Breaker:
    """Fail for a second, with each probe."""
    breaker = Breaker(clock, threshold=THRESHOLD, longest_wait=longest_wait)
    fail(breaker, clock, THRESHOLD)
    while breaker.state == "closed":
        await probe_badly(breaker, clock)
    return breaker


async def probe_badly(breaker: Breaker, clock: MovableClock, **what: object) -> float:
    """Wait for the next probe, let it fail, and return how long the wait was."""
    wait = breaker.enter()
    assert wait is not None
    await clock.advance(wait.seconds)
    assert breaker.enter() is None
    breaker.failure(clock.monotonic(), **what)  # type: ignore[arg-type]
    return wait.seconds


async def test_five_calls_that_fail_at_one_instant_do_not_open_it_but_the_next_ones_wait_for_a_probe():
    clock = MovableClock()
    breaker = await paused(clock)
    assert breaker.state == "closed"
    wait = breaker.enter()
    assert wait is not None
    assert wait.seconds == 0.25
    assert not wait.is_open


async def test_four_failures_pause_nothing():
    clock = MovableClock()
    breaker = Breaker(clock, threshold=THRESHOLD)
    fail(breaker, clock, THRESHOLD - 1)
    assert breaker.enter() is None


async def test_a_second_of_failures_opens_it():
    clock = MovableClock()
    breaker = await paused(clock)
    began = clock.monotonic()
    while breaker.state == "closed":
        await probe_badly(breaker, clock)
    assert clock.monotonic() - began == 1.0
    wait = breaker.enter()
    assert wait is not None
    assert wait.is_open
    assert wait.age == 1.0


async def test_the_attempts_of_one_call_count_once():
    clock = MovableClock()
    breaker = Breaker(clock, threshold=THRESHOLD)
    for is_counted in (True, *[False] * 20):
        breaker.failure(clock.monotonic(), is_counted=is_counted)
    assert breaker.enter() is None


async def test_fewer_failures_than_successes_in_the_window_never_pause_it():
    clock = MovableClock()
    breaker = Breaker(clock, threshold=THRESHOLD)
    for _ in range(100):
        fail(breaker, clock)
        for _ in range(2):
            breaker.success()
        assert breaker.enter() is None
        await clock.advance(0.1)


async def test_half_of_the_calls_failing_pauses_it():
    clock = MovableClock()
    breaker = Breaker(clock, threshold=THRESHOLD)
    for _ in range(THRESHOLD - 1):
        fail(breaker, clock)
        breaker.success()
        assert breaker.enter() is None
    fail(breaker, clock)
    assert breaker.enter() is not None


async def test_failures_that_are_spread_over_more_than_the_window_do_not_add_up():
    clock = MovableClock()
    breaker = Breaker(clock, threshold=THRESHOLD)
    for _ in range(20):
        fail(breaker, clock, 2)
        await clock.advance(10.5)
        assert breaker.enter() is None


async def test_a_failure_of_long_ago_does_not_make_a_new_one_look_old():
    clock = MovableClock()
    breaker = Breaker(clock, threshold=THRESHOLD)
    fail(breaker, clock)
    await clock.advance(3600)
    fail(breaker, clock, THRESHOLD)
    wait = breaker.enter()
    assert wait is not None
    assert not wait.is_open
    assert wait.seconds == 0.25


async def test_one_attempt_that_nobody_took_pauses_it():
    clock = MovableClock()
    breaker = Breaker(clock, threshold=THRESHOLD)
    breaker.failure(clock.monotonic(), is_away=True)
    assert breaker.state == "closed"
    wait = breaker.enter()
    assert wait is not None
    assert wait.seconds == 0.5
    # Trying again at once would only meet the same.
    assert wait.is_open


async def test_paused_it_lets_one_probe_through_at_a_time_and_after_a_second_another():
    clock = MovableClock()
    breaker = await paused(clock)
    await clock.advance(0.25)
    assert breaker.enter() is None
    for left in (1.0, 0.5):
        wait = breaker.enter()
        assert wait is not None
        assert wait.seconds == left
        await clock.advance(0.5)
    assert breaker.enter() is None


async def test_a_stream_does_not_take_the_place_of_the_probe():
    clock = MovableClock()
    breaker = await paused(clock)
    await clock.advance(0.25)
    assert breaker.enter(is_stream=True) is None
    wait = breaker.enter()
    assert wait is not None
    assert wait.seconds == 0.25
    await clock.advance(0.25)
    assert breaker.enter() is None


async def test_a_good_probe_closes_it():
    clock = MovableClock()
    breaker = await opened(clock)
    wait = breaker.enter()
    assert wait is not None
    await clock.advance(wait.seconds)
    assert breaker.state == "half-open"
    assert breaker.enter() is None
    breaker.success()
    assert breaker.state == "closed"
    assert breaker.is_calm
    assert breaker.enter() is None


async def probes(seconds: float, **what: object) -> list[float]:
    """Return when the probes of an outage go out."""
    clock = MovableClock()
    breaker = await paused(clock)
    began = clock.monotonic()
    moments: list[float] = []
    while clock.monotonic() - began < seconds:
        await probe_badly(breaker, clock, **what)
        moments.append(round(clock.monotonic() - began, 2))
    return moments


async def test_probes_come_early_and_ever_later():
    moments = await probes(200)
    assert moments[:8] == [0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.33, 7.11]
    assert sum(moment <= 20 for moment in moments) == 11
    assert max(after - before for before, after in itertools.pairwise(moments)) == 30.0


@pytest.mark.parametrize("why", [{"is_away": True}, {"retry_after": 1.0}], ids=str)
async def test_cheap_probes_go_out_each_second_for_ten_seconds(why: dict[str, object]):
    moments = await probes(20, **why)
    late = [after - before for before, after in zip([0.0, *moments], moments, strict=False) if after <= 10.5]
    assert max(late) <= 1.0
    assert sum(moment <= 20 for moment in moments) <= 13


async def test_the_server_s_retry_after_is_the_least_wait():
    clock = MovableClock()
    breaker = await paused(clock)
    await probe_badly(breaker, clock, retry_after=7.0)
    wait = breaker.enter()
    assert wait is not None
    assert wait.seconds == 7.0


async def test_the_setting_bounds_the_waits():
    clock = MovableClock()
    breaker = await opened(clock, longest_wait=3.0)
    waits = [await probe_badly(breaker, clock, retry_after=3600.0) for _ in range(8)]
    assert max(waits) == 3.0


async def test_a_success_makes_the_waits_short_again():
    clock = MovableClock()
    breaker = await opened(clock)
    for _ in range(5):
        await probe_badly(breaker, clock)
    breaker.success()
    fail(breaker, clock, THRESHOLD)
    wait = breaker.enter()
    assert wait is not None
    assert wait.seconds == 0.25
    assert not wait.is_open


async def test_after_a_long_silence_the_waits_are_short_again():
    clock = MovableClock()
    breaker = await opened(clock)
    await clock.advance(3600)
    assert breaker.enter() is None
    breaker.failure(clock.monotonic() + 0.01)
    wait = breaker.enter()
    assert wait is not None
    assert wait.seconds == 0.25


@pytest.mark.parametrize(("jitter", "wait"), [(0.0, 2.0), (0.5, 1.9), (1.0, 1.8)])
def test_chance_shortens_a_wait_a_little_so_that_clients_do_not_probe_together(jitter: float, wait: float):
    assert probe_wait(6.0, 30.0, jitter) == pytest.approx(wait)


async def test_an_abandoned_probe_gives_its_place_to_the_next():
    clock = MovableClock()
    breaker = await paused(clock)
    await clock.advance(0.25)
    assert breaker.enter() is None
    breaker.abandon(clock.monotonic())
    assert breaker.enter() is None


async def test_a_straggler_that_fails_late_does_not_prolong_the_wait():
    clock = MovableClock()
    breaker = await paused(clock)
    began = clock.monotonic()
    await clock.advance(0.2)
    breaker.failure(began)
    breaker.abandon(began)
    wait = breaker.enter()
    assert wait is not None
    assert wait.seconds == pytest.approx(0.05)


async def test_a_straggler_that_succeeds_late_closes_it():
    breaker = await opened(MovableClock())
    breaker.success()
    assert breaker.state == "closed"
    assert breaker.enter() is None


async def test_who_waits_is_woken_when_it_closes_and_not_at_the_end_of_the_wait():
    clock = MovableClock()
    breaker = await opened(clock)
    wait = breaker.enter()
    assert wait is not None
    waiting = [asyncio.create_task(breaker.rest(wait)) for _ in range(3)]
    await clock.advance(0)
    assert not any(task.done() for task in waiting)
    breaker.success()
    await clock.advance(0)
    assert all(task.done() for task in waiting)
    assert clock.sleeper_count == 0


async def test_who_waits_in_another_thread_is_woken_too():
    breaker = Breaker(_SystemClock(), threshold=1)
    breaker.failure(time.monotonic())
    wait = breaker.enter()
    assert wait is not None
    thread = threading.Timer(0.02, breaker.success)
    thread.start()
    began = time.monotonic()
    await breaker.rest(wait)
    assert time.monotonic() - began < wait.seconds
    thread.join()


async def test_the_listener_hears_each_change_when_it_has_happened():
    clock = MovableClock()
    heard: list[tuple[str, str, str]] = []
    breaker = Breaker(
        clock,
        threshold=THRESHOLD,
        on_change=lambda old, new: heard.append((old, new, breaker.state)),
    )
    fail(breaker, clock, THRESHOLD)
    while not heard:
        await probe_badly(breaker, clock)
    await probe_badly(breaker, clock)
    breaker.success()
    assert heard == [
        ("closed", "open", "open"),
        ("open", "half-open", "half-open"),
        ("half-open", "open", "open"),
        ("open", "closed", "closed"),
    ]


async def test_a_listener_that_fails_is_logged_and_breaks_nothing(caplog: pytest.LogCaptureFixture):
    def broken_listener(old: str, new: str) -> None:
        raise LookupError("listener")

    clock = MovableClock()
    breaker = Breaker(clock, threshold=1, on_change=broken_listener)
    fail(breaker, clock)
    while breaker.state == "closed":
        await probe_badly(breaker, clock)
    assert "on_breaker_change failed" in caplog.text


async def test_a_service_that_was_never_away_for_a_second_has_no_circuit():
    clock = MovableClock()
    breaker = await paused(clock)
    for _ in range(3):
        assert breaker._circuit is None
        breaker.success()
        assert breaker.enter() is None


async def test_threads_that_fail_together_open_it_once():
    heard: list[str] = []
    clock = MovableClock()
    breaker = Breaker(clock, threshold=THRESHOLD, on_change=lambda _old, new: heard.append(new))
    fail(breaker, clock)
    await clock.advance(2)
    now = clock.monotonic()
    threads = [threading.Thread(target=breaker.failure, args=(now,)) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == ["open"]


class _SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float) -> asyncio.Timeout:
        return asyncio.timeout(seconds)


async def test_a_call_with_deadline_left_waits_for_the_probe(make_rig: MakeRig):
    rig = make_rig(auto=False)
    await rig.warm_up()
    await rig.open_breaker()
    rig.server.then(HIT)
    call = asyncio.create_task(rig.client.redis.get("k"))
    await rig.clock.advance(0.9)
    assert rig.server.calls == []
    await rig.clock.advance(0.2)
    assert await call == 7
    assert rig.breaker() == "closed"


async def test_of_many_callers_one_probes_and_then_all_go_on(make_rig: MakeRig):
    rig = make_rig(auto=False, default=HIT)
    await rig.warm_up()
    await rig.open_breaker()
    rig.server.then(failure(503, "down"))
    calls = [asyncio.create_task(rig.client.redis.get("k")) for _ in range(50)]
    await rig.clock.advance(1.0)
    assert len(rig.server.calls) == 1
    await rig.clock.advance(2.0)
    assert await asyncio.gather(*calls) == [7] * 50


async def test_a_deadline_that_cannot_hold_the_wait_is_refused_at_once_and_says_so(make_rig: MakeRig):
    rig = make_rig(auto=False)
    await rig.warm_up()
    await rig.open_breaker()
    with pytest.raises(CircuitOpenError) as caught:
        await rig.client.redis.set("k", 1, timeout=0.5)
    error = caught.value
    assert isinstance(error, ServiceError)
    assert error.retry_after is not None
    assert 0.9 <= error.retry_after <= 1.0
    assert error.endpoint == "redis.set"
    assert error.attempts == 0
    assert "redis has been failing for 1 s" in error.message
    assert "after the deadline of this call" in (error.hint or "")
    assert rig.server.calls == []


async def test_fail_fast_is_refused_at_once(make_rig: MakeRig):
    rig = make_rig(auto=False, client={"fail_fast": True})
    await rig.warm_up()
    await rig.open_breaker()
    with pytest.raises(CircuitOpenError, match=r"tried again in (1|0\.9\d?) s"):
        await rig.client.redis.get("k", timeout=60)
    assert rig.server.calls == []


async def test_a_block_says_whether_its_calls_fail_fast(make_rig: MakeRig):
    rig = make_rig(auto=False, default=HIT)
    await rig.warm_up()
    await rig.open_breaker()
    with rig.client.deadline(fail_fast=True), pytest.raises(CircuitOpenError):
        await rig.client.redis.get("k")
    with rig.client.deadline(20, fail_fast=True), rig.client.deadline(10, fail_fast=False):
        call = asyncio.create_task(rig.client.redis.get("k"))
    await rig.clock.advance(1.0)
    assert await call == 7


async def test_fail_fast_does_not_wait_for_a_mint_that_fails_either(make_rig: MakeRig):
    rig = make_rig(token_lifetime=60, client={"fail_fast": True}, auto=False)
    await rig.warm_up()
    await rig.clock.advance(100)
    await rig.open_breaker("auth")
    with pytest.raises(CircuitOpenError, match="auth has been failing"):
        await rig.client.redis.get("k")
    assert rig.server.requests == []


async def test_fail_fast_does_not_wait_for_a_mint_that_finds_nobody(make_rig: MakeRig):
    rig = make_rig(token_lifetime=60, client={"fail_fast": True}, auto=False)
    await rig.warm_up()
    await rig.clock.advance(100)
    rig.shared.breaker("auth").failure(rig.clock.monotonic(), is_away=True)
    with pytest.raises(CircuitOpenError, match="auth has been failing"):
        await rig.client.redis.get("k")
    assert rig.server.requests == []


async def test_a_refusal_costs_less_than_a_fifth_of_a_millisecond(make_rig: MakeRig):
    rig = make_rig(auto=False, client={"fail_fast": True})
    await rig.warm_up()
    await rig.open_breaker()

    async def refused(count: int) -> float:
        gc.collect()
        began = time.perf_counter()
        for _ in range(count):
            try:
                await rig.client.redis.get("k")
            except CircuitOpenError:
                continue
        return (time.perf_counter() - began) / count

    await refused(10)
    assert min([await refused(50) for _ in range(5)]) < 0.0002


async def test_a_young_failure_refuses_nobody(make_rig: MakeRig):
    rig = make_rig(auto=False, default=HIT, client={"fail_fast": True})
    await rig.warm_up()
    fail(rig.shared.breaker("redis"), rig.clock, THRESHOLD)
    assert await rig.client.redis.get("k") == 7


async def test_what_failed_is_told_rather_than_that_it_is_not_tried_again(make_rig: MakeRig):
    rig = make_rig(auto=False, default=failure(503, "down"))
    await rig.warm_up()
    breaker = await rig.open_breaker()
    call = asyncio.create_task(rig.client.redis.get("k", timeout=1.5))
    await rig.clock.advance(1.4)
    with pytest.raises(ServiceError, match="down") as caught:
        await call
    assert not isinstance(caught.value, CircuitOpenError)
    assert caught.value.attempts == 1
    assert caught.value.retry_after
    assert breaker.state == "open"


async def test_one_service_s_breaker_does_not_stop_another(make_rig: MakeRig):
    rig = make_rig(auto=False)
    await rig.warm_up()
    await rig.open_breaker()
    rig.server.then(ok({"schemas": ["public"]}))
    assert await rig.client.db.schemas() == ["public"]
    assert rig.client.stats()["breakers"]["db"] == "closed"


async def test_a_cancelled_probe_frees_its_place(make_rig: MakeRig):
    rig = make_rig(auto=False)
    await rig.warm_up()
    await rig.open_breaker()
    await rig.clock.advance(1)
    rig.server.then(hang(), HIT)
    probe = asyncio.create_task(rig.client.redis.get("k"))
    await rig.clock.advance(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert await rig.client.redis.get("k") == 7


async def test_a_caller_that_is_cancelled_while_it_waits_leaves_nothing(make_rig: MakeRig):
    rig = make_rig(auto=False)
    await rig.warm_up()
    breaker = await rig.open_breaker()
    call = asyncio.create_task(rig.client.redis.get("k"))
    await rig.clock.advance(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert rig.clock.sleeper_count == 0
    assert not breaker._waiting


async def test_a_slow_stream_that_goes_out_first_keeps_nobody_from_probing(make_rig: MakeRig):
    rig = make_rig(auto=False, default=HIT)
    await rig.warm_up()
    await rig.open_breaker("db")
    rig.server.then(hang(), ok({"schemas": ["public"]}))
    await rig.clock.advance(1)
    load = asyncio.create_task(rig.client.db.bulk_insert("t", [{"a": 1}]))
    await rig.clock.advance(0)
    call = asyncio.create_task(rig.client.db.schemas())
    await rig.clock.advance(0.3)
    assert await call == ["public"]
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load


@pytest.mark.parametrize("code", [400, 403, 404, 408, 409, 413, 422, 425, 429])
async def test_4xx_never_counts(make_rig: MakeRig, code: int):
    rig = make_rig(default=failure(code))
    await rig.warm_up()
    for _ in range(THRESHOLD * 2):
        with pytest.raises(Exception, match="it failed"):
            await rig.client.redis.get("k")
    assert rig.shared.breaker("redis").is_calm


@pytest.mark.parametrize("code", sorted(ALIVE))
async def test_a_failure_that_shows_a_living_service_never_counts(make_rig: MakeRig, code: str):
    rig = make_rig(default=failure(503, "no", code=code))
    await rig.warm_up()
    for _ in range(THRESHOLD * 2):
        with pytest.raises(DominusError, match="no"):
            await rig.client.redis.get("k")
    assert rig.shared.breaker("redis").is_calm
    attempts = 4 if ALIVE[code] else 1
    assert len(rig.server.calls) == THRESHOLD * 2 * attempts


async def test_a_4xx_ends_a_row_of_failures(make_rig: MakeRig):
    rig = make_rig(*[*[failure(503)] * 3, failure(404)] * 3)
    await rig.warm_up()
    for _ in range(3):
        with pytest.raises(NotFoundError):
            await rig.client.redis.get("k")
    assert rig.breaker() == "closed"


@pytest.mark.parametrize(
    "broken_wire",
    [raises(httpx.ReadError("no")), raises(httpx.ReadTimeout("no")), failure(500), failure(504)],
    ids=str,
)
async def test_calls_that_fail_for_a_second_open_it(make_rig: MakeRig, broken_wire: object):
    rig = make_rig(default=broken_wire)
    await rig.warm_up()
    for _ in range(THRESHOLD + 3):
        with pytest.raises((DominusConnectionError, ServiceError, DominusTimeoutError)):
            await rig.client.redis.get("k")
    assert rig.breaker() != "closed"


async def test_callers_with_short_deadlines_open_it_when_the_server_hangs(make_rig: MakeRig):
    rig = make_rig(auto=False, default=hang())
    await rig.warm_up()
    for _ in range(4):
        calls = [asyncio.create_task(rig.client.redis.get("k", timeout=2)) for _ in range(THRESHOLD)]
        await rig.clock.advance(2.1)
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, (DominusTimeoutError, CircuitOpenError))
    assert rig.breaker() != "closed"


async def test_a_few_timeouts_among_many_answers_do_not(make_rig: MakeRig):
    rig = make_rig(auto=False, default=HIT)
    await rig.warm_up()
    for _ in range(10):
        rig.server.then(hang(), hang(), *[HIT] * 5)
        slow = [asyncio.create_task(rig.client.redis.get("k", timeout=0.9)) for _ in range(2)]
        await rig.clock.advance(0)
        for _ in range(5):
            assert await rig.client.redis.get("k") == 7
        await rig.clock.advance(1)
        for outcome in await asyncio.gather(*slow, return_exceptions=True):
            assert isinstance(outcome, DominusTimeoutError)
    assert rig.shared.breaker("redis").enter() is None


async def test_deadlines_that_no_server_could_keep_tell_nothing(make_rig: MakeRig):
    rig = make_rig(auto=False, default=hang())
    await rig.warm_up()
    for _ in range(THRESHOLD * 2):
        call = asyncio.create_task(rig.client.redis.get("k", timeout=0.01))
        await rig.clock.advance(0.02)
        with pytest.raises(DominusTimeoutError):
            await call
    assert rig.shared.breaker("redis").is_calm


async def test_a_token_that_is_known_lets_other_services_work_while_the_mint_is_down(make_rig: MakeRig):
    rig = make_rig(
        token_lifetime=900, mints=(ok({"access_token": "first", "expires_in": 900}), *[failure(500)] * 40)
    )
    await rig.warm_up()
    await rig.open_breaker("auth")
    rig.server.then(HIT)
    assert await rig.client.redis.get("k") == 7
    assert rig.client.stats()["breakers"] == {"auth": "open", "health": "closed", "redis": "closed"}


async def test_without_a_token_a_caller_waits_for_the_mint_within_its_deadline(make_rig: MakeRig):
    rig = make_rig(token_lifetime=60, auto=False, default=HIT)
    await rig.warm_up()
    await rig.clock.advance(100)
    await rig.open_breaker("auth")
    call = asyncio.create_task(rig.client.redis.get("k"))
    await rig.clock.advance(0.5)
    assert rig.server.requests == []
    await rig.clock.advance(1)
    assert await call == 7


async def test_late_in_an_outage_nobody_is_refused_while_a_probe_is_under_way(make_rig: MakeRig):
    rig = make_rig(auto=False, default=HIT)
    await rig.warm_up()
    breaker = await rig.open_breaker()
    for _ in range(12):
        await probe_badly(breaker, rig.clock)
    wait = breaker.enter()
    assert wait is not None
    await rig.clock.advance(wait.seconds)
    calls = [asyncio.create_task(rig.client.redis.get("k", timeout=1.5)) for _ in range(20)]
    await rig.clock.advance(0)
    assert await asyncio.gather(*calls) == [7] * 20
