"""Locks over a real Redis that is killed, emptied and started again, and over answers that never arrive."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import redis
from redis_peer import RestartableRedis
from tenacity import stop_after_attempt

from dominus import Dominus, RetryPolicy
from dominus.errors import DominusConnectionError, LeaseLostError, LockNotAcquiredError
from dominus.orchestrator.engines.redis.client import RedisEngine
from dominus.testing import LocalOrchestrator, OrchestratorTemplate


async def until(condition: Callable[[], bool], seconds: float, message: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, message
        await asyncio.sleep(0.01)


@dataclass
class Stack:
    """An orchestrator in this process over a redis-server of its own."""

    local: LocalOrchestrator
    server: RestartableRedis

    def client(self, **options: object) -> Dominus:
        return self.local.client(**options)

    @property
    def admin(self) -> redis.Redis:
        return redis.Redis(port=self.server.port)


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RestartableRedis]:
    made = RestartableRedis(tmp_path, list(getattr(request, "param", [])))
    made.start()
    yield made
    made.kill()


@pytest_asyncio.fixture
async def stack(server: RestartableRedis, dominus_orchestrator: OrchestratorTemplate) -> AsyncIterator[Stack]:
    async with LocalOrchestrator(dominus_orchestrator) as local:
        assert local.app is not None
        inside, local.app.resources.redis = local.app.resources.redis, await RedisEngine.open(server.url)
        yield Stack(local, server)
        await local.app.resources.redis.aclose()
        local.app.resources.redis = inside


async def test_a_lock_lost_with_a_redis_that_came_back_empty_is_told_within_two_seconds(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    async with stack.client().redis.lock("job", ttl=3600) as lease:
        lease.check()
        stack.server.kill()
        stack.server.start()
        await until(lambda: lease.is_lost, 2.0, "the loss was not told")
        with pytest.raises(LeaseLostError):
            lease.check()
    assert caplog.text.count("was lost while it was held") == 1


async def test_a_lock_lost_by_flushall_is_told_within_two_seconds(stack: Stack) -> None:
    async with stack.client().redis.lock("job", ttl=3600) as lease:
        with stack.admin as admin:
            admin.flushall()
        await until(lambda: lease.is_lost, 2.0, "the loss was not told")


async def test_the_next_holder_and_the_one_before_never_both_believe_to_hold_it_for_long(
    stack: Stack,
) -> None:
    async with stack.client().redis.lock("job", ttl=3600) as old:
        with stack.admin as admin:
            admin.flushall()
        async with stack.client().redis.lock("job", ttl=3600, wait=5) as new:
            await until(lambda: old.is_lost, 2.0, "the loss was not told")
            assert not new.is_lost
            assert new.fence > old.fence


@pytest.mark.parametrize("server", [["--appendonly", "yes", "--appendfsync", "always"]], indirect=True)
async def test_a_restart_that_kept_the_data_loses_no_lock(stack: Stack) -> None:
    async with stack.client().redis.lock("job", ttl=3600) as lease:
        before = lease.epoch
        stack.server.kill()
        stack.server.start()
        await until(lambda: lease.epoch != before, 5.0, "the restart was not noticed")
        assert not lease.is_lost
        with pytest.raises(LockNotAcquiredError):
            async with stack.client().redis.lock("job", ttl=60):
                pytest.fail("the block ran")


class LostAnswers(httpx.AsyncBaseTransport):
    """A request for a lock arrives and is done, its answer is lost, and nothing arrives after it for a while."""

    def __init__(self, beyond: httpx.AsyncBaseTransport) -> None:
        self._beyond = beyond
        self.is_away = False
        self.lost: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        end = request.url.path.rpartition("/")[2]
        if self.is_away:
            self.lost.append(end)
            raise httpx.ConnectError("connection refused", request=request)
        response = await self._beyond.handle_async_request(request)
        if end == "acquire":
            self.is_away = True
            raise httpx.ReadError("cut", request=request)
        return response


async def test_a_lock_that_was_taken_and_never_told_is_free_when_the_server_is_back(stack: Stack) -> None:
    wire = LostAnswers(httpx.ASGITransport(stack.local.app))  # type: ignore[arg-type]
    other = stack.client()
    unlucky = stack.client(transport=wire, retry=RetryPolicy(stop=stop_after_attempt(1)))
    await unlucky.redis.exists("warm")
    began = time.monotonic()
    with pytest.raises(DominusConnectionError):
        async with unlucky.redis.lock("job", ttl=3600):
            pytest.fail("the block ran")
    assert time.monotonic() - began < 1, "the error comes at once"
    with pytest.raises(LockNotAcquiredError):
        async with other.redis.lock("job"):
            pytest.fail("the block ran")
    await until(lambda: "release" in wire.lost, 5, "no release was tried")
    wire.is_away = False
    began = time.monotonic()
    async with other.redis.lock("job", wait=20) as lease:
        lease.check()
    assert time.monotonic() - began < 5


async def test_who_waits_for_a_lock_waits_for_redis_too(stack: Stack) -> None:
    client = stack.client(retry=RetryPolicy(stop=stop_after_attempt(1)))
    await client.redis.exists("warm")
    stack.server.kill()

    async def work() -> bool:
        async with client.redis.lock("job", ttl=60, wait=60) as lease:
            return lease.is_lost

    working = asyncio.create_task(work())
    await asyncio.sleep(0.3)
    stack.server.start()
    assert await working is False


async def test_a_lock_taken_by_a_caller_that_was_cancelled_is_free_at_once(stack: Stack) -> None:
    client, other = stack.client(), stack.client()
    for number in range(40):
        lock = client.redis.lock(f"job-{number}", ttl=3600)
        entering = asyncio.ensure_future(lock.__aenter__())
        await asyncio.sleep(number * 0.0002)
        entering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await entering
            await lock.__aexit__(None, None, None)
        async with other.redis.lock(f"job-{number}", wait=5) as lease:
            lease.check()
