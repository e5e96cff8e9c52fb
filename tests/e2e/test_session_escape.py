"""What the holder of a PostgreSQL session tries: to become more than the data role, himself or through others."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from escape_support import ALICE, MALLORY, PAYLOAD, World, framed, place, startup, world
from pydantic import SecretStr

from dominus import Dominus
from dominus.errors import DominusError, ServiceError
from dominus.orchestrator.engines.postgres.pools import Postgres
from dominus.orchestrator.gateway.logins import postgres as logins
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.identity.vault import Vault
from dominus.orchestrator.serving.assembly import ProcessResources

__all__ = ["place", "world"]

DENIED = "permission denied for schema dominus"
T = "CREATE TABLE public.t (id int PRIMARY KEY, v varchar(50));"


async def insert(client: Dominus) -> None:
    await client.db.insert("t", {"id": 1, "v": "a"})


async def query(client: Dominus) -> None:
    await client.db.query("t", filters={"id": 1})


async def insert_then_query(client: Dominus) -> None:
    await insert(client)
    await query(client)


async def insert_then_delete(client: Dominus) -> None:
    await insert(client)
    await client.db.delete("t", {"id": 1})


async def bulk_insert(client: Dominus) -> None:
    await client.db.bulk_insert("t", [{"id": 1, "v": "a"}])


async def insert_then_walk(client: Dominus) -> None:
    await insert(client)
    assert len([row async for row in client.db.iterate("t")]) == 1


async def add_column(client: Dominus) -> None:
    await insert(client)
    await client.ddl.add_column("t", "extra", "public.checked", default="'a'")


# Each of them does run, with the rights of the data role and no more.
TRAPS: dict[str, tuple[str, Callable[[Dominus], Awaitable[None]]]] = {
    "trigger before insert": (
        f"{T} CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION trap()",
        insert,
    ),
    "trigger of a bulk insert": (
        f"{T} CREATE TRIGGER x AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION trap()",
        bulk_insert,
    ),
    "deferred constraint trigger": (
        f"{T} CREATE CONSTRAINT TRIGGER x AFTER INSERT ON t INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION trap()",
        insert,
    ),
    "trigger behind a foreign key": (
        (
            f"{T} CREATE TABLE child (id int REFERENCES t ON DELETE CASCADE); INSERT INTO t VALUES (2); INSERT INTO child"
            " VALUES (2); CREATE TRIGGER x AFTER DELETE ON child FOR EACH ROW EXECUTE FUNCTION trap();"
            " ALTER TABLE child ENABLE ALWAYS TRIGGER x; UPDATE child SET id = 2"
        ),
        lambda client: client.db.delete("t", {"id": 2}),  # type: ignore[return-value]
    ),
    "trigger of a partition": (
        (
            "CREATE TABLE t (id int, v varchar(50)) PARTITION BY LIST (id); CREATE TABLE part PARTITION OF t FOR VALUES IN (1);"
            " CREATE TRIGGER x AFTER INSERT ON part FOR EACH ROW EXECUTE FUNCTION trap()"
        ),
        insert,
    ),
    "trigger instead of a view's insert": (
        (
            "CREATE TABLE b (id int, v varchar(50)); CREATE VIEW t AS TABLE b;"
            " CREATE TRIGGER x INSTEAD OF INSERT ON t FOR EACH ROW EXECUTE FUNCTION trap()"
        ),
        insert,
    ),
    "view over a function": ("CREATE VIEW t AS SELECT 1 AS id, payload() AS v", query),
    "view's condition": ("CREATE VIEW t AS SELECT 1 AS id, 'a' AS v WHERE payload() <> ''", query),
    "check": (f"{T} ALTER TABLE t ADD CHECK (payload() IS NOT NULL)", insert),
    "check with an overload": (
        (
            f"{T} CREATE FUNCTION octet_length(varchar) RETURNS int LANGUAGE sql AS 'SELECT length(public.payload())';"
            " ALTER TABLE t ADD CHECK (octet_length(v) > 0)"
        ),
        insert,
    ),
    "check of a domain": (
        "CREATE DOMAIN checked AS text CHECK (payload() IS NOT NULL); CREATE TABLE t (id int, v checked)",
        insert,
    ),
    "check of a domain, by ddl": (
        f"{T} CREATE DOMAIN checked AS text CHECK (payload() IS NOT NULL)",
        add_column,
    ),
    "default": (f"{T} ALTER TABLE t ADD w text DEFAULT payload()", insert),
    "default of a bulk insert": (f"{T} ALTER TABLE t ADD w text DEFAULT payload()", bulk_insert),
    "generated column": (
        (
            "CREATE FUNCTION calm(int) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN public.payload(); END';"
            "CREATE TABLE t (id int, v varchar(50), w text GENERATED ALWAYS AS (calm(id)) STORED)"
        ),
        insert,
    ),
    "expression of an index": (
        (
            f"{T} CREATE FUNCTION calm(int) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN public.payload(); END';"
            " CREATE INDEX ON t (calm(id))"
        ),
        insert,
    ),
    "rule": (f"{T} CREATE RULE x AS ON INSERT TO t DO ALSO SELECT payload()", bulk_insert),
    "policy": (
        (
            f"{T} ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY;"
            " CREATE POLICY x ON t USING (payload() IS NOT NULL)"
        ),
        insert,
    ),
    "cast of a type to json": (
        (
            "CREATE TYPE mood AS ENUM ('a'); CREATE FUNCTION as_json(mood) RETURNS json LANGUAGE sql AS"
            " $$ SELECT to_json(public.payload()) $$; CREATE CAST (mood AS json) WITH FUNCTION as_json(mood);"
            " CREATE TABLE t (id int PRIMARY KEY, v mood)"
        ),
        insert_then_query,
    ),
}


@pytest.mark.parametrize("trap", TRAPS)
async def test_what_a_session_made_runs_with_no_more_than_the_data_role(world: World, trap: str):
    setup, spring = TRAPS[trap]
    session = await world.session()
    await session.execute(PAYLOAD + setup)
    await session.execute("TRUNCATE loot")
    await world.client.db.tables()
    await spring(world.client)
    said = await world.loot()
    assert said, "the trap did not run"
    assert set(said) == {DENIED}
    assert await world.keys() == 0


OVERLOADS = {
    "octet_length": "CREATE FUNCTION octet_length(varchar) RETURNS int LANGUAGE sql AS 'SELECT length(public.payload())'",
    "convert_to": "CREATE FUNCTION convert_to(varchar, text) RETURNS bytea LANGUAGE sql AS 'SELECT public.payload()::bytea'",
    "=": "CREATE FUNCTION same(varchar, text) RETURNS bool LANGUAGE sql AS 'SELECT public.payload() <> ''''';"
    " CREATE OPERATOR = (LEFTARG = varchar, RIGHTARG = text, FUNCTION = same)",
    "||": "CREATE FUNCTION joined(text, varchar) RETURNS text LANGUAGE sql AS 'SELECT public.payload()';"
    " CREATE OPERATOR || (LEFTARG = text, RIGHTARG = varchar, FUNCTION = joined)",
    "~~": "CREATE FUNCTION liked(varchar, text) RETURNS bool LANGUAGE sql AS 'SELECT public.payload() <> ''''';"
    " CREATE OPERATOR ~~ (LEFTARG = varchar, RIGHTARG = text, FUNCTION = liked)",
    "a type": "CREATE DOMAIN timestamptz AS pg_catalog.timestamptz CHECK (public.payload() <> '');"
    " CREATE DOMAIN text AS pg_catalog.text CHECK (public.payload() <> ''); CREATE DOMAIN int8 AS bigint CHECK (false)",
    "a table": "CREATE VIEW pg_class AS SELECT public.payload() AS relname; CREATE VIEW pg_type AS SELECT 1 AS oid",
}


@pytest.mark.parametrize("overload", OVERLOADS)
async def test_nothing_in_public_stands_in_for_what_our_statements_mean(world: World, overload: str):
    session = await world.session()
    await session.execute(PAYLOAD + T)
    await session.execute(OVERLOADS[overload])
    client = world.client
    await client.db.insert("t", {"id": 1, "v": "abc"}, on_conflict="ignore")
    await client.db.bulk_insert("t", [{"id": 2, "v": "b"}, {"id": 3}])
    found = await client.db.query("t", filters={"v": "abc"})
    assert [row["id"] for row in found["rows"]] == [1]
    assert (await client.db.query("t", filters={"v": {"like": "a%"}}))["total"] == 1
    assert len([row async for row in client.db.iterate("t", page_size=1)]) == 3
    assert (await client.db.update("t", {"v": "c"}, {"id": [2, 3]}))["affected_rows"] == 2
    assert await client.ddl.add_table("u", [{"name": "id", "type": "bigint", "primary_key": True}])
    assert await world.loot() == []


# --- what a trap leaves behind in the connection that it ran in

LEFTOVERS = {
    "role": "SELECT set_config('role', 'none', false)",
    "search_path": "SELECT set_config('search_path', 'public', false)",
    "timeout": "SELECT set_config('statement_timeout', '1', false)",
    "read only": "SELECT set_config('default_transaction_read_only', 'on', false)",
    "time zone": "SELECT set_config('TimeZone', 'Asia/Tokyo', false)",
    "dates": "SELECT set_config('DateStyle', 'German', false)",
    "null equals": "SELECT set_config('transform_null_equals', 'on', false)",
    "strings": "SELECT set_config('standard_conforming_strings', 'off', false)",
    "own setting": "SELECT set_config('evil.user', 'mallory', false)",
    "session authorization": "SET SESSION AUTHORIZATION DEFAULT",
    "advisory lock": "SELECT pg_advisory_lock(42)",
    "temporary table": "CREATE TEMP TABLE t (id int, v text)",
    "temporary type": "CREATE DOMAIN pg_temp.timestamptz AS text",
    "listening": "LISTEN dominus_catalog",
    "cursor": "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "prepared": "PREPARE evil AS SELECT 1",
    "lost statements": "DEALLOCATE ALL",
}
_STATE = """
SELECT session_user, current_user, current_setting('search_path'), current_setting('statement_timeout'),
  current_setting('default_transaction_read_only'), current_setting('TimeZone'), current_setting('DateStyle'),
  current_setting('transform_null_equals'), current_setting('standard_conforming_strings'),
  coalesce(current_setting('evil.user', true), ''),
  (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
  (SELECT count(*) FROM pg_class WHERE relname = 't' AND relnamespace = pg_my_temp_schema()),
  (SELECT count(*) FROM pg_type WHERE typname = 'timestamptz' AND typnamespace = pg_my_temp_schema()),
  (SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_cursors WHERE is_holdable),
  (SELECT count(*) FROM pg_prepared_statements WHERE from_sql)
"""


async def state(world: World) -> tuple[Any, ...]:
    row = await world.resources.postgres.data.fetchrow(_STATE)
    assert row is not None
    return tuple(row)


@pytest.mark.parametrize("leftover", LEFTOVERS)
async def test_a_connection_goes_back_as_it_was(world: World, leftover: str):
    session = await world.session()
    before = await state(world)
    await session.execute(
        T
        + "CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN"
        + f" EXECUTE $s${LEFTOVERS[leftover]}$s$; RETURN NULL; END $f$;"
        + "CREATE CONSTRAINT TRIGGER x AFTER INSERT ON t INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION leave()"
    )
    for number in range(2):
        await world.client.db.insert("t", {"id": number, "v": "a"})
        assert await state(world) == before
    assert (await world.client.db.query("t"))["total"] == 2


async def test_a_statement_of_ours_that_was_replaced_is_not_used_again(world: World):
    session = await world.session()
    await session.execute(T + "CREATE TABLE public.seen (args text)")
    await world.client.db.query("t", filters={"v": "secret"})
    # Under the name of asyncpg's own, with the same parameters and columns.
    await session.execute(
        """
        CREATE TABLE public.u (id int);
        CREATE FUNCTION replace() RETURNS trigger LANGUAGE plpgsql AS $f$
        DECLARE known record;
        BEGIN
          FOR known IN SELECT name, parameter_types FROM pg_prepared_statements WHERE statement LIKE '%public"."t"%' LOOP
            EXECUTE format('DEALLOCATE %I', known.name);
            EXECUTE format('PREPARE %I (text, int8, int8) AS SELECT NULL::bytea, 666::int8 WHERE $1 <> $2::text || $3', known.name);
          END LOOP;
          RETURN NULL;
        END $f$;
        CREATE TRIGGER x AFTER INSERT ON public.u FOR EACH ROW EXECUTE FUNCTION replace();
        """
    )
    await world.client.db.insert("u", {"id": 1})
    assert await world.client.db.query("t", filters={"v": "secret"}) == {"rows": [], "total": 0}


async def test_the_pool_s_login_that_a_trap_changed_is_put_right(world: World):
    session = await world.session()
    await session.execute(
        T
        + """
        CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
          PERFORM set_config('role', 'none', true);
          EXECUTE 'ALTER ROLE CURRENT_USER PASSWORD ''known to mallory''';
          EXECUTE 'ALTER ROLE CURRENT_USER SET default_transaction_read_only = on';
          PERFORM set_config('role', 'dominus_data', true);
          RETURN NEW;
        END $f$;
        CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION change();
        """
    )
    await insert(world.client)
    user = await world.resources.postgres.data.fetchval("SELECT session_user")
    data: Any = world.resources.postgres.data
    await session.execute("DROP TRIGGER x ON t")
    await data.expire_connections()
    async with data.acquire() as connection:
        connection.terminate()
    await world.client.db.insert("t", {"id": 2, "v": "b"})
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(world.process.dsn, user=user, password="known to mallory")


# --- what a session does by itself

REFUSED = [
    "SELECT * FROM dominus.psks",
    "SELECT * FROM dominus.signing_keys",
    "SELECT * FROM dominus.outcomes",
    "SELECT * FROM dominus.gateway_logins",
    "UPDATE dominus.migrations SET checksum = ''",
    "CREATE TABLE dominus.mine ()",
    "CREATE FUNCTION dominus_api.remember(bytea, text, varchar) RETURNS bool LANGUAGE sql AS 'SELECT true'",
    "DROP FUNCTION dominus_api.remember(bytea, text, text)",
    "LOCK TABLE dominus.migrations",
    "LOCK TABLE dominus.signing_keys",
    "SET ROLE {owner}",
    "SET ROLE pg_read_server_files",
    "SET SESSION AUTHORIZATION {owner}",
    "SET session_replication_role = replica",
    "SET session_preload_libraries = 'x'",
    "SET log_statement = 'all'",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER ROLE CURRENT_USER CREATEROLE",
    "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'",
    "ALTER ROLE CURRENT_USER CONNECTION LIMIT -1",
    "ALTER ROLE {owner} PASSWORD 'x'",
    "ALTER ROLE {pool} PASSWORD 'x'",
    "ALTER ROLE {pool} SET role = 'none'",
    "ALTER ROLE dominus_data LOGIN",
    "ALTER ROLE {owner} SET search_path = public",
    "ALTER DATABASE {database} SET search_path = public",
    "ALTER DATABASE {database} OWNER TO dominus_data",
    "ALTER SYSTEM SET log_statement = 'all'",
    "GRANT {owner} TO dominus_data",
    "GRANT dominus_data TO {pool} WITH ADMIN OPTION",
    "GRANT pg_execute_server_program TO CURRENT_USER",
    "CREATE ROLE another LOGIN",
    "CREATE DATABASE another",
    "CREATE SCHEMA another",
    "CREATE EXTENSION vector",
    "CREATE EVENT TRIGGER x ON ddl_command_end EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()",
    "CREATE FUNCTION c() RETURNS void LANGUAGE c AS 'libc', 'system'",
    "CREATE FUNCTION i() RETURNS void LANGUAGE internal AS 'pg_reload_conf'",
    "CREATE PUBLICATION p FOR ALL TABLES",
    "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p",
    "CREATE SERVER s FOREIGN DATA WRAPPER nothing",
    "CREATE TABLESPACE s LOCATION '/tmp'",
    "COPY (SELECT 1) TO PROGRAM 'cat'",
    "COPY public.t FROM PROGRAM 'id'",
    "COPY public.t FROM '/etc/passwd'",
    "COPY (SELECT 1) TO '/tmp/dominus-escape'",
    "LOAD 'plpgsql'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_read_binary_file('postgresql.conf')",
    "SELECT pg_ls_dir('/')",
    "SELECT pg_stat_file('/etc/passwd')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/dominus-escape')",
    "SELECT rolpassword FROM pg_authid",
    "SELECT * FROM pg_hba_file_rules",
    "SELECT pg_reload_conf()",
    "SELECT pg_rotate_logfile()",
    "SELECT pg_switch_wal()",
    "SELECT pg_create_physical_replication_slot('x')",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{owner}'",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{pool}'",
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = '{pool}'",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{alice}'",
    "PREPARE TRANSACTION 'x'",
]


@pytest.mark.parametrize("role", ["dominus_data", "NONE"])
async def test_a_session_is_refused(world: World, role: str):
    session, alice = await world.session(), await world.session(ALICE)
    postgres = world.resources.postgres
    await session.execute(T)
    names = {
        "owner": await postgres.system.fetchval("SELECT quote_ident(current_user)"),
        "pool": await postgres.data.fetchval("SELECT session_user"),
        "database": await session.fetchval("SELECT current_database()"),
        "alice": await alice.fetchval("SELECT session_user"),
    }
    await session.execute(f"SET ROLE {role}")
    passed: list[str] = []
    for statement in REFUSED:
        try:
            await session.execute("BEGIN")
            await session.execute(statement.format(**names))
        except asyncpg.PostgresSyntaxError:
            passed.append(f"{statement}: syntax")
        except asyncpg.PostgresError:
            pass
        else:
            passed.append(statement)
        await session.execute("ROLLBACK")
    assert passed == []
    assert not Path("/tmp/dominus-escape").exists()
    assert await alice.fetchval("SELECT 1") == 1


async def test_a_session_reads_nothing_of_what_others_run(world: World):
    session, alice = await world.session(), await world.session(ALICE)
    await alice.fetchval("SELECT 'of alice'")
    await world.client.db.tables()
    rows = await session.fetch("SELECT usename, query FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert {row["query"] for row in rows} <= {"<insufficient privilege>", ""}


async def test_a_session_ends_when_its_login_is_released_whatever_it_made(world: World):
    gateway = world.resources.gateway
    assert gateway is not None
    login = await world.login()
    session = await asyncpg.connect(world.process.dsn, user=login.username, password=login.password)
    await session.execute(
        "SET ROLE NONE; SET search_path = public; CREATE TABLE mine (id int); CREATE TYPE m AS ENUM ('a');"
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; SELECT lo_create(0); SELECT lo_create(4711);"
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC; GRANT ALL ON mine TO PUBLIC;"
        "ALTER ROLE CURRENT_USER SET role = 'none'; ALTER ROLE CURRENT_USER PASSWORD 'x'"
    )
    await session.execute("SELECT pg_advisory_lock(1); BEGIN; LOCK TABLE mine")
    assert await gateway.credentials.release(MALLORY, login.username) is True
    system = world.resources.postgres.system
    assert await system.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", login.username) == 0
    owners = "SELECT DISTINCT pg_get_userbyid(lomowner) FROM pg_largeobject_metadata"
    assert await system.fetchval(owners) == "dominus_data"
    session.terminate()


async def test_a_login_whose_table_another_session_holds_is_put_off_and_nothing_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logins, "_HAND_OVER", logins._HAND_OVER.replace("'5s'", "'50ms'"))
    gateway = world.resources.gateway
    assert gateway is not None
    login, other = await world.login(), await world.session(ALICE)
    session = await asyncpg.connect(world.process.dsn, user=login.username, password=login.password)
    await session.execute(
        "SET ROLE NONE; CREATE TABLE public.held (id int); GRANT ALL ON public.held TO PUBLIC"
    )
    await other.execute("BEGIN; LOCK TABLE public.held IN ACCESS SHARE MODE")
    with pytest.raises(DominusError):
        await gateway.credentials.release(MALLORY, login.username)
    await other.execute("ROLLBACK")
    system = world.resources.postgres.system
    await system.execute(
        "UPDATE dominus.gateway_logins SET reap_after = now() WHERE username = $1", login.username
    )
    assert await gateway.credentials.reap() == 1
    session.terminate()


async def test_advisory_locks_stop_nothing_of_ours(world: World):
    session = await world.session()
    for number in (0x646F6D696E7573, 0x6B657973):
        await session.execute("SELECT pg_advisory_lock($1)", number)
    async with asyncio.timeout(20):
        vault = Vault(world.process.master_keys)
        again = await Postgres.open(world.process.dsn, world.process.settings, vault)
        await again.aclose()
        assert await world.resources.tokens.rotate_if_due(0) is True


async def test_notifications_of_a_session_do_no_harm(world: World):
    session = await world.session()
    await session.execute(T)
    await world.client.db.query("t")
    for payload in ("", "public", "x" * 7000, '{"schema":"dominus"}', "'; DROP TABLE t; --"):
        await session.execute("SELECT pg_notify('dominus_catalog', $1)", payload)
    await insert_then_query(world.client)


async def test_an_outcome_cannot_be_planted(world: World):
    session = await world.session()
    await session.execute(T)
    own = "SELECT dominus_api.remember($1::bytea, $2, $3)"
    earlier = "SELECT dominus_api.remember($1, $2, $3, $4)"
    for principal in ("service:root", "psk:root", ""):
        await session.execute(earlier, principal, "the-key-of-a-write", "print", "\n{}")
        await session.execute(own, f"{principal}the-key-of-a-write".encode(), "print", "\n{}")
    for project in ("one", "two"):
        token = world.resources.tokens.mint(Principal("service:root", "service", frozenset({"*"}), project))
        async with httpx.AsyncClient(transport=Kept(world.transport), base_url="http://localhost") as client:
            for _ in range(2):
                answer = await client.post(
                    "/api/scribe/data/public/t/insert",
                    json={"data": {"id": len(project), "v": project}},
                    headers={"authorization": f"Bearer {token}", "idempotency-key": "the-key-of-a-write"},
                )
                assert answer.json()["data"]["v"] == project
        await session.execute("TRUNCATE t")
    slots = await world.resources.postgres.system.fetch("SELECT length(slot) AS n FROM dominus.outcomes")
    assert [row["n"] for row in slots].count(32) == 2


class Kept(httpx.AsyncBaseTransport):
    """One that outlives its client."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.handle_async_request = inner.handle_async_request  # type: ignore[method-assign]


# --- the startup message


async def refusal(world: World, *messages: bytes) -> str:
    heard = (await world.knock(*messages)).removeprefix(b"N")
    assert heard[:1] == b"E", heard
    fields = {part[:1]: part[1:].decode() for part in heard[5:].split(b"\0") if part}
    assert fields[b"S"] == fields[b"V"] == "FATAL"
    return fields[b"C"]


STARTUPS: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "the owner": lambda own: {**own, "user": "dominus"},
    "the superuser": lambda own: {**own, "user": "postgres"},
    "the data role": lambda own: {**own, "user": "dominus_data"},
    "another's login": lambda own: {**own, "user": own["_alice"]},
    "a released login": lambda own: {**own, "user": own["_released"]},
    "no user": lambda own: {"database": own["database"]},
    "an empty user": lambda own: {**own, "user": ""},
    "another database": lambda own: {**own, "database": "postgres"},
    "no database": lambda own: {"user": own["user"]},
    "replication": lambda own: {**own, "replication": "true"},
    "replication of a database": lambda own: {**own, "replication": "database"},
    "replication, shouted": lambda own: {**own, "REPLICATION": "1"},
    "a role": lambda own: {**own, "role": "none"},
    "a role by options": lambda own: {**own, "options": "-c role=none"},
    "a role by a long option": lambda own: {**own, "options": "--role=none"},
    "a role behind others": lambda own: {**own, "options": "-c work_mem=4MB -cROLE=none"},
    "authorization": lambda own: {**own, "options": "--session-authorization=postgres"},
    "libraries": lambda own: {**own, "options": "-c session_preload_libraries=x"},
    "local libraries": lambda own: {**own, "local_preload_libraries": "x"},
    "switches of the server": lambda own: {**own, "options": "-P -d 5"},
    "a switch of its own": lambda own: {**own, "options": "-D /tmp"},
}


@pytest.mark.parametrize("asked", STARTUPS)
async def test_a_startup_message_for_anything_else_is_refused(world: World, asked: str):
    gateway = world.resources.gateway
    assert gateway is not None
    login, alice, gone = await world.login(), await world.login(ALICE), await world.login()
    await gateway.credentials.release(MALLORY, gone.username)
    own = {"user": login.username, "database": login.database or ""}
    more = {"_alice": alice.username, "_released": gone.username}
    said = {name: text for name, text in STARTUPS[asked](own | more).items() if not name.startswith("_")}
    assert await refusal(world, startup(**said)) == "28000"


@pytest.mark.parametrize(
    "message",
    [
        framed(struct.pack(">I", 0x20000) + b"user\0a\0\0"),
        framed(struct.pack(">I", 196608) + b"user\0a\0"),
        framed(struct.pack(">I", 196608) + b"user\0\xff\0\0"),
        framed(struct.pack(">I", 196608) + b"user\0a\0user\0b\0\0"),
        framed(struct.pack(">I", 196608) + b"user\0a\0USER\0b\0\0"),
        framed(struct.pack(">I", 196608) + b"user"),
        framed(struct.pack(">I", 196608)),
        struct.pack(">II", 10_001, 196608),
        struct.pack(">II", 0, 196608),
        struct.pack(">II", 0xFFFFFFFF, 196608),
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_startup_message_is_refused(world: World, message: bytes):
    assert await refusal(world, message) == "08P01"


async def test_a_driver_gets_in_after_it_asked_for_encryption_and_its_cancel_arrives(world: World):
    login = await world.login()
    own = startup(user=login.username, database=login.database or "")
    tls, gssapi = framed(struct.pack(">I", 80877103)), framed(struct.pack(">I", 80877104))
    assert (await world.knock(gssapi, tls, own))[:1] == b"R"
    assert (await world.knock(own[:6] + own[6:]))[:1] == b"R"
    assert (await world.knock(startup(196610, user=login.username, database=login.database or "")))[
        :1
    ] in b"Rv"
    assert await refusal(world, tls, gssapi, tls) == "08P01"
    session = await world.session()
    pid: int = await session.fetchval("SELECT pg_backend_pid()")
    secret: Any = session._protocol.backend_secret
    sleeping = asyncio.create_task(session.fetchval("SELECT pg_sleep(60)"))
    deadline = time.monotonic() + 10
    while not sleeping.done():
        assert time.monotonic() < deadline
        await world.knock(framed(struct.pack(">Iii", 80877102, pid, secret)))
        await asyncio.sleep(0.01)
    with pytest.raises(asyncpg.QueryCanceledError):
        await sleeping


# --- the start


async def test_a_data_login_that_can_become_more_is_refused_at_the_start(world: World):
    process = world.process
    for url in (process.dsn, await pool_of_the_owner(world)):
        settings = process.settings.model_copy(update={"data_url": SecretStr(url)})
        with pytest.raises(ServiceError) as caught:
            await Postgres.open(process.dsn, settings, Vault(process.master_keys))
        assert caught.value.code == "data_role_too_powerful"


async def pool_of_the_owner(world: World) -> str:
    """A login that an administrator made in haste, who may do too much."""
    system = world.resources.postgres.system
    name = f"hasty_{await system.fetchval('SELECT current_database()')}"
    await system.execute(
        f"CREATE ROLE {name} LOGIN CREATEROLE NOINHERIT PASSWORD 'x'; GRANT dominus_data TO {name}"
    )
    parts = urlsplit(world.process.dsn)
    return parts._replace(netloc=f"{name}:x@{parts.netloc.rpartition('@')[2]}").geturl()


async def test_no_role_that_logs_in_is_a_superuser(place: ProcessResources):
    connection = await asyncpg.connect(place.dsn)
    rows = await connection.fetch("SELECT rolname FROM pg_roles WHERE rolsuper AND rolcanlogin")
    await connection.close()
    assert [row["rolname"] for row in rows] == []


@pytest.mark.parametrize("account", ["ourselves", "a user"])
def test_the_embedded_owner_reaches_neither_files_nor_programs(tmp_path: Path, account: str):
    if account == "a user" and os.geteuid() != 0:
        pytest.skip("changes accounts, so it needs root")
    program = textwrap.dedent(
        """
        import asyncio, sys, asyncpg
        from pathlib import Path
        from dominus.orchestrator.engines.postgres.embedded import EmbeddedPostgres

        async def attack(dsn):
            connection = await asyncpg.connect(dsn)
            for statement in (
                "COPY (SELECT 1) TO PROGRAM 'cat'", "SELECT pg_read_file('/etc/passwd')",
                "CREATE FUNCTION c() RETURNS void LANGUAGE c AS 'libc', 'system'", "SET ROLE postgres",
                "GRANT pg_read_server_files TO dominus", "ALTER ROLE dominus SUPERUSER", "ALTER SYSTEM SET fsync = off",
                "ALTER ROLE postgres LOGIN PASSWORD 'x'", "GRANT postgres TO dominus", "CREATE ROLE s SUPERUSER",
            ):
                try:
                    await connection.execute(statement)
                except asyncpg.InsufficientPrivilegeError:
                    continue
                print(statement)
            await connection.close()

        with EmbeddedPostgres(Path(sys.argv[1]), is_durable=False) as server:
            asyncio.run(attack(server.start()))
        """
    )
    prefix: list[str] = []
    if account == "a user":
        from dominus.orchestrator.engines.postgres.account import find_accounts

        prefix = list(find_accounts().maker.prefix)
        os.chown(tmp_path, find_accounts().maker.uid, -1)
    command = [*prefix, sys.executable, "-c", program, str(tmp_path / "home")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr
