"""The quick start: `dominus demo` runs these functions and shows their bodies, so what is shown is what ran."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dominus.client import Dominus

__all__ = ["CHAPTERS", "TABLE", "Step"]

Step = Callable[[Dominus], Awaitable[object]]
TABLE = "demo_orders"


async def _store_secret(dominus: Dominus) -> object:
    return await dominus.upsert("SMTP_PASSWORD", "correct horse")


async def _read_secret(dominus: Dominus) -> object:
    return await dominus.get("SMTP_PASSWORD")


async def _create_table(dominus: Dominus) -> object:
    return await dominus.ddl.add_table(
        "demo_orders",
        [
            {"name": "id", "type": "BIGSERIAL", "primary_key": True},
            {"name": "customer", "type": "TEXT", "nullable": False},
            {"name": "total", "type": "NUMERIC(10,2)"},
            {"name": "status", "type": "TEXT", "default": "'open'"},
        ],
    )


async def _insert_row(dominus: Dominus) -> object:
    return await dominus.db.insert(
        "demo_orders",
        {"customer": "ada", "total": "19.90"},
    )


async def _insert_many(dominus: Dominus) -> object:
    return await dominus.db.bulk_insert(
        "demo_orders",
        [{"customer": f"c{n % 7}", "total": n} for n in range(1000)],
    )


async def _query_rows(dominus: Dominus) -> object:
    return await dominus.db.query(
        "demo_orders",
        filters={"status": "open", "total": {"gte": 500, "lt": 600}},
        sort_by="total",
        sort_order="desc",
        columns=["id", "customer", "total"],
        limit=2,
    )


async def _set_entry(dominus: Dominus) -> object:
    return await dominus.redis.set("greeting", {"text": "hello"}, ttl=60)


async def _get_entry(dominus: Dominus) -> object:
    return await dominus.redis.get("greeting")


async def _count(dominus: Dominus) -> object:
    return await dominus.redis.incr("visits")


async def _take(dominus: Dominus) -> object:
    return await dominus.redis.setnx("job:report", "worker-1", ttl=60)


async def _take_again(dominus: Dominus) -> object:
    return await dominus.redis.setnx("job:report", "worker-2", ttl=60)


async def _lock(dominus: Dominus) -> object:
    async with dominus.redis.lock("job:nightly", ttl=60) as lease:
        return lease.fence


async def _check_health(dominus: Dominus) -> object:
    return await dominus.health.check()


CHAPTERS: list[tuple[str, list[Step]]] = [
    ("Secrets: encrypted, with versions", [_store_secret, _read_secret]),
    ("Tables: a real PostgreSQL", [_create_table, _insert_row, _insert_many, _query_rows]),
    ("Cache entries and counters", [_set_entry, _get_entry, _count]),
    ("Locks: one holder, and a fence that grows", [_take, _take_again, _lock]),
    ("Health", [_check_health]),
]
