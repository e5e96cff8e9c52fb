"""Who gets a connection next."""

from __future__ import annotations

import asyncio

import pytest

from dominus.errors import ServiceError
from dominus.orchestrator.engines.postgres.fair_share import FairShare


def make(size: int = 8, seconds: float = 5.0) -> FairShare:
    return FairShare(size, wait_seconds=seconds, what="connections")


@pytest.mark.parametrize(("size", "most"), [(1, 1), (2, 1), (3, 2), (4, 3), (16, 12), (100, 75)])
async def test_one_caller_never_has_all_unless_there_is_only_one(size: int, most: int):
    share = make(size)
    assert share.most_each == most
    for _ in range(most):
        await share.take("a")
    waiting = asyncio.create_task(share.take("a"))
    await asyncio.sleep(0)
    assert not waiting.done()
    if size > 1:
        await share.take("b")
    waiting.cancel()


async def test_the_caller_that_holds_least_is_next():
    share = make(4)
    for _ in range(3):
        await share.take("a")
    await share.take("b")
    order: list[str] = []

    async def wait(name: str) -> None:
        await share.take(name)
        order.append(name)

    tasks = []
    for name in ("a", "b", "c", "c"):
        tasks.append(asyncio.create_task(wait(name)))
        await asyncio.sleep(0)
    for expected in (["c"], ["c", "a"], ["c", "a", "b"]):
        # Among equals, who came first: of a, b and c with one each that is a.
        share.give("a")
        await asyncio.sleep(0)
        assert order == expected
    share.give("a")
    await asyncio.gather(*tasks)
    assert order[-1] == "c"


async def test_two_that_want_more_than_there_is_have_half_each():
    share = make(8)
    held = {"a": 0, "b": 0}

    async def worker(name: str) -> None:
        for _ in range(50):
            async with share.of(name):
                held[name] += 1
                await asyncio.sleep(0)
                held[name] -= 1

    tasks = [asyncio.create_task(worker(name)) for name in ["a"] * 40 + ["b"] * 40]
    for _ in range(30):
        await asyncio.sleep(0)
    assert abs(held["a"] - held["b"]) <= 2, held
    await asyncio.gather(*tasks)


async def test_who_waits_too_long_is_told_why_and_leaves_no_trace():
    share = make(2, seconds=0.01)
    await share.take("a")
    with pytest.raises(ServiceError, match="this caller uses 1") as own:
        await share.take("a")
    await share.take("b")
    with pytest.raises(ServiceError, match="all 2 connections are busy"):
        await share.take("c")
    assert (own.value.code, own.value.status_code, own.value.retryable) == ("database_busy", 503, True)
    share.give("a")
    share.give("b")
    await share.take("c")
    await share.take("a")


async def test_one_that_was_given_to_a_caller_who_left_goes_to_the_next():
    share = make(2)
    await share.take("a")
    await share.take("b")
    leaving, staying = (asyncio.create_task(share.take(name)) for name in ("c", "d"))
    await asyncio.sleep(0)
    share.give("a")
    leaving.cancel()
    await asyncio.wait_for(staying, 1)
    await asyncio.gather(leaving, return_exceptions=True)
    share.give("d")
    await asyncio.wait_for(share.take("e"), 1)
