"""Logins against bare bcrypt: per second with all cores, and by the CPU time that each takes.

The second is what a core does: the CPU of the server and its PostgreSQL for a login, against that of a bcrypt alone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bcrypt
from stack import Dev, dev, median, rate, row

from dominus import Dominus

LOGINS = 60
LEAST = 0.9
_PASSWORD = "correct horse"
_TICKS = os.sysconf("SC_CLK_TCK")


def _cpu_of_tree(pid: int) -> float:
    """Return the CPU seconds of a process and all below it, those that have ended included."""
    parents: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        number = int(stat.parent.name)
        parents.setdefault(int(fields[1]), []).append(number)
        spent[number] = sum(map(int, fields[11:15])) / _TICKS
    total, left = 0.0, [pid]
    while left:
        number = left.pop()
        total += spent.get(number, 0.0)
        left += parents.get(number, [])
    return total


async def _bare(hashed: bytes, count: int) -> tuple[float, float]:
    """Return bcrypts per second with a thread for each core, and the CPU seconds of one."""
    cores = os.cpu_count() or 1
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(cores) as threads:

        async def call() -> object:
            return await loop.run_in_executor(threads, bcrypt.hashpw, _PASSWORD.encode(), hashed)

        cpu = time.process_time()
        per_second, _ = await rate(call, count, cores)
        return per_second, (time.process_time() - cpu) / count


async def _logins(client: Dominus, server: Dev, count: int) -> tuple[float, float]:
    """Return logins per second, and the CPU seconds of one on the server's side."""

    async def call() -> object:
        return await client.portal.login("ada", _PASSWORD)

    cpu = _cpu_of_tree(server.pid)
    per_second, _ = await rate(call, count, 2 * (os.cpu_count() or 1))
    return per_second, (_cpu_of_tree(server.pid) - cpu) / count


async def run(arguments: argparse.Namespace) -> None:
    with dev() as server:
        async with Dominus(url=server.url, token=server.token) as client:
            await client.auth.create_user("ada", "ada@example.com", _PASSWORD)
            hashed = bcrypt.hashpw(_PASSWORD.encode(), bcrypt.gensalt(12))
            await _logins(client, server, 4)
            rates: list[float] = []
            cpus: list[float] = []
            seconds: list[float] = []
            for _ in range(arguments.rounds):
                bare, bare_cpu = await _bare(hashed, LOGINS)
                logins, cpu = await _logins(client, server, LOGINS)
                rates.append(logins / bare)
                cpus.append(bare_cpu / cpu)
                seconds.append(logins)
            row(f"{LOGINS} logins of a user", "logins/s", "to bcrypt", "per core", "at least")
            row("", f"{median(seconds):.1f}", f"{median(rates):.2f}", f"{median(cpus):.2f}", f"{LEAST:.1f}")
