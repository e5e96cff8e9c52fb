"""The tenants of a category: how far the schema of each is, and how it is brought up to date.

Each tenant has a transaction of its own, so that all of its migrations are applied or none, and no other tenant waits
for it. What stopped half-way goes on where it stopped: what is missing is looked up again, under the lock of the
tenant's schema. Another replica leaves alone what is locked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dominus.contract.codes import ALIVE
from dominus.contract.ddl import Synced, SyncStatus, TenantStatus
from dominus.errors import DominusError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.services.ddl.change import Step, changing
from dominus.orchestrator.services.ddl.records import (
    fetched,
    migrations_of_category,
    migrations_of_schema,
    time_of,
    with_sql,
)

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Record

__all__ = ["provisioned", "schema_of", "status_of", "sync"]

SYNC_SECONDS = 20.0
"""So long a call goes on at most: a client that named no deadline may not wait for longer than 30 s."""
_AT_ONCE = 4
"""So many tenants are brought up to date beside each other, on a quarter of the connections at most."""
_SHARE = 0.7
"""Of the time that is left; the rest is for the tenant that is at work, and for the answer."""
_TENANTS = """
SELECT d.name AS schema, t.slug, d.failed_at, d.failure, d.provisioned_at, coalesce(a.ids, '{}') AS applied
FROM dominus.ddl_schemas d
JOIN dominus.tenants t ON (t.project, t.environment, t.id) = (d.project, d.environment, d.tenant_id)
LEFT JOIN (
  SELECT last.schema, array_agg(last.migration_id) FILTER (WHERE last.is_up) AS ids
  FROM (
    SELECT DISTINCT ON (s.schema, s.migration_id) s.schema, s.migration_id, s.is_up
    FROM dominus.ddl_steps s
    JOIN dominus.ddl_migrations m ON m.id = s.migration_id
    WHERE m.project = $1 AND m.environment = $2 AND m.category_id = $3 AND s.settled IS NOT NULL
    ORDER BY s.schema, s.migration_id, s.settled DESC
  ) last
  GROUP BY last.schema
) a ON a.schema = d.name
WHERE d.project = $1 AND d.environment = $2 AND t.category_id = $3 AND d.provisioned_at IS NOT NULL
ORDER BY t.slug
"""
_FAILED = """
UPDATE dominus.ddl_schemas
SET failed_at = now(), failure = $3
WHERE project = $1 AND environment = $2 AND name = $4
RETURNING failed_at
"""


def schema_of(tenant_slug: str) -> str:
    """Return the name of a tenant's schema."""
    return f"tenant_{tenant_slug}"


async def provisioned(ctx: Context, category_id: Any) -> list[Record]:
    """Return the tenants of a category that have a schema, by their slugs, with the ids of what is `applied`."""
    return await fetched(ctx, _TENANTS, category_id)


def _status(tenant: Record, migrations: Sequence[Record]) -> TenantStatus:
    applied = set(tenant["applied"])
    missing = [row for row in migrations if row["id"] not in applied]
    has = [row["version"] for row in migrations if row["id"] in applied]
    status = "synced" if not missing else "failed" if tenant["failed_at"] is not None else "pending"
    return {
        "tenant_slug": tenant["slug"],
        "schema": tenant["schema"],
        "status": status,
        "current_version": has[-1] if has else None,
        "pending_count": len(missing),
        "error": tenant["failure"] if missing else None,
        "failed_at": time_of(tenant["failed_at"]) if missing else None,
    }


async def status_of(ctx: Context, category: Record) -> SyncStatus:
    """Return how far each tenant of a category is."""
    migrations = await migrations_of_category(ctx, category["id"])
    tenants = [_status(tenant, migrations) for tenant in await provisioned(ctx, category["id"])]
    counts = {
        name: sum(one.get("status") == name for one in tenants) for name in ("synced", "pending", "failed")
    }
    return {
        "category_slug": category["slug"],
        "latest_version": migrations[-1]["version"] if migrations else None,
        "total_tenants": len(tenants),
        "synced_count": counts["synced"],
        "pending_count": counts["pending"] + counts["failed"],
        "failed_count": counts["failed"],
        "tenants": tenants,
    }


async def sync(ctx: Context, category: Record, limit: int | None = None) -> Synced:
    """Bring tenants of a category up to date, some at a time, until the time or `limit` is over."""
    before = await status_of(ctx, category)
    behind = [tenant for tenant in before["tenants"] if tenant.get("status") != "synced"]
    # Who failed before comes last: one broken tenant does not use up every call's time.
    behind.sort(key=lambda tenant: (tenant.get("failed_at") or "", tenant.get("tenant_slug", "")))
    results = await _bring_all(ctx, behind[:limit])
    done = sum(result.get("status") == "synced" for result in results)
    failed = sum(result.get("status") == "failed" for result in results)
    left = len(behind) - done - failed
    said = [f"{done} of {len(behind)} tenants were brought up to date"]
    said += [f"{failed} failed and stayed as they were"] if failed else []
    said += [f"{left} are left: repeat the call"] if left else []
    return {
        "success": not failed and not left,
        "message": "; ".join(said),
        "latest_version": before["latest_version"],
        "total_tenants": before["total_tenants"],
        "synced_count": done,
        "failed_count": failed,
        "pending_count": left,
        "results": results,
    }


async def _bring_all(ctx: Context, tenants: Sequence[TenantStatus]) -> list[TenantStatus]:
    """Bring these up to date, some at a time, until the time is over; return what was tried, in their order."""
    ends_at = _ends_at(ctx)
    waiting = iter(enumerate(tenants))
    tried: dict[int, TenantStatus] = {}

    async def work() -> None:
        for place, tenant in waiting:
            if asyncio.get_running_loop().time() > ends_at:
                return
            tried[place] = await _bring(ctx, tenant)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, min(_AT_ONCE, ctx.resources.settings.pool_size // 4))):
                group.create_task(work())
    except BaseExceptionGroup as several:
        # All of them say that PostgreSQL is away, or none is an error of ours.
        raise several.exceptions[0] from several
    return [tried[place] for place in sorted(tried)]


def _ends_at(ctx: Context) -> float:
    now = asyncio.get_running_loop().time()
    left = SYNC_SECONDS if ctx.ends_at is None else max(0.0, ctx.ends_at - now)
    return now + min(SYNC_SECONDS, left * _SHARE)


async def _bring(ctx: Context, tenant: TenantStatus) -> TenantStatus:
    slug, schema = tenant.get("tenant_slug", ""), tenant.get("schema", "")
    known: TenantStatus = {"tenant_slug": slug, "schema": schema}
    try:
        async with changing(ctx, schema, waits=False) as change:
            if change is None:
                return {**known, "status": "pending", "error": "another call is at work on it"}
            migrations = [
                row for row in await migrations_of_schema(ctx, schema) if row["category_id"] is not None
            ]
            missing = [row for row in migrations if not row["is_applied"]]
            await change.go([Step(row, is_up=True) for row in await with_sql(ctx, missing)])
    except (DominusError, *FAILURES) as error:
        failure = from_postgres(error)
        if failure.status_code is not None and failure.status_code >= 500 and failure.code not in ALIVE:
            raise failure from error
        rows = await fetched(ctx, _FAILED, failure.message, schema)
        failed_at = time_of(rows[0]["failed_at"]) if rows else None
        return {**known, "status": "failed", "error": failure.message, "failed_at": failed_at}
    return {
        **known,
        "status": "synced",
        "current_version": migrations[-1]["version"] if migrations else None,
        "applied": [row["version"] for row in missing],
    }
