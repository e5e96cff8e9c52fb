"""Logins of native sessions, on a real PostgreSQL and a real Redis: what they may, how they end, who ends them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from pg_keys import keys
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from test_redis_engines import RedisServer, start_server

from dominus.errors import NotFoundError, RateLimitError, ServiceError, ValidationError
from dominus.orchestrator.engines.postgres import embedded
from dominus.orchestrator.engines.postgres.embedded import EmbeddedPostgres
from dominus.orchestrator.engines.postgres.pools import Postgres
from dominus.orchestrator.engines.redis.client import RedisEngine
from dominus.orchestrator.gateway.logins.credentials import USERNAME_PREFIX, Credentials, Login
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.settings import ServerSettings

__all__ = ["start_server"]

ALICE = Principal("psk:alice", "session", frozenset({"gateway:postgres"}), "shop", "production")
ELSEWHERE = Principal("psk:alice", "session", frozenset({"gateway:postgres"}), "other", "production")
BOB = Principal("psk:bob", "session", frozenset({"gateway:postgres"}), "shop", "production")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pg") / "home"


@pytest.fixture(scope="module")
def dsn(home: Path) -> Iterator[str]:
    with EmbeddedPostgres(home, is_durable=False) as server:
        yield server.start()


@pytest.fixture
async def postgres(dsn: str) -> AsyncIterator[Postgres]:
    opened = await Postgres.open(dsn, ServerSettings(pool_size=8), keys())
    yield opened
    await opened.aclose()


Make = Callable[..., Credentials]


@pytest.fixture
async def make(postgres: Postgres) -> AsyncIterator[Make]:
    redis = await RedisEngine.open(None, server_key="logins")

    def build(engine: RedisEngine | None = None, pg: Postgres | None = None, **changed: Any) -> Credentials:
        # Not validated: the tests need lifetimes that no server would have.
        settings = ServerSettings().model_copy(update=changed)
        return Credentials(pg or postgres, engine or redis, settings)

    yield build
    await redis.aclose()


def as_user(dsn: str, login: Login) -> str:
    found = re.match(r"postgresql://[^@]*@(.*)", dsn)
    assert found
    return f"postgresql://{login.username}:{quote(login.password)}@{found[1]}"


async def roles(postgres: Postgres) -> set[str]:
    rows = await postgres.system.fetch("SELECT rolname FROM pg_roles WHERE rolname ^@ $1", USERNAME_PREFIX)
    return {row["rolname"] for row in rows}


async def rows(postgres: Postgres) -> set[str]:
    return {
        row["username"] for row in await postgres.system.fetch("SELECT username FROM dominus.gateway_logins")
    }


async def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


async def is_dead(connection: Any) -> bool:
    try:
        await connection.fetchval("SELECT 1")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
        return True
    return False


async def test_a_postgres_login_works_as_the_data_role_and_what_it_makes_stays(
    dsn: str, postgres: Postgres, make: Make
) -> None:
    credentials = make()
    login = await credentials.create(ALICE, "postgres")
    assert login.username.startswith(USERNAME_PREFIX)
    assert login.database == "dominus"
    assert login.password not in repr(login)
    connection = await asyncpg.connect(as_user(dsn, login))
    assert await connection.fetchval("SELECT current_user") == "dominus_data"
    await connection.execute("CREATE TABLE as_data (id int); INSERT INTO as_data VALUES (1)")
    # A session may put the data role off; what it makes then is handed over when the login ends.
    await connection.execute(
        "SET ROLE NONE; CREATE TABLE as_itself (id int); INSERT INTO as_itself VALUES (2)"
    )
    await connection.close()

    assert await credentials.release(ALICE, login.username) is True
    assert await postgres.data.fetchval("SELECT a.id + b.id FROM public.as_data a, public.as_itself b") == 3
    await postgres.data.execute("DROP TABLE public.as_data; DROP TABLE public.as_itself")
    assert await roles(postgres) == await rows(postgres) == set()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM dominus.psks",
        "SELECT * FROM dominus.gateway_logins",
        "SET ROLE dominus",
        "SET SESSION AUTHORIZATION dominus",
        "CREATE ROLE another LOGIN",
        "ALTER ROLE dominus_data LOGIN",
        "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'",
        "COPY (SELECT 1) TO PROGRAM 'cat'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'dominus'",
    ],
)
@pytest.mark.parametrize("role", ["dominus_data", "NONE"])
async def test_a_postgres_login_gets_no_further(dsn: str, make: Make, statement: str, role: str) -> None:
    credentials = make()
    login = await credentials.create(ALICE, "postgres")
    connection = await asyncpg.connect(as_user(dsn, login))
    await connection.execute(f"SET ROLE {role}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement)
    await connection.close()
    await credentials.release(ALICE, login.username)


async def test_the_password_is_in_no_log_and_proves_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make
) -> None:
    monkeypatch.setitem(embedded._SETTINGS, "log_statement", "all")
    with EmbeddedPostgres(tmp_path / "home", is_durable=False) as server:
        dsn = await asyncio.to_thread(server.start)
        pg = await Postgres.open(dsn, ServerSettings(pool_size=2), keys())
        credentials = make(pg=pg)
        login = await credentials.create(ALICE, "postgres")
        log = (server._home / "postgres.log").read_text()
        assert f'CREATE ROLE "{login.username}"' in log
        assert login.password not in log
        wrong = Login(login.username, login.password[:-1] + "!", login.database, 1)
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(as_user(dsn, wrong))
        await credentials.release(ALICE, login.username)
        await pg.aclose()


async def test_only_its_owner_releases_a_login_and_only_once(
    dsn: str, postgres: Postgres, make: Make
) -> None:
    credentials = make()
    login = await credentials.create(ALICE, "postgres")
    connection = await asyncpg.connect(as_user(dsn, login))
    for other in (BOB, ELSEWHERE):
        assert await credentials.release(other, login.username) is False
    for name in ("dominus", "dominus_data", "postgres", 'x"; DROP TABLE dominus.psks; --'):
        assert await credentials.release(ALICE, name) is False
    assert not await is_dead(connection)

    assert await credentials.release(ALICE, login.username) is True
    assert await is_dead(connection)
    assert await credentials.release(ALICE, login.username) is False
    with pytest.raises(asyncpg.PostgresError):
        await asyncpg.connect(as_user(dsn, login))
    assert await roles(postgres) == set()


async def test_an_expired_login_opens_nothing_and_its_open_connection_lives_on(
    dsn: str, postgres: Postgres, make: Make
) -> None:
    credentials = make(gateway_login_lifetime=0.5)
    login = await credentials.create(ALICE, "postgres")
    connection = await asyncpg.connect(as_user(dsn, login))

    async def is_refused() -> bool:
        try:
            await (await asyncpg.connect(as_user(dsn, login))).close()
        except asyncpg.PostgresError:
            return True
        return False

    await until(is_refused)
    assert await credentials.reap() == 0
    assert not await is_dead(connection)
    await connection.close()

    async def is_reaped() -> bool:
        await postgres.system.execute("UPDATE dominus.gateway_logins SET reap_after = now()")
        return await credentials.reap() == 1

    await until(is_reaped)
    assert await roles(postgres) == await rows(postgres) == set()


async def test_the_longest_lifetime_ends_what_is_open(dsn: str, postgres: Postgres, make: Make) -> None:
    login = await make().create(ALICE, "postgres")
    connection = await asyncpg.connect(as_user(dsn, login))
    credentials = make(gateway_max_lifetime=60.0)
    for age, ended_count in (("59 seconds", 0), ("61 seconds", 1)):
        await postgres.system.execute(
            "UPDATE dominus.gateway_logins SET reap_after = now(), expires_at = now() - $1::text::interval",
            age,
        )
        assert await credentials.reap() == ended_count
    assert await is_dead(connection)
    assert await roles(postgres) == set()


async def test_a_login_that_nobody_got_is_reaped(
    postgres: Postgres, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left by a process that ends in the middle: before the role, after it, and in a release."""
    credentials = make(gateway_login_lifetime=0)
    logins: Any = credentials._logins["postgres"]
    real = logins.make

    async def ends_before(*_: Any) -> None:
        raise asyncio.CancelledError

    async def ends_after(*args: Any) -> None:
        await real(*args)
        raise asyncio.CancelledError

    for end in (ends_before, ends_after):
        monkeypatch.setattr(logins, "make", end)
        with pytest.raises(asyncio.CancelledError):
            await credentials.create(ALICE, "postgres")
    monkeypatch.undo()
    login = await make().create(ALICE, "postgres")
    monkeypatch.setattr(logins, "lock", ends_before)
    with pytest.raises(asyncio.CancelledError):
        await credentials.release(ALICE, login.username)
    monkeypatch.undo()

    assert len(await rows(postgres)) == 3
    await postgres.system.execute("UPDATE dominus.gateway_logins SET reap_after = now()")
    assert await credentials.reap() == 3
    assert await roles(postgres) == await rows(postgres) == set()


async def test_four_replicas_reap_each_login_once(postgres: Postgres, make: Make) -> None:
    credentials = make(gateway_login_lifetime=0)
    for _ in range(12):
        await credentials.create(ALICE, "postgres")
    counts = await asyncio.gather(*(make().reap() for _ in range(4)))
    assert sum(counts) == 12
    assert await roles(postgres) == await rows(postgres) == set()


async def test_one_that_cannot_be_dropped_is_put_off_and_keeps_no_other_back(
    dsn: str, postgres: Postgres, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = make(gateway_login_lifetime=0)
    held, other = [await credentials.create(ALICE, "postgres") for _ in range(2)]
    await postgres.system.execute("CREATE DATABASE another")
    # A table, for which the data role has no schema there, and a large object, which has none.
    elsewhere = re.sub(r"@/\w+", "@/another", dsn)
    owner = await asyncpg.connect(elsewhere)
    await owner.execute(f'GRANT CREATE ON SCHEMA public TO "{held.username}"')
    await owner.close()
    await postgres.system.execute("UPDATE dominus.gateway_logins SET expires_at = now()")
    for login, statement in ((held, "CREATE TABLE its (id int)"), (other, "SELECT lo_create(0)")):
        await postgres.system.execute(f"ALTER ROLE \"{login.username}\" VALID UNTIL 'infinity'")
        outside = await asyncpg.connect(as_user(elsewhere, login))
        await outside.execute(f"SET ROLE NONE; {statement}")
        await outside.close()
    assert await credentials.reap() == 1
    assert held.username in caplog.text
    assert await roles(postgres) == {held.username}
    with pytest.raises(asyncpg.PostgresError):
        await asyncpg.connect(as_user(dsn, held))
    await postgres.system.execute("DROP DATABASE another")
    await postgres.system.execute("UPDATE dominus.gateway_logins SET reap_after = now()")
    assert await credentials.reap() == 1
    assert other.username not in await roles(postgres)


async def test_a_principal_has_so_many_logins_and_no_more(postgres: Postgres, make: Make) -> None:
    credentials = make(gateway_connections_per_principal=2)
    logins = [await credentials.create(ALICE, "postgres") for _ in range(2)]
    with pytest.raises(RateLimitError) as caught:
        await credentials.create(ALICE, "postgres")
    assert caught.value.code == "too_many_logins"
    logins.append(await credentials.create(BOB, "postgres"))
    for login, owner in zip(logins, (ALICE, ALICE, BOB), strict=True):
        assert await credentials.release(owner, login.username)
    assert await roles(postgres) == set()


async def test_a_login_opens_so_many_connections(dsn: str, make: Make) -> None:
    credentials = make(gateway_connections_per_principal=2)
    login = await credentials.create(ALICE, "postgres")
    opened = [await asyncpg.connect(as_user(dsn, login)) for _ in range(2)]
    with pytest.raises(asyncpg.TooManyConnectionsError):
        await asyncpg.connect(as_user(dsn, login))
    for connection in opened:
        await connection.close()
    await credentials.release(ALICE, login.username)


async def test_sessions_that_take_all_connections_leave_the_orchestrator_its_own(
    dsn: str, postgres: Postgres, make: Make
) -> None:
    credentials = make(gateway_connections_per_principal=300)
    login = await credentials.create(ALICE, "postgres")
    opened: list[Any] = []

    async def open_all() -> None:
        while True:
            opened.append(await asyncpg.connect(as_user(dsn, login)))

    with pytest.raises(asyncpg.TooManyConnectionsError):
        await open_all()
    assert len(opened) > 100
    async with postgres.data.acquire() as one, postgres.data.acquire() as two:
        assert await one.fetchval("SELECT 1") == await two.fetchval("SELECT 1") == 1
    assert await credentials.release(ALICE, login.username) is True
    for connection in opened:
        connection.terminate()


async def test_what_has_no_logins_is_said(make: Make) -> None:
    credentials = make()
    with pytest.raises(ValidationError, match="legacy"):
        await credentials.create(ALICE, "legacy")
    with pytest.raises(NotFoundError, match="other"):
        await credentials.create(ALICE, "postgres", "other")


async def own(dsn: str, attributes: str) -> str:
    """A database whose owner is no superuser."""
    connection = await asyncpg.connect(dsn)
    name = f"owner_{attributes.lower()}"
    await connection.execute(f"CREATE ROLE {name} LOGIN {attributes} PASSWORD 'secret'")
    await connection.execute(f"GRANT dominus_data TO {name} WITH ADMIN OPTION; GRANT {name} TO CURRENT_USER")
    await connection.execute(f"CREATE DATABASE {name} OWNER {name}")
    await connection.close()
    return re.sub(r"//[^@]*@/\w+", f"//{name}:secret@/{name}", dsn)


async def test_an_owner_who_is_no_superuser_makes_and_ends_logins(
    dsn: str, postgres: Postgres, make: Make
) -> None:
    of_owner = await own(dsn, "CREATEROLE")
    pg = await Postgres.open(of_owner, ServerSettings(pool_size=4), keys())
    credentials = make(pg=pg)
    login = await credentials.create(ALICE, "postgres")
    connection = await asyncpg.connect(as_user(of_owner, login))
    await connection.execute("SET ROLE NONE; CREATE TABLE mine (id int)")
    assert await credentials.release(ALICE, login.username) is True
    assert await is_dead(connection)
    assert await pg.data.fetchval("SELECT count(*) FROM public.mine") == 0
    assert await roles(postgres) == set()
    await pg.aclose()


async def test_an_owner_who_may_not_make_roles_is_told_what_to_grant(
    dsn: str, postgres: Postgres, make: Make
) -> None:
    of_owner = await own(dsn, "NOCREATEROLE")
    with pytest.raises(ServiceError) as caught:
        await Postgres.open(of_owner, ServerSettings(), keys())
    assert caught.value.code == "data_login_missing"
    for said in ("CREATEROLE", "CREATE ROLE dominus_pool LOGIN NOINHERIT", "DOMINUS_DATA_URL"):
        assert said in str(caught.value.hint)
    await postgres.system.execute(
        "CREATE ROLE dominus_pool LOGIN NOINHERIT PASSWORD 'pool'; GRANT dominus_data TO dominus_pool"
    )
    data_url = SecretStr(of_owner.replace("//owner_nocreaterole:secret@", "//dominus_pool:pool@"))
    pg = await Postgres.open(of_owner, ServerSettings(pool_size=4, data_url=data_url), keys())
    with pytest.raises(ServiceError) as caught:
        await make(pg=pg).create(ALICE, "postgres")
    assert (caught.value.code, caught.value.retryable) == ("credentials_unavailable", False)
    assert "CREATEROLE" in (caught.value.hint or "")
    assert await pg.system.fetchval("SELECT count(*) FROM dominus.gateway_logins") == 0
    assert await roles(postgres) == set()
    await pg.aclose()


def redis_as(server: RedisServer, login: Login) -> Redis:
    once = Retry(NoBackoff(), 0)
    return Redis(
        port=server.port, username=login.username, password=login.password, decode_responses=True, retry=once
    )


async def test_a_redis_login_does_what_sessions_do_and_ends_with_its_release(
    start_server: Callable[..., RedisServer], make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server("--requirepass", "of-the-orchestrator")
    engine = await RedisEngine.open(f"redis://:of-the-orchestrator@127.0.0.1:{server.port}")
    credentials = make(engine)
    sent: list[Any] = []
    execute = engine.execute

    async def spied(*command: Any, **options: Any) -> Any:
        sent.append(command)
        return await execute(*command, **options)

    monkeypatch.setattr(engine, "execute", spied)
    login = await credentials.create(ALICE, "redis")
    assert sent[-1][:2] == ("ACL SETUSER", login.username)
    assert login.password not in str(sent)
    assert login.database is None
    client = redis_as(server, login)
    assert await client.set("k", "v")
    assert await client.get("k") == "v"
    assert await client.keys("*") == ["k"]
    assert (await client.info("server"))["redis_version"]
    assert await client.client_setname("me")
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("c")
        assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
    refused = ("CONFIG GET *", "ACL LIST", "SHUTDOWN", "FLUSHALL", "MONITOR", "CLIENT LIST", "SWAPDB 0 1")
    refused += ("REPLICAOF NO ONE", "MODULE LIST", "MIGRATE h 1 k 0 1", "SLAVEOF NO ONE", "BGSAVE")
    for command in refused:
        with pytest.raises(NoPermissionError):
            await client.execute_command(*command.split())

    assert await credentials.release(BOB, login.username) is False
    assert await client.ping()
    assert await credentials.release(ALICE, login.username) is True
    with pytest.raises(RedisError):
        await client.ping()
    with pytest.raises(AuthenticationError):
        await redis_as(server, login).ping()
    for opened in (client, engine):
        await opened.aclose()


async def test_an_expired_redis_login_opens_nothing_and_its_open_connection_lives_on(
    start_server: Callable[..., RedisServer], postgres: Postgres, make: Make
) -> None:
    server = start_server()
    engine = await RedisEngine.open(server.url)
    credentials = make(engine, gateway_login_lifetime=0)
    login = await credentials.create(ALICE, "redis")
    client = redis_as(server, login)
    assert await client.ping()
    assert await credentials.reap() == 0
    assert await client.ping()
    other = redis_as(server, login)
    with pytest.raises(AuthenticationError):
        await other.ping()
    for opened in (client, other):
        await opened.aclose()
    admin = server.admin()

    async def is_reaped() -> bool:
        await postgres.system.execute("UPDATE dominus.gateway_logins SET reap_after = now()")
        return await credentials.reap() == 1

    await until(is_reaped)
    assert login.username not in admin.acl_users()
    admin.close()
    await engine.aclose()


async def test_a_redis_user_without_acl_rights_is_said_and_nothing_is_left(
    start_server: Callable[..., RedisServer], postgres: Postgres, make: Make
) -> None:
    server = start_server()
    admin = server.admin()
    admin.acl_setuser(
        "plain", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@all", "-@admin"]
    )
    engine = await RedisEngine.open(f"redis://plain:secret@127.0.0.1:{server.port}")
    with pytest.raises(ServiceError) as caught:
        await make(engine).create(ALICE, "redis")
    assert (caught.value.code, caught.value.retryable) == ("credentials_unavailable", False)
    assert await rows(postgres) == set()
    admin.close()
    await engine.aclose()


async def test_the_embedded_redis_makes_and_ends_logins_too(make: Make) -> None:
    credentials = make()
    login = await credentials.create(ALICE, "redis")
    users: list[bytes] = await credentials._logins["redis"]._redis.execute("ACL USERS")  # type: ignore[attr-defined]
    assert login.username.encode() in [
        bytes(user, "ascii") if isinstance(user, str) else user for user in users
    ]
    assert await credentials.release(ALICE, login.username) is True
