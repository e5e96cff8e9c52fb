"""Secure tables: no row without a reason, no access without an entry, no entry that can be changed unseen."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from pydantic_core import to_json
from server_support import Server, make_server, process_resources, server

from dominus import Dominus, SecureAccessContext
from dominus.contract.secure import moment
from dominus.errors import (
    AuthorizationError,
    ConflictError,
    DominusError,
    NotFoundError,
    SecureTableError,
    ServiceError,
    ValidationError,
)
from dominus.orchestrator.engines.postgres import data_login
from dominus.orchestrator.engines.postgres.data_login import derive_login
from dominus.orchestrator.engines.postgres.pools import _secure_pool  # pyright: ignore[reportPrivateUsage]
from dominus.orchestrator.handlers import secure_access
from dominus.orchestrator.handlers.audit import Chain
from dominus.orchestrator.serving.in_process import EmbeddedTransport
from dominus.orchestrator.sql.statements import MAX_TOUCHED_BYTES

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

_numbers = itertools.count()
COLUMNS: list[Any] = [
    {"name": "id", "type": "bigint", "primary_key": True},
    {"name": "name", "type": "text"},
    {"name": "cost", "type": "numeric(12,2)"},
]
WHY: Any = {"reason": "ward round"}


class Borrowed(httpx.AsyncBaseTransport):
    """A transport that a client may close, and the app goes on."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self.inner.handle_async_request(request)


def client_of(server: Server, **more: Any) -> Dominus:
    transport = Borrowed(EmbeddedTransport(server.app))
    return Dominus(url="http://dominus.test", token=server.psk, transport=transport, **more)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(server: Server) -> AsyncIterator[Dominus]:
    async with client_of(server) as made:
        yield made


@pytest.fixture
def project() -> str:
    return f"p{next(_numbers)}"


@pytest_asyncio.fixture(loop_scope="module")
async def fresh(server: Server, project: str) -> AsyncIterator[Dominus]:
    """A client with an audit trail of its own."""
    async with client_of(server, project=project) as made:
        yield made


async def plain_table(client: Dominus) -> str:
    table = f"patients_{next(_numbers)}"
    await client.ddl.add_table(table, COLUMNS)
    for number, name in enumerate(("ada", "bo"), 1):
        await client.db.insert(table, {"id": number, "name": name, "cost": "1.50"})
    return table


async def secure_table(client: Dominus) -> str:
    table = await plain_table(client)
    await client.auth.create_secure_table(table)
    return table


async def is_secure(client: Dominus, table: str) -> bool:
    try:
        await client.db.query(table)
    except SecureTableError:
        return True
    return False


async def entries(client: Dominus, table: str) -> list[Any]:
    return (await client.secure.audit(table))["items"]


async def as_session(server: Server, statement: str, *args: Any) -> Any:
    """Run SQL with the rights of a native session."""
    async with server.resources.postgres.data.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL search_path = public")
        if not args:
            return await connection.execute(statement)
        return await connection.fetch(statement, *args)


CALLS: dict[str, Callable[[Any, str, Any], Awaitable[Any]]] = {
    "query": lambda rows, table, why: rows.query(table, **why),
    "insert": lambda rows, table, why: rows.insert(table, {"id": 9}, **why),
    "update": lambda rows, table, why: rows.update(table, {"name": "x"}, {"id": 1}, **why),
    "delete": lambda rows, table, why: rows.delete(table, {"id": 1}, **why),
    "bulk_insert": lambda rows, table, why: rows.bulk_insert(table, [{"id": 7}, {"id": 8}], **why),
    "page": lambda rows, table, why: anext(aiter(rows.iterate(table, **why))),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("namespace", ["db", "secure"])
async def test_a_secure_table_is_not_touched_without_a_reason(
    name: str, namespace: str, client: Dominus
) -> None:
    table = await secure_table(client)
    for why in ({}, {"reason": ""}, {"reason": "  "}, {"actor": "dr"}):
        with pytest.raises(SecureTableError) as caught:
            await CALLS[name](getattr(client, namespace), table, why)
        assert (caught.value.status_code, caught.value.code) == (403, "secure_table")
    *refused, _ = await entries(client, table)
    said = [(entry["outcome"], entry["row_count"], entry["ids"]) for entry in refused]
    assert said == [("secure_table", 0, None)] * 4
    assert {entry["operation"] for entry in refused} == {name}
    found = await client.db.query(table, **WHY)
    assert [row["name"] for row in found["rows"]] == ["ada", "bo"]


@pytest.mark.parametrize(
    ("name", "row_count", "ids"),
    [
        ("query", 2, [1, 2]),
        ("insert", 1, [9]),
        ("update", 1, [1]),
        ("delete", 1, [1]),
        ("bulk_insert", 2, [7, 8]),
        ("page", 2, [1, 2]),
    ],
)
@pytest.mark.parametrize("namespace", ["db", "secure"])
async def test_each_access_is_an_entry(
    name: str, namespace: str, row_count: int, ids: list[int], client: Dominus
) -> None:
    table = await secure_table(client)
    await CALLS[name](getattr(client, namespace), table, WHY | {"actor": "dr.ada"})
    entry, made = await entries(client, table)
    assert made["operation"] == "create_secure_table"
    said = {key: entry[key] for key in ("operation", "actor", "subject", "reason", "row_count", "ids")}
    assert said == {
        "operation": name,
        "actor": "dr.ada",
        "subject": "service:root",
        "reason": "ward round",
        "row_count": row_count,
        "ids": ids,
    }
    assert (entry["schema"], entry["table"], bool(entry["request_id"])) == ("public", table, True)


async def test_rows_come_back_as_those_of_a_plain_table(client: Dominus) -> None:
    table = await plain_table(client)
    filters: Any = {"id": {"gte": 1}}
    options: Any = {"sort_by": "name", "sort_order": "desc", "limit": 1}
    plain = await client.db.query(table, filters=filters, **options)
    await client.auth.create_secure_table(table)
    assert await client.db.query(table, filters=filters, **options, **WHY) == plain
    assert await client.secure.query(table, filters=filters, **options, **WHY) == plain
    entry = (await entries(client, table))[0]
    assert (entry["filters"], entry["ids"], entry["actor"]) == (filters, [2], "service:root")


@pytest.mark.parametrize("name", ["reason", "actor"])
@pytest.mark.parametrize("value", ["x" * 1001, "a\0b", "\ud800", 7, ["x"], {"a": 1}], ids=repr)
async def test_a_reason_and_an_actor_are_short_texts(
    name: str, value: Any, client: Dominus, server: Server
) -> None:
    table = await secure_table(client)
    with pytest.raises(ValidationError):
        await client.secure.query(table, **(WHY | {name: value}))
    reply = await server("POST", f"/api/scribe/data/public/{table}/query", WHY | {name: "x" * 1001})
    assert reply.status == 400
    assert len(await entries(client, table)) == 1


async def test_the_actor_adds_to_the_subject_and_never_replaces_it(client: Dominus) -> None:
    table = await secure_table(client)
    token = (await client.auth.mint_jwt("ada", scope=["db:read"]))["access_token"]
    for actor in (None, "", "  ", "service:root", " bo\n", "x" * 1000):
        await client.as_user(token).secure.query(table, reason=" why ", actor=actor)
    found = (await entries(client, table))[-2::-1]
    assert {(entry["subject"], entry["reason"]) for entry in found} == {("ada", " why ")}
    actors = ["ada", "ada", "ada", "service:root", "bo", "x" * 1000]
    assert [entry["actor"] for entry in found] == actors


async def test_an_entry_has_the_request_id_of_its_call(client: Dominus, server: Server) -> None:
    table = await secure_table(client)
    reply = await server(
        "POST", f"/api/scribe/data/public/{table}/query", WHY, headers={"x-request-id": "abc-1"}
    )
    assert (await entries(client, table))[0]["request_id"] == reply.headers["x-request-id"]


async def test_a_context_a_block_and_keywords_say_the_same(client: Dominus) -> None:
    table = await secure_table(client)
    context = SecureAccessContext(reason="care", actor="dr.bo")
    await client.secure.query(table, context)
    await client.db_secure.query(table, context=context)
    await client.secure.query(table, reason="care", actor="dr.bo")
    with client.secure.access(reason="care", actor="dr.bo") as secure:
        await secure.query(table)
        await secure.update(table, {"name": "x"}, {"id": 1})
    found = await entries(client, table)
    assert [(entry["reason"], entry["actor"]) for entry in found[:-1]] == [("care", "dr.bo")] * 5
    with pytest.raises(SecureTableError):
        await client.secure.query(table)


async def test_an_access_that_fails_is_an_entry_that_says_how(client: Dominus, server: Server) -> None:
    """Its error tells of rows: of one with the same key, of one that the update met."""
    table = await secure_table(client)
    await client.db.query(table, **WHY)
    for fails in (
        client.db.insert(table, {"id": 1, "name": "secret"}, **WHY),
        client.db.bulk_insert(table, [{"id": 5}, {"id": 1}], **WHY),
        client.db.update(table, {"id": None}, {"name": "ada"}, **WHY),
        client.db.query(table, filters={"nothing": 1}, **WHY),
    ):
        with pytest.raises(DominusError) as caught:
            await fails
        assert "secret" not in str(caught.value)
        details: Any = caught.value.details
        assert details.get("line", 2) == 2
    found = [(entry["operation"], entry["outcome"]) for entry in (await entries(client, table))[:-1]]
    assert found == [
        ("query", "unknown_column"),
        ("update", "not_null_violation"),
        ("bulk_insert", "unique_violation"),
        ("insert", "unique_violation"),
        ("query", "ok"),
    ]
    assert len((await client.secure.audit(table, outcome="unique_violation"))["items"]) == 2


async def test_without_its_entry_a_failure_is_not_told(
    client: Dominus, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = await secure_table(client)

    async def fail(*_: Any) -> None:
        raise OSError("gone")

    monkeypatch.setattr(secure_access, "append", fail)
    path, body = f"/api/scribe/data/public/{table}/insert", {"data": {"id": 1}, "reason": "x"}
    reply = await server("POST", path, body)
    assert (reply.status, b"unique" in reply.body) == (503, False)
    reply = await server("POST", path, {"data": {"id": 1}})
    assert reply.status == 403
    reply = await server("POST", path, {"data": {"id": 77}, "reason": "x"})
    assert reply.status == 503
    monkeypatch.undo()
    assert (await client.db.query(table, filters={"id": 77}, **WHY))["rows"] == []
    assert len(await entries(client, table)) == 2


async def test_a_repeat_is_no_access(client: Dominus, server: Server) -> None:
    table = await secure_table(client)
    path, body = f"/api/scribe/data/public/{table}/insert", {"data": {"id": 5}, "reason": "x"}
    for _ in range(2):
        reply = await server("POST", path, body, headers={"idempotency-key": table})
        assert reply.data["id"] == 5
    assert [entry["operation"] for entry in await entries(client, table)] == ["insert", "create_secure_table"]


async def test_what_an_update_touches_may_be_much(client: Dominus) -> None:
    table = await secure_table(client)
    await client.db.bulk_insert(table, [{"id": number} for number in range(10, 12_010)], **WHY)
    await client.db.update(table, {"name": "x"}, all_rows=True, **WHY)
    updated, loaded, _ = await entries(client, table)
    assert (updated["row_count"], len(updated["ids"])) == (12_002, 10_000)
    assert (loaded["row_count"], loaded["ids"][:2], len(loaded["ids"])) == (12_000, [10, 11], 10_000)


async def test_an_entry_is_bounded_in_bytes(client: Dominus, server: Server) -> None:
    table = f"patients_{next(_numbers)}"
    await client.ddl.add_table(table, [{"name": "id", "type": "text", "primary_key": True}])
    await client.auth.create_secure_table(table)
    keys = [f"{number:05}{'x' * 1000}" for number in range(400)]
    await client.secure.bulk_insert(table, [{"id": key} for key in keys], **WHY)
    await client.secure.query(table, filters={"id": keys}, limit=1000, sort_by="id", **WHY)
    await client.secure.update(table, {"id": "y"}, {"id": keys[0]}, **WHY)
    await client.secure.delete(table, all_rows=True, **WHY)
    await client.secure.query(table, **WHY)
    none, deleted, updated, read, loaded, _ = await entries(client, table)
    for entry in (deleted, read, loaded):
        size = len(json.dumps(entry["ids"]))
        assert (entry["row_count"], 250_000 < size <= MAX_TOUCHED_BYTES) == (400, True)
    assert read["ids"] == keys[: len(read["ids"])]
    assert (none["ids"], none["row_count"], updated["ids"]) == (None, 0, ["y"])
    sent = to_json({"id": keys})
    assert read["filters"] == {"$sha256": hashlib.sha256(sent).hexdigest(), "$bytes": len(sent)}


# --- nobody gets around it


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM {}",
        "DELETE FROM {}",
        "DROP TABLE {}",
        "TRUNCATE {}",
        "ALTER TABLE {} OWNER TO dominus_data",
        "GRANT SELECT ON {} TO PUBLIC",
        "CREATE TRIGGER t AFTER INSERT ON {} EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()",
        "CREATE TABLE heir () INHERITS ({})",
        "CREATE TABLE child (id bigint REFERENCES {} ON DELETE CASCADE)",
        "SET ROLE dominus_data_secure",
        "SELECT dominus_secure.note('{{}}', 0, NULL, '', '')",
        "LOCK TABLE {}",
    ],
)
async def test_a_session_has_no_right_to_a_secure_table(
    statement: str, client: Dominus, server: Server
) -> None:
    table = await secure_table(client)
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedFunctionError)):
        await as_session(server, statement.format(table))
    async with server.resources.postgres.data.acquire() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"SET ROLE NONE; SELECT * FROM public.{table}")


async def test_rights_that_were_given_before_end(client: Dominus, server: Server) -> None:
    table = await plain_table(client)
    await as_session(server, f"GRANT SELECT ON {table} TO PUBLIC")
    await as_session(server, f"GRANT SELECT (name) ON {table} TO dominus_data")
    await as_session(server, f"CREATE VIEW v_{table} AS SELECT * FROM {table}")
    await client.auth.create_secure_table(table)
    for name in (table, f"v_{table}"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_session(server, f"SELECT name FROM {name}")


async def test_the_shape_of_a_secure_table_cannot_be_changed(client: Dominus) -> None:
    table = await secure_table(client)
    records = (await client.auth.list_secure_tables(limit=1000))["items"]
    (record,) = [one for one in records if one["table_name"] == table]
    for change in (
        client.ddl.add_column(table, "more", "text"),
        client.ddl.drop_table(table),
        client.ddl.truncate_table("public", table),
        client.ddl.create_index("public", table, f"i_{table}", ["name"]),
    ):
        with pytest.raises(ConflictError) as caught:
            await change
        assert caught.value.code == "table_is_secure"
        assert "auth.delete_secure_table" in (caught.value.hint or "")
    # The way that the hint names.
    await client.auth.delete_secure_table(record["id"])
    await client.ddl.add_column(table, "more", "text")
    await client.auth.create_secure_table(table)
    assert (await client.secure.insert(table, {"id": 5, "more": "x"}, **WHY))["more"] == "x"


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (("CREATE FUNCTION f_{0}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
         "CREATE TRIGGER t BEFORE INSERT ON {0} FOR EACH ROW EXECUTE FUNCTION f_{0}()"), "triggers"),
        ("ALTER TABLE {0} ENABLE ROW LEVEL SECURITY", "row-level"),
        (("CREATE FUNCTION g_{0}(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';"
         "ALTER TABLE {0} ADD CHECK (g_{0}(name))"), "function"),
        (("CREATE FUNCTION h_{0}() RETURNS text LANGUAGE sql AS 'SELECT 1::text';"
         "ALTER TABLE {0} ALTER name SET DEFAULT h_{0}()"), "function"),
        ("CREATE TYPE e_{0} AS ENUM ('a'); ALTER TABLE {0} ADD COLUMN mood e_{0}", "type"),
        ("CREATE TABLE child_{0} (id bigint REFERENCES {0} ON DELETE CASCADE)", "foreign key"),
        ("CREATE TABLE heir_{0} () INHERITS ({0})", "inherit"),
        ("CREATE TABLE parent_{0} (id bigint NOT NULL); ALTER TABLE {0} INHERIT parent_{0}", "inherit"),
        ("CREATE RULE r AS ON INSERT TO {0} DO ALSO SELECT 1", "rules"),
    ],
)  # fmt: skip
async def test_a_table_that_runs_what_users_made_does_not_become_secure(
    prepare: str, why: str, client: Dominus, server: Server
) -> None:
    table = await plain_table(client)
    async with server.resources.postgres.data.acquire() as connection:
        await connection.execute("SET search_path = public")
        await connection.execute(prepare.format(table))
    with pytest.raises(ConflictError, match=why) as caught:
        await client.auth.create_secure_table(table)
    assert caught.value.code == "cannot_be_secure"
    assert (await client.db.query(table))["total"] == 2


async def test_what_most_tables_have_is_no_obstacle(client: Dominus, server: Server) -> None:
    table = f"patients_{next(_numbers)}"
    async with server.resources.postgres.data.acquire() as connection:
        await connection.execute(f"""
            CREATE TABLE public.{table} (
              id bigserial PRIMARY KEY,
              code uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE,
              name text CHECK (length(name) < 100),
              lower_name text GENERATED ALWAYS AS (lower(name)) STORED,
              at timestamptz NOT NULL DEFAULT now()
            );
            CREATE INDEX ON public.{table} (lower(name)) WHERE name IS NOT NULL;
            CREATE TABLE public.visits_of_{table} (patient bigint REFERENCES public.{table});
        """)
    await client.auth.create_secure_table(table)
    made = await client.secure.insert(table, {"name": "Ada"}, **WHY)
    assert (made["id"], made["lower_name"]) == (1, "ada")
    await client.db.insert(f"visits_of_{table}", {"patient": 1})
    with pytest.raises(ConflictError):
        await client.secure.delete(table, {"id": 1}, **WHY)


async def test_no_replica_serves_a_table_that_has_become_secure(
    client: Dominus, make_server: Callable[..., Awaitable[Server]]
) -> None:
    """Also one that knows nothing of it: that is PostgreSQL's to hold, not the memory of a server."""
    other = await make_server()
    async with client_of(other) as remote:
        table = await plain_table(client)
        assert (await remote.db.query(table))["total"] == 2
        known = dict(other.resources.catalog._tables)  # pyright: ignore[reportPrivateUsage]
        made = await client.auth.create_secure_table(table)
        other.resources.catalog._tables.update(known)  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(SecureTableError):
            await remote.db.query(table)
        other.resources.catalog._tables.update(known)  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(DominusError) as caught:
            await remote.db.bulk_insert(table, [{"id": 10}])
        assert caught.value.status_code == 403
        assert (await remote.db.query(table, **WHY))["total"] == 2
        await client.auth.delete_secure_table(made["id"])
        # That it is free again, another server may learn a moment later.
        async with asyncio.timeout(6):
            while await is_secure(remote, table):
                await asyncio.sleep(0.01)
        assert (await remote.db.query(table))["total"] == 2


# --- the records of secure tables


async def test_a_table_is_secure_until_the_last_project_lets_it_go(client: Dominus, fresh: Dominus) -> None:
    table = await plain_table(client)
    mine = await client.auth.create_secure_table(table)
    theirs = await fresh.auth.secure_tables.create(table)
    with pytest.raises(ConflictError):
        await client.auth.create_secure_table(table)
    await client.auth.delete_secure_table(mine["id"])
    assert await is_secure(client, table)
    await fresh.auth.delete_secure_table(theirs["id"])
    assert (await client.db.query(table))["total"] == 2
    await client.ddl.drop_table(table)


async def test_what_is_no_table_cannot_be_secure(client: Dominus) -> None:
    for table, schema in (("nowhere", "public"), ("secrets", "dominus"), ("x", "nowhere")):
        with pytest.raises(NotFoundError):
            await client.auth.create_secure_table(table, schema)


async def test_a_table_of_another_project_s_tenant_cannot_be_made_secure(
    client: Dominus, fresh: Dominus
) -> None:
    made = await fresh.ddl.provision_tenant("guarded")
    await fresh.ddl.add_table("patients", COLUMNS, made["schema"])
    with pytest.raises(NotFoundError) as caught:
        await client.auth.create_secure_table("patients", made["schema"])
    assert caught.value.code == "unknown_schema"
    await fresh.db.insert("patients", {"id": 1, "name": "ada", "cost": "1"}, schema=made["schema"])
    await fresh.auth.create_secure_table("patients", made["schema"])
    assert (await fresh.secure.query("patients", schema=made["schema"], **WHY))["total"] == 1
    rows = [{"id": 2, "name": "bo", "cost": "1"}]
    assert (await fresh.db.bulk_insert("patients", rows, schema=made["schema"], **WHY))["inserted_count"] == 1
    with pytest.raises(NotFoundError):
        await client.secure.query("patients", schema=made["schema"], **WHY)
    with pytest.raises(NotFoundError):
        await client.db.bulk_insert("patients", rows, schema=made["schema"], **WHY)


async def test_no_table_of_a_schema_that_sessions_could_drop_becomes_secure(
    client: Dominus, server: Server
) -> None:
    schema = f"ward_{next(_numbers)}"
    system = server.resources.postgres.system
    await system.execute(
        f"GRANT CREATE ON DATABASE {await system.fetchval('SELECT current_database()')} TO dominus_data"
    )
    await as_session(server, f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.beds (id int)")
    with pytest.raises(ConflictError, match="its schema belongs to the role of sessions"):
        await client.auth.create_secure_table("beds", schema)


async def test_the_tables_of_a_tenant_are_made_secure_by_its_own_project_alone(
    client: Dominus, fresh: Dominus, project: str
) -> None:
    slug = f"clinic-{project}"
    made: Any = await fresh.ddl.provision_tenant(slug)
    schema: str = made["schema"]
    await fresh.ddl.create_table(schema, "beds", COLUMNS)
    with pytest.raises(NotFoundError) as caught:
        await client.auth.create_secure_table("beds", schema)
    assert caught.value.code == "unknown_schema"
    await fresh.auth.create_secure_table("beds", schema)
    await fresh.secure.insert("beds", {"id": 1}, schema=schema, **WHY)
    with pytest.raises(SecureTableError):
        await fresh.db.query("beds", schema=schema)


async def test_the_list_of_tables_does_not_tell_how_many_rows_a_secure_one_has(
    client: Dominus, server: Server
) -> None:
    table = await plain_table(client)
    await as_session(server, f"ANALYZE {table}")

    async def estimate() -> int:
        listed: Any = await client.db.tables()
        return {one["table_name"]: one["estimated_rows"] for one in listed}[table]

    assert await estimate() == 2
    await client.auth.create_secure_table(table)
    assert await estimate() == 0


async def test_a_table_that_could_not_be_reached_does_not_become_secure(
    client: Dominus, make_server: Callable[..., Awaitable[Server]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner of the database may make no roles."""
    other = await make_server()

    async def refuse(*_: Any) -> None:
        raise asyncpg.InsufficientPrivilegeError("permission denied to create role")

    monkeypatch.setattr(data_login.DataLogin, "_make", refuse)
    table = await plain_table(client)
    fake = derive_login(other.resources.vault, "nobody_secure", other.resources.postgres.system)
    monkeypatch.setattr(
        other.resources.postgres,
        "_open_secure",
        lambda: _secure_pool(other.resources.postgres._dsn, other.resources.settings, fake),  # pyright: ignore[reportPrivateUsage]
    )
    async with client_of(other) as remote:
        with pytest.raises(ServiceError) as caught:
            await remote.auth.create_secure_table(table)
    assert caught.value.code == "secure_tables_unavailable"
    assert "CREATEROLE" in (caught.value.hint or "")
    assert (await client.db.query(table))["total"] == 2


async def test_its_scopes_say_who_may(client: Dominus) -> None:
    table = await plain_table(client)
    made = await client.auth.create_secure_table(table)
    scope = await client.auth.create_scope(f"care:{table}", "Care")
    await client.auth.add_secure_table_scopes(made["id"], [scope["id"]])
    tokens = [
        (await client.auth.mint_jwt("ada", scope=scopes))["access_token"]
        for scopes in (["db:read"], ["db:read", scope["slug"]])
    ]
    outsider, insider = (client.as_user(token) for token in tokens)
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(AuthorizationError):
                await outsider.secure.query(table, **WHY)
                continue
            break
    with pytest.raises(AuthorizationError) as caught:
        await outsider.secure.query(table, **WHY)
    assert caught.value.details == {"scopes": [scope["slug"]]}
    assert (await insider.secure.query(table, **WHY))["total"] == 2
    assert (await client.secure.query(table, **WHY))["total"] == 2
    with pytest.raises(AuthorizationError):
        await insider.secure.audit()


async def test_one_caller_leaves_connections_of_secure_tables_to_others(
    client: Dominus, make_server: Callable[..., Awaitable[Server]]
) -> None:
    """The pool of secure tables is smaller than that of the others, and shared by its own measure."""
    other = await make_server(pool_size=8)
    table, second = await secure_table(client), await secure_table(client)
    pool = await other.resources.postgres.secure()
    async with client_of(other) as remote, pool.acquire() as connection:
        greedy = remote.as_user(
            (await client.auth.mint_jwt("greedy", scope=["db:read", "db:write"]))["access_token"]
        )
        async with connection.transaction():
            await connection.execute(f"UPDATE public.{table} SET name = 'held'")
            waiting = [
                asyncio.create_task(greedy.secure.update(table, {"name": "x"}, {"id": 1}, **WHY))
                for _ in range(20)
            ]
            async with asyncio.timeout(5):
                while other.resources.secure_share.held_by("greedy") < 2:
                    await asyncio.sleep(0.01)
                assert (await remote.secure.query(second, **WHY))["total"] == 2
        await asyncio.gather(*waiting)
    assert pool.get_max_size() == 4  # type: ignore[attr-defined]


# --- the trail


async def test_fifty_at_once_leave_one_whole_chain(fresh: Dominus) -> None:
    table = await secure_table(fresh)
    await asyncio.gather(
        *(
            fresh.db.insert(table, {"id": 100 + number}, reason="load", actor=f"a{number}")
            for number in range(50)
        )
    )
    proof = await fresh.secure.verify()
    assert (proof["valid"], proof["count"], proof["broken_at"]) == (True, 51, None)
    numbers = [entry["number"] for entry in (await fresh.secure.audit(limit=100))["items"]]
    assert numbers == list(range(51, 0, -1))


async def test_writers_at_two_servers_leave_one_whole_chain(
    fresh: Dominus, project: str, make_server: Callable[..., Awaitable[Server]]
) -> None:
    table = await secure_table(fresh)
    async with client_of(await make_server(), project=project) as remote:
        clients = (fresh, remote)
        calls = [
            call
            for number in range(25)
            for client in clients
            for call in (
                client.secure.insert(table, {"id": 100 + number}, reason="load", actor=f"a{number}"),
                client.secure.query(table, reason="look"),
            )
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        # Each key is inserted at one of the two, and refused at the other: both are entries.
        refused = [result for result in results if isinstance(result, ConflictError)]
        assert (len(refused), sum(isinstance(result, Exception) for result in results)) == (25, 25)
        for client in clients:
            proof = await client.secure.verify()
            assert (proof["valid"], proof["count"]) == (True, 101)
        assert len((await remote.secure.audit(outcome="unique_violation"))["items"]) == 25


async def test_two_who_let_a_table_go_do_not_wait_for_each_other_for_ever(
    client: Dominus, fresh: Dominus, server: Server
) -> None:
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    system = server.resources.postgres.system
    before = await system.fetchval(deadlocks)
    for _ in range(10):
        table = await plain_table(client)
        made = [await each.auth.secure_tables.create(table) for each in (client, fresh)]
        async with asyncio.timeout(10):
            await asyncio.gather(
                client.auth.delete_secure_table(made[0]["id"]), fresh.auth.delete_secure_table(made[1]["id"])
            )
        assert (await client.db.query(table))["total"] == 2
    async with system.acquire() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        assert await connection.fetchval(deadlocks) == before


async def test_the_trail_is_asked_by_table_actor_operation_and_time(fresh: Dominus) -> None:
    one, two = await secure_table(fresh), await secure_table(fresh)
    for actor in ("ada", "bo"):
        for table in (one, two):
            await fresh.secure.query(table, reason="r", actor=actor)
    await fresh.secure.delete(one, {"id": 1}, reason="r", actor="ada")
    audit = fresh.secure.audit
    assert len((await audit(one))["items"]) == 4
    assert len((await audit(actor="ada"))["items"]) == 3
    assert [entry["table"] for entry in (await audit(operation="delete"))["items"]] == [one]
    first: list[Any] = []
    cursor = None
    while True:
        page = await audit(limit=3, cursor=cursor)
        first += page["items"]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert [entry["number"] for entry in first] == list(range(7, 0, -1))
    at = dt.datetime.fromisoformat(first[2]["at"])
    assert len((await audit(since=at))["items"]) == 3
    assert len((await audit(until=at))["items"]) == 4
    assert (await audit(subject="nobody"))["items"] == []


async def test_the_trail_takes_new_entries_only(fresh: Dominus, server: Server) -> None:
    table = await secure_table(fresh)
    await fresh.secure.query(table, **WHY)
    system = server.resources.postgres.system
    for statement in (
        "UPDATE dominus.audit SET reason = 'x'",
        "DELETE FROM dominus.audit",
        "TRUNCATE dominus.audit",
        "DELETE FROM dominus.audit_heads",
        "UPDATE dominus.audit_heads SET number = 0",
        "TRUNCATE dominus.audit_heads",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await system.execute(statement)


UNGUARDED = (
    "ALTER TABLE dominus.audit DISABLE TRIGGER USER; ALTER TABLE dominus.audit_heads DISABLE TRIGGER USER"
)


async def forge(server: Server, statements: str) -> None:
    """Change the trail as its owner may, who has the database."""
    async with server.resources.postgres.system.acquire() as connection, connection.transaction():
        await connection.execute(UNGUARDED)
        await connection.execute(statements)
        await connection.execute(UNGUARDED.replace("DISABLE", "ENABLE"))


FORGED = "project = '{}' AND number = 3"


@pytest.mark.parametrize(
    ("forgery", "broken_at", "reason"),
    [
        (f"UPDATE dominus.audit SET reason = 'x' WHERE {FORGED}", 3, "changed"),
        (f"UPDATE dominus.audit SET ids = '[]' WHERE {FORGED}", 3, "changed"),
        (f"UPDATE dominus.audit SET outcome = 'ok', actor = 'x' WHERE {FORGED}", 3, "changed"),
        (f"UPDATE dominus.audit SET at = at + interval '1 microsecond' WHERE {FORGED}", 3, "changed"),
        (f"DELETE FROM dominus.audit WHERE {FORGED}", 3, "missing"),
        ("DELETE FROM dominus.audit WHERE project = '{}' AND number = 1", 1, "missing"),
        (("UPDATE dominus.audit SET number = 100 WHERE project = '{0}' AND number = 3;"
         " UPDATE dominus.audit SET number = 3 WHERE project = '{0}' AND number = 4;"
         " UPDATE dominus.audit SET number = 4 WHERE project = '{0}' AND number = 100"), 3, "changed"),
        (("INSERT INTO dominus.audit SELECT (json_populate_record(a, '{{\"number\": 7}}')).* FROM dominus.audit a"
         " WHERE project = '{}' AND number = 6"), 7, "changed"),
        (("ALTER TABLE dominus.audit DROP CONSTRAINT counts_from_one;"
         " INSERT INTO dominus.audit SELECT (json_populate_record(a, '{{\"number\": -7}}')).* FROM dominus.audit a"
         " WHERE project = '{}' AND number = 6"), -7, "orchestrator"),
        ("DELETE FROM dominus.audit WHERE project = '{}' AND number > 4", 5, "last entries"),
        (("DELETE FROM dominus.audit WHERE project = '{0}' AND number > 4;"
         " UPDATE dominus.audit_heads h SET number = 4, hash = a.hash, mac = a.mac FROM dominus.audit a"
         " WHERE h.project = '{0}' AND a.project = '{0}' AND a.number = 4"), 4, "orchestrator"),
        ("DELETE FROM dominus.audit WHERE project = '{0}'; DELETE FROM dominus.audit_heads WHERE project = '{0}'",
         1, "head is missing"),
        ("UPDATE dominus.audit_heads SET mac = 'x' WHERE project = '{}'", 6, "orchestrator"),
    ],
)  # fmt: skip
async def test_verify_names_the_first_entry_that_is_broken(
    forgery: str, broken_at: int, reason: str, fresh: Dominus, project: str, server: Server
) -> None:
    table = await secure_table(fresh)
    for _ in range(5):
        await fresh.secure.query(table, **WHY)
    assert (await fresh.secure.verify())["valid"]
    await forge(server, forgery.format(project))
    proof = await fresh.secure.verify()
    assert (proof["valid"], proof["broken_at"]) == (False, broken_at)
    assert reason in (proof["reason"] or "")


async def test_a_proof_goes_on_from_an_earlier_one(fresh: Dominus, project: str, server: Server) -> None:
    table = await secure_table(fresh)
    for _ in range(3):
        await fresh.secure.query(table, **WHY)
    proof = await fresh.secure.verify()
    assert await fresh.secure.verify(since=proof) == proof
    await fresh.secure.query(table, **WHY)
    later = await fresh.secure.verify(since=proof)
    assert (later["valid"], later["count"]) == (True, 5)
    assert later == await fresh.secure.verify()
    # What came before is not looked at again: that is what makes it cheap.
    await forge(server, f"UPDATE dominus.audit SET reason = 'x' WHERE project = '{project}' AND number = 2")
    assert (await fresh.secure.verify(since=proof))["valid"]
    assert (await fresh.secure.verify())["broken_at"] == 2
    broken = await fresh.secure.verify()
    with pytest.raises(ValidationError):
        await fresh.secure.verify(since=broken)
    for nonsense in (dt.datetime.now(dt.UTC), {"valid": True}, {"valid": True, "count": 3, "hash": "x"}):
        with pytest.raises(ValidationError):
            await fresh.secure.verify(since=nonsense)  # type: ignore[arg-type]


async def test_an_older_copy_of_the_trail_is_found_by_an_earlier_proof(
    fresh: Dominus, project: str, server: Server
) -> None:
    table = await secure_table(fresh)
    await fresh.secure.query(table, **WHY)
    audit, heads = [
        await server.resources.postgres.system.fetchval(
            f"SELECT json_agg(t)::text FROM dominus.{name} t WHERE project = '{project}'"
        )
        for name in ("audit", "audit_heads")
    ]
    await fresh.secure.query(table, **WHY)
    proof = await fresh.secure.verify()
    await forge(
        server,
        "".join(
            f"DELETE FROM dominus.{name} WHERE project = '{project}';"
            f"INSERT INTO dominus.{name} SELECT * FROM json_populate_recordset(NULL::dominus.{name}, '{rows}');"
            for name, rows in (("audit", audit), ("audit_heads", heads))
        ),
    )
    assert (await fresh.secure.verify())["valid"]
    found = await fresh.secure.verify(since=proof)
    assert (found["valid"], found["broken_at"]) == (False, 3)
    await fresh.secure.query(table, reason="another third")
    found = await fresh.secure.verify(since=proof)
    assert (found["valid"], found["broken_at"]) == (False, 3)


async def test_a_trail_is_proved_while_it_grows(fresh: Dominus) -> None:
    table = await secure_table(fresh)
    ended = asyncio.Event()

    async def write() -> None:
        while not ended.is_set():
            await fresh.secure.query(table, **WHY)

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(write())
        proofs = [await fresh.secure.verify() for _ in range(30)]
        while proofs[-1]["count"] < proofs[0]["count"] + 20:
            proofs.append(await fresh.secure.verify())
        ended.set()
    assert all(proof["valid"] for proof in proofs), proofs
    assert proofs[-1]["count"] > proofs[0]["count"]


async def test_a_page_of_long_entries_is_cut_short_and_goes_on(fresh: Dominus) -> None:
    table = f"patients_{next(_numbers)}"
    await fresh.ddl.add_table(table, [{"name": "id", "type": "text", "primary_key": True}])
    await fresh.auth.create_secure_table(table)
    await fresh.secure.bulk_insert(table, [{"id": f"{n:05}{'x' * 1000}"} for n in range(250)], **WHY)
    for _ in range(20):
        await fresh.secure.query(table, limit=250, columns=["id"], **WHY)
    page = await fresh.secure.audit(limit=22)
    assert 10 < len(page["items"]) < 22
    rest = await fresh.secure.audit(limit=22, cursor=page["cursor"])
    assert [entry["number"] for entry in page["items"] + rest["items"]] == list(range(22, 0, -1))
    assert rest["cursor"] is None


async def test_who_rewrites_the_whole_chain_lacks_the_key(
    fresh: Dominus, project: str, server: Server
) -> None:
    table = await secure_table(fresh)
    await fresh.secure.query(table, **WHY)
    async with server.resources.postgres.system.acquire() as connection, connection.transaction():
        await connection.execute(UNGUARDED)
        before = await connection.fetchval(
            "SELECT hash FROM dominus.audit WHERE project = $1 AND number = 1", project
        )
        row = await connection.fetchrow(
            "SELECT * FROM dominus.audit WHERE project = $1 AND number = 2", project
        )
        assert row is not None
        forged = dict(row.items()) | {"reason": "nothing", "at": moment(row["at"])}
        digest = Chain.hash_of(before, forged)
        for statement in (
            "UPDATE dominus.audit SET reason = 'nothing', hash = $1 WHERE project = $2 AND number = 2",
            "UPDATE dominus.audit_heads SET hash = $1 WHERE project = $2",
        ):
            await connection.execute(statement, digest, project)
        await connection.execute(UNGUARDED.replace("DISABLE", "ENABLE"))
    proof = await fresh.secure.verify()
    assert (proof["valid"], proof["broken_at"]) == (False, 2)
