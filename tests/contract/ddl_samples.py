"""A real call of each operation on migrations, categories and tenants."""

from __future__ import annotations

from typing import Any

from dominus import Dominus

Fields = dict[str, Any]
COLUMNS: list[Any] = [
    {"name": "id", "type": "bigint", "primary_key": True},
    {"name": "customer", "type": "text", "nullable": False},
]


async def in_public(client: Dominus, fields: Fields) -> Fields:
    """A table, an index and a constraint, whose names are of this call alone."""
    tag = fields["tag"]
    table = f"orders_{tag}"
    await client.ddl.create_table("public", table, COLUMNS)
    more: Fields = {}
    if "index_name" in fields:
        more["index_name"] = f"index_{tag}"
        if "columns" not in fields:
            await client.ddl.create_index("public", table, f"index_{tag}", ["customer"])
    if "constraint_name" in fields and "definition" not in fields:
        await client.ddl.add_constraint("public", table, "named", "CHECK", "length(customer) > 0")
    return more


async def a_tenant(client: Dominus, fields: Fields) -> Fields:
    """A category with a table and a tenant, and what names them."""
    tag = fields["tag"]
    slug, tenant = f"schools-{tag}", f"hill-{tag}"
    await client.auth.tenant_categories.create("Schools", slug)
    made = await client.ddl.category_create_table(slug, "orders", COLUMNS)
    await client.ddl.provision_tenant(tenant, category_slug=slug)
    version = made["migration_version"]
    known = {
        "category_slug": slug,
        "tenant_slug": tenant,
        "version": version,
        "version_id": version,
        "migration_id": version,
        "schema": f"tenant_{tenant}",
        "schemas": f"tenant_{tenant},tenant_{tenant}",
        "table": "orders" if fields.get("columns") is None or "index_name" in fields else "others",
    }
    if "migration_id" in fields:
        await client.ddl.rollback_migration(f"tenant_{tenant}", version)
    if "params" in fields:
        known["params"] = {"table": "others", "columns": COLUMNS}
    return {name: value for name, value in known.items() if name in fields}


async def a_category(client: Dominus, fields: Fields) -> Fields:
    """A category, and a tenant that is not made yet."""
    tag = fields["tag"]
    await client.auth.tenant_categories.create("Schools", f"schools-{tag}")
    known = {"category_slug": f"schools-{tag}", "tenant_slug": f"hill-{tag}"}
    return {name: value for name, value in known.items() if name in fields}


def shape(data: Any, _tag: str) -> Any:
    """What is there, without what differs from call to call."""
    if isinstance(data, list):
        return "a list"
    return sorted(data)


CATEGORY = (
    *(
        "get_migration_file",
        "migration_history",
        "get_current_version",
        "apply_migration",
        "rollback_migration",
    ),
    *("list_migrations", "compare_versions", "list_category_migrations", "get_category_migration_file"),
    *("category_sync_status", "category_create_table", "category_add_column", "category_drop_table"),
    *("category_drop_column", "category_create_index", "deprovision_tenant", "provision_status"),
    *(
        "list_provisions",
        "list_categories",
        "category_status",
        "tenants_by_category",
        "get_category_structure",
    ),
    *("get_category_migration_history", "preview_migration", "apply_builder_migration"),
    *(
        "get_builder_migration_file",
        "get_tenant_sync_status",
        "sync_tenants_to_latest",
        "reset_category_schema",
    ),
    *("reset_tenant_schema", "delete_migration", "list_public_migrations"),
)
PUBLIC = (
    *("truncate_table", "drop_column", "alter_column", "rename_column", "create_index", "drop_index"),
    *("add_constraint", "drop_constraint"),
)


def ddl_samples() -> dict[str, Fields]:
    found: dict[str, Fields] = {
        **{f"ddl.{name}": {"before": a_tenant, "shape": shape} for name in CATEGORY},
        **{f"ddl.{name}": {"before": in_public, "shape": shape} for name in PUBLIC},
        "ddl.provision_tenant": {"before": a_category, "shape": shape},
        "ddl.provision_from_category": {"before": a_category, "shape": shape},
        "ddl.describe": {"shape": shape},
        "ddl.preview_change": {"shape": shape},
    }

    async def raw(client: Dominus, fields: Fields) -> Fields:
        import base64

        encoded = base64.b64encode(f"CREATE VIEW raw_{fields['tag']} AS SELECT 1 AS a".encode())
        return {"sql": encoded.decode()}

    async def call_raw(client: Dominus, fields: Fields) -> Any:
        import base64

        return await client.ddl.execute_raw(fields["schema"], base64.b64decode(fields["sql"]).decode())

    async def compare(client: Dominus, fields: Fields) -> Any:
        return await client.ddl.compare_versions(fields["schemas"].split(","))

    async def sync(client: Dominus, fields: Fields) -> Any:
        return await client.ddl.sync_tenants_to_latest(fields["category_slug"])

    found["ddl.execute_raw"] = {"before": raw, "sdk": call_raw, "shape": shape}
    found["ddl.compare_versions"]["sdk"] = compare
    found["ddl.sync_tenants_to_latest"]["sdk"] = sync
    return found
