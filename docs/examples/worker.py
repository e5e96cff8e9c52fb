"""A worker: several may run; each job is done by one of them, and a report is written by one at a time."""

import asyncio
import os

from dominus import ConflictError, LockNotAcquiredError, dominus

WORKER = f"worker-{os.getpid()}"


async def prepare() -> None:
    try:
        await dominus.ddl.add_table(
            "worker_jobs",
            [
                {"name": "id", "type": "BIGSERIAL", "primary_key": True},
                {"name": "status", "type": "TEXT", "nullable": False, "default": "'waiting'"},
                {"name": "done_by", "type": "TEXT"},
            ],
        )
        await dominus.ddl.add_table(
            "worker_reports",
            [
                {"name": "name", "type": "TEXT", "primary_key": True},
                {"name": "done_count", "type": "BIGINT", "nullable": False},
                {"name": "fence", "type": "BIGINT", "nullable": False},
            ],
        )
    except ConflictError:
        return  # another worker made them
    await dominus.db.bulk_insert("worker_jobs", [{} for _ in range(5)])


async def do_job(job_id: int) -> bool:
    """Do one job, unless another worker has it."""
    if not await dominus.redis.setnx(f"job:{job_id}", WORKER, ttl=300):
        return False
    try:
        # Look again: it may have been done between the query and setnx.
        changed = await dominus.db.update(
            "worker_jobs",
            {"status": "done", "done_by": WORKER},
            filters={"id": job_id, "status": "waiting"},
        )
        return changed["affected_rows"] == 1
    finally:
        await dominus.redis.delete(f"job:{job_id}")


async def write_report() -> None:
    """Count what is done. The fence keeps a worker that was paused from overwriting a newer report."""
    async with dominus.redis.lock("worker-report", ttl=60, wait=10) as lease:
        done = await dominus.db.query("worker_jobs", filters={"status": "done"}, limit=1)
        lease.check()  # raises LeaseLostError when the lock was lost meanwhile
        report = {"done_count": done["total"], "fence": lease.fence}
        changed = await dominus.db.update(
            "worker_reports", report, filters={"name": "daily", "fence": {"lt": lease.fence}}
        )
        if changed["affected_rows"] == 0:
            await dominus.db.insert("worker_reports", {"name": "daily", **report}, on_conflict="ignore")


async def main() -> None:
    await prepare()
    waiting = await dominus.db.query("worker_jobs", filters={"status": "waiting"}, sort_by="id", total=False)
    done = [job["id"] for job in waiting["rows"] if await do_job(job["id"])]
    print(f"{WORKER} did {len(done)} jobs")
    try:
        await write_report()
    except LockNotAcquiredError:
        print("another worker writes the report")


if __name__ == "__main__":
    asyncio.run(main())
