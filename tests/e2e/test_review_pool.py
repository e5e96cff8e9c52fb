"""The connections that are kept between single statements: none lost, none waited for, none mixed up."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import asyncpg
import pytest
from pg_keys import keys

from dominus.orchestrator.engines.postgres.embedded import EmbeddedPostgres
from dominus.orchestrator.engines.postgres.pools import Postgres
from dominus.orchestrator.settings import ServerSettings

SIZE = 4
BUSY = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dominus data' AND query LIKE '%pg_sleep%'"
BUSY += " AND state = 'active'"
OPEN = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dominus data'"
END = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'dominus data'"


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedPostgres(tmp_path_factory.mktemp("pg") / "home", is_durable=False) as server:
        yield server.start()


@pytest.fixture
async def postgres(dsn: str) -> AsyncIterator[Postgres]:
    opened = await Postgres.open(dsn, ServerSettings(pool_size=SIZE), keys())
    yield opened
    await opened.aclose()


async def until(postgres: Postgres, question: str, answer: int) -> None:
    deadline = time.monotonic() + 10
    while await postgres.system.fetchval(question) != answer:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_closing_waits_for_single_statements_and_not_longer(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    opened = await Postgres.open(dsn, ServerSettings(pool_size=SIZE), keys())
    running = [asyncio.create_task(opened.data.fetchrow("SELECT pg_sleep(0.3)")) for _ in range(SIZE)]
    await until(opened, BUSY, SIZE)
    began = time.monotonic()
    await opened.aclose()
    assert time.monotonic() - began < 3
    assert [row is not None for row in await asyncio.gather(*running)] == [True] * SIZE
    assert "cut off" not in caplog.text


async def test_the_error_of_a_lost_connection_reaches_the_caller(postgres: Postgres) -> None:
    class Lost:
        """What asyncpg is when it notices the loss while it writes: its place in the pool is free already."""

        def is_closed(self) -> bool:
            return False

        def is_in_transaction(self) -> bool:
            return False

        async def fetchrow(self, *_: object) -> None:
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

        def terminate(self) -> None:
            raise asyncpg.InterfaceError("connection has been released back to the pool")

    cast("Any", postgres.data)._kept.append(Lost())
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await postgres.data.fetchrow("SELECT 1")


async def test_every_task_gets_its_own_answer_while_others_are_cancelled(postgres: Postgres) -> None:
    chance = random.Random(7)

    async def ask(number: int) -> None:
        for turn in range(20):
            marker = f"{number}-{turn}"
            pause = chance.choice([0.0, 0.0, 0.002, 5.0])
            try:
                async with asyncio.timeout(0.02 if pause > 1 else None):
                    row = await postgres.data.fetchrow("SELECT $1::text AS m, pg_sleep($2)", marker, pause)
            except TimeoutError:
                continue
            assert row is not None
            assert row["m"] == marker

    await asyncio.gather(*(ask(number) for number in range(32)))
    await until(postgres, BUSY, 0)
    assert await postgres.system.fetchval(OPEN) <= SIZE


async def test_connections_that_ended_while_they_were_kept_are_replaced(postgres: Postgres) -> None:
    await asyncio.gather(*(postgres.data.fetchrow("SELECT pg_sleep(0.05)") for _ in range(SIZE)))
    assert await postgres.system.fetchval(END) == SIZE
    deadline = time.monotonic() + 10
    while postgres.data.get_size():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)

    async def work() -> Any:
        async with postgres.data.acquire() as connection, connection.transaction():
            return await connection.fetchval("SELECT 1")

    assert await asyncio.gather(*(work() for _ in range(3 * SIZE))) == [1] * 3 * SIZE
