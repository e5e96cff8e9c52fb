"""A change of a category for 200 tenants: how long it takes until each of them has it."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from stack import dev, median, row

from dominus import Dominus

TENANTS = 200


async def run(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="dominus-bench-") as folder, dev(Path(folder) / "home") as server:
        async with Dominus(server.url, server.token, timeout=60) as client:
            await client.auth.tenant_categories.create("Bench", "bench")
            columns = [
                {"name": "id", "type": "bigint", "primary_key": True},
                {"name": "name", "type": "text"},
            ]
            await client.ddl.category_create_table("bench", "orders", columns)
            began = time.perf_counter()
            for number in range(TENANTS):
                await client.ddl.provision_tenant(f"t{number}", category_slug="bench")
            row(
                f"provision {TENANTS} tenants with a table, one after the other",
                f"{time.perf_counter() - began:.2f} s",
            )
            times: list[float] = []
            for number in range(arguments.rounds):
                began = time.perf_counter()
                await client.ddl.category_add_column("bench", "orders", f"c{number}", "text")
                done = await client.ddl.sync_tenants_to_latest("bench")
                assert done["success"]
                status = await client.ddl.get_tenant_sync_status("bench")
                assert status["synced_count"] == TENANTS
                times.append(time.perf_counter() - began)
            row(f"a new column for {TENANTS} tenants, each in its transaction", f"{median(times):.2f} s")
