"""Any number of rows in and out, in constant memory on both sides."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

from dominus import ConflictError, NotFoundError, dominus

ROWS = 20_000


async def readings() -> AsyncIterator[dict[str, Any]]:
    """Rows as they come, from a file, a queue or another service."""
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for number in range(ROWS):
        yield {
            "id": number,
            "taken_at": start + dt.timedelta(seconds=number),
            "value": Decimal(number) / 8,
        }


async def main() -> None:
    with contextlib.suppress(NotFoundError):
        await dominus.ddl.drop_table("readings")
    await dominus.ddl.add_table(
        "readings",
        [
            {"name": "id", "type": "BIGINT", "primary_key": True},
            {"name": "taken_at", "type": "TIMESTAMPTZ", "nullable": False},
            {"name": "value", "type": "NUMERIC", "nullable": False},
        ],
    )

    stored = await dominus.db.bulk_insert("readings", readings(), timeout=120)
    print("stored", stored["inserted_count"])

    # All or nothing: the second row is there already, so the first is not stored either.
    now = dt.datetime.now(dt.UTC)
    try:
        await dominus.db.bulk_insert(
            "readings",
            [{"id": ROWS, "taken_at": now, "value": 1}, {"id": 0, "taken_at": now, "value": 1}],
        )
    except ConflictError as error:
        print("refused:", error.code)

    total = Decimal(0)
    async for row in dominus.db.iterate("readings", columns=["value"], page_size=5000):
        total += row["value"]
    print("sum", total)


asyncio.run(main())
