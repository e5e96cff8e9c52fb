"""The system schema and the two pools, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg
import pytest
from pg_keys import keys

from dominus.errors import ServiceError, ValidationError
from dominus.orchestrator.engines.postgres import direct_pool as pools
from dominus.orchestrator.engines.postgres import migrate as migrating
from dominus.orchestrator.engines.postgres.embedded import EmbeddedPostgres
from dominus.orchestrator.engines.postgres.listen import Listener
from dominus.orchestrator.engines.postgres.migrate import Migration, load_migrations, migrate
from dominus.orchestrator.engines.postgres.pools import Postgres, connect
from dominus.orchestrator.engines.postgres.template import clone_database, drop_database, with_database
from dominus.orchestrator.settings import ServerSettings

numbers = itertools.count()


@pytest.fixture(scope="module")
def server_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedPostgres(tmp_path_factory.mktemp("pg") / "home", is_durable=False) as server:
        yield server.start()


@pytest.fixture
async def dsn(server_dsn: str) -> AsyncIterator[str]:
    """An empty database."""
    name = f"empty{next(numbers)}"
    yield await clone_database(server_dsn, "template1", name)
    await drop_database(server_dsn, name)


@pytest.fixture
def settings() -> ServerSettings:
    return ServerSettings(pool_size=2, statement_timeout=0.3)


@pytest.fixture
async def postgres(dsn: str, settings: ServerSettings) -> AsyncIterator[Postgres]:
    opened = await Postgres.open(dsn, settings, keys())
    yield opened
    await opened.aclose()


async def run(dsn: str, *statements: str) -> None:
    connection = await connect(dsn, application_name="test")
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def soon(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_four_replicas_that_start_together_run_each_migration_once(
    dsn: str, settings: ServerSettings
) -> None:
    slow = [
        *load_migrations(),
        Migration(9000, "9000_slow.sql", "SELECT pg_sleep(0.05); CREATE TABLE dominus.slow ()"),
    ]

    async def start() -> list[str]:
        connection = await connect(dsn, application_name="replica")
        try:
            return await migrate(connection, settings.data_role, migrations=slow)
        finally:
            await connection.close()

    applied = await asyncio.gather(*(start() for _ in range(4)))
    assert sorted(itertools.chain(*applied)) == [one.name for one in slow]


async def test_replicas_on_several_databases_of_one_server_share_the_role(server_dsn: str) -> None:
    names = [f"shared{number}" for number in range(3)]
    copies = [await clone_database(server_dsn, "template1", name) for name in names]
    settings = ServerSettings(data_role="shared_role", pool_size=1)
    opened = await asyncio.gather(*(Postgres.open(copy, settings, keys()) for copy in copies * 2))
    for one in opened:
        assert await one.data.fetchval("SELECT current_user") == "shared_role"
    await asyncio.gather(*(one.aclose() for one in opened))
    for name in names:
        await drop_database(server_dsn, name)


async def test_a_failing_migration_leaves_nothing_of_itself(dsn: str, settings: ServerSettings) -> None:
    broken = [
        *load_migrations(),
        Migration(9000, "9000_broken.sql", "CREATE TABLE dominus.half (); SELECT 1 / 0"),
    ]
    connection = await connect(dsn, application_name="test")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(connection, settings.data_role, migrations=broken)
    assert await connection.fetchval("SELECT to_regclass('dominus.half')") is None
    newest = load_migrations()[-1].number
    assert await connection.fetchval("SELECT max(number) FROM dominus.migrations") == newest
    await connection.close()


async def test_a_changed_migration_is_an_error_that_names_it(
    dsn: str, postgres: Postgres, settings: ServerSettings
) -> None:
    (first, *_) = load_migrations()
    changed = Migration(first.number, first.name, first.sql + "\nSELECT 1;")
    connection = await connect(dsn, application_name="test")
    with pytest.raises(ServiceError, match=r"0001_system\.sql") as caught:
        await migrate(connection, settings.data_role, migrations=[changed])
    assert caught.value.code == "migration_changed"
    await connection.close()


async def test_an_older_replica_starts_on_a_newer_schema_and_says_so(
    dsn: str, postgres: Postgres, settings: ServerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    await run(dsn, "INSERT INTO dominus.migrations VALUES (9001, '9001_future.sql', 'x')")
    again = await Postgres.open(dsn, settings, keys())
    await again.aclose()
    assert "9001_future.sql" in caplog.text


def test_line_ends_do_not_change_a_checksum() -> None:
    assert Migration(1, "a", "SELECT 1;\n").checksum == Migration(1, "a", "SELECT 1;\r\n").checksum


async def test_users_statements_run_under_the_data_role(postgres: Postgres) -> None:
    assert await postgres.data.fetchval("SELECT current_user") == "dominus_data"
    await postgres.data.execute("CREATE TABLE public.notes (id bigint PRIMARY KEY, body text)")
    await postgres.data.execute("INSERT INTO public.notes VALUES (1, 'a')")
    await postgres.data.execute("CREATE TEMP TABLE staging (j json)")
    assert await postgres.data.fetchval("SELECT body FROM public.notes") == "a"


@pytest.mark.parametrize(
    "table",
    [
        "outcomes",
        "idempotency",
        "secrets",
        "secret_versions",
        "data_keys",
        "signing_keys",
        "psks",
        "migrations",
    ],
)
async def test_users_statements_cannot_see_or_write_system_tables(postgres: Postgres, table: str) -> None:
    for statement in (
        f"SELECT * FROM dominus.{table}",
        f"DELETE FROM dominus.{table}",
        f"DROP TABLE dominus.{table}",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await postgres.data.execute(statement)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await postgres.data.execute("CREATE TABLE dominus.mine ()")


async def test_resetting_the_role_does_not_leave_it(postgres: Postgres) -> None:
    async with postgres.data.acquire() as connection:
        await connection.execute("RESET ROLE")
        assert await connection.fetchval("SELECT current_user") == "dominus_data"
        await connection.execute("RESET ALL")
        assert await connection.fetchval("SELECT current_user") == "dominus_data"


async def test_the_data_role_may_remember_an_outcome_once_and_not_read_it(postgres: Postgres) -> None:
    remember = "SELECT dominus_api.remember($1, $2, $3)"
    assert await postgres.data.fetchval(remember, b"slot", "print", '{"id": 1}') is True
    with pytest.raises(asyncpg.UniqueViolationError):
        await postgres.data.fetchval(remember, b"slot", "print", '{"id": 2}')
    found = await postgres.system.fetchrow("SELECT fingerprint, outcome FROM dominus.outcomes")
    assert found is not None
    assert list(found) == ["print", '{"id": 1}']


async def test_remembering_goes_with_the_transaction_of_the_write(postgres: Postgres) -> None:
    await postgres.data.execute("CREATE TABLE public.notes (id bigint PRIMARY KEY)")
    write = """
        WITH written AS (INSERT INTO public.notes VALUES (1), (1) RETURNING id)
        SELECT dominus_api.remember('slot'::bytea, 'print', '{}'), count(*) FROM written
    """
    with pytest.raises(asyncpg.UniqueViolationError):
        await postgres.data.fetchrow(write)
    assert await postgres.system.fetchval("SELECT count(*) FROM dominus.outcomes") == 0


async def test_what_the_owner_creates_in_public_is_there_for_users(dsn: str, postgres: Postgres) -> None:
    await run(dsn, "CREATE TABLE public.by_psql (id bigserial, body text)")
    await postgres.data.execute("INSERT INTO public.by_psql (body) VALUES ('a')")
    assert await postgres.data.fetchval("SELECT count(*) FROM public.by_psql") == 1


async def test_a_user_function_does_not_stand_in_for_a_built_in_one(postgres: Postgres) -> None:
    await postgres.data.execute(
        "CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE sql RETURN 'hijacked'"
    )
    assert await postgres.system.fetchval("SELECT lower('A'::varchar)") == "a"


async def test_an_owner_without_superuser_rights_is_enough(server_dsn: str, settings: ServerSettings) -> None:
    await run(
        server_dsn,
        "CREATE ROLE app LOGIN CREATEROLE PASSWORD 'app password'",
        "GRANT app TO CURRENT_USER",
        "CREATE DATABASE app OWNER app",
    )
    parts = urlsplit(with_database(server_dsn, "app"))
    dsn = parts._replace(netloc=f"app:{quote('app password')}@").geturl()
    settings = settings.model_copy(update={"data_role": "App's role"})
    for _ in range(2):
        opened = await Postgres.open(dsn, settings, keys())
        assert await opened.data.fetchval("SELECT current_user") == "App's role"
        await opened.data.execute("CREATE TABLE IF NOT EXISTS public.t ()")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await opened.data.execute("SELECT * FROM dominus.psks")
        await opened.aclose()
    await drop_database(server_dsn, "app")


async def test_an_owner_who_may_not_create_the_role_is_told_what_to_run(server_dsn: str) -> None:
    await run(
        server_dsn,
        "CREATE ROLE plain LOGIN PASSWORD 'x'",
        "GRANT plain TO CURRENT_USER",
        "CREATE DATABASE plain OWNER plain",
    )
    dsn = urlsplit(with_database(server_dsn, "plain"))._replace(netloc="plain:x@").geturl()
    with pytest.raises(ServiceError, match="may not create it") as caught:
        await Postgres.open(dsn, ServerSettings(data_role="missing"), keys())
    assert 'CREATE ROLE "missing" NOLOGIN; GRANT "missing" TO' in str(caught.value.hint)
    await drop_database(server_dsn, "plain")


async def test_an_owner_who_may_not_create_schemas_is_a_clear_error(server_dsn: str, dsn: str) -> None:
    await run(server_dsn, "CREATE ROLE guest LOGIN PASSWORD 'x'")
    with pytest.raises(ServiceError, match="permission denied for database"):
        await Postgres.open(urlsplit(dsn)._replace(netloc="guest:x@").geturl(), ServerSettings(), keys())


async def test_a_data_role_that_could_see_the_system_schema_is_refused(dsn: str) -> None:
    with pytest.raises(ServiceError) as caught:
        await Postgres.open(dsn, ServerSettings(data_role="dominus"), keys())
    assert caught.value.code == "data_role_too_powerful"


async def test_a_role_name_that_cannot_exist_is_refused(dsn: str) -> None:
    for name in ("", "x" * 64, "a\0b"):
        with pytest.raises(ValidationError):
            await Postgres.open(dsn, ServerSettings(data_role=name), keys())


async def test_a_statement_that_takes_too_long_is_cancelled(postgres: Postgres) -> None:
    with pytest.raises(asyncpg.QueryCanceledError):
        await postgres.data.fetchval("SELECT pg_sleep(20)")
    assert await postgres.data.fetchval("SELECT 1") == 1


async def test_an_exhausted_pool_is_a_retryable_503(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with postgres.data.acquire(), postgres.data.acquire():
        # Not before: to open them takes longer on a busy machine.
        monkeypatch.setattr(pools, "ACQUIRE_SECONDS", 0.05)
        with pytest.raises(ServiceError, match="all 2 database connections are busy") as caught:
            await postgres.data.fetchval("SELECT 1")
    assert (caught.value.status_code, caught.value.retryable) == (503, True)
    assert await postgres.data.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("host", ["127.0.0.1:1", "/nonexistent"])
async def test_an_unreachable_server_is_named_without_its_password(host: str) -> None:
    where = f"{host}/shop" if ":" in host else f"/shop?host={host}"
    with pytest.raises(ServiceError) as caught:
        await Postgres.open(f"postgresql://app:hunter2@{where}", ServerSettings(), keys())
    said = f"{caught.value} {caught.value!r}"
    assert host in said
    assert "shop" in said
    assert "hunter2" not in said
    assert caught.value.retryable


async def test_a_wrong_password_is_said_without_it(server_dsn: str) -> None:
    parts = urlsplit(server_dsn)
    with pytest.raises(ServiceError, match="password authentication failed") as caught:
        await Postgres.open(parts._replace(netloc="dominus:hunter2@").geturl(), ServerSettings(), keys())
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "bad", ["", "mysql://a:hunter2@b/c", "postgresql://a:hunter2@b:port/c", "postgresql://[a:hunter2@b"]
)
async def test_a_url_that_is_none_of_postgresql_is_refused(bad: str) -> None:
    with pytest.raises((ValidationError, ServiceError)) as caught:
        await Postgres.open(bad, ServerSettings(), keys())
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"


async def test_a_check_answers_and_a_notification_arrives(postgres: Postgres) -> None:
    heard: list[str | None] = []
    await postgres.check()
    await postgres.listen("changes", heard.append)
    await postgres.notify("changes", "users")
    await soon(lambda: heard == ["users"])


async def test_a_lost_listener_connects_again_and_says_that_something_may_be_missed(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str | None] = []
    await postgres.listen("changes", heard.append)
    await postgres.listen("changes", lambda _: 1 / 0)
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dominus listen'"
    assert await postgres.system.fetchval(end) is True
    await soon(lambda: heard == [None])
    await postgres.notify("changes", "after")
    await soon(lambda: heard == [None, "after"])
    assert "a callback of channel changes failed" in caplog.text


async def test_a_silent_listener_is_asked_whether_it_lives(dsn: str) -> None:
    class Silent:
        def add_termination_listener(self, _callback: object) -> None:
            pass

        async def add_listener(self, _channel: str, _callback: object) -> None:
            pass

        async def execute(self, *_: object, timeout: float) -> str:
            raise TimeoutError

        def is_closed(self) -> bool:
            return False

        def terminate(self) -> None:
            pass

    made: list[object] = []

    async def connect_silent() -> Silent:
        made.append(Silent())
        return made[-1]  # type: ignore[return-value]

    heard: list[str | None] = []
    listener = Listener(connect_silent, heartbeat_seconds=0.01)  # type: ignore[arg-type]
    await listener.listen("changes", heard.append)
    await soon(lambda: len(made) >= 2 and None in heard)
    await listener.aclose()


async def test_a_clone_has_the_template_s_rows_and_its_own_life(dsn: str, server_dsn: str) -> None:
    await run(dsn, "CREATE TABLE public.t AS SELECT 1 AS n")
    template = urlsplit(dsn).path.lstrip("/")
    copy = await clone_database(server_dsn, template, 'odd "name"')
    await run(copy, "UPDATE public.t SET n = 2")
    connection = await connect(dsn, application_name="test")
    assert await connection.fetchval("SELECT n FROM public.t") == 1
    await connection.close()
    holder = await connect(copy, application_name="still here")
    await drop_database(server_dsn, 'odd "name"')
    await drop_database(server_dsn, 'odd "name"')
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await holder.fetchval("SELECT 1")


def test_the_migrations_are_numbered_without_gaps() -> None:
    assert [one.number for one in load_migrations()] == list(range(1, len(load_migrations()) + 1))
    assert Path(str(migrating.__file__)).parent.joinpath("migrations", load_migrations()[0].name).is_file()
