"""A killed orchestrator leaves each tenant as it was or up to date, and another sync goes on."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg

from dominus import Dominus, DominusError

TENANTS = 60
COLUMNS = ("a", "b", "c")


def start(home: Path) -> tuple[subprocess.Popen[str], str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOMINUS_", "CB_"))}
    command = [sys.executable, "-m", "dominus.cli", "dev", "--home", str(home), "--port", "0"]
    # What its embedded PostgreSQL writes outlives it; a pipe would be held open.
    log = (home.parent / "stderr").open("a")
    env = {**kept, "DOMINUS_IS_DURABLE": "false"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
    log.close()
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"DOMINUS_URL=(\S+)", line):
            return process, found[1]
    raise AssertionError((home.parent / "stderr").read_text())


async def shapes(home: Path) -> dict[str, list[str]]:
    """Return the columns of each tenant's table, as PostgreSQL itself has them."""
    connection = await asyncpg.connect((home / "dsn").read_text().strip())
    try:
        rows: list[Any] = await connection.fetch(
            "SELECT n.nspname AS schema, array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attnum > 0) AS columns"
            " FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'orders'"
            " LEFT JOIN pg_attribute a ON a.attrelid = c.oid WHERE n.nspname LIKE 'tenant\\_%' GROUP BY 1"
        )
    finally:
        await connection.close()
    return {row["schema"]: row["columns"] or [] for row in rows}


async def test_kill_9_in_the_middle_of_a_sync_leaves_all_or_nothing_of_each_tenant(tmp_path: Path) -> None:
    home = tmp_path / "home"
    process, url = start(home)
    try:
        token = (home / "token").read_text().strip()
        async with Dominus(url, token, cold_start_timeout=0) as client:
            await client.auth.tenant_categories.create("Schools", "schools")
            columns = [{"name": "id", "type": "bigint", "primary_key": True}]
            await client.ddl.category_create_table("schools", "orders", columns)
            await asyncio.gather(
                *(client.ddl.provision_tenant(f"t{number}", "schools") for number in range(TENANTS))
            )
            for name in COLUMNS:
                await client.ddl.category_add_column("schools", "orders", name, "text")
            # Now each of them lacks everything.
            await asyncio.gather(
                *(client.ddl.reset_tenant_schema("schools", f"t{number}") for number in range(TENANTS))
            )
            syncing = asyncio.create_task(client.ddl.sync_tenants_to_latest("schools", timeout=1))
            while (await client.ddl.get_tenant_sync_status("schools"))["pending_count"] == TENANTS:
                await asyncio.sleep(0)
            process.kill()
            broken = await asyncio.gather(syncing, return_exceptions=True)
            assert isinstance(broken[0], DominusError), broken
        process.communicate(timeout=10)
        process, url = start(home)
        full = ["id", *COLUMNS]
        found = await shapes(home)
        async with Dominus(url, token) as client:
            status = await client.ddl.get_tenant_sync_status("schools")
            for tenant in status["tenants"]:
                # All or nothing; and what the records say is what there is.
                assert found[tenant["schema"]] == ([] if tenant["pending_count"] else full), tenant
                assert tenant["pending_count"] in {0, 1 + len(COLUMNS)}
            assert 0 < status["pending_count"] < TENANTS, "it was killed too late, or too early"
            done = await client.ddl.sync_tenants_to_latest("schools")
            assert (done["success"], done["synced_count"]) == (True, status["pending_count"])
            assert set(map(tuple, (await shapes(home)).values())) == {tuple(full)}
            history = await client.ddl.migration_history("tenant_t0")
            assert [step["direction"] for step in history["migrations"]] == ["up"] * len(full)
    finally:
        process.terminate()
        process.communicate(timeout=15)
