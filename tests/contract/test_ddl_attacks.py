"""What callers of ddl write themselves: types, expressions, names and SQL that try to be more than they are."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from pg_support import Caller, call, clean_ddl, data_of, pg_dsn, postgres
from pydantic import ValidationError as Malformed

from dominus.contract import ddl as contract
from dominus.contract.db import InsertRequest, QueryRequest, TableRequest, TablesRequest
from dominus.contract.request import Empty
from dominus.errors import ConflictError, DominusError, NotFoundError, ValidationError
from dominus.orchestrator.services import db, ddl
from dominus.orchestrator.services.ddl import categories, migrations, provisioning, tables

__all__ = ["call", "clean_ddl", "pg_dsn", "postgres"]
pytestmark = pytest.mark.usefixtures("clean_ddl")
ID: Any = {"name": "id", "type": "bigint", "primary_key": True}


def create(**column: Any) -> contract.CreateTable:
    return contract.CreateTable(
        table="made", columns=[contract.Column(**{"name": "a", "type": "int", **column})]
    )


def constraint(definition: str, kind: str = "CHECK", name: str = "c") -> contract.AddConstraint:
    return contract.AddConstraint(
        table="x", constraint_name=name, constraint_type=kind, definition=definition
    )


def index(*columns: str, name: str = "i") -> contract.CreateIndex:
    return contract.CreateIndex(table="x", index_name=name, columns=list(columns))


PLACES: dict[str, tuple[Any, Callable[[str], Any]]] = {
    "type of a new table": (ddl.create_table, lambda text: create(type=text)),
    "default of a new table": (ddl.create_table, lambda text: create(default=text)),
    "constraint of a new table": (ddl.create_table, lambda text: create(constraints=[text])),
    "check of a new table": (ddl.create_table, lambda text: create(constraints=[f"CHECK (a > {text})"])),
    "reference of a new table": (ddl.create_table, lambda text: create(constraints=[f"REFERENCES {text}"])),
    "computed column": (
        ddl.create_table,
        lambda text: create(constraints=[f"GENERATED ALWAYS AS ({text}) STORED"]),
    ),
    "column of a new table": (ddl.create_table, lambda text: create(name=text)),
    "table": (ddl.create_table, lambda text: contract.CreateTable(table=text, columns=[ID])),
    "schema": (ddl.create_table, lambda text: contract.CreateTable(schema=text, table="made", columns=[ID])),
    "type of a new column": (
        ddl.add_column,
        lambda text: contract.AddColumn(table="x", column="b", type=text),
    ),
    "default of a new column": (
        ddl.add_column,
        lambda text: contract.AddColumn(table="x", column="b", type="int", default=text),
    ),
    "new column": (ddl.add_column, lambda text: contract.AddColumn(table="x", column=text, type="int")),
    "another type": (
        tables.alter_column,
        lambda text: contract.AlterColumn(table="x", column="id", type=text),
    ),
    "another default": (
        tables.alter_column,
        lambda text: contract.AlterColumn(table="x", column="id", default=text),
    ),
    "altered column": (
        tables.alter_column,
        lambda text: contract.AlterColumn(table="x", column=text, nullable=True),
    ),
    "dropped column": (tables.drop_column, lambda text: contract.DropColumn(table="x", column=text)),
    "old name": (
        tables.rename_column,
        lambda text: contract.RenameColumn(table="x", old_name=text, new_name="b"),
    ),
    "new name": (
        tables.rename_column,
        lambda text: contract.RenameColumn(table="x", old_name="id", new_name=text),
    ),
    "column of an index": (tables.create_index, index),
    "index": (tables.create_index, lambda text: index("id", name=text)),
    "dropped index": (tables.drop_index, lambda text: contract.DropIndex(index_name=text)),
    "check": (tables.add_constraint, constraint),
    "columns of a key": (tables.add_constraint, lambda text: constraint(text, "UNIQUE")),
    "foreign key": (
        tables.add_constraint,
        lambda text: constraint(f"(id) REFERENCES {text}", "FOREIGN KEY"),
    ),
    "kind of a constraint": (tables.add_constraint, lambda text: constraint("id > 0", text)),
    "constraint": (tables.add_constraint, lambda text: constraint("id > 0", name=text)),
    "dropped constraint": (
        tables.drop_constraint,
        lambda text: contract.DropConstraint(table="x", constraint_name=text),
    ),
    "dropped table": (ddl.drop_table, lambda text: contract.DropTable(table=text)),
    "truncated table": (tables.truncate_table, lambda text: contract.TruncateTable(table=text)),
}
PAYLOADS = (
    "INT); DROP TABLE x;--",
    "int; DROP TABLE x",
    "x; COMMIT; DROP TABLE x; --",
    "1); DROP TABLE x; /*",
    '"; DROP TABLE x; --',
    "'; DROP TABLE x; --",
    'x"); DROP TABLE "x',
    "$$; DROP TABLE x; $$",
    "(SELECT 1)",
    "pg_read_file('/etc/passwd')",
    "lo_import('/etc/passwd')",
    "pg_catalog.set_config('role', 'none', false)",
    "dominus.secrets",
    "dominus_api.settle_ddl('x')",
    "pg_catalog.pg_authid",
    "nextval('dominus.' || 'ddl_settled')",
    "U&'\\0027; DROP TABLE x'",
    "int USING (1)",
    "x\0",
)


@pytest.mark.parametrize("place", PLACES)
async def test_nothing_that_is_given_is_more_than_it_is_asked_for(call: Caller, place: str):
    await ddl.create_table(call(), contract.CreateTable(table="x", columns=[ID]))
    before = await tables.describe(call(), contract.Describe())
    handler, request = PLACES[place]
    for payload in PAYLOADS:
        with pytest.raises((DominusError, Malformed)) as caught:
            await handler(call(), request(payload))
        if isinstance(caught.value, DominusError):
            status = caught.value.status_code or 0
            assert 400 <= status < 500, (payload, status, caught.value.code)
    assert await tables.describe(call(), contract.Describe()) == before
    # No connection came back with another role, or in the middle of something.
    assert (await call.sql("SELECT current_user::text"))[0][0] == "dominus_data"
    assert len(await migrations.list_migrations(call(), contract.OfSchema())) == 1


@pytest.mark.parametrize("field", ["type", "default", "constraints"])
async def test_a_type_that_is_none_is_a_validation_error_everywhere(call: Caller, field: str):
    text = "INT); DROP TABLE x;--"
    value = [text] if field == "constraints" else text
    with pytest.raises(ValidationError):
        await ddl.create_table(call(), create(**{field: value}))
    if field == "constraints":
        return
    shape: Any = {"table": "orders", "column": "b", "type": "int", field: text}
    await category(call)
    table = contract.CategoryCreateTable(category_slug="schools", table="orders", columns=[ID])
    await categories.category_create_table(call(), table)
    for target in ("public", "category"):
        with pytest.raises(ValidationError):
            await categories.category_add_column(
                call(), contract.CategoryAddColumn(category_slug="schools", target=target, **shape)
            )
    request = contract.BuilderMigration(
        category_slug="schools", operation="add_column", params=shape, migration_name="m"
    )
    for handler in (categories.preview_migration, categories.apply_builder_migration):
        with pytest.raises(ValidationError):
            await handler(call(), request)


# --- SQL of the caller's own


def raw(sql: str, down: str | None = None, schema: str = "public") -> contract.ExecuteRaw:
    more: Any = {} if down is None else {"down": base64.b64encode(down.encode()).decode()}
    return contract.ExecuteRaw(schema=schema, sql=base64.b64encode(sql.encode()).decode(), **more)


@pytest.mark.parametrize(
    "sql",
    [
        # A comment ends at a carriage return, too.
        "CREATE TABLE a (); --\rROLLBACK /*\nCREATE TABLE b () */",
        "CREATE TABLE a (); --\rCOMMIT /*\nCREATE TABLE b () */",
        "--\rSET ROLE none /*\nCREATE TABLE b () */",
        "/* /* */ CREATE TABLE a () */ ROLLBACK",
        "CREATE TABLE a (x text DEFAULT E'\\\\'); ROLLBACK; --')",
        "CREATE TABLE a (x text DEFAULT $q$ $Q$ $q$); ROLLBACK; --$q$)",
        '"CREATE TABLE" ROLLBACK',
        "CREATE\u00a0TABLE a (); ROLLBACK",
        "\u00a0ROLLBACK; CREATE TABLE a ()",
        "CREATE TABLE a AS SELECT 1$$; ROLLBACK; $$",
        "BEGIN; CREATE TABLE a ()",
        "CREATE TABLE a (); PREPARE TRANSACTION 'x'",
        "CREATE TABLE a (); CALL x()",
        "CREATE TABLE a (); EXPLAIN ANALYZE SELECT 1",
    ],
)
async def test_raw_sql_does_not_end_its_transaction(call: Caller, sql: str):
    with pytest.raises(DominusError) as caught:
        await tables.execute_raw(call(), raw(sql))
    assert caught.value.status_code is not None
    assert 400 <= caught.value.status_code < 500, caught.value
    assert (await tables.describe(call(), contract.Describe()))["tables"] == []
    assert await migrations.list_migrations(call(), contract.OfSchema()) == []


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE dominus.a ()",
        "CREATE TABLE a AS SELECT * FROM dominus.secrets",
        "CREATE TABLE a AS SELECT * FROM dominus.ddl_migrations",
        "CREATE VIEW a AS SELECT * FROM dominus.tenants",
        "CREATE TABLE a AS SELECT * FROM pg_catalog.pg_authid",
        "CREATE TABLE a AS SELECT pg_read_file('/etc/passwd')",
        "CREATE TABLE a AS SELECT set_config('role', 'postgres', false)",
        "CREATE FUNCTION a() RETURNS int LANGUAGE c AS 'libc', 'system'",
        "CREATE FUNCTION pg_catalog.a() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION dominus_api.settle_ddl(key bytea) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
        "DROP FUNCTION dominus_api.settle_ddl(bytea)",
        "DROP TABLE dominus.ddl_migrations",
        "TRUNCATE dominus.ddl_migrations",
        "GRANT dominus_data TO PUBLIC",
        "ALTER TABLE dominus.ddl_migrations OWNER TO dominus_data",
        "CREATE INDEX CONCURRENTLY i ON x (id)",
    ],
)
async def test_raw_sql_has_the_rights_of_the_data_role(call: Caller, sql: str):
    await ddl.create_table(call(), contract.CreateTable(table="x", columns=[ID]))
    with pytest.raises(DominusError) as caught:
        await tables.execute_raw(call(), raw(sql))
    assert caught.value.status_code in {400, 403, 404}, caught.value
    assert len(await migrations.list_migrations(call(), contract.OfSchema())) == 1


async def test_raw_sql_cannot_take_another_role_with_it(call: Caller):
    with pytest.raises(DominusError) as caught:
        await tables.execute_raw(
            call(),
            raw("CREATE TABLE a AS SELECT set_config('role', 'none', false) AS role; CREATE TABLE b ()"),
        )
    assert caught.value.status_code in {400, 403}
    assert (await tables.describe(call(), contract.Describe()))["tables"] == []
    for _ in range(3):
        assert (await call.sql("SELECT current_user::text"))[0][0] == "dominus_data"


# --- tenants of others


async def category(call: Caller, slug: str = "schools", project: str = "default") -> None:
    principal = call(project=project).principal
    await call.postgres.system.execute(
        "INSERT INTO dominus.tenant_categories (project, environment, name, slug, color)"
        " VALUES ($1, $2, $3, $3, '#000000') ON CONFLICT DO NOTHING",
        principal.project,
        principal.environment,
        slug,
    )


async def theirs(call: Caller) -> str:
    """Make a tenant of another project, with a table and a row; return its schema."""
    provision = contract.Provision(tenant_slug="theirs")
    made = data_of(await provisioning.provision_tenant(call(project="other"), provision))
    schema: str = made["schema"]
    columns: Any = [ID, {"name": "n", "type": "serial"}]
    request = contract.CreateTable(schema=schema, table="rows", columns=columns)
    await ddl.create_table(call(project="other"), request)
    row = InsertRequest(schema=schema, table="rows", data={"id": 1})
    await db.insert(call(project="other"), row)
    return schema


async def test_a_tenant_of_another_project_is_not_there(call: Caller):
    schema = await theirs(call)
    await ddl.create_table(call(), contract.CreateTable(table="x", columns=[ID]))
    table: Any = {"schema": schema, "table": "rows"}
    column: Any = {**table, "column": "id"}
    # Its own project knows it, and the catalog remembers.
    await db.query(call(project="other"), QueryRequest(**table))
    asked: list[tuple[Any, Any]] = [
        (db.query, QueryRequest(**table)),
        (db.query, QueryRequest(schema=schema, table="row")),
        (db.insert, InsertRequest(**table, data={"id": 2})),
        (db.tables, TablesRequest(schema=schema)),
        (db.columns, TableRequest(**table)),
        (tables.describe, contract.Describe(schema=schema)),
        (tables.describe, contract.Describe(**table)),
        (ddl.create_table, contract.CreateTable(schema=schema, table="y", columns=[ID])),
        (ddl.drop_table, contract.DropTable(**table)),
        (tables.truncate_table, contract.TruncateTable(**table)),
        (ddl.add_column, contract.AddColumn(**table, column="z", type="int")),
        (tables.drop_column, contract.DropColumn(**column)),
        (tables.alter_column, contract.AlterColumn(**column, nullable=True)),
        (tables.create_index, contract.CreateIndex(**table, index_name="i", columns=["id"])),
        (tables.execute_raw, raw("CREATE TABLE a ()", schema=schema)),
        (tables.execute_raw, raw(f"DROP TABLE {schema}.rows")),
        (tables.execute_raw, raw(f'CREATE VIEW v AS SELECT * FROM "{schema}" . rows')),
        (tables.execute_raw, raw("CREATE TABLE a ()", f"DROP TABLE {schema.upper()}.rows")),
        (
            tables.execute_raw,
            raw(
                f"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql SET search_path = {schema} AS $$ BEGIN END $$"
            ),
        ),
        (ddl.create_table, create(constraints=[f"REFERENCES {schema}.rows"])),
        (ddl.create_table, create(constraints=[f'REFERENCES "{schema}"."rows"(id)'])),
        (ddl.create_table, create(type=f"{schema}.rows")),
        (ddl.create_table, create(default=f"nextval('{schema}.rows_n_seq')")),
        (ddl.create_table, create(type="text", default=f"'1'::{schema}.rows::text")),
        (tables.add_constraint, constraint(f"(id) REFERENCES {schema}.rows", "FOREIGN KEY")),
        (
            tables.preview_change,
            contract.PreviewChange(schema=schema, operation="drop_table", params={"table": "rows"}),
        ),
        (
            tables.preview_change,
            contract.PreviewChange(
                operation="create_table",
                params={"table": "y", "columns": [{"name": "a", "type": f"{schema}.rows"}]},
            ),
        ),
        (migrations.list_migrations, contract.OfSchema(schema=schema)),
        (migrations.migration_history, contract.OfSchema(schema=schema)),
        (migrations.get_current_version, contract.OfSchema(schema=schema)),
        (migrations.compare_versions, contract.Schemas(schemas=[schema, "public"])),
        (provisioning.deprovision_tenant, contract.Deprovision(tenant_slug="theirs", cascade=True)),
    ]
    for handler, request in asked:
        with pytest.raises(NotFoundError) as caught:
            await handler(call(), request)
        assert caught.value.code in {"unknown_schema", "not_provisioned"}, request
        assert "rows_" not in caught.value.message
        assert schema not in (caught.value.hint or "")
    assert schema not in (await db.schemas(call(), Empty()))["schemas"]
    assert schema in (await db.schemas(call(project="other"), Empty()))["schemas"]
    found = data_of(await db.query(call(project="other"), QueryRequest(**table)))
    assert [row["id"] for row in found["items"]] == [1]


async def test_a_category_cannot_reach_a_tenant_of_another_project(call: Caller):
    schema = await theirs(call)
    await category(call)
    table = contract.CategoryCreateTable(
        category_slug="schools",
        table="x",
        columns=[contract.Column(name="id", type="bigint", constraints=[f"REFERENCES {schema}.rows"])],
    )
    with pytest.raises(NotFoundError) as caught:
        await categories.category_create_table(call(), table)
    assert caught.value.code == "unknown_schema"


async def test_two_projects_with_one_slug_do_not_share_a_schema(call: Caller):
    await theirs(call)
    with pytest.raises(ConflictError) as caught:
        await provisioning.provision_tenant(call(), contract.Provision(tenant_slug="theirs"))
    assert caught.value.code == "schema_exists"
    assert "not of this project" in caught.value.message
    # Nothing is left of the try: the record of a tenant that has no schema.
    assert (
        await call.postgres.system.fetchval("SELECT count(*) FROM dominus.tenants WHERE slug = 'theirs'") == 1
    )
    with pytest.raises(ConflictError, match="has its schema"):
        await provisioning.provision_tenant(call(project="other"), contract.Provision(tenant_slug="theirs"))


async def test_a_change_does_not_lock_a_schema_that_became_another_projects(call: Caller):
    from dominus.orchestrator.services.ddl.change import open_ticket

    ticket = await open_ticket(call(), "tenant_theirs")
    await theirs(call)
    assert await call.postgres.data.fetchval("SELECT dominus_api.begin_ddl($1, true)", ticket.key) is False


async def test_a_secure_table_keeps_the_schema_of_its_tenant(call: Caller):
    schema = await theirs(call)
    principal = call(project="other").principal
    await call.postgres.system.execute(
        "INSERT INTO dominus.secure_tables (project, environment, schema_name, table_name) VALUES ($1, $2, $3, 'rows')",
        *principal.place,
        schema,
    )
    request = contract.Deprovision(tenant_slug="theirs", cascade=True)
    with pytest.raises(ConflictError) as caught:
        await provisioning.deprovision_tenant(call(project="other"), request)
    assert caught.value.code == "table_is_secure"
    await call.postgres.system.execute("DELETE FROM dominus.secure_tables")
    assert data_of(await provisioning.deprovision_tenant(call(project="other"), request))["dropped"]
