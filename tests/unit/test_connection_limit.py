"""How many connections a pool asks PostgreSQL for after it was refused one."""

from __future__ import annotations

import asyncio

import pytest

from dominus.orchestrator.engines.postgres import connection_limit
from dominus.orchestrator.engines.postgres.connection_limit import ConnectionLimit


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limit, "REFUSED_SECONDS", 0.02)
    monkeypatch.setattr(connection_limit, "EMPTY_SECONDS", 0.01)


async def test_after_a_pause_one_more_is_tried_and_each_that_is_given_allows_the_next():
    raised = asyncio.Event()
    limit = ConnectionLimit(10, raised.set)
    seen: list[int] = []
    limit.watch(seen.append)
    limit.refused(7)
    assert limit.current == 7
    await asyncio.wait_for(raised.wait(), 1)
    assert limit.current == 8
    for open_count in (8, 9, 10):
        limit.opened(open_count)
    assert limit.current == 10
    assert seen == [7, 8, 9, 10]


async def test_of_a_burst_those_that_were_given_count_and_no_other_is_tried():
    raised = asyncio.Event()
    limit = ConnectionLimit(10, raised.set)
    limit.refused(2)
    limit.opened(3)
    limit.refused(3)
    limit.opened(4)
    assert limit.current == 4
    assert not raised.is_set()
    limit.close()


async def test_a_pool_without_any_is_told_when_to_try():
    raised = asyncio.Event()
    limit = ConnectionLimit(10, raised.set)
    limit.refused(0)
    assert (limit.current, limit.was_refused(5)) == (0, True)
    await asyncio.wait_for(raised.wait(), 1)
    assert limit.current == 1


async def test_closed_it_tries_nothing_any_more():
    raised = asyncio.Event()
    limit = ConnectionLimit(10, raised.set)
    limit.refused(3)
    limit.close()
    await asyncio.sleep(0.03)
    assert not raised.is_set()
    assert limit.current == 10
