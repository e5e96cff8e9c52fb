"""ddl's handlers over a real PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pg_support import Caller, call, data_of, pg_dsn, postgres

from dominus.contract.db import InsertRequest, QueryRequest
from dominus.contract.ddl import AddColumn, Column, CreateTable, DropTable
from dominus.errors import ConflictError, DominusError, NotFoundError, ServiceError, ValidationError
from dominus.orchestrator.services import db, ddl

__all__ = ["call", "pg_dsn", "postgres"]


def table(name: str, *columns: dict[str, Any], schema: str = "public") -> CreateTable:
    return CreateTable(schema=schema, table=name, columns=[Column(**column) for column in columns])


ID = {"name": "id", "type": "UUID", "constraints": ["PRIMARY KEY"], "default": "gen_random_uuid()"}


async def test_a_table_is_created_as_described(call: Caller):
    request = table(
        "orders",
        ID,
        {"name": "n", "type": "SERIAL"},
        {"name": "status", "type": "VARCHAR(50)", "default": "'pending'", "nullable": False},
        {"name": "total", "type": "numeric(10,2)", "constraints": ["CHECK (total >= 0)"]},
        {"name": "at", "type": "TIMESTAMPTZ", "default": "NOW()"},
        {"name": "code", "type": "text", "unique": True},
        {"name": "tags", "type": "text[]", "default": "'{}'"},
        {"name": "Parent", "type": "uuid", "constraints": ["REFERENCES orders(id) ON DELETE CASCADE"]},
        {"name": "double", "type": "numeric", "constraints": ["GENERATED ALWAYS AS (total * 2) STORED"]},
    )
    answer = data_of(await ddl.create_table(call(), request))
    assert (answer["schema"], answer["table"], answer["created"]) == ("public", "orders", True)
    described = {column["column_name"]: column for column in answer["columns"]}
    assert described["id"]["is_primary_key"]
    assert described["id"]["data_type"] == "uuid"
    assert described["status"]["data_type"] == "character varying(50)"
    assert not described["status"]["is_nullable"]
    row = data_of(await db.insert(call(), InsertRequest(table="orders", data={"total": "1.50", "code": "c"})))
    assert (row["n"], row["status"], str(row["double"]), row["tags"]) == (1, "pending", "3.00", [])
    with pytest.raises(ConflictError, match="orders_code_key"):
        await db.insert(call(), InsertRequest(table="orders", data={"code": "c"}))
    with pytest.raises(ValidationError, match="orders_total_check"):
        await db.insert(call(), InsertRequest(table="orders", data={"total": -1}))


async def test_two_key_columns_make_one_key(call: Caller):
    request = table(
        "link",
        {"name": "a", "type": "int", "primary_key": True},
        {"name": "b", "type": "int", "constraints": ["PRIMARY KEY", "NOT NULL"]},
    )
    await ddl.create_table(call(), request)
    known = await (await call.catalog.listening()).table("public", "link")
    assert known.primary_key == ("a", "b")


async def test_a_repeated_creation_is_answered_alike_and_a_second_one_refused(call: Caller):
    request = table("t", ID)
    answers = await asyncio.gather(*(ddl.create_table(call("k"), request) for _ in range(4)))
    assert len({bytes(answer) for answer in answers}) == 1
    with pytest.raises(ConflictError) as caught:
        await ddl.create_table(call(), request)
    assert caught.value.code == "table_exists"
    with pytest.raises(ConflictError) as caught:
        await ddl.create_table(call("k", body="other"), request)
    assert caught.value.code == "idempotency_key_reused"
    drop = DropTable(table="t")
    for _ in range(2):
        dropped = data_of(await ddl.drop_table(call("d"), drop))
        assert len(dropped.pop("migration_version")) == len("20261120150000123456")
        assert dropped == {"schema": "public", "table": "t", "dropped": True}
    with pytest.raises(NotFoundError) as missing:
        await ddl.drop_table(call(), drop)
    assert missing.value.code == "unknown_table"


@pytest.mark.parametrize(
    ("request_", "kind", "code"),
    [
        (table("users; drop table users", ID), ValidationError, "invalid_name"),
        (table("t" * 64, ID), ValidationError, "invalid_name"),
        (table("t", {"name": "a b", "type": "int"}), ValidationError, "invalid_name"),
        (table("t", {"name": "a", "type": "nosuch"}), ValidationError, "unknown_type"),
        (table("t", {"name": "a", "type": "int; drop table x"}), ValidationError, "invalid_sql"),
        (
            table("t", {"name": "a", "type": "int", "default": "1); drop table x"}),
            ValidationError,
            "invalid_sql",
        ),
        (table("t", {"name": "a", "type": "int", "default": "'x'"}), ValidationError, "invalid_value"),
        (table("t", {"name": "a", "type": "text", "default": "'a\0b'"}), ValidationError, "invalid_sql"),
        (table("t", {"name": "a", "type": "text\0"}), ValidationError, "invalid_sql"),
        (
            table("t", {"name": "a", "type": "text", "constraints": ["CHECK (a <> 'a\0b')"]}),
            ValidationError,
            "invalid_sql",
        ),
        (table("t", {"name": "a", "type": "int", "default": "b + 1"}), ValidationError, None),
        (table("t", {"name": "a", "type": "int", "default": "1 1"}), ValidationError, None),
        (table("t", {"name": "a", "type": "int", "constraints": ["CHECK (b > 1)"]}), ValidationError, None),
        (
            table("t", {"name": "a", "type": "int", "default": "1", "constraints": ["DEFAULT 2"]}),
            ValidationError,
            "invalid_sql",
        ),
        (
            table("t", {"name": "a", "type": "int", "constraints": ["REFERENCES nosuch"]}),
            NotFoundError,
            "unknown_table",
        ),
        (
            table("t", {"name": "a", "type": "int"}, {"name": "a", "type": "int"}),
            ConflictError,
            "column_exists",
        ),
        (table("t", ID, schema="nosuch"), NotFoundError, "unknown_schema"),
        (table("t", ID, schema="dominus"), NotFoundError, "unknown_schema"),
        (table("t", ID, schema="pg_catalog"), NotFoundError, "unknown_schema"),
        (table("t", {"name": "a", "type": "record"}), ValidationError, None),
    ],
)
async def test_what_cannot_be_created_is_a_typed_error(
    call: Caller, request_: CreateTable, kind: type[DominusError], code: str | None
):
    with pytest.raises(kind) as caught:
        await ddl.create_table(call(), request_)
    assert code is None or caught.value.code == code
    assert (await call.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))[0][0] == 0


@pytest.mark.parametrize(
    ("given", "better"),
    [
        ("DATETIME", "timestamptz"),
        ("bigserail", "bigserial"),
        ("varchr(50)", "varchar(n)"),
        ("modo[]", "mood"),
    ],
)
async def test_an_unknown_type_gets_a_suggestion_and_the_list(call: Caller, given: str, better: str):
    await call.sql("CREATE TYPE mood AS ENUM ('sad', 'happy')")
    with pytest.raises(ValidationError) as caught:
        await ddl.create_table(call(), table("t", {"name": "a", "type": given}))
    assert caught.value.code == "unknown_type"
    hint = caught.value.hint or ""
    assert hint.startswith(f"did you mean {better!r}? types are bigint, bigserial, ")
    assert hint.endswith("varchar(n), mood")


async def test_a_table_that_others_refer_to_stays(call: Caller):
    await ddl.create_table(call(), table("parent", ID))
    child = table("child", {"name": "p", "type": "uuid", "constraints": ["REFERENCES parent"]})
    await ddl.create_table(call(), child)
    with pytest.raises(ConflictError) as caught:
        await ddl.drop_table(call(), DropTable(table="parent"))
    assert caught.value.code == "dependent_objects"
    await call.sql("CREATE VIEW v AS SELECT 1 AS a")
    with pytest.raises(ValidationError, match="not a table"):
        await ddl.drop_table(call(), DropTable(table="v"))


async def test_a_column_is_added_and_seen_at_once(call: Caller):
    await ddl.create_table(call(), table("t", ID))
    await db.query(call(), QueryRequest(table="t"))
    request = AddColumn(table="t", column="status", type="VARCHAR(50)", default="'pending'", nullable=False)
    for _ in range(2):
        answer = data_of(await ddl.add_column(call("k"), request))
        assert (answer["column"], answer["created"]) == ("status", True)
    row = data_of(await db.insert(call(), InsertRequest(table="t", data={"status": "x"})))
    assert row["status"] == "x"
    with pytest.raises(ConflictError) as caught:
        await ddl.add_column(call(), request)
    assert caught.value.code == "column_exists"
    with pytest.raises(ValidationError, match="has rows"):
        await ddl.add_column(call(), AddColumn(table="t", column="n", type="int", nullable=False))
    with pytest.raises(NotFoundError):
        await ddl.add_column(call(), AddColumn(table="nosuch", column="n", type="int"))
    with pytest.raises(NotFoundError):
        await ddl.add_column(call(), AddColumn(schema="dominus", table="secrets", column="n", type="int"))
    with pytest.raises(ValidationError):
        await ddl.add_column(
            call(), AddColumn(table="t", column="n", type="int", default="1, ADD COLUMN x int")
        )
    assert list(row) == ["id", "status"]


async def test_an_expression_cannot_leave_the_data_role(call: Caller):
    await ddl.create_table(call(), table("t", ID))
    for default in (
        "set_config('role', 'none', false)",
        "query_to_xml('select 1', true, true, '')::text",
        "dominus_api.remember('a', 'b', 'c', 'd')::text",
    ):
        with pytest.raises(ValidationError, match=r"not allowed|system's"):
            await ddl.add_column(call(), AddColumn(table="t", column="n", type="text", default=default))
    assert (await call.sql("SELECT current_user"))[0][0] == "dominus_data"


async def test_a_change_gives_up_on_a_table_in_long_use(call: Caller, monkeypatch: pytest.MonkeyPatch):
    await ddl.create_table(call(), table("t", ID))
    monkeypatch.setattr(ddl.change, "SESSION", ddl.change.SESSION.replace("5s", "50ms"))
    async with call.postgres.data.acquire() as connection, connection.transaction():
        await connection.fetch("SELECT * FROM public.t")
        with pytest.raises(ServiceError) as caught:
            await ddl.add_column(call(), AddColumn(table="t", column="n", type="int"))
    assert caught.value.status_code == 503


async def test_another_replica_forgets_what_was_changed(call: Caller):
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    await call.postgres.listen("dominus_catalog", heard.put_nowait)
    await ddl.create_table(call(), table("t", ID))
    async with asyncio.timeout(10):
        assert await heard.get() == "public"


async def test_the_catalog_forgets_on_notification_and_after_its_time(call: Caller):
    from dominus.orchestrator.sql.catalog import Catalog

    now = 0.0
    catalog = Catalog(call.postgres, clock=lambda: now)
    await ddl.create_table(call(), table("t", ID))
    known = await catalog.table("public", "t")
    assert await catalog.table("public", "t") is known
    await call.sql("ALTER TABLE t ADD n int")
    assert "n" not in (await catalog.table("public", "t")).columns
    now = 5.1
    assert "n" in (await catalog.table("public", "t")).columns
    await call.sql("ALTER TABLE t ADD m int")
    catalog.forget()
    assert "m" in (await catalog.table("public", "t")).columns


async def test_a_default_without_its_quotes_is_told_how_to_write_it(call: Caller):
    with pytest.raises(ValidationError) as caught:
        await ddl.create_table(call(), table("t", ID, {"name": "s", "type": "text", "default": "pending"}))
    assert caught.value.hint == "a text has quotes of its own: \"'pending'\""
    made = data_of(
        await ddl.create_table(
            call(), table("t", ID, {"name": "d", "type": "date", "default": "CURRENT_DATE"})
        )
    )
    assert made["created"]


async def test_many_at_once_with_the_same_change_get_one_success_and_one_kind_of_refusal(call: Caller):
    async def codes(asks: list[Any]) -> list[str]:
        answers = await asyncio.gather(*asks, return_exceptions=True)
        return sorted(
            answer.code if isinstance(answer, DominusError) else type(answer).__name__ for answer in answers
        )

    columns = [
        Column(name="id", type="bigserial", primary_key=True),
        Column(name="n", type="text", unique=True),
    ]
    for turn in range(5):
        name = f"race{turn}"
        create = CreateTable(table=name, columns=columns)
        assert await codes([ddl.create_table(call(f"c{turn}.{n}"), create) for n in range(8)]) == [
            "RawJson",
            *["table_exists"] * 7,
        ]
        add = AddColumn(table=name, column="more", type="integer")
        assert await codes([ddl.add_column(call(f"a{turn}.{n}"), add) for n in range(8)]) == [
            "RawJson",
            *["column_exists"] * 7,
        ]
        drop = DropTable(table=name)
        assert await codes([ddl.drop_table(call(f"d{turn}.{n}"), drop) for n in range(8)]) == [
            "RawJson",
            *["unknown_table"] * 7,
        ]
