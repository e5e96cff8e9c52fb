"""Migrations, categories and tenants over a real PostgreSQL."""

from __future__ import annotations

import asyncio
import base64
from functools import partial
from typing import Any

import pytest
from pg_support import Caller, call, clean_ddl, data_of, pg_dsn, postgres

from dominus.contract import ddl as contract
from dominus.contract.db import InsertRequest, QueryRequest
from dominus.errors import ConflictError, NotFoundError, ServiceError, ValidationError
from dominus.orchestrator.services import db, ddl
from dominus.orchestrator.services.ddl import categories, migrations, provisioning, tables

__all__ = ["call", "clean_ddl", "pg_dsn", "postgres"]
pytestmark = pytest.mark.usefixtures("clean_ddl")
ID: Any = {"name": "id", "type": "bigint", "primary_key": True}
NAME: Any = {"name": "name", "type": "text", "default": "'x'"}


async def category(call: Caller, slug: str = "schools") -> str:
    place = ("default", "default")
    principal = call().principal
    place = (principal.project, principal.environment)
    await call.postgres.system.execute(
        "INSERT INTO dominus.tenant_categories (project, environment, name, slug, color)"
        " VALUES ($1, $2, $3, $3, '#000000')",
        *place,
        slug,
    )
    return slug


async def tenants(call: Caller, *slugs: str, of: str = "schools") -> None:
    for slug in slugs:
        request = contract.ProvisionFromCategory(tenant_slug=slug, category_slug=of)
        await provisioning.provision_from_category(call(), request)


async def add_table(call: Caller, table: str = "orders", of: str = "schools") -> Any:
    request = contract.CategoryCreateTable(category_slug=of, table=table, columns=[ID, NAME])
    return data_of(await categories.category_create_table(call(), request))


async def add_column(call: Caller, column: str, **more: Any) -> Any:
    fields = {"category_slug": "schools", "table": "orders", "column": column, "type": "text", **more}
    return data_of(await categories.category_add_column(call(), contract.CategoryAddColumn(**fields)))


async def names(call: Caller, schema: str, table: str = "orders") -> list[str]:
    rows = await call.postgres.system.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum",
        f'"{schema}"."{table}"',
    )
    return [row["attname"] for row in rows]


async def sync(call: Caller, limit: int | None = None) -> Any:
    return await categories.sync_tenants_to_latest(
        call(), contract.SyncTenants(category_slug="schools", limit=limit)
    )


async def test_a_change_is_recorded_with_both_ways_and_rolled_back_and_applied_again(call: Caller):
    await ddl.create_table(call(), contract.CreateTable(table="t", columns=[ID, NAME]))
    await ddl.add_column(call(), contract.AddColumn(table="t", column="note", type="text"))
    await tables.drop_column(call(), contract.DropColumn(table="t", column="name"))
    known = await migrations.list_migrations(call(), contract.OfSchema())
    assert [one["operation"] for one in known] == ["create_table", "add_column", "drop_column"]
    assert {one["author"] for one in known} == {"tester"}
    last = known[-1]["version"]
    file = await migrations.get_migration_file(call(), contract.SchemaMigration(version=last))
    assert file["up"] == ['ALTER TABLE "public"."t" DROP COLUMN "name"']
    assert file["down"] == ['ALTER TABLE "public"."t" ADD COLUMN "name" text DEFAULT \'x\'::text']
    with pytest.raises(ConflictError) as caught:
        await migrations.rollback_migration(call(), contract.RollbackMigration(version=known[0]["version"]))
    assert caught.value.code == "later_migrations"
    await migrations.rollback_migration(call(), contract.RollbackMigration(version=last))
    assert await names(call, "public", "t") == ["id", "note", "name"]
    await migrations.apply_migration(call(), contract.ApplyMigration(migration_id=last))
    assert await names(call, "public", "t") == ["id", "note"]
    history = await migrations.migration_history(call(), contract.OfSchema())
    assert [step["direction"] for step in history["migrations"]] == ["up", "up", "up", "down", "up"]
    assert history["current_version"] == last


async def test_a_dropped_table_comes_back_as_it_was_but_for_its_rows(call: Caller):
    columns: Any = [
        {"name": "id", "type": "bigserial", "primary_key": True},
        {"name": "total", "type": "numeric(10,2)", "constraints": ["CHECK (total >= 0)"], "nullable": False},
        {"name": "twice", "type": "numeric", "constraints": ["GENERATED ALWAYS AS (total * 2) STORED"]},
        {"name": "parent", "type": "bigint", "constraints": ["REFERENCES t(id) ON DELETE CASCADE"]},
    ]
    await ddl.create_table(call(), contract.CreateTable(table="t", columns=columns))
    index = contract.CreateIndex(table="t", index_name="t_total", columns=["total", "parent"], unique=True)
    await tables.create_index(call(), index)
    before = await tables.describe(call(), contract.Describe(table="t"))
    dropped = data_of(await ddl.drop_table(call(), contract.DropTable(table="t")))
    back = contract.RollbackMigration(version=dropped["migration_version"])
    await migrations.rollback_migration(call(), back)
    assert await tables.describe(call(), contract.Describe(table="t")) == before


async def test_what_fails_leaves_no_record(call: Caller):
    await ddl.create_table(call(), contract.CreateTable(table="t", columns=[ID]))
    with pytest.raises(ConflictError):
        await ddl.create_table(call(), contract.CreateTable(table="t", columns=[ID]))
    assert len(await migrations.list_migrations(call(), contract.OfSchema())) == 1
    for table in ("ddl_tickets", "ddl_migrations WHERE ticket IS NOT NULL"):
        assert await call.postgres.system.fetchval(f"SELECT count(*) FROM dominus.{table}") == 0


async def test_a_session_can_settle_nothing(call: Caller):
    for function in ("begin_ddl($1, true)", "make_schema($1)", "settle_ddl($1)"):
        assert await call.postgres.data.fetchval(f"SELECT dominus_api.{function}", b"guess") is False


async def test_a_change_of_a_category_reaches_its_tenants_and_new_ones(call: Caller):
    await category(call)
    await add_table(call)
    await tenants(call, "hill", "dale")
    changed = await add_column(call, "note")
    assert (changed["success"], changed["applied_schemas"]) == (True, ["tenant_dale", "tenant_hill"])
    await tenants(call, "glen")
    for slug in ("hill", "dale", "glen"):
        assert await names(call, f"tenant_{slug}") == ["id", "name", "note"]
        row = InsertRequest(schema=f"tenant_{slug}", table="orders", data={"id": 1})
        await db.insert(call(), row)
        assert (
            len(
                data_of(await db.query(call(), QueryRequest(schema=f"tenant_{slug}", table="orders")))[
                    "items"
                ]
            )
            == 1
        )
    schemas = contract.Schemas(schemas=["tenant_hill", "tenant_glen"])
    assert (await migrations.compare_versions(call(), schemas))["identical"]


async def test_a_tenant_gets_all_or_nothing_and_a_repeat_goes_on(call: Caller):
    await category(call)
    await add_table(call)
    await tenants(call, "dale", "glen", "hill")
    await db.insert(call(), InsertRequest(schema="tenant_glen", table="orders", data={"id": 1}))
    # Two migrations; the second fails where there are rows.
    changed = await add_column(call, "code", nullable=False)
    assert (changed["success"], changed["synced_count"], changed["failed_count"]) == (False, 2, 1)
    await add_column(call, "more")
    status = {
        one["tenant_slug"]: one
        for one in (
            await categories.get_tenant_sync_status(call(), contract.OfCategory(category_slug="schools"))
        )["tenants"]
    }
    assert {slug: one["status"] for slug, one in status.items()} == {
        "dale": "synced",
        "glen": "failed",
        "hill": "synced",
    }
    assert status["glen"]["pending_count"] == 2
    assert "code" in status["glen"]["error"]
    assert await names(call, "tenant_glen") == ["id", "name"]
    await call.sql('DELETE FROM "tenant_glen".orders')
    assert (await sync(call))["synced_count"] == 1
    assert await names(call, "tenant_glen") == ["id", "name", "code", "more"]
    assert (await sync(call))["results"] == []


async def test_a_sync_goes_on_where_another_stopped_and_two_share_the_tenants(call: Caller):
    await category(call)
    slugs = [f"t{n}" for n in range(8)]
    await tenants(call, *slugs)
    # Recorded while no time is left for any tenant.
    ctx = call()
    ctx.ends_at = asyncio.get_running_loop().time() - 1
    request = contract.CategoryCreateTable(category_slug="schools", table="orders", columns=[ID])
    left = data_of(await categories.category_create_table(ctx, request))
    assert (left["success"], left["pending_count"]) == (False, 8)
    first = await sync(call, limit=3)
    assert (first["synced_count"], first["pending_count"]) == (3, 5)
    both = await asyncio.gather(sync(call), sync(call))
    applied = [one["tenant_slug"] for part in both for one in part["results"] if one.get("applied")]
    assert sorted(applied) == slugs[3:]
    assert (
        await call.postgres.system.fetchval(
            "SELECT count(*) FROM dominus.ddl_steps WHERE settled IS NOT NULL"
        )
        == 8
    )


async def test_a_preview_shows_the_sql_and_changes_nothing(call: Caller):
    await category(call)
    await add_table(call)
    await tenants(call, "hill")
    fields = {"table": "orders", "column": "note", "type": "varchar(9)", "default": "'x'"}
    request = contract.BuilderMigration(
        category_slug="schools", operation="add_column", params=fields, migration_name="notes"
    )
    seen = await categories.preview_migration(call(), request)
    assert (
        """ALTER TABLE "tenant_hill"."orders" ADD COLUMN "note" varchar(9) DEFAULT ('x');"""
        in seen["sql_preview"]
    )
    assert seen["affected_tenants"] == ["hill"]
    assert await names(call, "tenant_hill") == ["id", "name"]
    applied = await categories.apply_builder_migration(call(), request)
    assert applied["success"]
    assert await names(call, "tenant_hill") == ["id", "name", "note"]


async def test_what_a_category_cannot_be_is_refused_before_it_is_recorded(call: Caller):
    await category(call)
    await add_table(call)
    with pytest.raises(ConflictError) as caught:
        await add_table(call)
    assert caught.value.code == "table_exists"
    with pytest.raises(ValidationError) as refused:
        await add_column(call, "n", type="INT); DROP TABLE x;--")
    assert refused.value.code == "invalid_sql"
    with pytest.raises(ValidationError):
        await add_column(call, "n", default="'\"{schema}\"'")
    with pytest.raises(NotFoundError) as missing:
        await add_table(call, of="schoolz")
    assert missing.value.code == "unknown_category"
    known = await migrations.list_category_migrations(call(), contract.OfCategory(category_slug="schools"))
    assert known["total"] == 1
    left = await call.postgres.system.fetchval(
        "SELECT count(*) FROM pg_namespace WHERE nspname ~ '^category_'"
    )
    assert left == 0


async def test_tenants_are_deprovisioned_and_reset(call: Caller):
    await category(call)
    await add_table(call)
    await tenants(call, "hill", "dale")
    with pytest.raises(ConflictError):
        await provisioning.deprovision_tenant(call(), contract.Deprovision(tenant_slug="hill"))
    await provisioning.deprovision_tenant(call(), contract.Deprovision(tenant_slug="hill", cascade=True))
    status = await provisioning.provision_status(call(), contract.OfTenant(tenant_slug="hill"))
    assert status["status"] == "not_provisioned"
    request = contract.TenantOfCategory(category_slug="schools", tenant_slug="dale")
    await provisioning.reset_tenant_schema(call(), request)
    assert await names(call, "tenant_dale") == []
    assert (await sync(call))["synced_count"] == 1
    assert await names(call, "tenant_dale") == ["id", "name"]
    reset = await provisioning.reset_category_schema(call(), contract.OfCategory(category_slug="schools"))
    assert (reset["reset_count"], reset["migrations_deleted"]) == (1, 1)


async def test_raw_sql_is_of_kinds_that_change_a_schema_and_cannot_leave_its_transaction(call: Caller):
    def raw(sql: str) -> contract.ExecuteRaw:
        return contract.ExecuteRaw(sql=base64.b64encode(sql.encode()).decode())

    await tables.execute_raw(
        call(), raw("CREATE TABLE a (x text DEFAULT ';'); -- ;\nCREATE VIEW v AS SELECT * FROM a")
    )
    for sql in (
        "COMMIT",
        "SELECT 1",
        "CREATE TABLE b (x int); COMMIT",
        "SET ROLE postgres",
        "DO $$ BEGIN END $$",
        "CREATE ROLE x",
        "/* CREATE TABLE */ RESET ROLE",
        "CREATE TABLE b (x text DEFAULT 'a",
        "",
    ):
        with pytest.raises(ValidationError):
            await tables.execute_raw(call(), raw(sql) if sql else contract.ExecuteRaw(sql="!"))
    version = (await migrations.get_current_version(call(), contract.OfSchema()))["version"]
    with pytest.raises(ConflictError) as caught:
        await migrations.rollback_migration(call(), contract.RollbackMigration(version=version))
    assert caught.value.code == "irreversible_migration"


async def test_a_schema_that_could_not_be_made_leaves_nothing_in_the_way(call: Caller):
    from dominus.contract.guardian.entities import TENANTS
    from dominus.errors import DominusError
    from dominus.orchestrator.services.guardian.tenancy import Tenants

    await category(call)
    await add_table(call)
    # A migration that fails in every schema, as one does that needs what is no longer there.
    await call.postgres.system.execute(
        "UPDATE dominus.ddl_migrations SET up = ARRAY['CREATE TABLE nowhere.t ()']"
    )
    with pytest.raises(DominusError):
        await tenants(call, "hill")
    assert (
        await call.postgres.system.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = 'tenant_hill'")
        == 0
    )
    tenant_id = await call.postgres.system.fetchval(
        "SELECT id::text FROM dominus.tenants WHERE slug = 'hill'"
    )
    await Tenants().delete(call(), TENANTS.delete.request(tenant_id=tenant_id))
    assert await call.postgres.system.fetchval("SELECT count(*) FROM dominus.ddl_schemas") == 0


async def recorded(call: Caller) -> None:
    """Record a table for all tenants, and no time to bring it to any."""
    ctx = call()
    ctx.ends_at = asyncio.get_running_loop().time() - 1
    request = contract.CategoryCreateTable(category_slug="schools", table="orders", columns=[ID])
    await categories.category_create_table(ctx, request)


async def test_a_tenant_in_long_use_holds_up_no_other(call: Caller):
    await category(call)
    await tenants(call, *(f"t{number}" for number in range(9)))
    await recorded(call)
    async with call.postgres.data.acquire() as connection, connection.transaction():
        # The first in turn: its change waits for this.
        await connection.execute("CREATE TABLE tenant_t0.orders ()")
        syncing = asyncio.create_task(sync(call))
        async with asyncio.timeout(4):
            while len([n for n in range(9) if await names(call, f"tenant_t{n}")]) < 8:
                assert not syncing.done()
                await asyncio.sleep(0.01)
    done = await syncing
    # In their order, whichever was done first.
    assert [one["tenant_slug"] for one in done["results"]] == [f"t{number}" for number in range(9)]
    assert [one["status"] for one in done["results"]] == ["failed", *["synced"] * 8]


async def test_what_ends_a_sync_ends_all_of_it(call: Caller, monkeypatch: pytest.MonkeyPatch):
    await category(call)
    await tenants(call, *(f"t{number}" for number in range(6)))
    await recorded(call)
    running = asyncio.all_tasks()
    waiting = asyncio.Event()

    async def away(_: Any, tenant: Any) -> Any:
        if tenant["tenant_slug"] == "t2":
            raise ServiceError("PostgreSQL is away", code="database_unavailable", status_code=503)
        waiting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("dominus.orchestrator.services.ddl.tenants._bring", away)
    with pytest.raises(ServiceError) as caught:
        await sync(call)
    assert caught.value.code == "database_unavailable"
    waiting.clear()
    monkeypatch.setattr("dominus.orchestrator.services.ddl.tenants._AT_ONCE", 2)
    cancelled = asyncio.create_task(sync(call))
    await waiting.wait()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert asyncio.all_tasks() == running


async def test_another_replica_sees_what_a_change_made_at_once(call: Caller, pg_dsn: str):
    from pg_keys import keys

    from dominus.orchestrator.engines.postgres.pools import Postgres
    from dominus.orchestrator.settings import ServerSettings

    await category(call)
    await add_table(call)
    await tenants(call, "hill")
    second = await Postgres.open(pg_dsn, ServerSettings(pool_size=4), keys())
    try:
        replica = Caller(second)
        # Longer than this test may take: only a notification makes it look again.
        replica.catalog._clock = lambda: 0.0
        place: Any = {"schema": "tenant_hill", "table": "orders"}
        await db.query(replica(), QueryRequest(**place))

        known = await replica.catalog.table("tenant_hill", "orders")
        await add_column(call, "note")
        async with asyncio.timeout(5):
            while await replica.catalog.table("tenant_hill", "orders") is known:
                await asyncio.sleep(0.01)
        await db.insert(replica(), InsertRequest(**place, data={"id": 1, "note": "seen"}))
        await provisioning.deprovision_tenant(call(), contract.Deprovision(tenant_slug="hill", cascade=True))
        async with asyncio.timeout(5):
            while ("tenant_hill", "orders") in replica.catalog._tables:
                await asyncio.sleep(0.01)
        with pytest.raises(NotFoundError) as caught:
            await db.query(replica(), QueryRequest(**place))
        assert caught.value.code == "unknown_schema"
    finally:
        await second.aclose()


async def test_the_sql_of_a_change_is_what_is_recorded_when_it_is_made(call: Caller):
    await ddl.create_table(call(), contract.CreateTable(table="t", columns=[ID, NAME]))
    await tables.create_index(call(), contract.CreateIndex(table="t", index_name="i", columns=["name"]))
    check: Any = {"constraint_name": "c", "constraint_type": "CHECK", "definition": "id > 0"}
    changes: list[tuple[Any, Any, dict[str, Any]]] = [
        (
            "add_column",
            ddl.add_column,
            {"table": "t", "column": "note", "type": "varchar(9)", "default": "'x'"},
        ),
        (
            "alter_column",
            tables.alter_column,
            {"table": "t", "column": "note", "type": "text", "nullable": False},
        ),
        ("rename_column", tables.rename_column, {"table": "t", "old_name": "note", "new_name": "notes"}),
        ("add_constraint", tables.add_constraint, {"table": "t", **check}),
        ("drop_constraint", tables.drop_constraint, {"table": "t", "constraint_name": "c"}),
        ("create_index", tables.create_index, {"table": "t", "index_name": "j", "columns": ["id", "name"]}),
        ("drop_index", tables.drop_index, {"index_name": "j"}),
        ("drop_column", tables.drop_column, {"table": "t", "column": "notes"}),
        ("create_table", ddl.create_table, {"table": "u", "columns": [ID]}),
        ("drop_table", ddl.drop_table, {"table": "t"}),
    ]
    assert {name for name, _, _ in changes} == set(contract.SHAPES)
    for operation, handler, params in changes:
        before = await tables.describe(call(), contract.Describe())
        # Another's transaction holds the table: a preview does not wait for it.
        async with call.postgres.data.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE public.t IN ROW EXCLUSIVE MODE")
            async with asyncio.timeout(2):
                seen = await tables.preview_change(
                    call(), contract.PreviewChange(operation=operation, params=params)
                )
        assert await tables.describe(call(), contract.Describe()) == before
        made = getattr(contract, "".join(part.title() for part in operation.split("_")))
        version = data_of(await handler(call(), made(**params)))["migration_version"]
        file = await migrations.get_migration_file(call(), contract.SchemaMigration(version=version))
        assert {name: seen[name] for name in ("up", "down", "checksum", "content", "name")} == {
            name: file[name] for name in ("up", "down", "checksum", "content", "name")
        }


@pytest.mark.parametrize(
    ("operation", "params", "code"),
    [
        ("add_column", {"table": "t", "column": "n", "type": "INT); DROP TABLE x;--"}, "invalid_sql"),
        ("add_column", {"table": "t", "column": "n", "type": "datetime"}, "unknown_type"),
        ("add_column", {"table": "nowhere", "column": "n", "type": "int"}, "unknown_table"),
        ("drop_column", {"table": "t", "column": "n"}, "unknown_column"),
        ("drop_index", {"index_name": "i"}, "unknown_index"),
        ("drop_constraint", {"table": "t", "constraint_name": "c"}, "unknown_constraint"),
    ],
)
async def test_what_cannot_be_made_has_no_preview(call: Caller, operation: Any, params: Any, code: str):
    await ddl.create_table(call(), contract.CreateTable(table="t", columns=[ID]))
    with pytest.raises((ValidationError, NotFoundError)) as caught:
        await tables.preview_change(call(), contract.PreviewChange(operation=operation, params=params))
    assert caught.value.code == code


async def test_a_column_comes_back_with_its_collation(call: Caller):
    sql = base64.b64encode(b'CREATE TABLE t (id int, name text COLLATE "C" NOT NULL, other text)').decode()
    await tables.execute_raw(call(), contract.ExecuteRaw(sql=sql))
    before = await tables.describe(call(), contract.Describe())
    drop_table = partial(ddl.drop_table, request=contract.DropTable(table="t"))
    drop_column = partial(tables.drop_column, request=contract.DropColumn(table="t", column="other"))
    for drop in (drop_table, drop_column):
        version = data_of(await drop(call()))["migration_version"]
        await migrations.rollback_migration(call(), contract.RollbackMigration(version=version))
        assert await tables.describe(call(), contract.Describe()) == before
    assert before["tables"][0]["columns"][1]["collation"] == 'pg_catalog."C"'


async def test_lists_of_migrations_leave_their_sql_where_it_is(call: Caller):
    large = "CREATE TABLE t{} (x text DEFAULT '" + "x" * 900_000 + "')"
    for number in range(3):
        sql = base64.b64encode(large.format(number).encode()).decode()
        await tables.execute_raw(call(), contract.ExecuteRaw(sql=sql))
    from dominus.orchestrator.services.ddl.records import migrations_of_schema

    rows = await migrations_of_schema(call(), "public")
    assert sum(len(str(dict(row.items()))) for row in rows) < 10_000
    file = await migrations.get_migration_file(call(), contract.SchemaMigration(version=rows[1]["version"]))
    assert file["up"] == [large.format(1)]
