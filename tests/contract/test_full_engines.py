"""A Redis without memory, and disks without space: what is refused, what goes on, and what health says of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import redis
from disk_support import mounted, no_space
from pydantic import SecretStr
from redis_peer import redis_server
from server_support import Reply, Server, make_server, process_resources

from dominus.errors import ServiceError
from dominus.orchestrator.engines.redis.client import RedisEngine
from dominus.orchestrator.handlers import refused_writes
from dominus.orchestrator.http.app import Orchestrator
from dominus.orchestrator.serving.assembly import open_process_resources, open_resources
from dominus.orchestrator.settings import ServerSettings

__all__ = ["make_server", "process_resources"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

MakeServer = Callable[..., Awaitable[Server]]
MAX_MEMORY = 4 << 20


@pytest.fixture(autouse=True)
def _health_that_looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused_writes, "TRY_SECONDS", 0.0)
    monkeypatch.setattr(refused_writes, "SEEN_SECONDS", 0.3)


async def engine_health(server: Server, name: str) -> dict[str, Any]:
    reply = await server("GET", "/api/health", token=None)
    assert reply.status == 200, reply.document
    engines = reply.document["engines"]
    assert reply.document["status"] == (
        "ok" if all(e["status"] == "ok" for e in engines.values()) else "degraded"
    )
    engines[name].pop("latency_ms", None)
    return engines[name]


async def becomes_healthy(server: Server, name: str) -> None:
    async with asyncio.timeout(10):
        while await engine_health(server, name) != {"status": "ok"}:
            await asyncio.sleep(0.05)


# --- Redis


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "data").mkdir()
    with redis_server(tmp_path / "data") as (url, _):
        yield url


@pytest_asyncio.fixture(loop_scope="module")
async def small(redis_url: str, make_server: MakeServer) -> AsyncIterator[tuple[Server, redis.Redis]]:
    """A server with limits of rate, on a Redis of a few MiB."""
    server = await make_server(redis_url=SecretStr(redis_url), rate_limit=100_000.0)
    with redis.Redis.from_url(redis_url) as admin:
        admin.config_set("maxmemory-policy", "noeviction")
        yield server, admin


async def ask(server: Server, operation: str, key: str, once: str = "", **fields: Any) -> Reply:
    headers = {"Idempotency-Key": once} if once else {}
    return await server(
        "POST", f"/api/whisperer/{operation}", {"logical_path": key, **fields}, headers=headers
    )


async def fill(server: Server, admin: redis.Redis) -> None:
    """Store until Redis takes no more, large entries first."""
    admin.config_set("maxmemory", admin.info("memory")["used_memory"] + MAX_MEMORY)
    for size in (200_000, 1000, 1):
        for number in range(10_000):
            reply = await ask(server, "set", f"fill-{size}-{number}", f"f{size}-{number}", value="x" * size)
            if reply.status != 200:
                break
        assert reply.status == 503
    assert reply.code == "redis_full"
    assert "retry-after" not in reply.headers
    assert "delete" in reply.document["hint"]


async def test_a_full_redis_reads_and_deletes_and_so_has_room_again(
    small: tuple[Server, redis.Redis],
) -> None:
    server, admin = small
    for key in ("kept", "gone", "taken"):
        assert (await ask(server, "set", key, f"set-{key}", value=key)).data["stored"]
    assert (await ask(server, "hset", "hash", "h", field="f", value=1)).data == {"set": True}
    held = await ask(server, "lock/acquire", "job", "l", owner="owner-one")
    assert held.data["acquired"]
    assert await engine_health(server, "redis") == {"status": "ok"}
    await fill(server, admin)
    assert await engine_health(server, "redis") == {"status": "degraded", "error": "redis_full"}

    # What reads.
    assert (await ask(server, "get", "kept")).data == {"found": True, "value": "kept"}
    assert (await ask(server, "get", "kept", nudge=True, ttl_seconds=60)).data["found"]
    assert (await ask(server, "hget", "hash", field="f")).data == {"found": True, "value": 1}
    assert (await ask(server, "hgetall", "hash")).data == {"found": True, "fields": {"f": 1}}
    assert (await ask(server, "exists", "kept")).data == {"exists": True}
    assert (await ask(server, "ttl", "kept")).data["found"]
    many = await server("POST", "/api/whisperer/mget", {"keys": [{"logical_path": "kept"}]})
    assert many.data["results"] == [{"found": True, "value": "kept"}]
    listed = await server("POST", "/api/whisperer/list", {"logical_prefix": "kept"})
    assert listed.data["keys"] == ["kept"]

    # What stores nothing, each of them twice: the second is a repeat.
    for _ in range(2):
        assert (await ask(server, "expire", "kept", "e", ttl_seconds=90)).data == {"updated": True}
        assert (await ask(server, "hdel", "hash", "hd", field="f")).data == {"deleted": True}
        assert (await ask(server, "getdel", "taken", "t")).data == {"found": True, "value": "taken"}
        assert (await ask(server, "delete", "gone", "d")).data == {"deleted": True}
        assert (await ask(server, "delete", "absent", "d2")).data == {"deleted": False}
        assert (await ask(server, "setnx", "kept", "nx", value=1)).data == {
            "acquired": False,
            "existing": "kept",
        }
        other = await ask(server, "lock/acquire", "job", "other", owner="owner-two")
        assert other.data == {"acquired": False}
        assert (await ask(server, "lock/release", "job", "r2", owner="owner-two")).data == {"held": False}
        assert (await ask(server, "lock/renew", "job", "n2", owner="owner-two")).data == {"held": False}
    assert (await ask(server, "lock/renew", "job", "n1", owner="owner-one")).data | {"epoch": None} == {
        "held": True,
        "epoch": None,
    }
    for _ in range(2):
        assert (await ask(server, "lock/release", "job", "r1", owner="owner-one")).data | {"epoch": None} == {
            "held": True,
            "epoch": None,
        }

    # What stores, until there is room again.
    for operation, fields in (("incr", {}), ("hset", {"field": "f", "value": 1}), ("setnx", {"value": 1})):
        refused = await ask(server, operation, "new", operation, **fields)
        assert (refused.status, refused.code) == (503, "redis_full"), operation
    refused = await ask(server, "lock/acquire", "another", "l2", owner="owner-one")
    assert (refused.status, refused.code) == (503, "redis_full")
    for number in range(5):
        assert (await ask(server, "delete", f"fill-200000-{number}", f"x{number}")).data == {"deleted": True}
    assert (await ask(server, "incr", "new", "incr")).data == {"value": 1}
    assert (await ask(server, "incr", "new", "incr")).data == {"value": 1}
    await becomes_healthy(server, "redis")


async def test_a_redis_that_cannot_write_to_its_disk_is_read(
    small: tuple[Server, redis.Redis], tmp_path: Path, redis_url: str
) -> None:
    server, admin = small
    await ask(server, "set", "kept", "s", value=1)
    assert (await ask(server, "hset", "hash", "h", field="f", value=1)).data == {"set": True}
    shutil.rmtree(tmp_path / "data")
    admin.config_set("save", "3600 1")
    admin.bgsave()
    async with asyncio.timeout(10):
        while admin.info("persistence")["rdb_last_bgsave_status"] == "ok":
            await asyncio.sleep(0.02)
    for operation, fields in (("set", {"value": 2}), ("delete", {}), ("incr", {})):
        refused = await ask(server, operation, "kept", operation, **fields)
        assert (refused.status, refused.code) == (507, "disk_full")
        assert refused.document["details"] == {"engine": "redis"}
        assert "retry-after" not in refused.headers
    assert (await ask(server, "get", "kept")).data == {"found": True, "value": 1}
    assert (await ask(server, "hgetall", "hash")).data == {"found": True, "fields": {"f": 1}}
    assert (await ask(server, "lock/release", "job", "r", owner="owner-two")).data == {"held": False}
    assert await engine_health(server, "redis") == {"status": "degraded", "error": "disk_full"}
    engine = await RedisEngine.open(redis_url)
    await engine.aclose()
    admin.config_set("save", "")
    await becomes_healthy(server, "redis")
    assert (await ask(server, "set", "kept", "set", value=2)).status == 200


# --- PostgreSQL


@pytest_asyncio.fixture(loop_scope="module")
async def on_small_disk(tmp_path: Path) -> AsyncIterator[tuple[Server, Path]]:
    """An orchestrator whose embedded PostgreSQL lies on a file system of 160 MiB."""
    with mounted(tmp_path / "disk", "160m") as disk:
        process = await asyncio.to_thread(open_process_resources, settings_at(disk), "tests")
        app = Orchestrator(lambda: open_resources(process))
        await app.start()
        yield Server(app, process.root_token), disk
        await app.stop()
        await asyncio.to_thread(process.close)


async def run(server: Server, statement: str) -> None:
    """Run a statement as users' statements run."""
    async with server.resources.postgres.data.acquire() as connection:
        await connection.execute(statement)


def settings_at(disk: Path) -> ServerSettings:
    return ServerSettings(home=disk / "home", is_durable=False, database_url=None, redis_url=None)


async def insert(server: Server, base: str, number: int, size: int = 1) -> Reply:
    row = {"data": {"id": number, "body": "x" * size}}
    return await server("POST", f"{base}/insert", row, headers={"Idempotency-Key": f"row-{number}"})


async def test_a_full_disk_refuses_writes_alone_until_there_is_space(
    on_small_disk: tuple[Server, Path],
) -> None:
    server, disk = on_small_disk
    await run(server, "CREATE TABLE public.pages (id bigint PRIMARY KEY, body text STORAGE PLAIN)")
    base = "/api/scribe/data/public/pages"
    assert (await insert(server, base, 0)).status == 200
    assert await engine_health(server, "postgres") == {"status": "ok"}
    with no_space(disk):
        for number in range(1, 200):
            refused = await insert(server, base, number, 5000)
            if refused.status != 200:
                break
        assert (refused.status, refused.code) == (507, "disk_full")
        assert refused.document["details"] == {"engine": "postgres", "sqlstate": "53100"}
        assert "retry-after" not in refused.headers
        assert await engine_health(server, "postgres") == {"status": "degraded", "error": "disk_full"}
        found = await server("POST", f"{base}/query", {"filters": {"id": 0}})
        assert found.data["total"] == 1
    await becomes_healthy(server, "postgres")
    # The repeat of what was refused is done, once.
    for _ in range(2):
        assert (await insert(server, base, number, 5000)).status == 200
    counted = await server("POST", f"{base}/query", {"limit": 1})
    assert counted.data["total"] == number + 1


async def test_a_postgresql_that_ended_on_a_full_disk_is_back_when_there_is_space(
    on_small_disk: tuple[Server, Path],
) -> None:
    server, disk = on_small_disk
    # Changed in place, so that nothing grows but the log of changes, and its next file finds no space.
    await run(server, "CREATE TABLE public.counts (id bigint PRIMARY KEY, n bigint) WITH (fillfactor = 10)")
    await run(server, "INSERT INTO public.counts SELECT g, 0 FROM generate_series(1, 2000) AS g")
    path = "/api/scribe/data/public/counts/update"
    with no_space(disk):
        for number in range(1000):
            reply = await server("POST", path, {"data": {"n": number}, "all_rows": True})
            if reply.status == 503:
                break
        assert (reply.status, reply.code) == (503, "database_unavailable")
        async with asyncio.timeout(20):
            while await engine_health(server, "postgres") != {"status": "failed", "error": "disk_full"}:
                await asyncio.sleep(0.05)
    await becomes_healthy(server, "postgres")
    assert (await server("POST", path, {"data": {"n": 0}, "all_rows": True})).data == {"affected_rows": 2000}


@pytest.mark.parametrize("free_pages", [300, 3000])
async def test_a_first_start_on_a_full_disk_says_so(tmp_path: Path, free_pages: int) -> None:
    with mounted(tmp_path / "disk", f"{free_pages * 4}k") as disk:
        with pytest.raises(ServiceError, match="No space left on device") as caught:
            await asyncio.to_thread(open_process_resources, settings_at(disk), "tests")
        assert (caught.value.code, caught.value.status_code, caught.value.retryable) == (
            "disk_full",
            507,
            False,
        )
        assert "make space" in (caught.value.hint or "")
