"""redis-benchmark: direct, through haproxy in TCP mode, and through our gateway; and what a hop costs in CPU time."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from stack import median, row

CALLS = {1: 40_000, 16: 500_000}
CLIENTS = 32
_HAPROXY = """
global
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 300s
  timeout server 300s
listen redis
  bind 127.0.0.1:{front}
  server redis 127.0.0.1:{back}
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serve_gateway(front: int, back: int) -> None:
    """Run the real gateway; redis-benchmark cannot shake hands, so each of its connections is given a handshake."""
    import uvloop

    from dominus.contract.handshake import encode_published_hello
    from dominus.orchestrator.gateway.greeting import Greeting
    from dominus.orchestrator.gateway.server import Gateway
    from dominus.orchestrator.gateway.upstream.targets import parse_targets
    from dominus.orchestrator.identity.principal import Principal
    from dominus.orchestrator.identity.tokens import SessionGrant

    grant = SessionGrant(Principal("bench", "session", frozenset({"*"})), "redis", float("inf"))

    async def verify(_: str) -> SessionGrant:
        return grant

    class Greeted(Gateway):
        def came(self, greeting: Greeting) -> None:
            super().came(greeting)
            greeting.data_received(encode_published_hello("bench"))

    async def serve() -> None:
        gateway = Greeted(parse_targets(f"redis=tcp://127.0.0.1:{back}"), verify)
        await gateway.start(("127.0.0.1", front))
        await asyncio.Event().wait()

    uvloop.run(serve())


@contextlib.contextmanager
def _contenders() -> Iterator[dict[str, tuple[int, int]]]:
    """Yield port and pid of each."""
    with tempfile.TemporaryDirectory(prefix="dominus-bench-") as folder, contextlib.ExitStack() as stack:
        redis, haproxy, ours = _free_port(), _free_port(), _free_port()
        config = Path(folder) / "haproxy.cfg"
        config.write_text(_HAPROXY.format(front=haproxy, back=redis))
        pids: dict[str, int] = {}
        for name, command in {
            "direct": [
                "redis-server",
                "--port",
                str(redis),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                folder,
            ],
            "haproxy": [shutil.which("haproxy") or "/usr/sbin/haproxy", "-f", str(config), "-db"],
        }.items():
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.send_signal, signal.SIGTERM)
            pids[name] = process.pid
        gateway = multiprocessing.get_context("spawn").Process(
            target=_serve_gateway, args=(ours, redis), daemon=True
        )
        gateway.start()
        stack.callback(gateway.join)
        stack.callback(gateway.terminate)
        ports = {"direct": redis, "haproxy": haproxy, "ours": ours}
        pids["ours"] = gateway.pid or 0
        for port in ports.values():
            _await(port)
        yield {name: (port, pids[name]) for name, port in ports.items()}


def _await(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _calls_per_second(port: int, pipeline: int) -> float:
    command = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-c", str(CLIENTS), "-P", str(pipeline)]
    command += ["-n", str(CALLS[pipeline]), "-t", "get", "--csv"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(output.splitlines()[-1].split('","')[1])


async def run(arguments: argparse.Namespace) -> None:
    row("pipeline, way to redis", "calls/s", "of direct", "of haproxy", "CPU us/call")
    with _contenders() as contenders:
        for pipeline, count in CALLS.items():
            rates: dict[str, list[float]] = {name: [] for name in contenders}
            costs: dict[str, list[float]] = {name: [] for name in contenders}
            for _ in range(arguments.rounds):
                for name, (port, pid) in contenders.items():
                    before = _cpu_seconds(pid)
                    rates[name].append(_calls_per_second(port, pipeline))
                    costs[name].append((_cpu_seconds(pid) - before) / count * 1e6)
            for name, found in rates.items():
                of = {
                    other: median([mine / theirs for mine, theirs in zip(found, rates[other], strict=True)])
                    for other in ("direct", "haproxy")
                }
                row(
                    f"{pipeline:>3}  {name}",
                    f"{median(found):.0f}",
                    f"{of['direct']:.2f}",
                    f"{of['haproxy']:.2f}",
                    f"{median(costs[name]):.2f}",
                )
