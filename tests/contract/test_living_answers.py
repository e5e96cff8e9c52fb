"""Failures that a living database answers: the status, the code and the pause that a caller gets for each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from server_support import JSON, LINES, Reply, Server, make_server, process_resources, server

from dominus import Dominus, DominusError, ServiceError, ValidationError
from dominus.orchestrator.serving.in_process import EmbeddedTransport

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

MakeServer = Callable[..., Awaitable[Server]]

_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'dominus data'"


async def run(server: Server, *statements: str) -> None:
    """Run statements as users' statements run."""
    async with server.resources.postgres.data.acquire() as connection:
        for statement in statements:
            await connection.execute(statement)


async def make_pairs(server: Server, name: str) -> str:
    """Make a table with the rows 1 and 2."""
    await run(
        server,
        f"CREATE TABLE public.{name} (id bigint PRIMARY KEY, n bigint)",
        f"INSERT INTO public.{name} VALUES (1, 0), (2, 0)",
    )
    return f"/api/scribe/data/public/{name}"


async def change(server: Server, base: str, key: str = "") -> Reply:
    """Change both rows, the first one first."""
    headers = {"Idempotency-Key": key} if key else {}
    return await server("POST", f"{base}/update", {"data": {"n": 7}, "all_rows": True}, headers=headers)


async def waits(server: Server, count: int = 1) -> None:
    async with asyncio.timeout(10):
        while await server.resources.postgres.system.fetchval(_WAITS) < count:
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def other_transaction(server: Server) -> AsyncIterator[Any]:
    async with server.resources.postgres.data.acquire() as connection, connection.transaction():
        yield connection


def told(reply: Reply) -> tuple[int, str, str | None]:
    return reply.status, reply.code, reply.headers.get("retry-after")


async def crossed(server: Server, base: str, key: str) -> Reply:
    """Let a request and another transaction wait for each other; return what the request was answered."""
    async with other_transaction(server) as other:
        await other.execute("UPDATE public.crossed SET n = 1 WHERE id = 2")
        asked = asyncio.create_task(change(server, base, key))
        # It has row 1 and waits for row 2. PostgreSQL ends who has waited for a second first.
        await waits(server)
        with contextlib.suppress(asyncpg.DeadlockDetectedError):
            await other.execute("UPDATE public.crossed SET n = 1 WHERE id = 1")
    return await asked


async def test_a_deadlock_is_a_conflict_to_be_repeated_at_once(make_server: MakeServer) -> None:
    server = await make_server()
    base = await make_pairs(server, "crossed")
    for key in ("k1", "k2", "k3", "k4", "k5"):
        reply = await crossed(server, base, key)
        if reply.status != 200:
            break
        # A slow machine: the other transaction was the one that was ended.
    assert told(reply) == (503, "transaction_conflict", None)
    assert reply.document["details"] == {"sqlstate": "40P01"}
    assert (await change(server, base, key)).data == {"affected_rows": 2}


async def test_a_serialization_failure_is_a_conflict_to_be_repeated_at_once(make_server: MakeServer) -> None:
    first = await make_server()
    name = await first.resources.postgres.system.fetchval("SELECT current_database()")
    isolation = f'ALTER DATABASE "{name}" %s default_transaction_isolation'
    await first.resources.postgres.system.execute(isolation % "SET" + " = 'repeatable read'")
    try:
        server = await make_server()
        base = await make_pairs(server, "serial")
        async with other_transaction(server) as other:
            await other.execute("UPDATE public.serial SET n = 1 WHERE id = 2")
            asked = asyncio.create_task(change(server, base, "serial"))
            await waits(server)
        reply = await asked
        assert told(reply) == (503, "transaction_conflict", None)
        assert reply.document["details"] == {"sqlstate": "40001"}
        assert (await change(server, base, "serial")).data == {"affected_rows": 2}
    finally:
        await first.resources.postgres.system.execute(isolation % "RESET")


async def test_a_statement_that_takes_too_long_names_no_pause(make_server: MakeServer) -> None:
    server = await make_server(statement_timeout=0.2)
    await run(server, "CREATE VIEW public.slow AS SELECT 1 AS n FROM pg_sleep(30)")
    reply = await server("POST", "/api/scribe/data/public/slow/query", {})
    assert told(reply) == (504, "statement_timeout", None)


async def make_raising(server: Server, name: str, state: str, when: str = "INSERT") -> str:
    await run(
        server,
        f"CREATE TABLE public.{name} (n bigint)",
        f"CREATE FUNCTION public.{name}_raises() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE 'own words' USING ERRCODE = '{state}'; END $$",
        f"CREATE TRIGGER t BEFORE {when} ON public.{name} FOR EACH ROW EXECUTE FUNCTION public.{name}_raises()",
    )
    return f"/api/scribe/data/public/{name}"


@pytest.mark.parametrize(
    "state",
    ["53100", "53300", "57014", "57P01", "55P03", "XX000", "08006", "58030", "25006", "MY001", "P0001"],
)
async def test_what_a_trigger_raises_is_never_an_outage(server: Server, state: str) -> None:
    base = await make_raising(server, f"raises_{state.lower()}", state)
    row = {"data": {"n": 1}}
    lines = b'{}\n{"n": 1}\n'
    for path, body, kind in (("insert", row, JSON), ("bulk-insert", lines, LINES)):
        reply = await server("POST", f"{base}/{path}", body, kind=kind)
        assert told(reply) == (400, "raised_by_trigger", None)
        said = "own words" if path == "insert" else "line 1: own words"
        assert (reply.document["error"], reply.document["details"]["sqlstate"]) == (said, state)


async def test_a_trigger_may_ask_for_another_try(server: Server) -> None:
    base = await make_raising(server, "raises_40001", "40001")
    reply = await server("POST", f"{base}/insert", {"data": {"n": 1}})
    assert told(reply) == (503, "transaction_conflict", None)
    assert reply.document["error"] == "own words"


@pytest.mark.parametrize(
    ("state", "status", "code"),
    [
        ("23505", 409, "unique_violation"),
        ("23514", 400, "check_violation"),
        ("22023", 400, "invalid_value"),
        ("42501", 403, "insufficient_privilege"),
    ],
)
async def test_what_a_trigger_refuses_as_postgresql_would_stays_what_it_says(
    server: Server, state: str, status: int, code: str
) -> None:
    base = await make_raising(server, f"refuses_{state}", state)
    assert told(await server("POST", f"{base}/insert", {"data": {"n": 1}})) == (status, code, None)


@pytest.mark.parametrize("body", ["CASE 1 WHEN 2 THEN NULL; END CASE;", "COMMIT;", "ASSERT false;", "NULL;"])
async def test_a_mistake_in_a_function_is_its_authors(server: Server, body: str) -> None:
    name = f"mistaken_{abs(hash(body))}"
    await run(
        server,
        f"CREATE TABLE public.{name} (n bigint)",
        f"INSERT INTO public.{name} VALUES (1)",
        f"CREATE FUNCTION public.{name}_fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
        f"CREATE TRIGGER t BEFORE DELETE ON public.{name} FOR EACH ROW EXECUTE FUNCTION public.{name}_fails()",
        f"CREATE VIEW public.{name}_view AS SELECT n FROM public.{name}",
    )
    reply = await server("POST", f"/api/scribe/data/public/{name}/delete", {"all_rows": True})
    assert told(reply) == (400, "raised_by_trigger", None)


# --- through the client


def client_of(server: Server) -> Dominus:
    return Dominus(url="http://dominus.test", token=server.psk, transport=EmbeddedTransport(server.app))


async def test_the_client_repeats_a_conflict_and_stores_the_row_once(make_server: MakeServer) -> None:
    server = await make_server()
    await run(
        server,
        "CREATE SEQUENCE public.tries",
        "CREATE TABLE public.again (n bigint)",
        "CREATE FUNCTION public.again_asks() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('public.tries') < 3 THEN RAISE 'again' USING ERRCODE = '40001'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER t BEFORE INSERT ON public.again FOR EACH ROW EXECUTE FUNCTION public.again_asks()",
    )
    async with client_of(server) as client:
        await client.db.insert("again", {"n": 1})
        assert (await client.db.query("again"))["rows"] == [{"n": 1}]
        assert client.stats()["retries"] == 2


@pytest.mark.parametrize(("state", "kind"), [("53100", ValidationError), ("40001", ServiceError)])
async def test_a_trigger_that_always_raises_closes_no_table_to_others(
    make_server: MakeServer, state: str, kind: type[DominusError]
) -> None:
    server = await make_server()
    await make_raising(server, f"always_{state}", state)
    await run(server, f"CREATE TABLE public.healthy_{state} (n bigint)")
    async with client_of(server) as client:
        for n in range(10):
            with pytest.raises(kind):
                await client.db.insert(f"always_{state}", {"n": n})
        assert (await client.db.query(f"healthy_{state}"))["rows"] == []
        assert set(client.stats()["breakers"].values()) == {"closed"}
