"""Streams of rows over real sockets: they end with who reads them, and a server that dies is told as what it is."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from live_support import Live, live, running

from dominus import Dominus
from dominus.errors import DominusConnectionError, DominusTimeoutError

__all__ = ["live"]
MANY = "SELECT g AS n, repeat('x', 200) AS t FROM (SELECT generate_series(1, 100000000) AS g) s"
READ = f"{MANY} WHERE NOT EXISTS (SELECT FROM streamed WHERE id = g)"
RUNNING = """
SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE c.relname = 'streamed' AND l.pid <> pg_backend_pid()
"""


class Watcher:
    """Looks at PostgreSQL past the orchestrator: a statement holds a lock on what it reads."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def until_running(self, *, is_running: bool) -> None:
        async with asyncio.timeout(10):
            while bool(await self._connection.fetchval(RUNNING)) is not is_running:
                await asyncio.sleep(0.02)


@pytest.fixture
async def watcher(live: Live, client: Dominus) -> AsyncIterator[Watcher]:
    connection = await asyncpg.connect((live.home / "dsn").read_text().strip())
    await client.open.execute("CREATE TABLE IF NOT EXISTS streamed (id int)")
    yield Watcher(connection)
    await connection.close()


@pytest.fixture
async def client(live: Live) -> AsyncIterator[Dominus]:
    async with Dominus(url=live.url, token=live.psk) as made:
        yield made


async def test_who_leaves_a_stream_ends_its_statement_on_the_server(
    client: Dominus, watcher: Watcher
) -> None:
    async for row in client.open.stream(READ):
        if row["n"] == 5000:
            await watcher.until_running(is_running=True)
            break
    await watcher.until_running(is_running=False)


async def test_a_reader_that_is_cancelled_ends_its_statement_on_the_server(
    client: Dominus, watcher: Watcher
) -> None:
    async def read() -> None:
        async for _ in client.open.stream(READ):
            pass

    reading = asyncio.create_task(read())
    await watcher.until_running(is_running=True)
    reading.cancel()
    await asyncio.wait({reading})
    await watcher.until_running(is_running=False)


async def test_a_reader_that_is_cancelled_before_the_first_row_ends_its_statement(
    client: Dominus, watcher: Watcher
) -> None:
    async def read() -> None:
        await anext(
            client.open.stream("SELECT pg_sleep(25) IS NULL AS x, (SELECT count(*) FROM streamed) AS n")
        )

    reading = asyncio.create_task(read())
    await watcher.until_running(is_running=True)
    reading.cancel()
    await asyncio.wait({reading})
    await watcher.until_running(is_running=False)


async def test_rows_that_do_not_come_are_a_timeout(client: Dominus) -> None:
    slow = "SELECT g, CASE WHEN g > 20 THEN pg_sleep(5) END IS NULL AS x FROM generate_series(1, 100) g"
    seen = 0

    async def read() -> None:
        nonlocal seen
        async for _ in client.open.stream(slow, timeout=0.4):
            seen += 1

    with pytest.raises(DominusTimeoutError, match="no more rows"):
        await read()
    assert seen > 0


async def test_a_server_that_dies_within_a_stream_is_a_lost_connection(tmp_path: Path) -> None:
    seen = 0

    async def read(client: Dominus, server: Live) -> None:
        nonlocal seen
        async for row in client.open.stream(MANY):
            seen += 1
            assert row["n"] == seen
            if seen == 1000:
                _kill(server)

    with running(tmp_path / "home") as server:
        async with Dominus(url=server.url, token=server.psk) as client:
            with pytest.raises(DominusConnectionError):
                await read(client, server)
    assert seen >= 1000


def _kill(server: Live) -> None:
    found = subprocess.run(["pgrep", "-f", str(server.home)], capture_output=True, text=True, check=True)
    for pid in map(int, found.stdout.split()):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if Path(command[0].decode()).name.startswith(Path(sys.executable).name[:6]):
            os.kill(pid, signal.SIGKILL)
