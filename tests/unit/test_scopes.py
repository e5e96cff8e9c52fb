"""Deadlines under one timer: they end what `asyncio.timeout` ends, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from dominus.transport.scopes import Scopes

Make = Callable[[float], Any]


@pytest.fixture(params=["ours", "asyncio"])
async def make(request: pytest.FixtureRequest) -> Make:
    """Every rule here is one that asyncio's own timeout keeps too."""
    return Scopes().timeout if request.param == "ours" else asyncio.timeout


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_a_block_that_lasts_too_long_ends_with_timeout_error(make: Make):
    scope = make(0.01)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with scope:
            await forever()
    assert scope.expired()
    assert 0.009 <= time.monotonic() - began < 2
    assert asyncio.current_task().cancelling() == 0


async def test_a_block_in_time_is_left_alone(make: Make):
    scope = make(0.01)
    async with scope:
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)
    assert not scope.expired()


async def test_its_own_error_goes_through(make: Make):
    with pytest.raises(LookupError):
        async with make(5):
            raise LookupError


async def test_a_cancellation_from_outside_stays_one(make: Make):
    entered = asyncio.Event()

    async def bounded() -> None:
        async with make(5):
            entered.set()
            await forever()

    task = asyncio.create_task(bounded())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_from_outside_at_the_same_time_is_not_lost(make: Make):
    async def bounded() -> None:
        async with make(0.01):
            try:
                await forever()
            finally:
                asyncio.current_task().cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(bounded())


@pytest.mark.parametrize(("outer", "inner"), [(0.01, 5.0), (5.0, 0.01)])
async def test_of_two_nested_the_one_that_passed_ends(make: Make, outer: float, inner: float):
    first, second = make(outer), make(inner)
    with pytest.raises(TimeoutError):
        async with first, second:
            await forever()
    assert [first.expired(), second.expired()] == [outer < inner, inner < outer]


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_an_end_that_has_passed_ends_at_the_first_wait(make: Make, seconds: float):
    with pytest.raises(TimeoutError):
        async with make(seconds):
            await forever()


async def test_an_infinite_one_never_ends():
    scopes = Scopes()
    async with scopes.timeout(float("inf")):
        await asyncio.sleep(0)
    assert scopes._timer is None


async def test_each_ends_in_its_own_time_whatever_the_order():
    scopes = Scopes()
    ended: dict[float, float] = {}
    began = time.monotonic()

    async def bounded(seconds: float) -> None:
        try:
            async with scopes.timeout(seconds):
                await forever()
        except TimeoutError:
            ended[seconds] = time.monotonic() - began

    waits = [0.09, 0.03, 0.06, 0.03, 0.12]
    await asyncio.gather(*(bounded(seconds) for seconds in waits))
    assert sorted(ended) == sorted(set(waits))
    for seconds, took in ended.items():
        assert seconds <= took < seconds + 1
    assert not scopes._open
    assert scopes._timer is None


async def test_a_thousand_blocks_that_are_left_in_time_start_one_timer(monkeypatch: pytest.MonkeyPatch):
    loop, started = asyncio.get_running_loop(), 0
    call_later = loop.call_later

    def counted(*arguments: Any, **options: Any) -> asyncio.TimerHandle:
        nonlocal started
        started += 1
        return call_later(*arguments, **options)

    monkeypatch.setattr(loop, "call_later", counted)
    scopes = Scopes()
    for _ in range(1000):
        async with scopes.timeout(30):
            pass
    assert started == 1
    scopes.close()


async def test_after_close_it_can_be_used_again():
    scopes = Scopes()
    async with scopes.timeout(30):
        scopes.close()
    with pytest.raises(TimeoutError):
        async with scopes.timeout(0.01):
            await forever()
