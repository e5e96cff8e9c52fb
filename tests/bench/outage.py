"""A server that is away: our client with its defaults beside httpx with stamina, in turn through outages of one length.

The address is a forwarder's (tests/forwarder.py). It refuses connections for exactly as long as an outage shall last,
since a server takes a second to start; `--kill` kills and starts the server as well, and the outage lasts as long as that.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import stamina
from outage_clients import Callers, Client, Server, forwarder, ours, theirs
from stack import end, median, start

from dominus import Dominus
from dominus.errors import CircuitOpenError, DominusError

TURNS = {0.5: 3, 2.0: 2, 10.0: 1}
"""How often a round has an outage of so many seconds: chance decides more of a short one."""
SCENARIOS = [(seconds, callers) for seconds in TURNS for callers in (1, 16, 100)]
QUICK_SCENARIOS = [(0.5, 1), (0.5, 100), (2.0, 16)]
STORM_CALLERS = 100
STORM_SECONDS, QUICK_STORM_SECONDS = 20.0, 5.0
PATIENCE_SECONDS = 15.0
"""How long the callers have after the return; what waits then has waited at least so long."""
REFUSAL_COUNT = 2000
OURS, THEIRS = "dominus", "httpx + stamina"
CLIENTS = {OURS: ours, THEIRS: theirs}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this part."""
    group = parser.add_argument_group("outage")
    group.add_argument(
        "--quick", action="store_true", help="three scenarios instead of nine, and a short storm"
    )
    group.add_argument("--kill", action="store_true", help="kill and start the server's process, too")
    group.add_argument(
        "--refusal", action="store_true", help="also what a refusal costs, and a storm of callers"
    )


@dataclass(frozen=True)
class Outcome:
    """What one outage came to for one client; durations in seconds."""

    away: float
    done: int
    failed: int
    longest: float
    first: float
    """From the return to the first success."""
    last: float
    """From the return until each caller had a success."""
    attempts: int
    herd: int
    """Connections in the first second after the return."""
    twice: int
    """Increments beyond the calls that succeeded or failed."""


async def measure(
    server: Server, client: Client, seconds: float, count: int, *, is_kill: bool = False
) -> Outcome:
    callers = Callers(client, count, key=f"outage-{time.monotonic_ns()}")
    async with callers.running():
        outage = await server.outage(seconds, client.attempts, is_kill=is_kill)
        await callers.all_go_on(outage.back, PATIENCE_SECONDS)
    back = outage.back
    late = back + PATIENCE_SECONDS
    firsts = [callers.first_since.get(number, late) - back for number in range(count)]
    herd = sum(back <= moment < back + 1 for moment in server.front.connected_at)
    async with ours(server) as fresh:
        # What was under way at the end may have been done; so may a call that failed.
        value = await fresh.call(callers.key) - 1
    return Outcome(
        away=back - outage.left,
        done=callers.done,
        failed=callers.failed,
        longest=callers.longest,
        first=min(firsts),
        last=max(firsts),
        attempts=outage.attempts,
        herd=herd,
        twice=max(0, value - callers.done - callers.failed - len(callers.began)),
    )


def line(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def table(*heads: str) -> None:
    line(*heads)
    print("|" + "---|" * len(heads), flush=True)


async def run(arguments: argparse.Namespace) -> None:
    # Both tell of outages in the log, which would be lines in the table.
    stamina.instrumentation.set_on_retry_hooks(())
    logging.getLogger("dominus.transport").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="dominus-bench-") as name:
        dev, process = start(Path(name))
        try:
            with forwarder(int(dev.url.rpartition(":")[2])) as front:
                server = Server(Path(name), front, dev, process)
                try:
                    await _outages(server, arguments)
                    if arguments.refusal:
                        await _refusals(server, arguments)
                finally:
                    process = server.process
        finally:
            end(process)


async def _outages(server: Server, arguments: argparse.Namespace) -> None:
    table(
        *("away s", "callers", "client", "done", "failed", "longest wait s", "of httpx"),
        *("first success s", "all go on s", "attempts while away", "of httpx", "connections in 1 s", "twice"),
    )
    for seconds, count in QUICK_SCENARIOS if arguments.quick else SCENARIOS:
        found: dict[str, list[Outcome]] = {name: [] for name in CLIENTS}
        for _ in range(arguments.rounds if arguments.quick else arguments.rounds * TURNS[seconds]):
            for name, opened in CLIENTS.items():
                async with opened(server) as client:
                    outcome = await measure(server, client, seconds, count, is_kill=arguments.kill)
                found[name].append(outcome)
        for name, outcomes in found.items():
            _line_of(name, count, outcomes, found[THEIRS], is_kill=arguments.kill)


def _line_of(name: str, count: int, mine: list[Outcome], others: list[Outcome], *, is_kill: bool) -> None:
    pairs = list(zip(mine, others, strict=True))
    failed = max(outcome.failed for outcome in mine)
    waits = median([outcome.longest / other.longest for outcome, other in pairs])
    attempts = median([outcome.attempts / max(1, other.attempts) for outcome, other in pairs])
    line(
        f"{median([outcome.away for outcome in mine]):.1f}",
        count,
        name,
        round(median([outcome.done for outcome in mine])),
        failed,
        f"{median([outcome.longest for outcome in mine]):.2f}",
        # Who fails at once waits for nothing.
        "-" if failed else f"{waits:.2f}",
        _seconds([outcome.first for outcome in mine]),
        _seconds([outcome.last for outcome in mine]),
        round(median([outcome.attempts for outcome in mine])),
        f"{attempts:.2f}",
        round(median([outcome.herd for outcome in mine])),
        # The cache of `dominus dev` is in its memory: what was counted went with it.
        "-" if is_kill else max(outcome.twice for outcome in mine),
    )


def _seconds(values: list[float]) -> str:
    value = median(values)
    return f"{value:.2f}" if value < PATIENCE_SECONDS else f"> {PATIENCE_SECONDS:.0f}"


async def _refusals(server: Server, arguments: argparse.Namespace) -> None:
    seconds = QUICK_STORM_SECONDS if arguments.quick else STORM_SECONDS
    print(
        f"\nA refusal, and {STORM_CALLERS} callers while the server is away for {seconds:g} s\n", flush=True
    )
    table("client", "µs a refusal", "attempts while away", "failed", "first success s", "all go on s")
    refusals = {
        OURS: f"{await _refusal(server, timeout=0.01):.0f} (timeout=0.01)",
        f"{OURS}, fail_fast": f"{await _refusal(server, fail_fast=True):.0f}",
        THEIRS: "-",
    }
    async with ours(server) as mine, ours(server, fail_fast=True) as fast, theirs(server) as other:
        # One after the other: three hundred callers in one process would wait for each other.
        for (name, microseconds), client in zip(refusals.items(), (mine, fast, other), strict=True):
            outcome = await measure(server, client, seconds, STORM_CALLERS)
            line(
                name,
                microseconds,
                outcome.attempts,
                outcome.failed,
                _seconds([outcome.first]),
                _seconds([outcome.last]),
            )


async def _refusal(server: Server, *, timeout: float | None = None, fail_fast: bool = False) -> float:
    """Return the microseconds that a call takes while the breaker is open, for one that may not wait for its probe."""
    async with Dominus(server.front.url, server.dev.token, fail_fast=fail_fast) as client:
        await client.redis.incr("refusal")
        server.front.leave()
        try:
            # Enough failures, over enough time, for any breaker.
            ends = time.monotonic() + 5
            times: list[float] = []
            while len(times) < REFUSAL_COUNT and time.monotonic() < ends:
                began = time.perf_counter()
                try:
                    await client.redis.incr("refusal", timeout=timeout)
                except CircuitOpenError:
                    times.append(time.perf_counter() - began)
                except DominusError:
                    await asyncio.sleep(0.02)
            return statistics.median(times) * 1e6 if times else float("nan")
        finally:
            server.front.listen()
