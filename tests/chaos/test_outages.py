"""Outages of a real server and of its engines: what callers with the default deadline meet, and how soon it is over."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from forwarder import forwarder
from outage_support import (
    ROOT_TOKEN,
    Callers,
    Engines,
    Increments,
    Server,
    Service,
    calling,
    eventually,
    new_master_key,
    run_engines,
)

from dominus import Dominus
from dominus.errors import DominusTimeoutError

BLIP_SECONDS = 0.36
RunService = Callable[..., Service]


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    with run_engines() as found:
        yield found


@pytest.fixture(scope="module")
def master_key() -> str:
    return new_master_key()


@pytest.fixture
def run_service(engines: Engines, master_key: str, tmp_path: Path) -> Iterator[RunService]:
    """`run_service(has_standby=False, **settings of the server)`."""
    with ExitStack() as stack:

        def run(*, has_standby: bool = False, **settings: str) -> Service:
            servers = [
                Server(engines, tmp_path, master_key, **settings) for _ in range(2 if has_standby else 1)
            ]
            for server in servers:
                stack.callback(server.end)
            for server in servers:
                server.wait()
            front = stack.enter_context(forwarder(servers[0].port))
            return Service(engines, servers[0], servers[1] if has_standby else None, front)

        yield run


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Callable[[Service], Dominus]]:
    """Return clients with the default settings."""
    made: list[Dominus] = []

    def connect(service: Service) -> Dominus:
        made.append(Dominus(service.forwarder.url, ROOT_TOKEN))
        return made[-1]

    yield connect
    for client in made:
        await client.aclose()


Connect = Callable[[Service], Dominus]


async def are_warm(callers: Callers) -> None:
    began = time.monotonic()
    await eventually(lambda: callers.have_all_succeeded_since(began), 10)


async def go_on(callers: Callers, back: float, seconds: float) -> None:
    """Wait until each caller has had a success since the return."""
    ends = back + seconds
    await eventually(lambda: callers.have_all_succeeded_since(back), max(0.0, ends - time.monotonic()))


@pytest.mark.parametrize("count", [1, 16])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
async def test_a_short_restart_fails_no_call(
    run_service: RunService, connect: Connect, how: signal.Signals, count: int
):
    service = run_service(has_standby=True)
    client = connect(service)
    async with calling(Increments(client), count, pause=0.005 * count) as callers:
        await are_warm(callers)
        _, back = await service.outage(BLIP_SECONDS, how)
        await go_on(callers, back, 3)
    assert callers.failures == {}
    assert callers.first_success(back) <= 1


async def test_an_outage_of_seconds_is_waited_out_within_the_default_deadline(
    run_service: RunService, connect: Connect
):
    service = run_service(has_standby=True)
    client = connect(service)
    async with calling(Increments(client), 16, pause=0.05) as callers:
        await are_warm(callers)
        _, back = await service.outage(3)
        await go_on(callers, back, 4)
    assert callers.failures == {}
    assert callers.first_success(back) <= 1


async def test_a_write_asked_for_while_nobody_is_there_is_done_once_when_the_server_is_back(
    run_service: RunService, connect: Connect
):
    service = run_service()
    client = connect(service)
    assert await client.redis.incr("asked-while-away") == 1
    away = asyncio.create_task(service.forwarder.outage(4))
    await asyncio.sleep(0.1)
    assert await client.redis.incr("asked-while-away", timeout=30) == 2
    _, back = await away
    assert time.monotonic() - back <= 1
    assert await client.redis.get("asked-while-away") == 2


async def test_a_lock_asked_for_while_nobody_is_there_is_had_when_the_server_is_back(
    run_service: RunService, connect: Connect
):
    service = run_service()
    client = connect(service)
    await client.health.warmup()
    await client.redis.get("warm")
    away = asyncio.create_task(service.forwarder.outage(2))
    await asyncio.sleep(0.1)
    async with client.redis.lock("asked-while-away", wait=20) as lease:
        _, back = await away
        lease.check()
        assert time.monotonic() - back <= 1


async def test_tables_are_read_again_soon_after_postgres_is_back(run_service: RunService, connect: Connect):
    service = run_service()
    client = connect(service)
    await service.engines.sql("CREATE TABLE IF NOT EXISTS kept (n int)")

    async with calling(lambda _: client.db.query("kept"), 4) as callers:
        await are_warm(callers)
        back = await asyncio.to_thread(service.engines.restart_postgres, 3)
        await go_on(callers, back, 4)
    # The server is there and says what is wrong: that may be raised, and no refusal while a deadline has time left.
    assert "CircuitOpenError" not in callers.failures
    assert callers.first_success(back) <= 1.5


async def test_calls_succeed_at_once_when_a_hanging_redis_goes_on(run_service: RunService, connect: Connect):
    service = run_service()
    client = connect(service)
    async with calling(lambda n: client.redis.get(f"k{n}"), 4) as callers:
        await are_warm(callers)
        back = await service.engines.hang_redis(5)
        await go_on(callers, back, 3)
    assert "CircuitOpenError" not in callers.failures
    assert callers.first_success(back) <= 1


async def test_a_query_that_times_out_never_refuses_one_of_another_table(
    run_service: RunService, connect: Connect
):
    service = run_service(STATEMENT_TIMEOUT="0.2")
    client = connect(service)
    await service.engines.sql(
        "CREATE OR REPLACE VIEW slow AS SELECT 1 AS n FROM pg_sleep(60)",
        "CREATE TABLE IF NOT EXISTS healthy (n int)",
    )
    await client.db.query("healthy")
    for _ in range(4):
        for _ in range(2):
            before = client.stats()["attempts"]
            with pytest.raises(DominusTimeoutError) as caught:
                await client.db.query("slow")
            assert caught.value.code == "statement_timeout"
            assert client.stats()["attempts"] == before + 1, "it would time out again"
        assert await client.db.query("healthy") == {"rows": [], "total": 0}
    assert client.stats()["breakers"]["db"] == "closed"


async def test_a_hung_server_opens_the_breaker_of_callers_with_short_deadlines(
    run_service: RunService, connect: Connect
):
    service = run_service()
    client = connect(service)
    async with calling(lambda n: client.redis.get(f"k{n}", timeout=2), 16, pause=0.05) as callers:
        await are_warm(callers)
        os.kill(service.pid, signal.SIGSTOP)
        try:
            await eventually(lambda: client.stats()["breakers"].get("redis", "closed") != "closed", 10)
        finally:
            os.kill(service.pid, signal.SIGCONT)
        back = time.monotonic()
        await go_on(callers, back, 5)
    assert callers.first_success(back) <= 1.5


async def test_a_hundred_callers_make_few_attempts_at_a_server_that_is_away(
    run_service: RunService, connect: Connect
):
    service = run_service()
    client = connect(service)
    async with calling(lambda n: client.redis.get(f"k{n}"), 100, pause=0.2) as callers:
        await are_warm(callers)
        known = client.stats()["retries"]
        left = service.forwarder.leave()
        # What was sent before the first failure was known is not counted: on a busy machine that may be anything.
        await eventually(lambda: client.stats()["retries"] > known, 5)
        before = client.stats()["attempts"]
        await asyncio.sleep(left + 6 - time.monotonic())
        attempts = client.stats()["attempts"] - before
        back = service.forwarder.listen()
        await go_on(callers, back, 5)
    assert "CircuitOpenError" not in callers.failures
    assert attempts <= 15
    assert callers.first_success(back) <= 1
