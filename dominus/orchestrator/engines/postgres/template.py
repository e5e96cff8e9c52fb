"""A clean database in milliseconds: copies of a template, for tests."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import quote, urlsplit

import asyncpg

from dominus.orchestrator.engines.postgres.pools import CLOSE_SECONDS, connect
from dominus.orchestrator.engines.postgres.quoting import quote_name

__all__ = ["clone_database", "drop_database", "with_database"]

MAINTENANCE = "postgres"
"""Connected to while others are made: a template must have no connection."""

DROP_SECONDS = 5.0


def with_database(dsn: str, name: str) -> str:
    """Return the DSN of another database of the same server."""
    return urlsplit(dsn)._replace(path="/" + quote(name, safe="")).geturl()


async def clone_database(dsn: str, template: str, name: str) -> str:
    """Create a database as a copy of another, which nobody may be connected to; return its DSN.

    Raises:
        ServiceError: the server is not reached.
    """
    connection = await connect(dsn, application_name="dominus template", database=MAINTENANCE)
    try:
        await connection.execute(
            f"CREATE DATABASE {quote_name(name)} TEMPLATE {quote_name(template)} STRATEGY FILE_COPY"
        )
    finally:
        await connection.close(timeout=CLOSE_SECONDS)
    return with_database(dsn, name)


async def drop_database(dsn: str, name: str) -> None:
    """Drop a database, with whoever is connected; one that is not there is fine."""
    connection = await connect(dsn, application_name="dominus template", database=MAINTENANCE)
    ends = time.monotonic() + DROP_SECONDS
    try:
        while True:
            try:
                await connection.execute(f"DROP DATABASE IF EXISTS {quote_name(name)} WITH (FORCE)")
            except asyncpg.InsufficientPrivilegeError:
                # PostgreSQL's own workers are a superuser's, whom the owner may not end; they are soon done.
                if time.monotonic() > ends:
                    raise
                await asyncio.sleep(0.05)
            else:
                return
    finally:
        await connection.close(timeout=CLOSE_SECONDS)
