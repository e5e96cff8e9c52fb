"""Log lines: what a call costs its caller, and how many a second arrive in PostgreSQL."""
# ruff: noqa: G004, PLE1205 - these are our own loggers

from __future__ import annotations

import argparse
import tempfile
import time

from stack import dev, median, row

from dominus import Dominus

CALLS = 4_000
LINES = 20_000
CONTEXT = {"order": 42, "customer": "ada", "total": 12.5, "tags": ["a", "b"]}


async def run(arguments: argparse.Namespace) -> None:
    with dev() as server, tempfile.TemporaryDirectory() as home:
        async with Dominus(server.url, server.token, home=home) as client:
            await client.logs.info("warm")
            await client.logs.flush(timeout=10)
            costs: list[float] = []
            rates: list[float] = []
            for number in range(arguments.rounds):
                began = time.perf_counter()
                for _ in range(CALLS):
                    await client.logs.info("order placed", CONTEXT, category="orders")
                costs.append((time.perf_counter() - began) / CALLS * 1e6)
                await client.logs.flush(timeout=30)
                began = time.perf_counter()
                for _ in range(LINES):
                    await client.logs.info(f"order placed in round {number}", CONTEXT, category="orders")
                while not await client.logs.flush(timeout=60):
                    pass
                rates.append(LINES / (time.perf_counter() - began))
            row("await dominus.logs.info(...), on the caller", f"{median(costs):.1f} us")
            row("lines a second, from the call to the table", f"{median(rates):,.0f}")
            row("lines dropped", client.logs.stats()["dropped"])
