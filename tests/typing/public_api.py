"""What type checkers make of the public interface: read by pyright and mypy, never run."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import AsyncIterator, Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, assert_type

import psycopg
import pydantic
import redis
import redis.asyncio
from fastapi import Depends, FastAPI

from dominus import Dominus, dominus
from dominus.contract.db import Affected, ColumnInfo, Inserted, Row, RowPage, TableInfo
from dominus.contract.ddl import ColumnSpec, TableChanged
from dominus.contract.secrets import SecretStored
from dominus.integrations.fastapi import Principal, install, require_jwt, require_scopes, user_client
from dominus.namespaces.db import QueryRows
from dominus.namespaces.lock import Lease


class Order(pydantic.BaseModel):
    id: int | None = None
    customer: str


@dataclasses.dataclass
class Line:
    number: int
    price: Decimal


async def rows_are_dicts_or_models() -> None:
    plain = await dominus.db.query("orders", filters={"id": [1, 2]}, sort_by=["id"], sort_order="desc")
    assert_type(plain, QueryRows[Row])
    assert_type(plain["rows"], list[dict[str, Any]])
    assert_type(plain["total"], int | None)
    typed = await dominus.db.query("orders", filters=Order(customer="ada"), model=Order)
    assert_type(typed, QueryRows[Order])
    assert_type(typed["rows"][0].customer, str)
    page = await dominus.db.page("orders", page_size=10, cursor=None)
    assert_type(page, RowPage)
    assert_type(page["items"], list[dict[str, Any]])
    assert_type(page["cursor"], str | None)
    assert_type(dominus.db.iterate("orders"), AsyncIterator[dict[str, Any]])
    async for order in dominus.db.iterate("orders", model=Order):
        assert_type(order, Order)
    assert_type(await dominus.db.columns("orders"), list[ColumnInfo])
    assert_type(await dominus.db.tables(), list[TableInfo])


async def rows_may_be_dicts_models_and_dataclasses(rows: AsyncIterator[Mapping[str, object]]) -> None:
    assert_type(await dominus.db.insert("orders", {"customer": "ada", "at": dt.datetime.now(dt.UTC)}), Row)
    assert_type(await dominus.db.insert("orders", Order(customer="ada")), Row)
    await dominus.db.insert(
        "lines", Line(1, Decimal("1.50")), on_conflict="update", conflict_columns="number"
    )
    assert_type(await dominus.db.update("orders", Order(customer="ada"), {"id": 1}), Affected)
    assert_type(await dominus.db.delete("orders", filters=Order(customer="ada")), Affected)
    assert_type(await dominus.db.bulk_insert("orders", [Order(customer="ada")]), Inserted)
    await dominus.db.bulk_insert("lines", [Line(1, Decimal(1)), {"number": 2, "price": 3}])
    await dominus.db.bulk_insert("lines", (Line(n, Decimal(n)) for n in range(5)))
    await dominus.db.bulk_insert("orders", rows)


async def columns_are_dicts_written_in_place_or_not(
    kept: list[dict[str, Any]], specs: list[ColumnSpec]
) -> None:
    made = await dominus.ddl.add_table(
        "orders",
        [
            {"name": "id", "type": "BIGSERIAL", "primary_key": True},
            {"name": "customer", "type": "TEXT", "nullable": False},
            {"name": "status", "type": "TEXT", "default": "'open'", "constraints": ["UNIQUE"]},
        ],
    )
    assert_type(made, TableChanged)
    here = [{"name": "id", "type": "UUID"}, {"name": "n", "type": "INTEGER"}]
    await dominus.ddl.create_table("sales", "orders", here)
    await dominus.ddl.add_table("kept", kept)
    await dominus.ddl.add_table("specs", specs)


async def secrets_and_cache(client: Dominus) -> None:
    assert_type(await client.get("KEY"), Any)
    assert_type(await client.secrets.get("KEY"), Any)
    assert_type(await client.secrets.get("KEY", None), Any | None)
    assert_type(await client.secrets.get("KEY", "none", stale_if_error=60), Any | str)
    assert_type(await client.upsert("KEY", {"a": 1}), SecretStored)
    assert_type(await client.redis.get("key"), Any)
    assert_type(await client.redis.get("key", default=1), Any)
    assert_type(await client.redis.mget(["a", "b"]), list[Any])
    assert_type(await client.redis.set("key", Order(customer="ada"), ttl=60), bool)
    assert_type(await client.redis.setnx("key", "me", ttl=60), bool)
    assert_type(client.redis.scan_iter(), AsyncIterator[str])
    async with client.redis.lock("nightly", ttl=60, wait=5) as lease:
        assert_type(lease, Lease)
        assert_type(lease.fence, int)
    assert_type(client.as_user("a.b.c"), Dominus)
    with client.deadline(2.0):
        assert_type(await client("redis.get", key="key"), Any)


async def sessions_are_the_drivers_own_clients() -> None:
    async with dominus.sessions.redis() as rd:
        assert_type(rd, redis.asyncio.Redis)
    with dominus.sessions.redis.sync() as plain:
        assert_type(plain, redis.Redis)
    with dominus.sessions.postgres.sync() as connection:
        assert_type(connection, psycopg.Connection[Any])
    assert_type(await dominus.sessions.token("redis"), str)


def guards_of_routes_keep_what_they_return(app: FastAPI) -> None:
    install(app, dominus, warm_up=False)

    @app.get("/me")
    @dominus.fastapi.jwt
    async def me(claims: dict[str, Any]) -> int:
        return len(claims)

    @dominus.fastapi.scopes(["a"])
    def scoped(claims: dict[str, Any]) -> str:
        return str(claims)

    @app.get("/orders")
    async def orders(
        principal: Annotated[Principal, Depends(require_scopes("a", "b", any=True))],
        caller: Annotated[Principal, Depends(require_jwt)],
        user: Annotated[Dominus, Depends(user_client)],
    ) -> bool:
        assert_type(principal.tenant_id, str | None)
        await user.redis.get(caller.sub)
        return principal.may("a")

    async def calls() -> None:
        assert_type(await me(), int)
        assert_type(await orders(Principal("a"), Principal("b"), dominus), bool)

    app.add_api_route("/calls", calls)
    assert_type(scoped, Callable[..., str])
