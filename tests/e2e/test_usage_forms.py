"""Every form in which users write calls, as they write them, against a live server: what their next line expects."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pydantic
import pytest
import pytest_asyncio

from dominus import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    DominusConnectionError,
    DominusError,
    DominusTimeoutError,
    NotFoundError,
    SecureTableError,
    ServiceError,
    ValidationError,
    dominus,
)

COLUMNS: list[Any] = [
    {"name": "id", "type": "SERIAL", "constraints": ["PRIMARY KEY"]},
    {"name": "email", "type": "VARCHAR(255)", "constraints": ["NOT NULL", "UNIQUE"]},
    {"name": "status", "type": "VARCHAR(50)", "default": "'active'"},
    {"name": "balance", "type": "NUMERIC(12,2)", "default": "0"},
    {"name": "created_at", "type": "TIMESTAMPTZ", "default": "NOW()"},
]


@pytest_asyncio.fixture(autouse=True)
async def _environment(
    dominus_url: str, dominus_token: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    # Set after `from dominus import dominus` above: the first call reads it.
    await dominus.aclose()
    monkeypatch.setenv("DOMINUS_URL", dominus_url)
    os.environ["DOMINUS_TOKEN"] = dominus_token
    yield
    await dominus.aclose()
    del os.environ["DOMINUS_TOKEN"]


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"u{secrets.token_hex(6)}"


@pytest_asyncio.fixture
async def users(name: str) -> str:
    """A table with ten rows, user0 to user9; the even ones are active."""
    await dominus.ddl.add_table(name, COLUMNS)
    status = ("active", "pending")
    rows = [{"email": f"user{n}@example.com", "status": status[n % 2]} for n in range(10)]
    assert (await dominus.db.bulk_insert(name, rows))["inserted_count"] == 10
    return name


# root and secrets


async def test_root_forms(name: str) -> None:
    await dominus.upsert(name, "postgresql://db", comment="the main database")
    assert await dominus.get(name) == "postgresql://db"
    assert await dominus("secrets.get", key=name) == "postgresql://db"
    await dominus.upsert(name, "second")
    assert await dominus.get(name) == "second"


async def test_secrets_forms(name: str) -> None:
    await dominus.secrets.upsert(name, "one", comment="first")
    await dominus.secrets.upsert(f"{name}_2", {"user": "ada", "port": 5432})
    assert await dominus.secrets.get(name) == "one"
    assert await dominus.secrets.get(f"{name}_2") == {"user": "ada", "port": 5432}
    assert [secret["key"] for secret in await dominus.secrets.list(prefix=name)] == [name, f"{name}_2"]
    assert name in {secret["key"] for secret in await dominus.secrets.list()}
    assert await dominus.secrets.delete(name)
    with pytest.raises(NotFoundError) as caught:
        await dominus.secrets.get(name)
    assert name in caught.value.message
    assert caught.value.status_code == 404


# db and ddl


async def test_tables_and_columns(users: str) -> None:
    assert users in {table["table_name"] for table in await dominus.db.tables()}
    assert users in {table["table_name"] for table in await dominus.db.tables(schema="public")}
    found = {column["column_name"]: column for column in await dominus.db.columns(users)}
    assert list(found) == ["id", "email", "status", "balance", "created_at"]
    assert found["email"].get("is_nullable") is False
    assert found["id"].get("is_primary_key") is True


async def test_query_forms(users: str) -> None:
    result = await dominus.db.query(users)
    assert result["total"] == len(result["rows"]) == 10
    row = result["rows"][0]
    assert (type(row["id"]), row["balance"]) == (int, Decimal("0.00"))
    assert row["created_at"].tzinfo is not None

    result = await dominus.db.query(
        users,
        filters={"status": "active"},
        sort_by="email",
        sort_order="desc",
        limit=2,
        offset=1,
        reason="support",
        actor="ada",
    )
    assert [row["email"] for row in result["rows"]] == ["user6@example.com", "user4@example.com"]
    assert result["total"] == 5

    names = ["user1@example.com", "user2@example.com", "nobody@example.com"]
    result = await dominus.db.query(users, filters={"email": names}, sort_by="email", sort_order="ASC")
    assert [row["email"] for row in result["rows"]] == names[:2]
    result = await dominus.db.query(
        users, "public", {"email": names, "status": "pending"}, "id", "DESC", 5, 0
    )
    assert [row["email"] for row in result["rows"]] == names[:1]


async def test_write_forms(users: str) -> None:
    user = await dominus.db.insert(users, {"email": "new@example.com", "balance": Decimal("10.50")})
    assert (user["email"], user["status"], user["balance"]) == ("new@example.com", "active", Decimal("10.50"))
    changed = await dominus.db.update(users, {"status": "closed"}, filters={"id": user["id"]})
    assert changed["affected_rows"] == 1
    found = await dominus.db.query(users, filters={"id": user["id"]})
    assert found["rows"] == [{**user, "status": "closed"}]
    gone = await dominus.db.delete(users, filters={"id": user["id"]})
    assert gone["affected_rows"] == 1
    assert (await dominus.db.query(users, filters={"id": user["id"]})) == {"rows": [], "total": 0}


async def test_every_db_form_takes_schema_reason_and_actor(users: str) -> None:
    why: Any = {"schema": "public", "reason": "ticket 12", "actor": "ada"}
    assert (await dominus.db.query(users, **why))["total"] == 10
    row = await dominus.db.insert(users, {"email": "a@example.com"}, **why)
    await dominus.db.update(users, {"status": "x"}, filters={"id": row["id"]}, **why)
    await dominus.db.delete(users, filters={"id": row["id"]}, **why)
    await dominus.db.bulk_insert(users, [{"email": "b@example.com"}], **why)
    assert (await dominus.db.query(users))["total"] == 11


async def test_paging_until_fewer_than_a_page_come_back_sees_every_row_once(users: str) -> None:
    seen: list[int] = []
    size, offset = 4, 0
    while True:
        # The sort has ties: pages must not overlap all the same.
        page = await dominus.db.query(users, sort_by="status", limit=size, offset=offset)
        seen += [row["id"] for row in page["rows"]]
        if len(page["rows"]) < size:
            break
        offset += size
    assert sorted(seen) == list(range(1, 11))


async def test_ddl_forms(name: str) -> None:
    await dominus.ddl.add_table(name, COLUMNS)
    with pytest.raises(ConflictError):
        await dominus.ddl.add_table(name, COLUMNS)
    await dominus.db.insert(name, {"email": "a@example.com"})
    await dominus.ddl.add_column(name, "phase", "VARCHAR(50)", default="'pending'")
    await dominus.ddl.add_column(name, "note", "TEXT")
    row = (await dominus.db.query(name))["rows"][0]
    assert (row["phase"], row["note"]) == ("pending", None)
    assert dt.datetime.now(dt.UTC) - row["created_at"] < dt.timedelta(minutes=5)


# redis


async def test_redis_forms(name: str) -> None:
    assert await dominus.redis.get(name) is None
    await dominus.redis.set(name, {"cart": [1, 2]}, ttl=3600)
    assert await dominus.redis.get(name) == {"cart": [1, 2]}
    await dominus.redis.set(name, "text", 3600)
    assert await dominus.redis.get(name) == "text"
    assert await dominus.redis.delete(name)
    assert not await dominus.redis.delete(name)
    assert await dominus.redis.get(name) is None

    assert [await dominus.redis.incr(f"{name}:n"), await dominus.redis.incr(f"{name}:n", delta=5)] == [1, 6]
    assert await dominus.redis.incr(f"{name}:n", -1) == 5

    await dominus.redis.hset(f"{name}:h", "theme", "dark", ttl=600)
    assert await dominus.redis.hget(f"{name}:h", "theme") == "dark"
    assert await dominus.redis.hget(f"{name}:h", "other") is None


async def test_a_worker_that_takes_a_job_with_setnx_has_it_alone(name: str) -> None:
    done: list[int] = []

    async def worker(number: int) -> None:
        if await dominus.redis.setnx(name, f"worker-{number}", ttl=60):
            try:
                await asyncio.sleep(0)
                done.append(number)
            finally:
                await dominus.redis.delete(name)

    if await dominus.redis.setnx(name, "owner", ttl=60):
        await asyncio.gather(*(worker(number) for number in range(5)))
        assert await dominus.redis.get(name) == "owner"
        await dominus.redis.delete(name)
    else:
        pytest.fail("setnx is false where nothing is")
    assert done == []
    await worker(9)
    assert done == [9]


# health and auth


async def test_health_form() -> None:
    health = await dominus.health.check()
    assert health["status"] == "ok"


async def test_auth_forms() -> None:
    minted = await dominus.auth.mint_jwt(user_id="user-1", expires_in=900)
    claims = await dominus.auth.validate_jwt(minted["access_token"])
    assert claims["sub"] == "user-1"
    assert claims["exp"] - claims["iat"] == 900
    with pytest.raises(AuthenticationError):
        await dominus.auth.validate_jwt(minted["access_token"][:-8] + "AAAAAAAA")
    with pytest.raises(AuthorizationError) as caught:
        await dominus.as_user(minted["access_token"]).redis.get("k")
    assert caught.value.status_code == 403


async def test_user_forms() -> None:
    made = await dominus.auth.add_user(username="ada", password="correct horse", email="ada@example.com")
    assert (await dominus.auth.get_user(user_id=made["id"]))["username"] == "ada"
    assert "ada" in [user["username"] for user in (await dominus.auth.list_users())["items"]]
    changed = await dominus.auth.update_user(made["id"], status="inactive")
    assert changed["status"] == "inactive"
    await dominus.auth.create_scope("forms:read", "Read forms")
    role = await dominus.auth.add_role(name="form reader", scope_slugs=["forms:read"])
    assert role["id"] in [each["id"] for each in (await dominus.auth.list_roles())["items"]]
    assert (await dominus.auth.list_scopes())["total"] >= 1
    for listed in (await dominus.auth.list_tenants(), await dominus.auth.list_tenant_categories()):
        assert listed["total"] == len(listed["items"])
    await dominus.auth.delete_user(made["id"])


# errors


async def test_a_web_handler_tells_not_found_from_an_empty_answer(users: str) -> None:
    async def handler(table: str, number: int) -> int | None:
        try:
            found = await dominus.db.query(table, filters={"id": number})
        except NotFoundError as error:
            return error.status_code if table in error.message else None
        return 200 if found["rows"] else 204

    assert await handler(users, 1) == 200
    assert await handler(users, 10_000) == 204
    assert await handler(f"{users}x", 1) == 404


async def test_errors_say_what_where_and_why(users: str) -> None:
    with pytest.raises(ConflictError) as taken:
        await dominus.db.insert(users, {"email": "user1@example.com"})
    error = taken.value
    assert (error.status_code, error.endpoint, error.details["columns"]) == (409, "db.insert", ["email"])
    with pytest.raises(ValidationError) as wrong:
        await dominus.db.insert(users, {"emial": "x@example.com"})
    assert wrong.value.hint == "did you mean 'email'?"
    with pytest.raises(ValidationError):
        await dominus.db.query(users, filters={"id": "one"})
    assert issubclass(SecureTableError, AuthorizationError)
    assert issubclass(ServiceError, DominusError)


async def test_the_built_in_timeout_error_catches_a_timeout() -> None:
    await dominus.health.ping()
    with pytest.raises(TimeoutError) as caught:
        await dominus.redis.get("k", timeout=1e-9)
    assert isinstance(caught.value, DominusTimeoutError)
    assert isinstance(caught.value, DominusError)


async def test_the_built_in_connection_error_catches_a_lost_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await dominus.aclose()
    monkeypatch.setenv("DOMINUS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("DOMINUS_COLD_START_TIMEOUT", "0")
    monkeypatch.setenv("DOMINUS_MAX_ATTEMPTS", "1")
    with pytest.raises(ConnectionError) as caught:
        await dominus.redis.get("k")
    assert isinstance(caught.value, DominusConnectionError)
    assert caught.value.hint


# programs


SCRIPT = """
import asyncio, os
from dominus import dominus
os.environ["DOMINUS_URL"], os.environ["DOMINUS_TOKEN"] = {url!r}, {token!r}

async def main():
    await dominus.redis.set({name!r}, 1)
    return await dominus.redis.incr({name!r})

print(asyncio.run(main()))
print(asyncio.run(main()))
loop = asyncio.new_event_loop()
print(loop.run_until_complete(main()))
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
"""


def test_a_script_may_run_loop_after_loop_and_closes_nothing_itself(
    dominus_url: str, dominus_token: str, name: str
) -> None:
    code = SCRIPT.format(url=dominus_url, token=dominus_token, name=name)
    command = [sys.executable, "-W", "error", "-c", code]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("DOMINUS_")}
    done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("2\n2\n2\n", "")


async def test_rows_survive_the_round_trip_of_their_python_types(name: str) -> None:
    number = UUID("8fcd2800-4d2f-4c47-bb54-9bae7188471c")
    given = {
        "id": number,
        "at": dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC),
        "day": dt.date(2026, 1, 2),
        "price": Decimal("12345678901234567890.123456789"),
        "raw": b"\x00\xff",
        "tags": ["a", "O'Brien \U0001f600"],
        "doc": {"nested": [1, None, {"x": True}]},
    }
    types = ("UUID", "TIMESTAMPTZ", "DATE", "NUMERIC", "BYTEA", "TEXT[]", "JSONB")
    columns: list[Any] = [{"name": column, "type": kind} for column, kind in zip(given, types, strict=True)]
    await dominus.ddl.add_table(name, columns)
    assert await dominus.db.insert(name, given) == given
    found = await dominus.db.query(name, filters={"id": [number], "day": given["day"], "raw": given["raw"]})
    assert found["rows"] == [given]


NAIVE = dt.datetime(2026, 1, 2, 3, 4, 5, 678901)  # noqa: DTZ001


@pytest_asyncio.fixture
async def times(name: str) -> str:
    """A table with a time of each kind."""
    kinds = {"id": "BIGINT", "local": "TIMESTAMP", "at": "TIMESTAMPTZ", "days": "TIMESTAMP[]", "doc": "JSONB"}
    await dominus.ddl.add_table(name, [{"name": column, "type": kind} for column, kind in kinds.items()])
    return name


async def test_a_timestamp_takes_the_naive_datetimes_that_it_gives(times: str) -> None:
    row = {"id": 1, "local": NAIVE, "at": NAIVE.replace(tzinfo=dt.UTC), "days": [NAIVE], "doc": {"at": NAIVE}}
    kept = {**row, "doc": {"at": "2026-01-02T03:04:05.678901"}}
    assert await dominus.db.insert(times, row) == kept
    await dominus.db.bulk_insert(times, [{**row, "id": 2}])
    later = {"local": NAIVE + dt.timedelta(1)}
    assert (await dominus.db.update(times, later, filters={"local": NAIVE}))["affected_rows"] == 2
    found = await dominus.db.query(times, filters={"local": {"gt": NAIVE}}, sort_by="id")
    assert found["rows"] == [{**kept, **later}, {**kept, **later, "id": 2}]


async def test_a_timestamptz_refuses_naive_datetimes_and_takes_text_as_before(times: str) -> None:
    wrong: list[Any] = [
        dominus.db.insert(times, {"at": NAIVE}),
        dominus.db.update(times, {"at": NAIVE}, all_rows=True),
        dominus.db.query(times, filters={"at": {"gte": NAIVE}}),
        dominus.db.page(times, filters={"or": [{"at": [NAIVE]}, {"id": 1}]}, by="id"),
        dominus.db.delete(times, filters={"not": {"at": NAIVE}}),
        dominus.db.bulk_insert(times, [{"id": 1}, {"local": NAIVE}, {"id": 2, "at": NAIVE, "local": NAIVE}]),
    ]
    for ask in wrong:
        with pytest.raises(ValidationError, match="column 'at': the datetime has no time zone") as caught:
            await ask
        assert (caught.value.status_code, caught.value.details["column"]) == (400, "at")
        assert "timezone.utc" in (caught.value.hint or "")
    assert caught.value.details["line"] == 3
    assert (await dominus.db.query(times))["total"] == 0
    text = await dominus.db.insert(times, {"at": "2026-01-02T03:04:05", "local": NAIVE})
    assert text["at"] == dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


class Person(pydantic.BaseModel):
    id: int | None = None
    name: str
    tags: list[str] = []


async def test_the_unset_fields_of_a_model_leave_columns_as_they_are(name: str) -> None:
    await dominus.ddl.add_table(
        name,
        [
            {"name": "id", "type": "BIGSERIAL", "primary_key": True},
            {"name": "name", "type": "TEXT"},
            {"name": "tags", "type": "TEXT[]", "default": "'{new}'"},
        ],
    )
    stored = await dominus.db.insert(name, Person(name="Ada"))
    assert stored == {"id": 1, "name": "Ada", "tags": ["new"]}
    await dominus.db.update(name, {"tags": ["vip"]}, filters={"id": 1})
    await dominus.db.update(name, Person(name="Ada L."), filters={"id": 1})
    await dominus.db.bulk_insert(name, [Person(name="Bob"), Person(name="Cy", tags=[])])
    found = await dominus.db.query(name, sort_by="id", model=Person)
    assert [(row.name, row.tags) for row in found["rows"]] == [
        ("Ada L.", ["vip"]),
        ("Bob", ["new"]),
        ("Cy", []),
    ]
    assert (await dominus.db.query(name, filters=Person(name="Bob")))["total"] == 1
