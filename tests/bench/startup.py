"""Import time, the first and later starts of `dominus dev`, and its memory when idle."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from stack import dev, median, row

_TIME = "import time; t = time.perf_counter(); import {}; print((time.perf_counter() - t) * 1000)"


def _import_ms(module: str) -> float:
    code = "import asyncio; " * (module != "asyncio") + _TIME.format(module)
    return float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    )


async def run(arguments: argparse.Namespace) -> None:
    times = [_import_ms("dominus") for _ in range(arguments.rounds)]
    row("import dominus, over bare asyncio", f"{median(times):.0f} ms")
    first: list[float] = []
    later: list[float] = []
    memory = 0.0
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory(prefix="dominus-bench-") as folder:
            home = Path(folder) / "home"
            with dev(home) as server:
                first.append(server.seconds)
            with dev(home) as server:
                later.append(server.seconds)
                status = Path(f"/proc/{server.pid}/status").read_text()
                memory = int(status.split("VmRSS:")[1].split()[0]) / 1e3
    row("dominus dev, first start to first answer", f"{median(first):.2f} s")
    row("dominus dev, later starts", f"{median(later):.2f} s")
    row("idle, without PostgreSQL's own", f"{memory:.0f} MB")
