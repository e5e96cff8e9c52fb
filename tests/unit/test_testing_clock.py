"""The clock that tests move."""

from __future__ import annotations

import asyncio

import pytest

from dominus.errors import ValidationError
from dominus.testing import MovableClock


async def test_sleepers_wake_in_the_order_of_their_time_not_of_their_start():
    clock, woken = MovableClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic()))

    tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (3.0, 1.0, 2.0)]
    await clock.advance(2.5)
    assert woken == [(1.0, 1001.0), (2.0, 1002.0)]
    await clock.advance(0.5)
    assert woken[-1] == (3.0, 1003.0)
    await asyncio.gather(*tasks)
    assert clock.slept == [3.0, 1.0, 2.0]


async def test_a_task_that_sleeps_again_is_woken_again_within_one_advance():
    clock, count = MovableClock(), 0

    async def ticker() -> None:
        nonlocal count
        while True:
            await clock.sleep(1.0)
            count += 1

    task = asyncio.create_task(ticker())
    await clock.advance(5.0)
    assert count == 5
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.sleeper_count == 0


async def test_a_timeout_ends_its_block_when_the_clock_passes_it_and_not_before():
    clock = MovableClock()

    async def bounded() -> None:
        async with clock.timeout(2.0):
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(bounded())
    await clock.advance(1.9)
    assert not task.done()
    await clock.advance(0.2)
    with pytest.raises(TimeoutError):
        await task


async def test_a_timeout_whose_block_has_ended_disturbs_nobody():
    clock = MovableClock()
    async with clock.timeout(1.0) as scope:
        pass
    await clock.advance(2.0)
    assert not scope.expired()


async def test_an_automatic_clock_sleeps_in_no_time_and_still_ends_timeouts():
    clock = MovableClock(start=0.0, auto=True)

    async def sleep_for_ever() -> None:
        async with clock.timeout(10.0):
            while True:
                await clock.sleep(3.0)

    with pytest.raises(TimeoutError):
        await sleep_for_ever()
    assert clock.slept == [3.0] * 4
    assert clock.monotonic() == 12.0


async def test_time_does_not_go_back():
    with pytest.raises(ValidationError, match="does not go back"):
        await MovableClock().advance(-1)
