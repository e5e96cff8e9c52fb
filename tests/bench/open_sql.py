"""SQL of one's own against `db.query` of the same rows, and a stream against asyncpg's own cursor."""

from __future__ import annotations

import argparse
import time
from typing import Any

import asyncpg
from stack import dev, median, row

from dominus import Dominus

COUNT = 400
ROWS = 300_000
COLUMNS: list[Any] = [{"name": "id", "type": "bigint", "primary_key": True}, {"name": "name", "type": "text"}]
SQL = "SELECT id, name FROM plain WHERE id <= $1 ORDER BY id LIMIT 10"
MANY = f"SELECT n, repeat('x', 1000) AS t FROM (SELECT generate_series(1, {ROWS}) AS n) s"


async def _query(client: Dominus) -> None:
    await client.db.query("plain", filters={"id": {"lte": 10}}, sort_by="id", limit=10)


async def _execute(client: Dominus) -> None:
    await client.open.execute(SQL, [10])


async def _seconds(call: Any, client: Dominus) -> float:
    taken: list[float] = []
    for _ in range(COUNT):
        began = time.perf_counter()
        await call(client)
        taken.append(time.perf_counter() - began)
    return median(taken)


async def _streamed(client: Dominus) -> float:
    began = time.perf_counter()
    async for _ in client.open.stream(MANY):
        pass
    return time.perf_counter() - began


async def _with_cursor(connection: Any) -> float:
    began = time.perf_counter()
    async with connection.transaction(readonly=True):
        async for found in connection.cursor(MANY, prefetch=256):
            dict(found)
    return time.perf_counter() - began


async def run(arguments: argparse.Namespace) -> None:
    with dev() as server:
        async with Dominus(url=server.url, token=server.token) as client:
            await client.ddl.add_table("plain", COLUMNS)
            await client.db.bulk_insert("plain", [{"id": n, "name": f"name {n}"} for n in range(1000)])
            connection: Any = await asyncpg.connect(server.dsn)
            queries, executed, streamed, own = [], [], [], []
            for _ in range(arguments.rounds):
                queries.append(await _seconds(_query, client))
                executed.append(await _seconds(_execute, client))
                own.append(await _with_cursor(connection))
                streamed.append(await _streamed(client))
            await connection.close()
    row("one caller", "theirs", "ours", "ratio")
    ratio = median([mine / theirs for mine, theirs in zip(executed, queries, strict=True)])
    row(
        "ten rows, ms: db.query, open.execute",
        f"{median(queries) * 1000:.2f}",
        f"{median(executed) * 1000:.2f}",
        f"{ratio:.2f}",
    )
    ratio = median([mine / theirs for mine, theirs in zip(streamed, own, strict=True)])
    row(
        f"{ROWS:,} rows of 1 kB, s: asyncpg's cursor, open.stream",
        f"{median(own):.2f}",
        f"{median(streamed):.2f}",
        f"{ratio:.2f}",
    )
