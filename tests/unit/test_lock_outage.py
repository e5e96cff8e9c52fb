"""`redis.lock` while the server is away: what may have been taken is given back, and `wait` covers the outage."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from typing import Any

import httpx
import pytest
from conftest import TOKEN, URL, MakeRig, Rig

from dominus import Dominus
from dominus.errors import (
    AuthorizationError,
    CircuitOpenError,
    DominusConnectionError,
    DominusError,
    DominusTimeoutError,
    LockNotAcquiredError,
    RateLimitError,
    ServiceError,
    ValidationError,
)
from dominus.namespaces import returns
from dominus.namespaces.claim import may_be_taken
from dominus.namespaces.lock import pause_after
from dominus.testing import ScriptedTransport, failure, hang, ok, raises

GRANT = ok({"acquired": True, "fence": 12})
TAKEN = ok({"acquired": False})
HELD = ok({"held": True})
NOT_HELD = ok({"held": False})
IMPATIENT = {"timeout": 2, "cold_start_timeout": 2}
BROKEN = raises(httpx.ReadError("cut"))


def paths(rig: Rig) -> list[str]:
    return [call.path.rpartition("/")[2] for call in rig.server.calls]


def owners(rig: Rig) -> set[str]:
    return {call.body["owner"] for call in rig.server.calls}


async def enter(rig: Rig, **options: Any) -> None:
    async with rig.client.redis.lock("job", **options):
        pytest.fail("the block ran")


def others() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


# --- what may have been taken is given back


async def test_after_a_lost_answer_the_error_comes_at_once_and_the_lock_is_released_later(make_rig: MakeRig):
    rig = make_rig(default=BROKEN, client=IMPATIENT, auto=False)
    entering = asyncio.create_task(enter(rig))
    while "release" not in paths(rig):
        await rig.clock.advance(0.1)
    with pytest.raises(DominusConnectionError):
        await entering
    await rig.clock.advance(3)
    rig.server.default = HELD
    await rig.clock.advance(9)
    assert owners(rig) == {rig.server.calls[0].body["owner"]}
    assert others() == set()


async def test_the_release_is_tried_until_the_server_is_back_and_no_longer_than_a_minute(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(returns, "RELEASE_SECONDS", 0.5)
    rig = make_rig(hang(), default=BROKEN, client=IMPATIENT, auto=False)
    entering = asyncio.create_task(enter(rig))
    await rig.clock.advance(2.0)
    with pytest.raises(DominusTimeoutError):
        await entering
    assert len(others()) == 1
    await rig.clock.advance(40)
    assert len(others()) == 1, "it goes on"
    await rig.clock.advance(40)
    assert others() == set()
    assert "releasing the lock 'job' failed, it ends in at most 60 s" in caplog.text


async def test_a_release_that_found_nothing_is_made_again_for_the_request_may_come_after_it(
    make_rig: MakeRig,
):
    rig = make_rig(hang(), NOT_HELD, HELD, client=IMPATIENT, auto=False)
    entering = asyncio.create_task(enter(rig))
    await rig.clock.advance(2.0)
    with pytest.raises(DominusTimeoutError):
        await entering
    await rig.clock.advance(30)
    assert paths(rig) == ["acquire", "release", "release"]


async def test_a_cancelled_caller_is_not_delayed_by_a_server_that_hangs(make_rig: MakeRig):
    rig = make_rig(default=hang(), auto=False)
    entering = asyncio.create_task(enter(rig))
    await rig.clock.advance(0)
    entering.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert time.monotonic() - began < 2
    assert paths(rig) == ["acquire", "release"]
    rig.server.default = HELD
    await rig.clock.advance(10)
    assert others() == set()


@pytest.mark.parametrize(
    "answer", [failure(403, "no"), failure(404, "none"), failure(400, "bad"), TAKEN], ids=lambda _: ""
)
async def test_nothing_is_released_after_a_certain_refusal(make_rig: MakeRig, answer: Any):
    rig = make_rig(answer, auto=False)
    with pytest.raises(DominusError):
        await enter(rig)
    await rig.clock.advance(1)
    assert paths(rig) == ["acquire"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValidationError("bad"), False),
        (AuthorizationError("no", attempts=1), False),
        (AuthorizationError("no", attempts=2), True),
        (CircuitOpenError("open", attempts=1), False),
        (CircuitOpenError("open", attempts=3), True),
        (RateLimitError("slow", attempts=1), False),
        (ServiceError("redis_unavailable", status_code=503, attempts=1), True),
        (DominusTimeoutError("late", attempts=1), True),
        (DominusTimeoutError("nothing was sent"), False),
        (DominusConnectionError("cut", attempts=1), True),
        (DominusError("gone", status_code=408, attempts=1), True),
    ],
    ids=repr,
)
def test_which_failures_may_have_taken_the_lock(error: DominusError, expected: bool):
    assert may_be_taken(error) is expected


async def test_closing_the_client_ends_a_release_without_a_word(
    make_rig: MakeRig, caplog: pytest.LogCaptureFixture
):
    rig = make_rig(hang(), default=hang(), client=IMPATIENT, auto=False)
    entering = asyncio.create_task(enter(rig))
    await rig.clock.advance(2.0)
    with pytest.raises(DominusTimeoutError):
        await entering
    assert len(others()) == 1
    await rig.client.aclose()
    assert others() == set()
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []


@pytest.mark.parametrize("is_shut_down", [True, False])
def test_a_loop_that_ends_under_a_release_is_quiet(caplog: pytest.LogCaptureFixture, is_shut_down: bool):
    async def main() -> None:
        server = ScriptedTransport(failure(500), default=hang())
        client = Dominus(URL, TOKEN, transport=server, timeout=0.2, cold_start_timeout=0.2)
        with pytest.raises(DominusError):
            async with client.redis.lock("job"):
                pytest.fail("the block ran")
        while not any("release" in call.path for call in server.calls):
            await asyncio.sleep(0)

    if is_shut_down:
        asyncio.run(main())
    else:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        del loop
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


async def test_a_release_in_the_background_never_ends_a_later_lock_of_the_same_owner(make_rig: MakeRig):
    rig = make_rig(hang(), BROKEN, default=NOT_HELD, client=IMPATIENT, auto=False)
    rig.server.then(BROKEN, BROKEN, BROKEN)
    entering = asyncio.create_task(enter(rig, owner="worker-17"))
    await rig.clock.advance(2.0)
    with pytest.raises(DominusTimeoutError):
        await entering
    await rig.clock.advance(1.5)
    assert paths(rig)[:2] == ["acquire", "release"]
    rig.server._steps.clear()
    rig.server.then(lambda _: GRANT)
    rig.server.default = HELD

    async def work() -> int:
        async with rig.client.redis.lock("job", owner="worker-17"):
            count = len(rig.server.calls)
            await rig.clock.sleep(15)
            return len(rig.server.calls) - count

    working = asyncio.create_task(work())
    await rig.clock.advance(17)
    assert await working == 0, "nobody released it while it was held"


async def test_one_object_has_another_owner_each_time_it_is_entered(make_rig: MakeRig):
    rig = make_rig(GRANT, HELD, GRANT, HELD, auto=False)
    lock = rig.client.redis.lock("job")
    for _ in range(2):
        async with lock:
            pass
    assert len(owners(rig)) == 2


async def test_a_lock_whose_release_failed_is_released_later(make_rig: MakeRig):
    rig = make_rig(GRANT, default=BROKEN, auto=False)

    async def work() -> None:
        async with rig.client.redis.lock("job"):
            pass

    working = asyncio.create_task(work())
    await rig.clock.advance(6)
    await working
    rig.server.default = HELD
    await rig.clock.advance(30)
    assert others() == set()


# --- wait covers an outage


async def test_wait_goes_on_through_an_outage_with_the_same_owner(make_rig: MakeRig):
    rig = make_rig(*[failure(503)] * 9, TAKEN, GRANT, default=HELD, auto=False)
    await rig.warm_up()
    held: list[int] = []

    async def work() -> None:
        async with rig.client.redis.lock("job", wait=300) as lease:
            held.append(lease.fence)
            await rig.clock.sleep(1)

    working = asyncio.create_task(work())
    await rig.clock.advance(200)
    await working
    assert held == [12]
    assert len(owners(rig)) == 1
    assert paths(rig).count("release") == 1


async def test_when_the_wait_is_over_the_last_error_is_told(make_rig: MakeRig):
    rig = make_rig(TAKEN, default=failure(503, "still away"))
    await rig.warm_up()
    began = rig.clock.monotonic()
    with pytest.raises(ServiceError):
        await enter(rig, wait=10)
    assert rig.clock.monotonic() - began >= 5


async def test_when_the_last_answer_was_that_another_holds_it_that_is_told(make_rig: MakeRig):
    rig = make_rig(failure(500), failure(500), failure(500), failure(500), default=TAKEN)
    await rig.warm_up()
    with pytest.raises(LockNotAcquiredError):
        await enter(rig, wait=10)


@pytest.mark.parametrize("answer", [failure(403, "no"), failure(400, "bad")], ids=["403", "400"])
async def test_a_failure_that_will_stay_ends_the_wait(make_rig: MakeRig, answer: Any):
    rig = make_rig(answer, auto=False)
    with pytest.raises(DominusError):
        await enter(rig, wait=60)
    assert len(rig.server.calls) == 1


async def test_the_deadline_of_a_block_ends_the_wait(make_rig: MakeRig):
    rig = make_rig(default=failure(503), auto=False)

    async def work() -> None:
        with rig.client.deadline(3):
            await enter(rig, wait=600)

    working = asyncio.create_task(work())
    await rig.clock.advance(5)
    assert working.done()
    with pytest.raises(DominusError):
        await working
    rig.server.default = HELD
    await rig.clock.advance(60)


async def test_a_call_may_use_what_is_left_of_the_wait(make_rig: MakeRig):
    rig = make_rig(hang(), auto=False, client=IMPATIENT, default=HELD)
    await rig.warm_up()
    entering = asyncio.create_task(enter(rig, wait=50))
    await rig.clock.advance(49)
    assert not entering.done()
    assert int(rig.server.calls[0].headers["dominus-deadline-ms"]) == 50_000
    await rig.clock.advance(2)
    with pytest.raises(DominusTimeoutError):
        await entering


async def test_a_grant_that_came_when_its_life_was_nearly_over_is_asked_for_again(make_rig: MakeRig):
    rig = make_rig(GRANT, default=HELD, auto=False)
    await rig.warm_up()
    answer = rig.server.handle_async_request

    async def slow(request: httpx.Request) -> httpx.Response:
        # The server answers the first request for the lock after 58 s.
        is_first = rig.server.calls == []
        response = await answer(request)
        if is_first:
            await rig.clock.sleep(58)
            rig.server.then(GRANT)
        return response

    rig.server.handle_async_request = slow  # type: ignore[method-assign]

    async def work() -> float:
        async with rig.client.redis.lock("job", ttl=60, wait=200) as lease:
            return lease.left()

    working = asyncio.create_task(work())
    await rig.clock.advance(59)
    assert await working == pytest.approx(60)
    assert paths(rig) == ["acquire", "acquire", "release"]


@pytest.mark.parametrize(
    ("error", "left", "expected"),
    [
        (ServiceError("away", status_code=503), 60.0, 0.25),
        (ServiceError("away", status_code=503, retry_after=7.0), 60.0, 7.0),
        (ServiceError("away", status_code=503, retry_after=70.0), 60.0, None),
        (ServiceError("away", status_code=503), 0.1, 0.1),
        (ServiceError("away", status_code=503), 0.0, None),
        (AuthorizationError("no"), 60.0, None),
    ],
)
def test_the_pause_after_a_failure(error: DominusError, left: float, expected: float | None):
    assert pause_after(error, 1, left, 0.0) == expected


def test_pauses_grow_to_a_second():
    error = DominusConnectionError("cut")
    pauses = [pause_after(error, count, 600.0, 1.0) for count in (1, 2, 3, 1000)]
    assert pauses == [0.5, 1.0, 1.0, 1.0]
