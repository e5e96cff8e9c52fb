"""Sessions as programs use them: against `dominus dev`, from a fresh interpreter, until the server is killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest
import redis.exceptions
from test_cli import Running, dev

from dominus import AuthenticationError, Dominus
from dominus.sessions import AuthError, postgres
from dominus.sessions import redis as redis_session


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with dev(tmp_path_factory.mktemp("dev") / "home", DOMINUS_GATEWAY_PORT="0") as running:
        yield running


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[Running]:
    """A server that a test may kill."""
    with dev(tmp_path / "home", DOMINUS_GATEWAY_PORT="0") as running:
        yield running


def program(server: Running, code: str) -> str:
    """Run a program that treats every warning as an error and must leave nothing to say."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"DOMINUS_URL": server.url, "DOMINUS_TOKEN": server.token},
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        """
        from dominus import dominus
        with dominus.sessions.redis.sync() as rd:
            rd.set("key", "value")
            print(rd.get("key"))
        """,
        """
        import asyncio
        from dominus import dominus
        async def main():
            async with dominus.sessions.redis() as rd:
                await rd.set("key", "value")
                print(await rd.get("key"))
        asyncio.run(main())
        """,
        """
        import asyncio
        from dominus import dominus
        async def main():
            async with dominus.sessions.postgres() as pg, dominus.sessions.postgres.pool() as pool:
                assert await pool.fetchval("SELECT 1") == 1
                print(await pg.fetchval("SELECT 'value'"))
        asyncio.run(main())
        asyncio.run(main())
        """,
        """
        from dominus import dominus
        with dominus.sessions.postgres.sync() as pg:
            print(pg.execute("SELECT 'value'").fetchone()[0])
        """,
        """
        from dominus import dominus
        session = dominus.sessions.redis.sync()
        session.connect().ping()
        session.close()
        with dominus.sessions.redis.sync() as rd:
            raise SystemExit(print("value"))
        """,
        """
        import asyncio
        from dominus import dominus
        from dominus.sessions import redis
        token = asyncio.run(dominus.sessions.token("redis"))
        for _ in range(3):
            with redis(jwt_token=token) as rd:
                rd.set("key", "value")
        print("value")
        """,
    ],
    ids=["sync", "async", "postgres", "psycopg", "exit inside a block", "a token in hand"],
)
def test_a_program_ends_clean(server: Running, code: str):
    assert set(program(server, code).split()) == {"value"}


async def test_a_token_in_hand_opens_its_own_target_only(server: Running):
    async with Dominus(server.url, server.token) as client:
        token = await client.sessions.token("postgres")

    def work() -> None:
        with postgres(token, api_base_url=server.url) as pg:
            assert pg.execute("SELECT 42").fetchone() == (42,)
        with pytest.raises(AuthError) as caught, redis_session(server.token, api_base_url=server.url):
            pass
        assert isinstance(caught.value, AuthenticationError)
        assert server.token not in str(caught.value)

    await asyncio.to_thread(work)


async def test_when_the_server_is_killed_native_clients_say_so_at_once(doomed: Running):
    client = Dominus(doomed.url, doomed.token)
    sessions = client.sessions
    rd, pg = sessions.redis(retry=None), sessions.postgres()
    sync_rd, sync_pg = sessions.redis.sync(retry=None), sessions.postgres.sync()
    await (await rd.connect()).ping()
    native_pg = await pg.connect()
    native_sync_rd = await asyncio.to_thread(sync_rd.connect)
    native_sync_pg = await asyncio.to_thread(sync_pg.connect)
    busy = [
        asyncio.create_task((await rd.connect()).blpop(["nothing"], timeout=0)),
        asyncio.create_task(native_pg.fetchval("SELECT pg_sleep(60)")),
        asyncio.create_task(asyncio.to_thread(native_sync_rd.blpop, ["nothing"], timeout=0)),
        asyncio.create_task(asyncio.to_thread(native_sync_pg.execute, "SELECT pg_sleep(60)")),
    ]
    await asyncio.wait(busy, timeout=0.3)
    doomed.process.kill()
    async with asyncio.timeout(30):
        ends = await asyncio.gather(*busy, return_exceptions=True)
    for end, kind in zip(
        ends,
        (
            redis.exceptions.ConnectionError,
            asyncpg.ConnectionDoesNotExistError,
            redis.exceptions.ConnectionError,
            psycopg.OperationalError,
        ),
        strict=True,
    ):
        assert isinstance(end, kind), ends
    await asyncio.gather(
        rd.close(), pg.close(), asyncio.to_thread(sync_rd.close), asyncio.to_thread(sync_pg.close)
    )
    await client.aclose()
