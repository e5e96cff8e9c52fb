"""The quick start: `dominus dev` in one terminal, its two export lines and this file in another."""

import asyncio
import contextlib

from dominus import NotFoundError, dominus


async def main() -> None:
    await dominus.upsert("SMTP_PASSWORD", "correct horse")
    print(await dominus.get("SMTP_PASSWORD"))

    with contextlib.suppress(NotFoundError):
        await dominus.ddl.drop_table("orders")
    await dominus.ddl.add_table(
        "orders",
        [
            {"name": "id", "type": "BIGSERIAL", "primary_key": True},
            {"name": "customer", "type": "TEXT", "nullable": False},
            {"name": "status", "type": "TEXT", "default": "'open'"},
        ],
    )
    order = await dominus.db.insert("orders", {"customer": "ada"})
    print(order["id"], order["status"])
    found = await dominus.db.query("orders", filters={"status": ["open", "paid"]}, sort_by="id")
    print(found["total"])

    await dominus.redis.set("greeting", {"text": "hello"}, ttl=60)
    print(await dominus.redis.get("greeting"))
    if await dominus.redis.setnx("job:report", "worker-1", ttl=60):
        try:
            print("only one worker does this")
        finally:
            await dominus.redis.delete("job:report")


asyncio.run(main())
