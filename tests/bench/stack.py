"""What the parts share: a `dominus dev` of their own, callers, and a table of medians."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

Call = Callable[[], Awaitable[object]]


@dataclass
class Dev:
    """A running `dominus dev`."""

    url: str
    token: str
    dsn: str
    master_key: str
    pid: int
    seconds: float
    """From the start of the process to its first answer."""


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(home: Path, **environment: str) -> tuple[Dev, subprocess.Popen[bytes]]:
    """Start `dominus dev` on a free port, and wait for its first answer."""
    port = _free_port()
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "dominus.cli", "dev", "--port", str(port), "--home", str(home)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            try:
                urllib.request.urlopen(f"{url}/api/health", timeout=1).read()
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() - began > 30:
                    raise RuntimeError("dominus dev did not start") from None
                time.sleep(0.01)
        seconds = time.perf_counter() - began
        token, dsn, key = ((home / name).read_text().strip() for name in ("token", "dsn", "master-key"))
    except BaseException:
        end(process)
        raise
    return Dev(url, token, dsn, key, process.pid, seconds), process


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and wait for it."""
    process.send_signal(signal.SIGTERM)
    process.wait(30)


@contextlib.contextmanager
def dev(home: Path | None = None, **environment: str):
    """Run `dominus dev` on a free port."""
    with contextlib.ExitStack() as stack:
        if home is None:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dominus-bench-")))
        server, process = start(home, **environment)
        try:
            yield server
        finally:
            end(process)


async def rate(call: Call, count: int, callers: int) -> tuple[float, float]:
    """Return calls per second and this process's CPU microseconds per call."""
    left = count

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call()

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return count / (time.perf_counter() - began), (time.process_time() - cpu) / count * 1e6


def median(values: list[float]) -> float:
    return statistics.median(values)


def row(name: str, *figures: object) -> None:
    print(f"{name:<44}" + "".join(f"{figure!s:>14}" for figure in figures), flush=True)


async def each(items: AsyncIterator[object]) -> int:
    count = 0
    async for _ in items:
        count += 1
    return count
