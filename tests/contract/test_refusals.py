"""What PostgreSQL refuses is blamed on the right column and, of many rows, on the right line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pg_support import Caller, call, data_of, pg_dsn, postgres
from pydantic_core import to_json

from dominus.contract.db import BulkInsertRequest, InsertRequest, QueryRequest, UpdateRequest
from dominus.errors import ConflictError, DominusError, ValidationError
from dominus.orchestrator.services import db

__all__ = ["call", "pg_dsn", "postgres"]

ORDERS = """
CREATE TABLE shops (id integer PRIMARY KEY);
INSERT INTO shops VALUES (1);
CREATE DOMAIN percent AS integer CHECK (VALUE <= 100);
CREATE TABLE orders (
  id bigint PRIMARY KEY,
  customer text NOT NULL,
  code varchar(5) UNIQUE,
  tags text[],
  counts integer[],
  amount integer CHECK (amount > 0),
  discount percent,
  paid date,
  due date,
  shop integer REFERENCES shops,
  later integer REFERENCES shops DEFERRABLE INITIALLY DEFERRED,
  follows bigint CONSTRAINT follows_an_order REFERENCES orders,
  meta jsonb,
  CHECK (paid <= due)
)
"""


@pytest.fixture
async def orders(call: Caller) -> Caller:
    await call.sql("SET client_min_messages = warning")
    for statement in ORDERS.split(";"):
        await call.sql(statement)
    return call


WRONG: list[tuple[dict[str, Any], str, str | None, str]] = [
    ({"customer": "x", "tags": "x"}, "invalid_value", "tags", "x"),
    ({"customer": "y", "counts": ["y"]}, "invalid_value", "counts", '"y"'),
    ({"customer": "9", "counts": {"a": 9}}, "invalid_value", "counts", "array"),
    ({"customer": "soon", "paid": "2026-01-01", "due": "soon"}, "invalid_value", "due", '"soon"'),
    ({"customer": "abcdef", "code": "abcdef"}, "invalid_value", "code", "too long"),
    ({"customer": "7", "amount": 2**31}, "invalid_value", "amount", "out of range"),
    ({"customer": "a", "meta": {"x": ["\0"]}}, "invalid_text", "meta", "Unicode"),
    ({"customer": "a", "discount": 101}, "check_violation", "discount", "percent"),
    ({"customer": "a", "amount": 0}, "check_violation", "amount", "orders_amount_check"),
    ({"customer": "a", "paid": "2026-02-01", "due": "2026-01-01"}, "check_violation", None, "orders_check"),
    ({"customer": None}, "not_null_violation", "customer", "customer"),
    ({"customer": "a", "code": "taken"}, "unique_violation", "code", "orders_code_key"),
    ({"customer": "a", "shop": 2}, "foreign_key_violation", "shop", "orders_shop_fkey"),
    ({"customer": "a", "later": 2}, "foreign_key_violation", "later", "orders_later_fkey"),
    ({"customer": "a", "follows": 7777}, "foreign_key_violation", "follows", "follows_an_order"),
]


async def refused(ask: Any) -> DominusError:
    with pytest.raises((ValidationError, ConflictError)) as caught:
        await ask
    return caught.value


@pytest.mark.parametrize(("data", "code", "column", "said"), WRONG)
async def test_a_refused_value_is_blamed_on_its_column(
    orders: Caller, data: dict[str, Any], code: str, column: str | None, said: str
) -> None:
    first = {"id": 1, "customer": "first", "code": "taken", "shop": 1}
    await db.insert(orders(), InsertRequest(table="orders", data=first))
    asked: list[Any] = [db.insert(orders("k"), InsertRequest(table="orders", data={"id": 2, **data}))]
    if code != "unique_violation":
        asked.append(db.update(orders(), UpdateRequest(table="orders", data=data, filters={"id": 1})))
    for ask in asked:
        error = await refused(ask)
        assert error.code == code
        assert error.details.get("column") == column
        assert said in error.message
        assert (
            column is None
            or f'"{column}"' in error.message
            or error.message.startswith(f"column {column!r}: ")
        )
    assert data_of(await db.query(orders(), QueryRequest(table="orders")))["total"] == 1


async def test_columns_of_a_check_over_several_are_all_named(orders: Caller) -> None:
    data = {"id": 1, "customer": "a", "paid": "2026-02-01", "due": "2026-01-01"}
    error = await refused(db.insert(orders(), InsertRequest(table="orders", data=data)))
    assert error.details["columns"] == ["paid", "due"]


@pytest.mark.parametrize(
    ("filters", "column"),
    [
        ({"customer": "x", "amount": "x"}, "amount"),
        ({"customer": ["1", "y"], "id": [1, "y"]}, "id"),
        ({"customer": "2026", "or": [{"due": {"between": ["2026", "2027"]}}]}, "due"),
        ({"customer": "x", "tags": {"contains": "x"}, "counts": {"contains": "x"}}, "counts"),
        ({"customer": {"like": "a\0"}, "id": 1}, "customer"),
    ],
)
async def test_a_refused_filter_is_blamed_on_its_column(orders: Caller, filters: Any, column: str) -> None:
    for _ in range(2):
        error = await refused(db.query(orders(), QueryRequest(table="orders", filters=filters)))
        assert error.details["column"] == column
        assert error.message.startswith(f"column {column!r}: ")


async def lines(rows: list[dict[str, Any]]) -> AsyncIterator[bytes]:
    yield b"\n".join(to_json(row) for row in rows)


async def load(call: Caller, rows: list[dict[str, Any]], table: str = "orders") -> Any:
    return data_of(await db.bulk_insert(call(stream=lines(rows)), BulkInsertRequest(table=table)))


@pytest.mark.parametrize(("data", "code", "column", "said"), WRONG)
async def test_a_refused_row_among_many_is_named_by_line_and_column(
    orders: Caller, data: dict[str, Any], code: str, column: str | None, said: str
) -> None:
    rows = [{"id": n, "customer": "fine", "code": f"c{n}", "shop": 1, "later": 1} for n in range(1000)]
    rows[3]["code"] = "taken"
    rows[700] = {"id": 700, **data}
    error = await refused(load(orders, rows))
    assert error.code == code
    assert (error.details["line"], error.details.get("column")) == (701, column)
    assert said in error.message
    assert error.message.startswith("line 701")
    assert data_of(await db.query(orders(), QueryRequest(table="orders")))["total"] == 0


async def test_rows_may_refer_to_rows_of_later_lines(orders: Caller) -> None:
    rows: list[dict[str, Any]] = [{"id": n, "customer": "a", "follows": n + 1} for n in range(500)]
    last = {"id": 500, "customer": "a"}
    error = await refused(load(orders, rows))
    assert (error.details["line"], error.details["column"]) == (500, "follows")
    assert await load(orders, [*rows, last]) == {"inserted_count": 501}


async def test_what_a_trigger_refuses_is_named_by_line(call: Caller) -> None:
    await call.sql("CREATE TABLE odd (n integer)")
    await call.sql(
        "CREATE OR REPLACE FUNCTION refuse_odd() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.n % 2 = 1 THEN RAISE 'odd'; END IF; RETURN NEW; END $$"
    )
    await call.sql("CREATE TRIGGER t BEFORE INSERT ON odd FOR EACH ROW EXECUTE FUNCTION refuse_odd()")
    error = await refused(load(call, [{"n": n} for n in (0, 2, 4, 5, 6, 7)], "odd"))
    assert (error.code, error.message) == ("raised_by_trigger", "line 4: odd")
    await call.sql("DROP FUNCTION refuse_odd CASCADE")


async def test_a_repeated_key_of_one_row_costs_no_other_its_default(call: Caller) -> None:
    await call.sql("CREATE TABLE defaults (id serial, n integer DEFAULT 7)")

    async def twice() -> AsyncIterator[bytes]:
        yield b'{"n":1,"n":2}\n{"id":9}\n{"n":null}'

    await db.bulk_insert(call(stream=twice()), BulkInsertRequest(table="defaults"))
    assert [tuple(row) for row in await call.sql("SELECT id, n FROM defaults ORDER BY ctid")] == [
        (1, 2),
        (9, 7),
        (2, None),
    ]


@pytest.mark.parametrize("wrong", [1, 123_456, 200_000])
async def test_a_bad_value_among_two_hundred_thousand_rows_is_found(call: Caller, wrong: int) -> None:
    await call.sql("CREATE TABLE many (id bigint PRIMARY KEY, name text, amount numeric)")
    row = '{"id":%d,"name":"n%d","amount":"%d.5"}\n'
    whole = "".join(
        row % (n, n, n) if n != wrong else row.replace("%d.5", "x%d") % (n, n, n) for n in range(1, 200_001)
    )

    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(whole), 1 << 20):
            yield whole[start : start + (1 << 20)].encode()
            await asyncio.sleep(0)

    began = time.perf_counter()
    error = await refused(db.bulk_insert(call(stream=stream()), BulkInsertRequest(table="many")))
    print(f"line {wrong} of 200,000 after {time.perf_counter() - began:.2f} s")
    assert (error.details["line"], error.details["column"]) == (wrong, "amount")
