"""The embedded orchestrator through several `asyncio.run`: its data and its signing keys outlive a loop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio
from dominus import dominus

for count in range(1, 5):
    assert asyncio.run(dominus.redis.incr("runs")) == count
assert dominus.stats()["mints"] == 1, dominus.stats()
print("done")
"""


def test_several_runs_of_a_program_mint_once_and_leave_nothing_open(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", PROGRAM],
        env={**os.environ, "DOMINUS_URL": "embedded", "DOMINUS_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # asyncio's debug mode, which -X dev turns on, remarks on slow steps: the first call imports the wire.
    assert [line for line in done.stderr.splitlines() if not line.startswith("Executing <")] == []
    assert (done.returncode, done.stdout.strip()) == (0, "done")
