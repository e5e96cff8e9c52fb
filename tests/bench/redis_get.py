"""`redis.get`: bare aiohttp, httpx, ours over loopback, ours embedded, and the published client."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp
import httpx
from stack import Dev, dev, median, rate, row

from dominus import Dominus

COUNTS = {1: 3000, 32: 6000}
_SCRIPT = """
import asyncio, json, os, time
from dominus import dominus
async def main():
    await dominus.redis.get("k")
    for callers in (1, 32):
        left = count = 150
        async def caller():
            nonlocal left
            while left > 0:
                left -= 1
                await dominus.redis.get("k")
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(caller() for _ in range(callers)))
        print(json.dumps([callers, count / (time.perf_counter() - began), (time.process_time() - cpu) / count * 1e6]))
asyncio.run(main())
"""


async def run(arguments: argparse.Namespace) -> None:
    with dev() as server, tempfile.TemporaryDirectory(prefix="dominus-bench-") as home:
        async with (
            Dominus(url=server.url, token=server.token) as ours,
            Dominus(url="embedded", home=home) as embedded,
            aiohttp.ClientSession() as bare,
            httpx.AsyncClient() as client,
        ):
            jwt = (await ours.auth.token())["access_token"]
            headers = {"authorization": f"Bearer {jwt}"}
            body = {"logical_path": "k", "nudge": False}
            address = f"{server.url}/api/whisperer/get"

            async def by_aiohttp() -> object:
                async with bare.post(address, json=body, headers=headers) as response:
                    return (await response.json())["data"].get("value")

            async def by_httpx() -> object:
                return (await client.post(address, json=body, headers=headers)).json()["data"].get("value")

            contenders = {
                "bare aiohttp": by_aiohttp,
                "httpx client": by_httpx,
                "ours, loopback": lambda: ours.redis.get("k"),
                "ours, embedded": lambda: embedded.redis.get("k"),
            }
            for target in (ours, embedded):
                await target.redis.set("k", 1)
            row("callers, contender", "calls/s", "of aiohttp", "CPU us/call")
            rates: dict[tuple[int, str], float] = {}
            for callers, count in COUNTS.items():
                found: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
                for _ in range(arguments.rounds):
                    for name, call in contenders.items():
                        found[name].append(
                            await rate(call, count // (4 if name == "httpx client" else 1), callers)
                        )
                pairs = found["bare aiohttp"]
                for name, results in found.items():
                    ratio = median([mine[0] / theirs[0] for mine, theirs in zip(results, pairs, strict=True)])
                    rates[callers, name] = median([result[0] for result in results])
                    cpu = median([result[1] for result in results])
                    row(f"{callers:>3}  {name}", f"{rates[callers, name]:.0f}", f"{ratio:.2f}", f"{cpu:.0f}")
        if arguments.published:
            _published(arguments.published, server, rates)


def _published(venv: Path, server: Dev, rates: dict[tuple[int, str], float]) -> None:
    environment = {**os.environ, "DOMINUS_BASE_URL": server.url, "DOMINUS_TOKEN": server.token}
    output = subprocess.run(
        [venv / "bin" / "python", "-c", _SCRIPT],
        env=environment,
        cwd=tempfile.gettempdir(),
        check=True,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
    ).stdout
    for line in output.splitlines():
        callers, calls, cpu = json.loads(line)
        row(
            f"{callers:>3}  published client",
            f"{calls:.0f}",
            f"{calls / rates[callers, 'bare aiohttp']:.3f}",
            f"{cpu:.0f}",
        )
        row("     ours, loopback, against it", f"{rates[callers, 'ours, loopback'] / calls:.0f} times")
