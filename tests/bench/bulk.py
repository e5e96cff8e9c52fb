"""`bulk_insert` of 100,000 rows of five columns, and `iterate` over 1,000,000 rows in bounded memory."""

from __future__ import annotations

import argparse
import datetime as dt
import resource
import time
from pathlib import Path

import asyncpg
from stack import dev, each, row

from dominus import Dominus

ROWS = 100_000
_FILL = "INSERT INTO public.events SELECT i, 'event ' || i, i % 7 FROM generate_series(1, 1000000) AS i; ANALYZE public.events"


def _resident(pid: int) -> float:
    """Return megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


async def run(_arguments: argparse.Namespace) -> None:
    with dev() as server:
        async with Dominus(url=server.url, token=server.token) as client:
            columns = [
                {"name": "id", "type": "BIGINT", "constraints": ["PRIMARY KEY"]},
                {"name": "name", "type": "TEXT"},
                {"name": "amount", "type": "NUMERIC"},
                {"name": "at", "type": "TIMESTAMPTZ"},
                {"name": "tags", "type": "JSONB"},
            ]
            await client.ddl.add_table("bulk", columns)
            now = dt.datetime.now(dt.UTC)
            rows = [
                {"id": i, "name": f"row {i}", "amount": i * 0.5, "at": now, "tags": {"n": i}}
                for i in range(ROWS)
            ]
            began = time.perf_counter()
            await client.db.bulk_insert("bulk", rows)
            row("bulk_insert, 100,000 rows x 5 columns", f"{time.perf_counter() - began:.2f} s")
            del rows
            await client.ddl.add_table(
                "events", [columns[0], columns[1], {"name": "kind", "type": "INTEGER"}]
            )
            connection = await asyncpg.connect(server.dsn, server_settings={"role": "dominus_data"})
            await connection.execute(_FILL)
            await connection.close()
            before = _resident(server.pid), _resident_peak()
            began = time.perf_counter()
            count = await each(client.db.iterate("events", page_size=1000))
            seconds = time.perf_counter() - began
            row(f"iterate, {count:,} rows", f"{seconds:.1f} s", f"{count / seconds:,.0f} rows/s")
            row("growth while iterating: server, client", f"{_resident(server.pid) - before[0]:.0f} MB",
                f"{_resident_peak() - before[1]:.0f} MB")  # fmt: skip


def _resident_peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
