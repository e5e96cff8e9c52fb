"""`db.query` of ten rows and `insert` with its idempotency record, against asyncpg alone on the same statements."""

from __future__ import annotations

import argparse
import uuid
from typing import Any

import asyncpg
import load
from stack import Dev, dev, median, rate, row

from dominus import Dominus
from dominus.contract.db import InsertRequest, QueryRequest
from dominus.orchestrator.engines.postgres.pools import Postgres
from dominus.orchestrator.identity.vault import Vault, parse_master_keys
from dominus.orchestrator.settings import ServerSettings
from dominus.orchestrator.sql import statements as sql
from dominus.orchestrator.sql.catalog import Catalog

CONNECTIONS = 16
COUNT = 6000
QUERY: dict[str, Any] = {"filters": {"grp": 77}, "limit": 10}
ROW = {"name": "abc", "amount": "12.50"}
_SLOT = b"slot"
_AS_USERS = {"role": "dominus_data"}
_PREPARE = """
INSERT INTO public.bench (id, grp, name, amount)
SELECT i, i / 10, 'name ' || i, i * 1.5 FROM generate_series(0, 99999) AS i;
CREATE INDEX ON public.bench (grp);
ANALYZE public.bench
"""


async def _statements(server: Dev) -> tuple[sql.Statement, sql.Statement]:
    postgres = await Postgres.open(server.dsn, ServerSettings(), Vault(parse_master_keys(server.master_key)))
    try:
        catalog = await Catalog(postgres).listening()
        table, stored = await catalog.table("public", "bench"), await catalog.table("public", "stored")
        query = sql.query(table, QueryRequest(table="bench", **QUERY))
        insert = sql.insert(stored, InsertRequest(table="stored", data=ROW), (_SLOT, "fingerprint"))
        return query, insert
    finally:
        await postgres.aclose()


async def _alone(pool: Any, statement: sql.Statement, count: int) -> float:
    async def call() -> object:
        arguments = [uuid.uuid4().bytes if value is _SLOT else value for value in statement.args]
        return await pool.fetchrow(statement.sql, *arguments)

    return (await rate(call, count, CONNECTIONS))[0]


async def _records(pool: Any, count: int) -> float:
    """What a program of its own would do: records, decoded by asyncpg."""

    async def call() -> object:
        return await pool.fetch(
            "SELECT id, grp, name, amount, at FROM public.bench WHERE grp = $1 LIMIT 10", 77
        )

    return (await rate(call, count, CONNECTIONS))[0]


async def _prepare(server: Dev) -> str:
    async with Dominus(url=server.url, token=server.token) as client:
        columns = [
            {"name": "id", "type": "BIGINT", "constraints": ["PRIMARY KEY"]},
            {"name": "grp", "type": "INTEGER"},
            {"name": "name", "type": "TEXT"},
            {"name": "amount", "type": "NUMERIC"},
            {"name": "at", "type": "TIMESTAMPTZ", "default": "NOW()"},
        ]
        await client.ddl.add_table("bench", columns)
        await client.ddl.add_table(
            "stored", [{"name": "id", "type": "BIGSERIAL", "primary_key": True}, *columns[2:]]
        )
        token = (await client.auth.token())["access_token"]
    connection = await asyncpg.connect(server.dsn, server_settings=_AS_USERS)
    await connection.execute(_PREPARE)
    await connection.close()
    return token


async def run(arguments: argparse.Namespace) -> None:
    with dev() as server:
        token = await _prepare(server)
        query, insert = await _statements(server)
        base = "/api/scribe/data/public"
        ask = load.request(f"{base}/bench/query", QUERY, token)
        store = load.request(f"{base}/stored/insert", {"data": ROW}, token, keyed=True)
        pool = await asyncpg.create_pool(
            server.dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, server_settings=_AS_USERS
        )
        row("16 connections", "asyncpg/s", "HTTP/s", "ratio", "p99 ms", "failed")
        for name, statement, make in (
            ("db.query, ten rows", query, ask),
            ("db.insert, keyed", insert, store),
        ):
            alone: list[float] = []
            served: list[load.Load] = []
            await _alone(pool, statement, 500)
            await load.run(server.url, make, 500, CONNECTIONS)
            for _ in range(arguments.rounds):
                alone.append(await _alone(pool, statement, COUNT))
                served.append(await load.run(server.url, make, COUNT, CONNECTIONS))
            ratio = median([mine.rate / theirs for mine, theirs in zip(served, alone, strict=True)])
            row(
                name,
                f"{median(alone):.0f}",
                f"{median([one.rate for one in served]):.0f}",
                f"{ratio:.2f}",
                f"{median([one.p99_ms for one in served]):.1f}",
                sum(one.failed for one in served),
            )
        records: list[float] = []
        served = []
        for _ in range(arguments.rounds):
            records.append(await _records(pool, COUNT))
            served.append(await load.run(server.url, ask, COUNT, CONNECTIONS))
        ratio = median([mine.rate / theirs for mine, theirs in zip(served, records, strict=True)])
        row("db.query, against asyncpg's own records", f"{median(records):.0f}", "", f"{ratio:.2f}")
        wide = [await load.run(server.url, ask, COUNT, 64) for _ in range(arguments.rounds)]
        row("db.query, 64 connections", "", f"{median([one.rate for one in wide]):.0f}", "",
            f"{median([one.p99_ms for one in wide]):.1f}", sum(one.failed for one in wide))  # fmt: skip
        await pool.close()
