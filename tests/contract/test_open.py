"""SQL of the caller's own: its types, its bounds, once each; streams that end with who reads them; logins."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import pydantic
import pytest
import pytest_asyncio
from server_support import Server, make_server, process_resources, server

from dominus import Dominus
from dominus.errors import (
    AuthorizationError,
    ConflictError,
    DominusError,
    DominusTimeoutError,
    NotFoundError,
    ValidationError,
)
from dominus.orchestrator.serving.in_process import EmbeddedTransport

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
_numbers = itertools.count()
NAIVE = dt.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - that it has no time zone is the point
LINES = {"accept": "application/x-ndjson"}


class Borrowed(httpx.AsyncBaseTransport):
    """A transport that a client may close, and the app goes on."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self.inner.handle_async_request(request)


def client_of(server: Server, **more: Any) -> Dominus:
    transport = Borrowed(EmbeddedTransport(server.app))
    return Dominus(url="http://dominus.test", token=server.psk, transport=transport, **more)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(server: Server) -> AsyncIterator[Dominus]:
    async with client_of(server) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def table(client: Dominus) -> str:
    name = f"open_{next(_numbers)}"
    await client.open.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, v text, n numeric(12,4))")
    return name


async def read(rows: AsyncIterator[dict[str, Any]], seen: list[dict[str, Any]]) -> None:
    async for row in rows:
        seen.append(row)  # noqa: PERF401 - what came before a failure is looked at


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


TYPES: dict[str, tuple[str, Any]] = {
    "integer": ("int8", 2**62),
    "numeric": ("numeric", Decimal("12.500")),
    "double": ("float8", 0.1),
    "infinity": ("float8", float("inf")),
    "boolean": ("bool", True),
    "text": ("text", 'ä "quoted" \\ $1 :x; --'),
    "empty text": ("text", ""),
    "varchar": ("varchar(3)", "abc"),
    "uuid": ("uuid", uuid.UUID(int=7)),
    "timestamptz": ("timestamptz", dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC)),
    "timestamp": ("timestamp", NAIVE),
    "date": ("date", dt.date(2026, 1, 2)),
    "time": ("time", dt.time(3, 4, 5)),
    "bytea": ("bytea", b"\x00\xff"),
    "jsonb": ("jsonb", {"a": [1, None, "x"]}),
    "a json text": ("jsonb", "text"),
    "a json list": ("json", [1, 2]),
    "array": ("text[]", ["a", None, 'b "c", {d}']),
    "array of numerics": ("numeric[]", [Decimal("1.10"), None]),
    "empty array": ("int[]", []),
    "null": ("text", None),
}


@pytest.mark.parametrize("name", TYPES)
async def test_a_value_comes_back_as_it_went(client: Dominus, name: str) -> None:
    kind, value = TYPES[name]
    if name == "infinity":
        with pytest.raises(ValidationError):
            await client.open.execute(f"SELECT $1::{kind} AS v", [value])
        found = await client.open.execute(f"SELECT 'infinity'::{kind} AS v")
    else:
        found = await client.open.execute(f"SELECT $1::{kind} AS v", [value])
    assert found["rows"] == [{"v": value}]
    assert type(found["rows"][0]["v"]) is type(value)
    streamed = [row async for row in client.open.stream("SELECT :v::text AS v", {"v": "x"})]
    assert streamed == [{"v": "x"}]


async def test_a_type_of_users_own_is_a_parameter_and_a_column(client: Dominus) -> None:
    tag = next(_numbers)
    await client.open.execute(f"CREATE TYPE mood_{tag} AS ENUM ('good', 'bad')")
    await client.open.execute(f"CREATE TYPE pair_{tag} AS (a int, b text)")
    found = await client.open.execute(
        f"SELECT $1::mood_{tag} AS m, ARRAY[$1::mood_{tag}] AS ms, ROW(1, 'x')::pair_{tag} AS p", ["bad"]
    )
    assert found["rows"] == [{"m": "bad", "ms": ["bad"], "p": {"a": 1, "b": "x"}}]
    assert [column["type"] for column in found["columns"]] == [f"mood_{tag}", f"mood_{tag}[]", f"pair_{tag}"]


async def test_reads_and_writes_say_what_they_did(client: Dominus, table: str) -> None:
    run = client.open.execute
    made = await run(f"INSERT INTO {table} SELECT g, 'v' || g FROM generate_series(1, $1::int) g", [5])
    assert made == {"rows": [], "row_count": 5, "columns": [], "command": "INSERT"}
    found = await run(f"SELECT id, v FROM {table} WHERE id = ANY(:ids) ORDER BY id DESC", {"ids": [1, 3, 9]})
    assert found["rows"] == [{"id": 3, "v": "v3"}, {"id": 1, "v": "v1"}]
    changed = await run(f"UPDATE {table} SET n = id RETURNING id, n", limit=2)
    assert (len(changed["rows"]), changed["row_count"], changed["command"]) == (2, 5, "UPDATE")
    assert all(row["n"] == Decimal(row["id"]) for row in changed["rows"])
    moved = await run(
        f"WITH gone AS (DELETE FROM {table} WHERE id > $1 RETURNING id) SELECT count(*) AS n FROM gone", [3]
    )
    assert moved["rows"] == [{"n": 2}]
    plan = await run(f"EXPLAIN (FORMAT JSON) SELECT * FROM {table} WHERE id = $1", [1])
    assert plan["command"] == "EXPLAIN"
    assert (await run(f"TABLE {table}"))["row_count"] == 3
    empty = await run(f"SELECT id, v FROM {table} WHERE false")
    assert (empty["rows"], [column["name"] for column in empty["columns"]]) == ([], ["id", "v"])


async def test_rows_become_models(client: Dominus) -> None:
    class Item(pydantic.BaseModel):
        n: int
        price: Decimal

    sql = "SELECT n, n * 1.5 AS price FROM generate_series(1, 3) n"
    found = await client.open.execute(sql, model=Item)
    assert [item.price for item in found["rows"]] == [Decimal("1.5"), Decimal("3.0"), Decimal("4.5")]
    assert [item async for item in client.open.stream(sql, model=Item)] == found["rows"]


async def test_what_was_made_is_seen_by_db_at_once(client: Dominus, table: str) -> None:
    assert [column["column_name"] for column in await client.db.columns(table)] == ["id", "v", "n"]
    await client.open.execute(f"ALTER TABLE {table} ADD COLUMN late int DEFAULT 7")

    async def is_known() -> bool:
        return "late" in [column["column_name"] for column in await client.db.columns(table)]

    await until(is_known, 2)


FAILURES: dict[str, tuple[str, Any, type[DominusError], str]] = {
    "no sql": ("SELEC 1", None, ValidationError, "invalid_statement"),
    "two statements": ("SELECT 1; SELECT 2", None, ValidationError, "sql_refused"),
    "NUL": ("SELECT 'a\0b'", None, ValidationError, "validation"),
    "a lone surrogate": ("SELECT '\ud800'", None, ValidationError, "validation"),
    "no such table": ("SELECT * FROM nowhere", None, NotFoundError, "unknown_table"),
    "no such column": ("SELECT nothing", None, ValidationError, "unknown_column"),
    "a wrong value": ("SELECT $1::int", ["x"], ValidationError, "invalid_value"),
    "a list for a scalar": ("SELECT $1::int", [[1]], ValidationError, "invalid_parameters"),
    "an object for a scalar": ("SELECT $1::int", [{"a": 1}], ValidationError, "invalid_parameters"),
    "a text with NUL": ("SELECT $1::text", ["a\0b"], ValidationError, "invalid_text"),
    "a naive datetime": (
        "SELECT $1::timestamptz",
        [NAIVE],
        ValidationError,
        "invalid_value",
    ),
    "twice the same column": ("SELECT 1 AS a, 2 AS a", None, ValidationError, "duplicate_column"),
    "a division by zero": ("SELECT 1/0 AS x", None, ValidationError, "invalid_value"),
    "outside of transactions": ("VACUUM", None, ValidationError, "sql_refused"),
    "our own tables": ("SELECT * FROM dominus.psks", None, AuthorizationError, "insufficient_privilege"),
    "no type": ("SELECT $1 IS NULL AS x", [1], ValidationError, "invalid_statement"),
    "a commit in a block": ("DO $$ BEGIN COMMIT; END $$", None, ValidationError, "raised_by_trigger"),
    "too many rows": ("SELECT g FROM generate_series(1, 10001) g", None, ValidationError, "too_many_rows"),
    "too many bytes": ("SELECT repeat('x', 70000000) AS x", None, ValidationError, "answer_too_large"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_mistake_is_told_as_what_it_is(client: Dominus, name: str) -> None:
    sql, params, kind, code = FAILURES[name]
    with pytest.raises(kind) as caught:
        await client.open.execute(sql, params)
    assert (type(caught.value), caught.value.code) == (kind, code)
    if name in {"no sql", "too many rows", "outside of transactions", "a commit in a block"}:
        return
    with pytest.raises(kind) as caught:
        assert [row async for row in client.open.stream(sql, params)] == []
    assert caught.value.code == code


async def test_params_that_are_none_are_refused_before_anything_is_sent(client: Dominus) -> None:
    for wrong in ("abc", 5, {1, 2}):
        with pytest.raises(ValidationError, match="params"):
            await client.open.execute("SELECT $1", wrong)  # type: ignore[arg-type]


async def test_a_statement_ends_with_its_time(
    client: Dominus, make_server: Callable[..., Awaitable[Server]]
) -> None:
    with pytest.raises(DominusTimeoutError) as caught:
        await client.open.execute("SELECT pg_sleep(20) AS x", statement_timeout=0.05)
    assert caught.value.code == "statement_timeout"
    other = await make_server(statement_timeout=0.05)
    async with client_of(other) as short:
        with pytest.raises(DominusTimeoutError) as caught:
            await short.open.execute("SELECT pg_sleep(20) AS x", statement_timeout=3000)
        assert caught.value.code == "statement_timeout"


async def test_a_change_with_too_many_rows_changes_nothing(client: Dominus, table: str) -> None:
    with pytest.raises(ValidationError) as caught:
        await client.open.execute(
            f"INSERT INTO {table} SELECT g FROM generate_series(1, 10001) g RETURNING id"
        )
    assert caught.value.code == "too_many_rows"
    assert (await client.open.execute(f"SELECT count(*) AS n FROM {table}"))["rows"] == [{"n": 0}]


async def test_a_write_happens_once_and_a_read_is_not_kept(
    server: Server, client: Dominus, table: str
) -> None:
    path, headers = "/api/scribe/open/execute", {"idempotency-key": uuid.uuid4().hex}
    body = {"sql": f"INSERT INTO {table} VALUES (1, 'a', 1.5) RETURNING id, n"}
    first = await server("POST", path, body, headers=headers)
    again = await server("POST", path, body, headers=headers)
    assert first.data["items"] == [{"id": 1, "n": "1.5000"}]
    assert again.body == first.body
    assert (await server("POST", path, body)).status == 409
    other = await server("POST", path, {"sql": "SELECT 1 AS a"}, headers=headers)
    assert other.data["items"] == [{"a": 1}]

    async def kept() -> int:
        return await server.resources.postgres.system.fetchval("SELECT count(*) FROM dominus.outcomes")

    before = await kept()
    await client.open.execute("SELECT 1 AS a")
    assert await kept() == before


async def test_two_writes_of_one_key_at_once_are_one(server: Server, table: str) -> None:
    headers = {"idempotency-key": uuid.uuid4().hex}
    body = {"sql": f"INSERT INTO {table} (id) SELECT count(*) + 1 FROM {table} RETURNING id"}
    replies = await asyncio.gather(
        *(server("POST", "/api/scribe/open/execute", body, headers=headers) for _ in range(5))
    )
    assert {reply.body for reply in replies} == {replies[0].body}
    assert replies[0].data["items"] == [{"id": 1}]


LEFT_BEHIND = {
    "a role": "SELECT set_config('role', 'none', false) AS x",
    "a search path": "SELECT set_config('search_path', 'evil', false) AS x",
    "a timeout": "SELECT set_config('statement_timeout', '1', false) AS x",
    "a temporary table": "CREATE TEMP TABLE {table} (id text)",
    "no prepared statements": "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$",
    "a lock": "SELECT pg_advisory_lock(77) AS x",
}


@pytest.mark.parametrize("name", LEFT_BEHIND)
async def test_nothing_is_left_for_the_next_caller(
    make_server: Callable[..., Awaitable[Server]], client: Dominus, table: str, name: str
) -> None:
    await client.db.insert(table, {"id": 1, "v": "a"})
    one = await make_server(pool_size=1)
    async with client_of(one) as alone:
        assert (await alone.db.query(table))["total"] == 1
        # Its own commit may run into the timeout that it set.
        with contextlib.suppress(DominusTimeoutError):
            await alone.open.execute(LEFT_BEHIND[name].format(table=table))
        for _ in range(2):
            assert (await alone.db.query(table))["rows"][0]["v"] == "a"
            found = await alone.open.execute(
                f"SELECT current_user::text AS who, current_setting('search_path') AS path, (SELECT v FROM {table}) AS v"
            )
            assert found["rows"] == [{"who": "dominus_data", "path": "public", "v": "a"}]
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77"
    assert await one.resources.postgres.system.fetchval(held) == 0


async def test_a_secure_table_is_out_of_reach(client: Dominus, table: str) -> None:
    await client.auth.secure_tables.create(table)
    for attempt in (f"SELECT * FROM {table}", f"DELETE FROM {table}", f"DROP TABLE {table}", f"LOCK {table}"):
        with pytest.raises(AuthorizationError) as caught:
            await client.open.execute(attempt)
        assert caught.value.code == "insufficient_privilege"
    with pytest.raises(AuthorizationError, match=r"dominus\.secure"):
        assert [row async for row in client.open.stream(f"SELECT * FROM {table}")]


async def test_scopes_are_its_own(server: Server, client: Dominus) -> None:
    minted = await client.auth.mint_jwt("reader", scope=["open:read", "db:write"])
    reader = client.as_user(minted["access_token"])
    assert [row async for row in reader.open.stream("SELECT 1 AS a")] == [{"a": 1}]
    for attempt in (reader.open.execute("SELECT 1 AS a"), reader.open.dsn(), reader.open.revoke("x")):
        with pytest.raises(AuthorizationError) as caught:
            await attempt
        assert caught.value.details == {"scope": "open:write"}


# --- streams


async def test_a_stream_gives_every_row_in_its_order_with_its_types(client: Dominus) -> None:
    sql = "SELECT g AS n, g::numeric / 4 AS q, repeat('x', g % 50) AS t FROM generate_series(1, 20000) g"
    count = 0
    async for row in client.open.stream(sql):
        count += 1
        assert row == {"n": count, "q": Decimal(count) / 4, "t": "x" * (count % 50)}
    assert count == 20000
    assert [row async for row in client.open.stream("SELECT 1 AS a WHERE false")] == []


@pytest.mark.parametrize(
    "sql", ["DELETE FROM {t} RETURNING id", "WITH a AS (DELETE FROM {t} RETURNING id) TABLE a"]
)
async def test_a_stream_reads_only(client: Dominus, table: str, sql: str) -> None:
    await client.db.insert(table, {"id": 1})
    with pytest.raises(ValidationError) as caught:
        assert [row async for row in client.open.stream(sql.format(t=table))]
    assert caught.value.code == "read_only"
    assert (await client.db.query(table))["total"] == 1


async def test_a_stream_is_one_snapshot(client: Dominus, table: str) -> None:
    await client.open.execute(f"INSERT INTO {table} SELECT g FROM generate_series(1, 5000) g")
    seen = 0
    async for _ in client.open.stream(f"SELECT id FROM {table} ORDER BY id"):
        if seen == 0:
            await client.open.execute(f"DELETE FROM {table}")
        seen += 1
    assert seen == 5000


async def test_a_failure_within_a_stream_comes_after_its_rows(client: Dominus) -> None:
    seen: list[dict[str, Any]] = []
    with pytest.raises(ValidationError) as caught:
        await read(client.open.stream("SELECT 1 / (1000 - g) AS x FROM generate_series(1, 2000) g"), seen)
    assert (caught.value.code, caught.value.details["sqlstate"]) == ("invalid_value", "22012")
    assert 0 < len(seen) < 1000
    assert caught.value.request_id


async def test_a_row_that_no_answer_holds_ends_a_stream(client: Dominus) -> None:
    with pytest.raises(ValidationError) as caught:
        await read(
            client.open.stream("SELECT repeat('x', 35000000 * g) AS x FROM generate_series(1, 3) g"), []
        )
    assert caught.value.code == "answer_too_large"


async def test_who_leaves_a_stream_ends_its_statement(server: Server, client: Dominus, table: str) -> None:
    sql = f"SELECT g AS n FROM (SELECT generate_series(1, 100000000) AS g) s WHERE NOT EXISTS (SELECT FROM {table} WHERE id = g)"
    held = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relname = $1"

    async def is_over() -> bool:
        return await server.resources.postgres.system.fetchval(held, table) == 0

    async for row in client.open.stream(sql):
        if row["n"] == 1000:
            assert not await is_over()
            break
    await until(is_over)
    assert server.resources.data_share.held_by("psk:root") == 0
    assert server.resources.bulk_share.held_by("psk:root") == 0


async def test_streams_leave_connections_for_others(make_server: Callable[..., Awaitable[Server]]) -> None:
    server = await make_server(pool_size=4)
    async with client_of(server) as client:
        first = client.open.stream("SELECT g FROM (SELECT generate_series(1, 1000000) AS g) s")
        await anext(first)
        second = asyncio.ensure_future(anext(client.open.stream("SELECT 1 AS a")))
        for _ in range(5):
            assert (await client.open.execute("SELECT 1 AS a"))["rows"] == [{"a": 1}]
        assert not second.done()
        await first.aclose()  # type: ignore[attr-defined]
        assert await asyncio.wait_for(second, 10) == {"a": 1}


async def test_the_deadline_of_a_block_ends_a_stream(client: Dominus) -> None:
    slow = "SELECT g, pg_sleep(0.1) IS NULL AS x FROM generate_series(1, 1000) g"
    with client.deadline(0.5), pytest.raises(DominusTimeoutError):
        await read(client.open.stream(slow), [])


async def test_who_reads_no_lines_gets_one_answer(server: Server) -> None:
    path = "/api/scribe/open/stream"
    whole = await server("POST", path, {"sql": "SELECT g AS a, g::numeric AS n FROM generate_series(1, 3) g"})
    assert whole.document["types"] == {"n": "numeric"}
    assert whole.data == {"items": [{"a": n, "n": str(n)} for n in (1, 2, 3)]}
    many = await server(
        "POST", path, {"sql": "SELECT repeat('x', 1000) AS x FROM generate_series(1, 70000) g"}
    )
    assert (many.status, many.code) == (400, "answer_too_large")
    lines = await server("POST", path, {"sql": "SELECT 1 AS a, 2.5 AS n"}, headers=LINES)
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert lines.body.split(b"\n") == [
        b'{"types":{"n":"numeric"}}',
        b'[{"a":1,"n":"2.5"}]',
        b'{"end":true}',
        b"",
    ]


# --- logins


async def test_a_dsn_opens_the_database_until_it_is_revoked(client: Dominus, table: str) -> None:
    await client.db.insert(table, {"id": 1, "v": "a"})
    dsn = await client.open.dsn(expires_in=60)
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval(f"SELECT v FROM {table}") == "a"
    assert await connection.fetchval("SELECT current_user::text") == "dominus_data"
    await connection.execute(f"CREATE TABLE {table}_more (id int)")
    assert await client.open.revoke(dsn) is True
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)):
        await connection.fetchval("SELECT 1")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(dsn)
    assert await client.open.revoke(dsn) is False
    assert (await client.db.query(f"{table}_more"))["total"] == 0


async def test_a_login_is_its_makers_to_revoke_and_expires(server: Server, client: Dominus) -> None:
    dsn = await client.open.dsn(60)
    minted = await client.auth.mint_jwt("eve", scope=["open:write"])
    assert await client.as_user(minted["access_token"]).open.revoke(dsn) is False
    username = dsn.partition("://")[2].partition(":")[0]
    until_when = await server.resources.postgres.system.fetchval(
        "SELECT extract(epoch FROM rolvaliduntil - now()) FROM pg_roles WHERE rolname = $1", username
    )
    assert 50 < until_when <= 60
    assert await client.open.revoke(username) is True
    for wrong in (59, 86_401):
        with pytest.raises(ValidationError):
            await client.open.dsn(wrong)


async def test_a_conflict_is_one(client: Dominus, table: str) -> None:
    await client.open.execute(f"INSERT INTO {table} VALUES (1)")
    with pytest.raises(ConflictError) as caught:
        await client.open.execute(f"INSERT INTO {table} VALUES (1)")
    assert caught.value.code == "unique_violation"
