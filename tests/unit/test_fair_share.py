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


HOT, COLD = ("public", "hot"), ("public", "cold")


@pytest.mark.parametrize(
    ("size", "most"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 4), (8, 5), (16, 9), (100, 57)]
)
async def test_one_table_never_has_all_of_its_callers_share_unless_that_is_one(size: int, most: int):
    share = make(size)
    assert share.most_of_table == most
    for _ in range(most):
        await share.take("a", HOT)
    waiting = asyncio.create_task(share.take("a", HOT))
    await asyncio.sleep(0)
    assert not waiting.done()
    if size > 2:
        await share.take("a", COLD)
    if size > 1:
        # Another caller's statements of the same table have their own bound.
        await share.take("b", HOT)
    waiting.cancel()


async def test_of_a_callers_tables_the_one_that_holds_least_is_next():
    share = make(4)
    await share.take("b")
    await share.take("a", HOT)
    await share.take("a", HOT)
    await share.take("a", COLD)
    order: list[str] = []

    async def wait(name: str, table: tuple[str, str]) -> None:
        await share.take(name, table)
        order.append(f"{name} {table[1]}")

    tasks: list[asyncio.Task[None]] = []
    for table in (HOT, HOT, COLD, COLD):
        tasks.append(asyncio.create_task(wait("a", table)))
        await asyncio.sleep(0)
    # hot keeps two at most; cold came later, and holds less.
    for given, expected in ((COLD, "a cold"), (HOT, "a hot"), (COLD, "a cold")):
        share.give("a", given)
        await asyncio.sleep(0)
        assert order.pop() == expected
    assert not order
    share.give("a", HOT)
    await asyncio.wait_for(asyncio.gather(*tasks), 1)


async def test_a_caller_whose_tables_have_all_they_may_does_not_hold_up_the_next():
    share = make(8)
    for _ in range(share.most_of_table):
        await share.take("a", HOT)
    for _ in range(3):
        await share.take("b", COLD)
    first = asyncio.create_task(share.take("a", HOT))
    await asyncio.sleep(0)
    second = asyncio.create_task(share.take("c", HOT))
    await asyncio.sleep(0)
    share.give("b", COLD)
    await asyncio.wait_for(second, 1)
    assert not first.done()
    share.give("a", HOT)
    await asyncio.wait_for(first, 1)


async def test_who_waits_too_long_for_a_table_is_told_which():
    share = make(4, seconds=0.01)
    for _ in range(2):
        await share.take("a", HOT)
    with pytest.raises(ServiceError, match=r"uses 2 connections for the table public\.hot"):
        await share.take("a", HOT)
    assert share.held_by("a", HOT) == 2


async def test_a_smaller_size_takes_nothing_away_and_a_larger_one_serves_who_waits():
    share = make(8)
    for _ in range(4):
        await share.take("a")
    share.resize(2)
    waiting = [asyncio.create_task(share.take(name)) for name in ("b", "c")]
    for _ in range(2):
        share.give("a")
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
    share.give("a")
    await asyncio.wait_for(waiting[0], 1)
    assert not waiting[1].done()
    share.resize(4)
    await asyncio.wait_for(waiting[1], 1)
    assert (share.held_by("a"), share.most_each) == (1, 3)
