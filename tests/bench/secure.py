"""A query of ten rows of a secure table against the same of a plain one: its reason, its audit entry, its commit."""

from __future__ import annotations

import argparse
import time
from typing import Any

from stack import dev, median, row

from dominus import Dominus

COUNT = 400
MOST = 2.0
"""The latency of a secure query, in those of a plain one."""
COLUMNS: list[Any] = [{"name": "id", "type": "bigint", "primary_key": True}, {"name": "name", "type": "text"}]


async def _seconds(client: Dominus, table: str, **why: Any) -> float:
    taken: list[float] = []
    for _ in range(COUNT):
        began = time.perf_counter()
        await client.db.query(table, filters={"id": {"lte": 10}}, limit=10, **why)
        taken.append(time.perf_counter() - began)
    return median(taken)


async def run(arguments: argparse.Namespace) -> None:
    with dev() as server:
        async with Dominus(url=server.url, token=server.token) as client:
            for table in ("plain", "guarded"):
                await client.ddl.add_table(table, COLUMNS)
                rows = [{"id": number, "name": f"name {number}"} for number in range(1000)]
                await client.db.bulk_insert(table, rows)
            await client.auth.create_secure_table("guarded")
            plain: list[float] = []
            secure: list[float] = []
            for _ in range(arguments.rounds):
                plain.append(await _seconds(client, "plain"))
                secure.append(await _seconds(client, "guarded", reason="bench"))
            ratio = median([mine / theirs for mine, theirs in zip(secure, plain, strict=True)])
            row("one caller", "plain ms", "secure ms", "ratio", "at most")
            row(
                "db.query, ten rows",
                f"{median(plain) * 1000:.2f}",
                f"{median(secure) * 1000:.2f}",
                f"{ratio:.2f}",
                f"{MOST:.1f}",
            )
