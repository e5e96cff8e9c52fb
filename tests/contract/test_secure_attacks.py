"""Sessions that try to have their own code run where secure tables are within reach."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from server_support import Server, make_server, process_resources, server
from test_secure import client_of

from dominus import Dominus
from dominus.errors import AuthorizationError, ConflictError, DominusError
from dominus.orchestrator.engines.postgres import secure_role

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

_numbers = itertools.count()
WHY: Any = {"reason": "ward round"}

# Runs in sessions of the secure pool alone: first as whoever plans a statement on `doctors_{0}`, then, put off to the
# commit, as whoever PostgreSQL takes for the writer.
HOSTILE = """
SET search_path = public;
CREATE TABLE loot_{0} (what text);
GRANT INSERT ON loot_{0} TO PUBLIC;
CREATE TABLE queue_{0} (id int);
CREATE FUNCTION look_{0}(place text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO public.loot_{0} SELECT place || ' read ' || p::text FROM public.patients_{0} p;
EXCEPTION WHEN insufficient_privilege THEN
  INSERT INTO public.loot_{0} VALUES (place);
END $$;
CREATE FUNCTION later_{0}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM public.look_{0}('trigger');
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER t AFTER INSERT ON queue_{0} DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION later_{0}();
CREATE FUNCTION act_{0}() RETURNS int LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF current_setting('application_name') = 'dominus secure' THEN
    PERFORM public.look_{0}('planner');
    INSERT INTO public.queue_{0} VALUES (1);
    {1}
  END IF;
  RETURN 1;
END $$;
CREATE FUNCTION evil_{0}(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN public.act_{0}(); END $$;
CREATE FUNCTION to_json(bigint) RETURNS json LANGUAGE plpgsql AS $$ BEGIN RETURN '"forged"'; END $$;
CREATE TABLE doctors_{0} (id bigint PRIMARY KEY);
INSERT INTO doctors_{0} VALUES (1);
CREATE TABLE patients_{0} (id bigint PRIMARY KEY, doctor bigint REFERENCES doctors_{0}, name text);
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(server: Server) -> AsyncIterator[Dominus]:
    async with client_of(server) as made:
        yield made


async def as_session(server: Server, statement: str) -> Any:
    async with server.resources.postgres.data.acquire() as connection:
        await connection.execute("SET search_path = public")
        return await connection.execute(statement)


async def loot(server: Server, number: int) -> set[str]:
    async with server.resources.postgres.data.acquire() as connection:
        rows = await connection.fetch(f"SELECT what FROM public.loot_{number}")
    return {row["what"] for row in rows}


@pytest_asyncio.fixture(loop_scope="module")
async def trap(server: Server, client: Dominus, request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """A secure table with a foreign key to a table of sessions, whose index calls a function of theirs."""
    number = next(_numbers)
    await as_session(server, HOSTILE.format(number, getattr(request, "param", "")))
    await client.auth.create_secure_table(f"patients_{number}")
    await as_session(server, f"CREATE INDEX ON doctors_{number} (id) WHERE evil_{number}(1) = 1")
    yield number
    await as_session(server, "RESET search_path; DROP FUNCTION public.to_json(bigint)")


ROW = {"id": 1, "doctor": 1, "name": "ada"}
WRITES: dict[str, Callable[[Any, str], Awaitable[Any]]] = {
    "insert": lambda rows, table: rows.insert(table, ROW, **WHY),
    "bulk_insert": lambda rows, table: rows.bulk_insert(table, [ROW], **WHY),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    "trap", ["PERFORM set_config('search_path', 'public, pg_catalog', false);"], indirect=True
)
async def test_what_a_foreign_key_sets_off_reads_nothing_and_leaves_nothing(
    write: str, trap: int, client: Dominus, server: Server
) -> None:
    table = f"patients_{trap}"
    await WRITES[write](client.secure, table)
    assert await loot(server, trap) == {"planner", "trigger"}
    pool = await server.resources.postgres.secure()
    async with pool.acquire() as connection:
        assert await connection.fetchval("SHOW search_path") == "pg_catalog, pg_temp"
    await client.secure.query(table, **WHY)
    entries = (await client.secure.audit(table))["items"]
    assert [entry["ids"] for entry in entries[:2]] == [[1], [1]]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    "trap",
    ["EXECUTE 'DEALLOCATE ALL'; EXECUTE 'PREPARE mine AS SELECT 1';"],
    indirect=True,
)
async def test_who_prepares_statements_in_the_place_of_ours_ends_the_write(
    write: str, trap: int, client: Dominus, server: Server
) -> None:
    with pytest.raises(DominusError) as caught:
        await WRITES[write](client.secure, f"patients_{trap}")
    assert caught.value.status_code == 403
    assert (await client.secure.query(f"patients_{trap}", **WHY))["total"] == 0


@pytest.mark.parametrize(
    "column",
    [
        "name text DEFAULT (query_to_xml('SELECT public.f()', true, true, '')::text)",
        "name text CHECK (query_to_xml('SELECT public.f()', true, true, '') IS NOT NULL)",
        "name text DEFAULT set_config('search_path', 'public', false)",
        "name text CHECK (pg_input_is_valid(name, 'public.a_domain'))",
        "name text CHECK (table_to_xml('public.a_view'::regclass, true, true, '') IS NOT NULL)",
    ],
)
async def test_no_function_of_postgresql_runs_for_them_what_they_name(
    column: str, client: Dominus, server: Server
) -> None:
    table = f"clever_{next(_numbers)}"
    await as_session(server, "CREATE OR REPLACE VIEW a_view AS SELECT 1 AS one")
    await as_session(server, f"CREATE TABLE {table} (id bigint PRIMARY KEY, {column})")
    with pytest.raises(ConflictError, match="runs SQL") as caught:
        await client.auth.create_secure_table(table)
    assert caught.value.code == "cannot_be_secure"


async def test_a_materialized_view_keeps_a_table_from_becoming_secure(
    client: Dominus, server: Server
) -> None:
    table = f"seen_{next(_numbers)}"
    await as_session(server, f"CREATE TABLE {table} (id bigint PRIMARY KEY)")
    await as_session(server, f"CREATE VIEW v_{table} AS SELECT * FROM {table}")
    await as_session(server, f"CREATE MATERIALIZED VIEW m_{table} AS SELECT * FROM v_{table}")
    with pytest.raises(ConflictError, match="materialized"):
        await client.auth.create_secure_table(table)
    await as_session(server, f"DROP MATERIALIZED VIEW m_{table}")
    await client.auth.create_secure_table(table)


async def test_a_view_of_who_may_read_secure_tables_keeps_a_table_from_becoming_one(
    client: Dominus, server: Server
) -> None:
    """As a superuser may, and whoever an administrator made a member of their role."""
    table, role = f"seen_{next(_numbers)}", f"auditor_{next(_numbers)}"
    await as_session(server, f"CREATE TABLE {table} (id bigint PRIMARY KEY)")
    await as_session(server, f"GRANT SELECT ON {table} TO PUBLIC")
    await server.resources.postgres.system.execute(f"""
        CREATE ROLE {role};
        GRANT {role} TO CURRENT_USER;
        GRANT dominus_data_secure TO {role};
        GRANT CREATE ON SCHEMA public TO {role};
        SET ROLE {role};
        CREATE VIEW public.v_{table} AS SELECT * FROM public.{table};
        RESET ROLE;
    """)
    with pytest.raises(ConflictError, match="view of a superuser"):
        await client.auth.create_secure_table(table)


async def test_a_table_in_the_place_of_a_secure_one_is_not_written_to(
    client: Dominus, server: Server
) -> None:
    """An administrator dropped it, and left its record: its triggers would run with the rights to all secure tables."""
    table = f"gone_{next(_numbers)}"
    await as_session(server, f"CREATE TABLE {table} (id bigint PRIMARY KEY)")
    await client.auth.create_secure_table(table)
    pool = await server.resources.postgres.secure()
    await pool.execute(f"DROP TABLE public.{table}")
    await as_session(server, f"CREATE TABLE {table} (id bigint PRIMARY KEY); GRANT ALL ON {table} TO PUBLIC")
    for call in (
        client.secure.insert(table, {"id": 1}, **WHY),
        client.secure.bulk_insert(table, [{"id": 1}], **WHY),
        client.secure.query(table, **WHY),
    ):
        with pytest.raises(AuthorizationError, match="replaced"):
            await call
    assert (await client.secure.audit(table, outcome="insufficient_privilege"))["items"]
    assert await as_session(server, f"DELETE FROM {table}") == "DELETE 0"


async def test_a_sequence_of_others_is_named(client: Dominus, server: Server) -> None:
    table = f"counted_{next(_numbers)}"
    await as_session(server, f"CREATE SEQUENCE s_{table}")
    await as_session(server, f"CREATE TABLE {table} (id bigint PRIMARY KEY DEFAULT nextval('s_{table}'))")
    with pytest.raises(ConflictError, match="sequence"):
        await client.auth.create_secure_table(table)
    await as_session(server, f"ALTER SEQUENCE s_{table} OWNED BY {table}.id")
    await client.auth.create_secure_table(table)
    assert (await client.secure.insert(table, {}, **WHY))["id"] == 1


async def test_before_postgresql_18_foreign_keys_lead_from_secure_tables_to_secure_ones(
    client: Dominus, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a deferred trigger that such a key sets off would run as whoever commits."""
    monkeypatch.setattr(secure_role, "DEFERS_AS_WHO_WROTE", 1_000_000)
    number = next(_numbers)
    await as_session(server, f"CREATE TABLE wards_{number} (id bigint PRIMARY KEY)")
    await as_session(
        server, f"CREATE TABLE beds_{number} (id bigint PRIMARY KEY, ward bigint REFERENCES wards_{number})"
    )
    for table in ("wards", "beds"):
        with pytest.raises(ConflictError, match="PostgreSQL 18"):
            await client.auth.create_secure_table(f"{table}_{number}")
