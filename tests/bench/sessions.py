"""Native sessions against the same drivers on the same servers: redis calls, and COPY."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import psycopg
import redis
import redis.asyncio
from stack import _free_port, dev, median, rate, row

from dominus import Dominus

CALLS = 6_000
SYNC_CALLS = 6_000
COPY_BYTES = 100_000_000
REDIS_PASSWORD = "of-the-benchmark"
CHUNK = b"x" * 65_535 + b"\n"


@contextlib.contextmanager
def _redis_server() -> Iterator[int]:
    with tempfile.TemporaryDirectory(prefix="dominus-bench-") as folder:
        port = _free_port()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        command += ["--requirepass", REDIS_PASSWORD]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                yield port
            finally:
                process.terminate()


def _sync_rate(rd: redis.Redis) -> float:
    began = time.perf_counter()
    for _ in range(SYNC_CALLS):
        rd.get("key")
    return SYNC_CALLS / (time.perf_counter() - began)


async def _chunks() -> AsyncIterator[bytes]:
    for _ in range(COPY_BYTES // len(CHUNK)):
        yield CHUNK


async def _copy_rates(pg: Any) -> tuple[float, float]:
    """Return MB/s into the server and out of it."""
    await pg.execute("CREATE TEMPORARY TABLE IF NOT EXISTS t (line text STORAGE EXTERNAL); TRUNCATE t")
    began = time.perf_counter()
    await pg.copy_to_table("t", source=_chunks())
    half = time.perf_counter()

    async def drop(_: bytes) -> None:
        pass

    await pg.copy_from_table("t", output=drop)
    return COPY_BYTES / (half - began) / 1e6, COPY_BYTES / (time.perf_counter() - half) / 1e6


def _psycopg_rates(pg: psycopg.Connection[Any]) -> tuple[float, float]:
    pg.execute("CREATE TEMPORARY TABLE IF NOT EXISTS t (line text STORAGE EXTERNAL)")
    pg.execute("TRUNCATE t")
    began = time.perf_counter()
    with pg.cursor().copy("COPY t FROM STDIN") as copy:
        for _ in range(COPY_BYTES // len(CHUNK)):
            copy.write(CHUNK)
    half = time.perf_counter()
    with pg.cursor().copy("COPY t TO STDOUT") as copy:
        for _ in copy:
            pass
    return COPY_BYTES / (half - began) / 1e6, COPY_BYTES / (time.perf_counter() - half) / 1e6


Rates = dict[str, list[tuple[float, float]]]


def _show(name: str, unit: str, rates: list[tuple[float, float]]) -> None:
    ratio = median([ours / plain for plain, ours in rates])
    row(name, *(f"{median(list(one)):.0f} {unit}" for one in zip(*rates, strict=True)), f"{ratio:.2f}")


async def run(arguments: argparse.Namespace) -> None:
    row("native client", "plain", "session", "ratio")
    found: Rates = {}
    with (
        _redis_server() as port,
        dev(
            DOMINUS_REDIS_URL=f"redis://:{REDIS_PASSWORD}@127.0.0.1:{port}", DOMINUS_GATEWAY_PORT="0"
        ) as server,
    ):
        plain = redis.asyncio.Redis(port=port, password=REDIS_PASSWORD, decode_responses=True)
        plain_sync = redis.Redis(port=port, password=REDIS_PASSWORD, decode_responses=True)
        direct = await asyncpg.connect(server.dsn)
        direct_sync = psycopg.connect(server.dsn, autocommit=True)
        client = Dominus(server.url, server.token)
        sessions = client.sessions
        sync_redis, sync_postgres = sessions.redis.sync(), sessions.postgres.sync(autocommit=True)
        async with client, sessions.redis() as rd, sessions.postgres() as pg:
            through_redis = await asyncio.to_thread(sync_redis.connect)
            through_postgres = await asyncio.to_thread(sync_postgres.connect)
            await rd.set("key", "value")
            for _ in range(arguments.rounds):
                for callers in (1, 32):
                    pair = [
                        (await rate(lambda one=one: one.get("key"), CALLS, callers))[0] for one in (plain, rd)
                    ]
                    found.setdefault(f"redis asyncio, {callers} callers|/s", []).append((pair[0], pair[1]))
                pair = [await asyncio.to_thread(_sync_rate, one) for one in (plain_sync, through_redis)]
                found.setdefault("redis sync|/s", []).append((pair[0], pair[1]))
                copies = [await _copy_rates(one) for one in (direct, pg)]
                copies_sync = [
                    await asyncio.to_thread(_psycopg_rates, one) for one in (direct_sync, through_postgres)
                ]
                for name, (a, b) in {"asyncpg": copies, "psycopg": copies_sync}.items():
                    for way, place in (("in", 0), ("out", 1)):
                        found.setdefault(f"{name} COPY {way}|MB/s", []).append((a[place], b[place]))
            await asyncio.to_thread(sync_redis.close)
            await asyncio.to_thread(sync_postgres.close)
        await asyncio.gather(plain.aclose(), direct.close())
        plain_sync.close()
        direct_sync.close()
    for name, rates in found.items():
        _show(*name.split("|"), rates)
