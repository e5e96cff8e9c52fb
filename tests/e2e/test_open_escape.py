"""What open SQL and the logins of `open.dsn` try, to become more than the data role: the attacks of sessions, again."""

from __future__ import annotations

import contextlib
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from escape_support import PAYLOAD, World, place, world
from test_session_escape import DENIED, LEFTOVERS, REFUSED, TRAPS, T, state

from dominus.errors import DominusError
from dominus.orchestrator.sql.lexer import tokens_of

__all__ = ["place", "world"]


def statements(script: str) -> list[str]:
    """Cut a script into its statements."""
    found, begin = list[str](), 0
    for token in tokens_of(script):
        if token.kind == "end":
            found.append(script[begin : token.start].strip())
            begin = token.end
    found.append(script[begin:].strip())
    return [statement for statement in found if statement]


# The same objects as a session's, made another way: one of each kind that runs at another moment.
SPRUNG = (
    "trigger before insert",
    "deferred constraint trigger",
    "view over a function",
    "default",
    "expression of an index",
    "rule",
)


@pytest.mark.parametrize("trap", SPRUNG)
async def test_what_open_sql_made_runs_with_no_more_than_the_data_role(world: World, trap: str):
    setup, spring = TRAPS[trap]
    for statement in statements(PAYLOAD + setup):
        await world.client.open.execute(statement)
    await world.client.open.execute("TRUNCATE loot")
    await spring(world.client)
    said = await world.loot()
    assert said, "the trap did not run"
    assert set(said) == {DENIED}
    assert await world.keys() == 0


@pytest.mark.parametrize("role", ["dominus_data", "none"])
async def test_open_sql_is_refused_what_a_session_is(world: World, role: str):
    await world.client.open.execute(T.rstrip(";"))
    postgres = world.resources.postgres
    names = {
        "owner": await postgres.system.fetchval("SELECT quote_ident(current_user)"),
        "pool": await postgres.data.fetchval("SELECT session_user"),
        "database": await postgres.data.fetchval("SELECT current_database()"),
        "alice": "nobody",
    }
    # Of the pool's own login a statement may end the connection, which is a new one then; and so `RESET` itself.
    own = {
        statement
        for statement in REFUSED
        if "pg_stat_activity" in statement or "ALTER ROLE CURRENT_USER" in statement
    }
    passed: list[str] = []
    for statement in REFUSED:
        if statement in own:
            continue
        block = f"DO $b$ BEGIN PERFORM set_config('role', '{role}', true); EXECUTE $s${statement.format(**names)}$s$; END $b$"
        for attempt in (statement.format(**names), block):
            try:
                await world.client.open.execute(attempt)
            except DominusError as error:
                if (error.status_code or 0) >= 500:
                    passed.append(f"{statement}: {error!r}")
            else:
                passed.append(attempt)
    assert passed == []
    assert not Path("/tmp/dominus-escape").exists()
    assert await world.keys() == 0


async def test_a_connection_goes_back_as_it_was_before_open_sql(world: World):
    await world.client.open.execute(T.rstrip(";"))
    before = await state(world)
    for number, leftover in enumerate(LEFTOVERS.values()):
        with contextlib.suppress(DominusError):
            await world.client.open.execute(f"DO $b$ BEGIN EXECUTE $s${leftover}$s$; END $b$")
        await world.client.db.insert("t", {"id": number, "v": "a"})
        assert await state(world) == before, leftover
    with contextlib.suppress(DominusError):
        assert [
            row async for row in world.client.open.stream("SELECT set_config('role', 'none', false) AS x")
        ]
    assert await state(world) == before
    assert (await world.client.db.query("t"))["total"] == len(LEFTOVERS)


async def test_a_login_for_another_program_is_a_member_of_the_data_role_alone(world: World):
    dsn = await world.client.open.dsn(60)
    parts = urlsplit(dsn)
    connection = await asyncpg.connect(world.process.dsn, user=parts.username, password=parts.password)
    world.opened.append(connection)
    await connection.execute(T)
    assert await connection.fetchval("SELECT session_user::text") == parts.username
    may_become = "SELECT array_agg(rolname::text ORDER BY 1) FROM pg_roles WHERE pg_has_role(session_user, oid, 'MEMBER')"
    assert await connection.fetchval(may_become) == sorted(["dominus_data", parts.username or ""])
    powers = "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = session_user"
    assert await connection.fetchval(powers) is False
    for statement in ("RESET ROLE", "SET ROLE NONE", "RESET ALL", "SET SESSION AUTHORIZATION DEFAULT"):
        await connection.execute(statement)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SELECT * FROM dominus.psks")
    owner = await world.resources.postgres.system.fetchval("SELECT quote_ident(current_user)")
    for role in (owner, await world.resources.postgres.data.fetchval("SELECT quote_ident(session_user)")):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"SET ROLE {role}")
