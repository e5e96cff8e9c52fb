"""The embedded PostgreSQL comes back when it is killed under a running orchestrator."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from dominus import Dominus, DominusError


async def test_a_killed_postmaster_is_started_again_and_nothing_committed_is_lost(tmp_path: Path):
    home = tmp_path / "home"
    async with Dominus(url="embedded", home=str(home)) as client:
        await client.ddl.add_table("kept", [{"name": "id", "type": "INTEGER", "primary_key": True}])
        await client.db.insert("kept", {"id": 1})
        pid_file = next(home.glob("postgres/**/postmaster.pid"))
        first = int(pid_file.read_text().split()[0])
        os.kill(first, signal.SIGKILL)
        # On a busy machine the breaker opens meanwhile, and lets the next call through after its 30 s.
        deadline = time.monotonic() + 90
        while True:
            try:
                found = await client.db.query("kept", timeout=2)
                # A backend may outlive its postmaster for a moment, and still answer.
                if pid_file.exists() and int(pid_file.read_text().split()[0]) != first:
                    break
            except DominusError:
                pass
            if time.monotonic() > deadline:
                pytest.fail("PostgreSQL did not come back")
            await asyncio.sleep(0.05)
        assert found["rows"] == [{"id": 1}]
