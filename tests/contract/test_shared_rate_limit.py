"""One rate for all workers and replicas: leased from a real Redis, exact near the limit, asked for nothing far below it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis_peer import redis_server
from server_support import Server, make_server, process_resources

from dominus.orchestrator.engines.redis.client import RedisEngine
from dominus.orchestrator.net.shared_rate_limit import Ask, SharedRateLimiter

__all__ = ["make_server", "process_resources"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def redis_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with redis_server(tmp_path_factory.mktemp("redis")) as found:
        yield found


def asking(engine: RedisEngine, rate: float, burst: float, asked: list[float] | None = None) -> Ask:
    async def ask(name: str, wanted: float, on_credit: float) -> tuple[float, float]:
        if asked is not None:
            asked.append(wanted)
        given, level = await engine.run("rate", [f"test:{name}"], ("", 0, rate, burst, wanted, on_credit))
        return float(given), float(level)

    return ask


@contextlib.asynccontextmanager
async def workers(url: str, count: int, rate: float, burst: float) -> AsyncIterator[list[SharedRateLimiter]]:
    """As many limiters as there are workers, each with its own connection."""
    engines = [await RedisEngine.open(url) for _ in range(count)]
    limiters = [SharedRateLimiter(rate, burst, asking(engine, rate, burst)) for engine in engines]
    try:
        yield limiters
    finally:
        for limiter, engine in zip(limiters, engines, strict=True):
            await limiter.aclose()
            await engine.aclose()


async def taken(limiter: SharedRateLimiter, name: str) -> float:
    wait = limiter.take(name)
    return await limiter.wait_for(name) if wait is None else wait


async def greedy(limiter: SharedRateLimiter, name: str, until: float) -> int:
    """Take as much as there is; returns how much that was."""
    admitted = 0
    while time.monotonic() < until:
        wait = await taken(limiter, name)
        if wait:
            await asyncio.sleep(min(wait, 0.005))
        else:
            admitted += 1
        if admitted % 50 == 0:
            await asyncio.sleep(0)
    return admitted


@pytest.mark.parametrize(("rate", "burst"), [(500.0, 300), (2000.0, 1000), (50.0, 20)])
async def test_three_workers_admit_together_what_the_rate_says(
    rate: float, burst: int, redis_peer: tuple[str, object]
) -> None:
    name = f"greedy-{rate}"
    async with workers(redis_peer[0], 3, rate, burst) as limiters:
        began = time.monotonic()
        counts = await asyncio.gather(*(greedy(limiter, name, began + 2.0) for limiter in limiters))
        seconds = time.monotonic() - began
    allowed = burst + rate * seconds
    assert allowed * 0.93 < sum(counts) < allowed * 1.04 + 3, (counts, allowed)
    # What one worker gives is not what another lacks for ever.
    assert min(counts) > 0


async def test_a_caller_far_below_the_rate_never_waits_for_redis(redis_peer: tuple[str, object]) -> None:
    asked: list[float] = []
    engine = await RedisEngine.open(redis_peer[0])
    limiter = SharedRateLimiter(2000.0, 5000, asking(engine, 2000.0, 5000, asked))
    try:
        for _ in range(300):
            assert limiter.take("calm") == 0.0
            await asyncio.sleep(0.002)
    finally:
        await limiter.aclose()
        await engine.aclose()
    assert len(asked) <= 300 / 10, "one question serves many requests"


async def test_many_waiting_at_once_share_a_question(redis_peer: tuple[str, object]) -> None:
    asked: list[float] = []
    engine = await RedisEngine.open(redis_peer[0])
    limiter = SharedRateLimiter(20.0, 500, asking(engine, 20.0, 500, asked))
    try:
        began = time.monotonic()
        waits = await asyncio.gather(*(taken(limiter, "crowd") for _ in range(400)))
        assert waits.count(0.0) == 400
        more = await asyncio.gather(*(taken(limiter, "crowd") for _ in range(400)))
        allowed = 100 + 20 * (time.monotonic() - began)
        assert 99 <= more.count(0.0) <= allowed + 1, "the rest is refused, not made to wait"
        assert all(0.0 <= wait < 2 for wait in more)
    finally:
        await limiter.aclose()
        await engine.aclose()
    assert len(asked) <= 20


async def test_tokens_that_are_not_used_go_back(redis_peer: tuple[str, object]) -> None:
    now = [0.0]
    engine = await RedisEngine.open(redis_peer[0])
    brought_back: list[float] = []

    async def ask(name: str, wanted: float, on_credit: float) -> tuple[float, float]:
        brought_back.append(on_credit)
        return wanted, 1000.0

    limiter = SharedRateLimiter(1000.0, 1000, ask, lambda: now[0])
    try:
        assert limiter.take("idle") == 0.0
        await asyncio.sleep(0.01)
        now[0] = 60.0
        assert limiter.take("idle") == 0.0
        await asyncio.sleep(0.01)
    finally:
        await limiter.aclose()
        await engine.aclose()
    assert brought_back[0] == 1.0
    assert brought_back[1] < -10


async def test_without_redis_each_worker_counts_alone_and_no_request_waits_long(tmp_path: Path) -> None:
    with redis_server(tmp_path) as (url, process):
        async with workers(url, 2, 100.0, 50) as limiters:
            assert await taken(limiters[0], "x") == 0.0
            process.send_signal(signal.SIGSTOP)
            try:
                began = time.monotonic()
                counts = [0, 0]
                for index, limiter in enumerate(limiters):
                    for _ in range(200):
                        counts[index] += await taken(limiter, "y") == 0.0
                assert time.monotonic() - began < 3
                assert all(50 <= count <= 150 for count in counts), counts
            finally:
                process.send_signal(signal.SIGCONT)


async def test_two_servers_on_one_redis_share_the_limit_of_a_principal(
    make_server: Callable[..., Awaitable[Server]], redis_peer: tuple[str, object]
) -> None:
    rate, burst = 150.0, 100
    url = SecretStr(redis_peer[0])
    servers = [await make_server(redis_url=url, rate_limit=rate, rate_burst=burst) for _ in range(2)]
    token = servers[0].token(subject="two-servers")
    began = time.monotonic()

    async def ask(server: Server) -> int:
        admitted = 0
        while time.monotonic() < began + 2.0:
            reply = await server("GET", "/api/health/ping", token=token)
            assert reply.status in {200, 429}
            admitted += reply.status == 200
            if reply.status == 429:
                await asyncio.sleep(0.002)
        return admitted

    counts = await asyncio.gather(*(ask(server) for server in servers))
    allowed = burst + rate * (time.monotonic() - began)
    assert allowed * 0.9 < sum(counts) < allowed * 1.05, (counts, allowed)


async def test_a_user_named_like_an_address_takes_no_share_of_it(
    make_server: Callable[..., Awaitable[Server]],
) -> None:
    server = await make_server(rate_limit=0.5, rate_burst=2)
    token = server.token(subject="address:10.9.9.9")
    for _ in range(3):
        await server("GET", "/api/health/ping", token=token)
    assert (await server("GET", "/api/health", token=None, address="10.9.9.9")).status == 200
