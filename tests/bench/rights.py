"""What somebody may do: known already, and read anew; and ten thousand users, a page at a time."""

from __future__ import annotations

import argparse
import time
from typing import Any

import asyncpg
from stack import dev, median, row

from dominus import Dominus
from dominus.orchestrator.engines.postgres.pools import Postgres
from dominus.orchestrator.identity.rights import RightsOf
from dominus.orchestrator.identity.vault import Vault, parse_master_keys
from dominus.orchestrator.settings import ServerSettings

CHECKS = 20_000
READS = 200
MOST_US = 50.0
"""Microseconds of a check of what is known."""
USERS, PAGE = 10_000, 100
_ADD = """
INSERT INTO dominus.users (project, environment, username, email, created_at)
SELECT 'default', 'development', 'user' || n, 'user' || n || '@example.com', now() + make_interval(secs => n)
FROM generate_series(1, $1::int) AS n
"""
_BARE = """
SELECT id::text, username, email, status, email_verified, created_at, updated_at
FROM dominus.users
WHERE project = 'default' AND environment = 'development' AND (created_at, id) < ($1, $2::uuid)
ORDER BY created_at DESC, id DESC
LIMIT $3
"""
_LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"


async def _user(client: Dominus) -> tuple[str, str]:
    """Make a user of twenty roles of five scopes each, in a tenant; return both ids."""
    auth = client.auth
    tenant = await auth.create_tenant("Hill", "hill")
    user = await auth.create_user("ada", "ada@example.com", "correct horse")
    await auth.add_user_tenants(user["id"], [tenant["id"]])
    roles: list[str] = []
    for number in range(20):
        slugs = [f"thing{number}:verb{verb}" for verb in range(5)]
        for slug in slugs:
            await auth.create_scope(slug, slug)
        roles.append((await auth.add_role(f"role{number}", scope_slugs=slugs))["id"])
    await auth.add_user_roles(user["id"], roles)
    return user["id"], tenant["id"]


async def _checks(rights: RightsOf, key: tuple[Any, ...]) -> float:
    """Return the microseconds of a check of what is known."""
    await rights.of(*key)
    began = time.perf_counter()
    for _ in range(CHECKS):
        if not (await rights.of(*key)).may("thing7:verb3"):
            raise AssertionError
    return (time.perf_counter() - began) / CHECKS * 1e6


async def _reads(rights: RightsOf, key: tuple[Any, ...]) -> float:
    taken: list[float] = []
    for _ in range(READS):
        rights.forget()
        began = time.perf_counter()
        await rights.of(*key)
        taken.append(time.perf_counter() - began)
    return median(taken) * 1e6


async def _walk(client: Dominus) -> float:
    began = time.perf_counter()
    count = len([user async for user in client.auth.users.iterate(page_size=PAGE)])
    assert count > USERS, count
    return time.perf_counter() - began


async def _bare_walk(connection: Any) -> float:
    began = time.perf_counter()
    at, last = await connection.fetchval("SELECT now() + make_interval(years => 1)"), _LAST_ID
    while rows := await connection.fetch(_BARE, at, last, PAGE):
        at, last = rows[-1]["created_at"], rows[-1]["id"]
    return time.perf_counter() - began


async def run(arguments: argparse.Namespace) -> None:
    with dev() as server:
        vault = Vault(parse_master_keys(server.master_key))
        postgres = await Postgres.open(server.dsn, ServerSettings(), vault)
        try:
            async with Dominus(url=server.url, token=server.token) as client:
                user_id, tenant_id = await _user(client)
                key = ("default", "development", "user", user_id, tenant_id)
                rights = RightsOf(postgres)
                known = [await _checks(rights, key) for _ in range(arguments.rounds)]
                read = [await _reads(rights, key) for _ in range(arguments.rounds)]
                row("20 roles, 100 scopes", "known us", "at most", "read anew us")
                row("rights", f"{median(known):.2f}", f"{MOST_US:.0f}", f"{median(read):.0f}")

                await postgres.system.execute(_ADD, USERS)
                bare = await asyncpg.connect(server.dsn)
                walks: list[float] = []
                bare_walks: list[float] = []
                for _ in range(arguments.rounds):
                    walks.append(await _walk(client))
                    bare_walks.append(await _bare_walk(bare))
                await bare.close()
                row(f"{USERS} users by {PAGE}", "users.iterate s", "asyncpg s", "ratio")
                ratio = median([mine / theirs for mine, theirs in zip(walks, bare_walks, strict=True)])
                row("", f"{median(walks):.2f}", f"{median(bare_walks):.2f}", f"{ratio:.1f}")
        finally:
            await postgres.aclose()
