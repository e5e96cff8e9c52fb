"""PostgreSQL sessions, on a whole embedded orchestrator: its gateway, its logins, its database."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import pytest_asyncio
import redis
import uvloop
from sessions_support import CREDENTIALS, Rig, rigs
from test_sessions import descriptors, eventually

from dominus import Dominus, DominusConnectionError, ValidationError
from dominus.errors import CredentialError, NotFoundError
from dominus.orchestrator.serving.in_process import _processes

pytestmark = pytest.mark.asyncio(loop_scope="module")

BLOCK = bytes(range(32, 127)) * 700
COPIED = 100_000_000


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("sessions") / "home"
    yield made
    found = _processes.pop(made.resolve(), None)
    if found is not None:
        found[1].close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(home: Path) -> AsyncIterator[Dominus]:
    async with Dominus("embedded", home=str(home)) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def make_rig_of() -> AsyncIterator[Any]:
    # Of this module's loop: in another one the gateway could not end its connections.
    async for make in rigs():
        yield make


@pytest_asyncio.fixture(loop_scope="module")
async def dsn(home: Path, client: Dominus) -> str:
    """The owner's, of the server that the first call starts."""
    await client.health.ping()
    return _processes[home.resolve()][1].dsn


@pytest_asyncio.fixture(loop_scope="module")
async def roles(dsn: str) -> Callable[[], Coroutine[Any, Any, set[str]]]:
    async def ask() -> set[str]:
        owner = await asyncpg.connect(dsn)
        found = await owner.fetch("SELECT rolname FROM pg_roles WHERE rolname LIKE 'dominus\\_s\\_%'")
        await owner.close()
        return {row["rolname"] for row in found}

    return ask


async def test_an_asynchronous_session_is_asyncpg_s_connection(client: Dominus, roles: Any):
    async with client.sessions.postgres() as pg:
        assert type(pg) is asyncpg.Connection
        assert await pg.fetchval("SELECT 40 + 2") == 42
        login = await pg.fetchval("SELECT session_user")
        assert login in await roles()
        async with pg.transaction():
            await pg.execute("CREATE TEMPORARY TABLE t (n int)")
            await pg.executemany("INSERT INTO t VALUES ($1)", [(n,) for n in range(1000)])
        assert [row["n"] async for row in _rows(pg)] == list(range(1000))
    assert login not in await roles()


async def _rows(pg: Any) -> AsyncIterator[Any]:
    async with pg.transaction():
        async for row in pg.cursor("SELECT n FROM t ORDER BY n", prefetch=17):
            yield row


async def test_what_a_session_creates_outlives_its_login_and_other_namespaces_see_it(client: Dominus):
    async with client.sessions.postgres() as pg:
        await pg.execute(
            "CREATE TABLE made_in_session (n int PRIMARY KEY); INSERT INTO made_in_session VALUES (7)"
        )
    assert (await client.db.query("made_in_session"))["rows"] == [{"n": 7}]
    async with client.sessions.postgres() as pg:
        await pg.execute("DROP TABLE made_in_session")


async def test_notifications_arrive(client: Dominus):
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with client.sessions.postgres() as one, client.sessions.postgres() as other:
        await one.add_listener("news", lambda *said: heard.put_nowait(said[-1]))
        await other.execute("NOTIFY news, 'hello'")
        async with asyncio.timeout(10):
            assert await heard.get() == "hello"


async def test_100_mb_are_copied_in_and_out_unchanged(client: Dominus):
    sent, received = hashlib.sha256(), hashlib.sha256()
    line = BLOCK[:60_000].replace(b"\\", b"/").replace(b"\t", b" ") + b"\n"

    async def source() -> AsyncIterator[bytes]:
        for _ in range(COPIED // len(line) + 1):
            sent.update(line)
            yield line

    async with client.sessions.postgres() as pg:
        await pg.execute("CREATE TEMPORARY TABLE t (line text STORAGE EXTERNAL)")
        await pg.copy_to_table("t", source=source())

        async def take(data: bytes) -> None:
            received.update(data)

        await pg.copy_from_table("t", output=take)
    assert sent.digest() == received.digest()


async def test_a_query_that_takes_too_long_is_cancelled_through_the_gateway(client: Dominus):
    async with client.sessions.postgres() as pg:
        with pytest.raises(TimeoutError):
            await pg.fetch("SELECT pg_sleep(60)", timeout=0.2)
        async with asyncio.timeout(10):
            assert await pg.fetchval("SELECT 1") == 1


async def test_a_pool_opens_connections_of_its_own(client: Dominus, roles: Any):
    async with client.sessions.postgres.pool(max_size=16) as pool:
        assert type(pool) is asyncpg.Pool

        async def own(number: int) -> int:
            pattern = f"{number:04d}" * 5000
            async with pool.acquire() as pg:
                assert await pg.fetchval("SELECT $1::text || pg_sleep(0.01)", pattern) == pattern
                return pg.get_server_pid()

        assert len(set(await asyncio.gather(*(own(number) for number in range(64))))) == 16
        assert len(await roles()) == 1
    assert await roles() == set()


async def test_a_pool_replaces_a_connection_that_was_ended(client: Dominus, dsn: str):
    async with client.sessions.postgres.pool(max_size=2) as pool:
        doomed, ended = await pool.acquire(), asyncio.Event()
        doomed.add_termination_listener(lambda _: ended.set())
        owner = await asyncpg.connect(dsn)
        await owner.fetchval("SELECT pg_terminate_backend($1)", doomed.get_server_pid())
        await owner.close()
        async with asyncio.timeout(10):
            await ended.wait()
        await pool.release(doomed)
        assert await asyncio.gather(*(pool.fetchval("SELECT $1::int", n) for n in range(4))) == [0, 1, 2, 3]


async def test_a_pool_whose_connections_are_in_use_is_closed_all_the_same(
    client: Dominus, monkeypatch: pytest.MonkeyPatch
):
    from dominus.sessions.drivers import asyncpg as postgres_async

    monkeypatch.setattr(postgres_async, "CLOSE_SECONDS", 0.2)
    async with client.sessions.postgres.pool() as pool:
        held = await pool.acquire()
    with pytest.raises(asyncpg.InterfaceError):
        await held.fetchval("SELECT 1")


async def test_psycopg_commits_at_the_end_of_the_block_and_rolls_back_after_an_exception(
    client: Dominus, roles: Any
):
    def work() -> None:
        with client.sessions.postgres.sync() as pg:
            assert type(pg) is psycopg.Connection
            pg.execute("CREATE TABLE kept (n int)")
            pg.execute("INSERT INTO kept VALUES (1)")
        with pytest.raises(psycopg.errors.DivisionByZero), client.sessions.postgres.sync() as pg:
            pg.execute("INSERT INTO kept VALUES (2)").execute("SELECT 1 / 0")
        session = client.sessions.postgres.sync()
        session.connect().execute("INSERT INTO kept VALUES (3)")
        session.close()
        with client.sessions.postgres.sync(autocommit=True) as pg:
            assert pg.execute("SELECT n FROM kept").fetchall() == [(1,)]
            pg.execute("DROP TABLE kept")
        with pytest.raises(psycopg.OperationalError):
            pg.execute("SELECT 1")

    await asyncio.to_thread(work)
    assert await roles() == set()


async def test_psycopg_copies_is_notified_and_cancels(client: Dominus):
    def work() -> None:
        with client.sessions.postgres.sync(autocommit=True) as pg:
            pg.execute("CREATE TEMPORARY TABLE t (line text)")
            with pg.cursor().copy("COPY t FROM STDIN") as copy:
                for _ in range(200):
                    copy.write(b"x" * 50_000 + b"\n")
            assert pg.execute("SELECT count(*), sum(length(line)) FROM t").fetchone() == (200, 10_000_000)
            pg.execute("LISTEN news")
            pg.execute("NOTIFY news, 'hello'")
            assert [said.payload for said in pg.notifies(timeout=5, stop_after=1)] == ["hello"]
            timer = threading.Timer(0.2, pg.cancel_safe)
            timer.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                pg.execute("SELECT pg_sleep(60)")
            timer.join()
            assert pg.execute("SELECT 1").fetchone() == (1,)

    before = set(Path(tempfile.gettempdir()).glob("dominus-*"))
    await asyncio.to_thread(work)
    assert set(Path(tempfile.gettempdir()).glob("dominus-*")) <= before


@pytest.mark.parametrize("way", ["dsn", "host", "password", "ssl", "user"])
async def test_options_that_lead_past_the_gateway_are_refused(client: Dominus, way: str):
    postgres = client.sessions.postgres
    for make in (postgres, postgres.pool, postgres.sync):
        with pytest.raises(ValidationError, match=way):
            make(**{way: "x"})


async def test_an_unknown_target_or_database_is_not_found(client: Dominus):
    with pytest.raises(NotFoundError, match="legacy"):
        await client.sessions.postgres(target="legacy").connect()
    with pytest.raises(CredentialError, match="no_such_database"):
        await client.sessions.postgres(database="no_such_database").connect()


async def test_a_login_that_the_database_refuses_is_a_connection_error_without_its_password(
    make_rig_of: Any, client: Dominus, dsn: str
):
    found = psycopg.conninfo.conninfo_to_dict(dsn)
    upstream = f"{found['host']}/.s.PGSQL.{found.get('port', 5432)}"
    rig: Rig = await make_rig_of(
        upstream,
        login=lambda _: {"username": "nobody", "password": "secret-of-nobody", "database": "postgres"},
    )
    for opening in (
        rig.client.sessions.postgres().connect(),
        asyncio.to_thread(rig.client.sessions.postgres.sync().connect),
    ):
        with pytest.raises(DominusConnectionError, match="PostgreSQL does not answer") as caught:
            await opening
        assert "secret-of-nobody" not in f"{caught.value}{caught.value.__cause__}"
    assert rig.released == ["nobody", "nobody"]


async def test_a_pool_takes_a_new_login_when_the_last_grows_old(make_rig_of: Any, client: Dominus, dsn: str):
    found = psycopg.conninfo.conninfo_to_dict(dsn)
    upstream = f"{found['host']}/.s.PGSQL.{found.get('port', 5432)}"
    owner = {"username": found["user"], "password": found["password"], "database": found["dbname"]}
    rig: Rig = await make_rig_of(upstream, login=lambda _: {**owner, "expires_in": 0.001})
    async with rig.client.sessions.postgres.pool(max_size=3) as pool:
        await asyncio.gather(*(pool.fetchval("SELECT pg_sleep(0.05)") for _ in range(3)))
        assert len(rig.asked(CREDENTIALS)) >= 2
    assert len(rig.released) == len(rig.asked(CREDENTIALS))


async def test_everything_works_on_uvloop_too(home: Path, client: Dominus):
    async def main() -> None:
        async with Dominus("embedded", home=str(home)) as own:
            async with own.sessions.redis() as rd:
                await rd.set("key", "value" * 100_000)
                assert await rd.get("key") == "value" * 100_000
            async with own.sessions.postgres.pool(max_size=4) as pool:
                assert await asyncio.gather(*(pool.fetchval("SELECT $1::int", n) for n in range(20))) == list(
                    range(20)
                )
                async with pool.acquire() as pg:
                    with pytest.raises(TimeoutError):
                        await pg.fetch("SELECT pg_sleep(60)", timeout=0.2)
                    assert await pg.fetchval("SELECT repeat('x', 5000000)") == "x" * 5_000_000

    thread_failures: list[BaseException] = []

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        except BaseException as error:
            thread_failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    await asyncio.to_thread(thread.join)
    if thread_failures:
        raise thread_failures[0]


async def test_sessions_leave_nothing_behind(client: Dominus, roles: Any):
    async def use() -> None:
        async with client.sessions.postgres() as pg:
            await pg.fetchval("SELECT 1")

    def use_sync() -> None:
        with client.sessions.postgres.sync() as pg:
            pg.execute("SELECT 1")

    async def both() -> None:
        await asyncio.gather(*(use() for _ in range(10)), *(asyncio.to_thread(use_sync) for _ in range(4)))

    await both()
    before, tasks = descriptors(), len(asyncio.all_tasks())
    for _ in range(4):
        await both()
    await eventually(
        lambda: descriptors() <= before and len(asyncio.all_tasks()) <= tasks,
        f"{before} descriptors, {tasks} tasks",
    )
    assert await roles() == set()


async def test_redis_of_the_same_orchestrator_is_reached_from_threads(client: Dominus):
    def work(number: int) -> None:
        with client.sessions.redis.sync() as rd:
            assert type(rd) is redis.Redis
            rd.set(f"k{number}", os.getpid())
            assert rd.get(f"k{number}") == str(os.getpid())

    await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(8)))
