"""PostgreSQL has no connection left: who may have one of ours waits for it, and the pool grows back when there are more."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest
from pg_keys import keys

from dominus.errors import ServiceError
from dominus.orchestrator.engines.postgres import connection_limit, direct_pool
from dominus.orchestrator.engines.postgres.embedded import EmbeddedPostgres
from dominus.orchestrator.engines.postgres.pools import Postgres, connect
from dominus.orchestrator.settings import ServerSettings
from dominus.orchestrator.sql import catalog

SIZE, LEFT, CALLERS = 16, 8, 30
OPEN = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dominus data'"
NAP = "SELECT pg_sleep(0.03)"


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedPostgres(tmp_path_factory.mktemp("pg") / "home", is_durable=False) as server:
        yield server.start()


@pytest.fixture
async def postgres(dsn: str) -> AsyncIterator[Postgres]:
    opened = await Postgres.open(dsn, ServerSettings(pool_size=SIZE), keys())
    yield opened
    await allow(opened, -1)
    await opened.aclose()


@pytest.fixture
def attempts(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the data pool asked PostgreSQL for a connection."""
    asked: list[float] = []
    pool: Any = postgres.data
    connect_one = pool._connect

    async def count(*args: Any, **options: Any) -> Any:
        asked.append(time.monotonic())
        return await connect_one(*args, **options)

    monkeypatch.setattr(pool, "_connect", count)
    return asked


async def allow(postgres: Postgres, count: int) -> None:
    """Let the data pool's login have so many connections; -1: any number."""
    login = await postgres.system.fetchval("SELECT rolname FROM pg_roles WHERE rolname ~ '^dominus_p_'")
    await postgres.system.execute(f"ALTER ROLE {login} CONNECTION LIMIT {count}")


async def take_all_away(postgres: Postgres) -> None:
    """End the data pool's connections, and let it have no others."""
    await allow(postgres, 0)
    await postgres.system.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename ~ '^dominus_p_'"
    )

    async def has_noticed() -> bool:
        return postgres.data.get_size() == 0

    await until(has_noticed)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def all_but(postgres: Postgres, left: int) -> AsyncGenerator[None]:
    """Let the database have the connections that it has, and so many more."""
    alter = "ALTER DATABASE dominus CONNECTION LIMIT"
    count = await postgres.system.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
    )
    await postgres.system.execute(f"{alter} {count + left}")
    try:
        yield
    finally:
        await postgres.system.execute(f"{alter} -1")


async def ask(pool: Any, count: int = CALLERS) -> None:
    await asyncio.gather(*(pool.fetchrow(NAP) for _ in range(count)))


async def test_callers_wait_in_line_for_the_connections_that_are_there(
    postgres: Postgres, attempts: list[float]
) -> None:
    await allow(postgres, LEFT)
    await ask(postgres.data)
    assert await postgres.system.fetchval(OPEN) == LEFT
    # One was open before; all that the pool may have were asked for once, and then none for a while.
    assert len(attempts) == SIZE - 1
    for _ in range(3):
        await ask(postgres.data)
    assert len(attempts) == SIZE - 1


async def test_the_pool_grows_back_one_by_one(
    postgres: Postgres, attempts: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limit, "REFUSED_SECONDS", 0.2)
    await allow(postgres, LEFT)
    await ask(postgres.data)
    began, before = time.monotonic(), len(attempts)
    while time.monotonic() < began + 1:
        await ask(postgres.data)
    # One for each pause, though there are thirty who could ask.
    assert 1 <= len(attempts) - before <= 6
    await allow(postgres, -1)

    async def has_all() -> bool:
        await ask(postgres.data)
        return await postgres.system.fetchval(OPEN) == SIZE

    await until(has_all)


async def test_who_stands_in_line_already_tries_when_the_time_has_come(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limit, "REFUSED_SECONDS", 0.2)
    await allow(postgres, 1)
    pool: Any = postgres.data

    async def is_refused() -> bool:
        return pool.limit.was_refused(10)

    async with pool.acquire():
        waiting = [asyncio.create_task(pool.fetchrow("SELECT 1")) for _ in range(3)]
        await until(is_refused)
        await allow(postgres, -1)
        await asyncio.wait_for(asyncio.gather(*waiting), 5)


async def test_without_any_connection_callers_wait_until_others_give_one_up(
    postgres: Postgres, attempts: list[float]
) -> None:
    await take_all_away(postgres)
    waiting = [asyncio.create_task(postgres.data.fetchrow("SELECT 1")) for _ in range(CALLERS)]

    async def has_tried_again() -> bool:
        return len(attempts) > SIZE + 2

    await until(has_tried_again)
    assert not any(task.done() for task in waiting)
    await allow(postgres, -1)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)


async def test_without_any_connection_for_too_long_the_error_says_why(
    postgres: Postgres, attempts: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_pool, "ACQUIRE_SECONDS", 1.0)
    await take_all_away(postgres)
    answers = await asyncio.gather(
        *(postgres.data.fetchrow("SELECT 1") for _ in range(CALLERS)), return_exceptions=True
    )
    for error in answers:
        assert isinstance(error, ServiceError)
        assert (error.code, error.status_code) == ("database_busy", 503)
        assert error.details == {"sqlstate": "53300"}
    # The first burst, and then one in a quarter of a second.
    assert len(attempts) <= SIZE + 5


async def test_our_own_tables_have_the_same_patience(postgres: Postgres, dsn: str) -> None:
    async with all_but(postgres, 1):
        await ask(postgres.system)
        with pytest.raises(ServiceError) as full:
            await connect(dsn, application_name="one more")
    assert (full.value.code, full.value.details) == ("database_busy", {"sqlstate": "53300"})


async def test_the_first_call_is_served_where_there_is_no_connection_to_listen_with(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "_LISTEN_AGAIN_SECONDS", 0.05)
    await postgres.data.execute("CREATE TABLE public.first_called (n bigint)")
    tables = catalog.Catalog(postgres)
    async with all_but(postgres, 0):
        for _ in range(3):
            assert await (await tables.listening()).table("public", "first_called")
    await postgres.data.execute("ALTER TABLE public.first_called ADD COLUMN m bigint")

    async def hears() -> bool:
        await tables.listening()
        await postgres.notify(catalog.CHANNEL)
        return "m" in (await tables.table("public", "first_called")).columns

    await until(hears, 3)


async def test_closing_ends_who_waits_for_a_connection_that_never_comes(dsn: str, postgres: Postgres) -> None:
    other = await Postgres.open(dsn, ServerSettings(pool_size=SIZE), keys())
    await take_all_away(other)
    waiting = asyncio.create_task(other.data.fetchrow("SELECT 1"))
    pool: Any = other.data

    async def is_refused() -> bool:
        return pool.limit.was_refused(10)

    await until(is_refused)
    await other.aclose()
    with pytest.raises((asyncpg.InterfaceError, ServiceError)):
        await asyncio.wait_for(waiting, 1)
