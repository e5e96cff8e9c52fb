"""Measure what the documentation claims, side by side in one run, as ratios.

    python tests/bench                      everything, a few minutes
    python tests/bench redis queries        some of it
    python tests/bench --published VENV     with the published client, installed in a virtual environment of its own

Quote ratios and medians: absolute numbers are this machine's, and today's.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import bulk
import client
import gateway
import overhead
import queries
import redis_get
import sessions
import startup
import uvloop

PARTS = {
    "redis": redis_get.run,
    "client": client.run,
    "queries": queries.run,
    "bulk": bulk.run,
    "overhead": overhead.run,
    "startup": startup.run,
    "gateway": gateway.run,
    "sessions": sessions.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which parts, all without it")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender runs, in turn")
    parser.add_argument("--published", type=Path, help="a virtual environment with dominus-sdk-python 2.5.1")
    arguments = parser.parse_args()
    for name in arguments.parts or PARTS:
        print(f"\n## {name}", flush=True)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop if name == "queries" else None) as runner:
            runner.run(PARTS[name](arguments))


main()
