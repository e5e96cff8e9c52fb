"""Every call has a deadline, and it covers all of the call."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest
from conftest import MakeRig, Rig

from dominus import Dominus
from dominus.errors import DominusTimeoutError, ValidationError
from dominus.testing import failure, hang, ok, raises

HIT = ok({"found": True, "value": 7})


async def ends_after(rig: Rig, call: object, seconds: float) -> DominusTimeoutError:
    """HomeLock that a call ends with a timeout after so many seconds, and not before."""
    task = asyncio.ensure_future(call)  # type: ignore[arg-type]
    await rig.clock.advance(seconds - 0.01)
    assert not task.done()
    await rig.clock.advance(0.02)
    assert task.done()
    with pytest.raises(DominusTimeoutError) as caught:
        await task
    return caught.value


async def test_a_call_that_names_none_has_thirty_seconds(make_rig: MakeRig):
    rig = make_rig(hang(), auto=False)
    await rig.warm_up()
    await ends_after(rig, rig.client.redis.get("k"), 30.0)


async def test_the_setting_changes_the_default(make_rig: MakeRig):
    rig = make_rig(hang(), auto=False, client={"timeout": 3.0})
    await rig.warm_up()
    await ends_after(rig, rig.client.redis.get("k"), 3.0)


async def test_timeout_ends_a_call_with_a_typed_error_that_is_also_the_built_in_one(make_rig: MakeRig):
    rig = make_rig(hang(), auto=False)
    await rig.warm_up()
    error = await ends_after(rig, rig.client.redis.get("k", timeout=2.0), 2.0)
    assert isinstance(error, TimeoutError)
    assert error.status_code == 504
    assert error.endpoint == "redis.get"
    assert error.attempts == 1
    assert "2 s" in error.message


async def test_it_covers_the_mint(make_rig: MakeRig):
    rig = make_rig(auto=False, mints=(hang(),))
    await ends_after(rig, rig.client.redis.get("k", timeout=2.0), 2.0)


async def test_it_covers_retries_and_sleeping(make_rig: MakeRig):
    rig = make_rig(
        failure(503, headers={"Retry-After": "0.9"}),
        failure(503, headers={"Retry-After": "0.9"}),
        hang(),
        auto=False,
    )
    await rig.warm_up()
    error = await ends_after(rig, rig.client.redis.get("k", timeout=2.0), 2.0)
    assert error.attempts == 3


async def test_a_block_bounds_its_calls_together(make_rig: MakeRig):
    rig = make_rig(failure(503, headers={"Retry-After": "1.5"}), HIT, hang(), auto=False)
    await rig.warm_up()

    async def two_calls() -> None:
        with rig.client.deadline(2.0):
            assert await rig.client.redis.get("k") == 7
            await rig.client.redis.get("k")

    await ends_after(rig, two_calls(), 2.0)


@pytest.mark.parametrize(
    ("outer", "inner", "timeout", "expected"),
    [
        (2.0, 5.0, None, 2.0),
        (5.0, 2.0, None, 2.0),
        (5.0, 4.0, 1.0, 1.0),
        (1.0, 4.0, 9.0, 1.0),
        (90.0, 80.0, None, 30.0),
    ],
)
async def test_of_nested_deadlines_the_nearest_counts(
    make_rig: MakeRig, outer: float, inner: float, timeout: float | None, expected: float
):
    rig = make_rig(hang(), auto=False)
    await rig.warm_up()

    async def nested() -> None:
        with rig.client.deadline(outer), rig.client.deadline(inner):
            await rig.client.redis.get("k", timeout=timeout)

    await ends_after(rig, nested(), expected)


async def test_after_the_block_calls_have_their_usual_time_again(make_rig: MakeRig):
    rig = make_rig(hang(), auto=False)
    await rig.warm_up()

    async def after() -> None:
        with rig.client.deadline(2.0), rig.client.deadline(1.0):
            pass
        await rig.client.redis.get("k")

    await ends_after(rig, after(), 30.0)


async def test_a_block_that_is_spent_sends_nothing(make_rig: MakeRig):
    rig = make_rig()
    await rig.warm_up()
    with rig.client.deadline(1.0):
        await rig.clock.advance(1.5)
        with pytest.raises(DominusTimeoutError, match="nothing was sent"):
            await rig.client.redis.get("k")
    assert rig.server.requests == []


async def test_the_server_is_told_what_is_left_and_it_shrinks(make_rig: MakeRig):
    rig = make_rig(
        failure(503, headers={"Retry-After": "4"}), failure(503, headers={"Retry-After": "4"}), HIT
    )
    await rig.warm_up()
    await rig.client.redis.get("k", timeout=10.0)
    assert [call.headers["dominus-deadline-ms"] for call in rig.server.calls] == ["10000", "6000", "2000"]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "soon", []])
async def test_what_is_no_duration_is_refused_before_anything_is_sent(make_rig: MakeRig, seconds: object):
    rig = make_rig(HIT, HIT)
    with pytest.raises(ValidationError, match="timeout"):
        await rig.client.redis.get("k", timeout=seconds)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="timeout"), rig.client.deadline(seconds):  # type: ignore[arg-type]
        pass
    assert rig.server.calls == []


async def test_an_infinite_deadline_is_allowed(make_rig: MakeRig):
    rig = make_rig(HIT)
    assert await rig.client.redis.get("k", timeout=float("inf")) == 7


async def test_the_caller_s_own_asyncio_timeout_stays_the_caller_s(make_rig: MakeRig):
    rig = make_rig(hang(), auto=False)
    await rig.warm_up()
    with pytest.raises(TimeoutError) as caught:
        async with rig.clock.timeout(0):
            await rig.client.redis.get("k")
    assert not isinstance(caught.value, DominusTimeoutError)


async def test_a_deadline_is_not_inherited_by_a_block_of_another_task(make_rig: MakeRig):
    rig = make_rig(hang(), auto=False)
    await rig.warm_up()
    entered = asyncio.Event()

    async def bounded() -> None:
        with rig.client.deadline(1.0):
            entered.set()
            await asyncio.get_running_loop().create_future()

    neighbour = asyncio.create_task(bounded())
    await entered.wait()
    await ends_after(rig, rig.client.redis.get("k"), 30.0)
    neighbour.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await neighbour


async def test_a_timeout_of_the_wire_itself_is_typed(make_rig: MakeRig):
    rig = make_rig(default=raises(httpx.ReadTimeout("slow")))
    await rig.warm_up()
    with pytest.raises(DominusTimeoutError, match="timed out"):
        await rig.client.redis.get("k")


async def test_the_deadline_works_with_the_machine_s_own_clock():
    transport = httpx.MockTransport(_never)
    client = Dominus("https://dominus.test", "t" * 43, transport=transport)
    with pytest.raises(DominusTimeoutError):
        await client.redis.get("k", timeout=0.02)
    with pytest.raises(DominusTimeoutError), client.deadline(0.02):
        await client.redis.get("k")
    await client.aclose()


async def _never(_request: httpx.Request) -> httpx.Response:
    await asyncio.get_running_loop().create_future()
    raise AssertionError
