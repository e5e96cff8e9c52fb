"""Measure what the documentation claims, side by side in one run, as ratios.

    python tests/bench                      everything, a few minutes
    python tests/bench redis queries        some of it
    python tests/bench outage --quick       shorter, with figures that say less
    python tests/bench --published VENV     with the published client, installed in a virtual environment of its own

Quote ratios and medians: absolute numbers are this machine's, and today's.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import bulk
import client
import files
import gateway
import jwt_checks
import log_lines
import logins
import open_sql
import outage
import overhead
import queries
import redis_get
import rights
import secure
import sessions
import startup
import tenants
import uvloop

PARTS = {
    "redis": redis_get.run,
    "client": client.run,
    "queries": queries.run,
    "secure": secure.run,
    "open": open_sql.run,
    "rights": rights.run,
    "bulk": bulk.run,
    "files": files.run,
    "overhead": overhead.run,
    "startup": startup.run,
    "gateway": gateway.run,
    "jwt": jwt_checks.run,
    "sessions": sessions.run,
    "outage": outage.run,
    "tenants": tenants.run,
    "logs": log_lines.run,
    "logins": logins.run,
}
ROUNDS = {"outage": 1}
"""How often each contender runs, where it is not 5: an outage takes as long as it takes."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which parts, all without it")
    parser.add_argument(
        "--rounds", type=int, help="how often each contender runs, in turn; 5 without it, outage 1"
    )
    parser.add_argument("--published", type=Path, help="a virtual environment with dominus-sdk-python 2.5.1")
    outage.add_arguments(parser)
    arguments = parser.parse_args()
    rounds = arguments.rounds
    for name in arguments.parts or PARTS:
        print(f"\n## {name}", flush=True)
        arguments.rounds = rounds or ROUNDS.get(name, 5)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop if name == "queries" else None) as runner:
            runner.run(PARTS[name](arguments))


main()
