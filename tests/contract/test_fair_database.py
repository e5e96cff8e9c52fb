"""One caller cannot keep the database from the others: not by bodies that drip, not by a locked table."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from server_support import LINES, Server, make_server, process_resources, server

from dominus.orchestrator.http import body

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

MakeServer = Callable[..., Awaitable[Server]]


async def make_table(server: Server, name: str) -> str:
    columns = [{"name": "n", "type": "bigint"}]
    made = await server("POST", "/api/smith/schema/create-table", {"table": name, "columns": columns})
    assert made.status == 200, made.document
    return f"/api/scribe/data/public/{name}"


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_dripping_bulk_loads_of_one_token_leave_room_for_all_others(make_server: MakeServer) -> None:
    server = await make_server(pool_size=16)
    base = await make_table(server, "dripped")
    mine = server.token(subject="dripper")
    is_over = asyncio.Event()

    async def drip() -> AsyncIterator[bytes]:
        yield b"{}\n"
        yield b'{"n": 1}\n'
        await is_over.wait()
        yield b'{"n": 2}\n'

    loads = [
        asyncio.create_task(server("POST", f"{base}/bulk-insert", drip(), kind=LINES, token=mine))
        for _ in range(20)
    ]
    copying = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'"

    async def are_copying() -> bool:
        return await server.resources.postgres.system.fetchval(copying) >= 3

    await until(are_copying)
    try:
        async with asyncio.timeout(5):
            other = server.token(subject="another")
            for token in (other, mine):
                assert (await server("POST", f"{base}/query", {}, token=token)).status == 200
            rows = b'{}\n{"n": 3}\n'
            stored = await server("POST", f"{base}/bulk-insert", rows, kind=LINES, token=other)
            assert stored.data == {"inserted_count": 1}
    finally:
        is_over.set()
    done = await asyncio.gather(*loads)
    assert {reply.status for reply in done} == {200}


async def test_a_locked_table_holds_up_its_callers_and_nobody_else(make_server: MakeServer) -> None:
    server = await make_server(pool_size=8, lock_timeout=0.7)
    locked, free = await make_table(server, "held"), await make_table(server, "not_held")
    mine, other = server.token(subject="locked-out"), server.token(subject="another")
    async with server.resources.postgres.data.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE public.held IN ACCESS EXCLUSIVE MODE")
        waiting = [asyncio.create_task(server("POST", f"{locked}/query", {}, token=mine)) for _ in range(8)]
        share = server.resources.data_share

        async def has_its_share() -> bool:
            return share.held_by("locked-out") == share.most_of_table

        await until(has_its_share)
        began = time.monotonic()
        assert (await server("POST", f"{free}/query", {}, token=other)).status == 200
        assert time.monotonic() - began < 0.5
        refused = await waiting[0]
    assert (refused.status, refused.code) == (503, "lock_timeout")
    assert refused.headers["retry-after"] == "1"
    assert (await asyncio.gather(*waiting))[-1].status in {200, 503}
    assert (await server("POST", f"{locked}/query", {}, token=mine)).status == 200


@pytest.mark.parametrize("pool_size", [3, 8, 16])
async def test_a_locked_row_does_not_hold_up_its_callers_other_tables(
    make_server: MakeServer, pool_size: int
) -> None:
    server = await make_server(pool_size=pool_size, lock_timeout=20, statement_timeout=30)
    locked = await make_table(server, f"row_held_{pool_size}")
    free = await make_table(server, f"row_free_{pool_size}")
    for base in (locked, free):
        assert (await server("POST", f"{base}/insert", {"data": {"n": 1}})).status == 200
    data, share = server.resources.postgres.data, server.resources.data_share
    write = {"filters": {"n": 1}, "data": {"n": 1}}
    async with data.acquire() as connection, connection.transaction():
        await connection.execute(f"UPDATE public.row_held_{pool_size} SET n = n")
        waiting = [asyncio.create_task(server("POST", f"{locked}/update", write)) for _ in range(40)]

        async def have_their_share() -> bool:
            table = ("public", f"row_held_{pool_size}")
            return share.held_by("service:root", table) == share.most_of_table

        await until(have_their_share)
        async with asyncio.timeout(5):
            for _ in range(20):
                assert (await server("POST", f"{free}/query", {})).status == 200
            assert (await server("POST", f"{free}/update", write)).data["affected_rows"] == 1
        assert not any(task.done() for task in waiting)
    done = await asyncio.wait_for(asyncio.gather(*waiting), 20)
    assert {reply.status for reply in done} == {200}
    assert share.held_by("service:root") == 0


async def test_nobody_fails_because_postgresql_gives_no_more_connections(make_server: MakeServer) -> None:
    server = await make_server(pool_size=16)
    base = await make_table(server, "crowded")
    system = server.resources.postgres.system
    ours = "FROM pg_stat_activity WHERE usename ~ '^dominus_p_'"
    login = await system.fetchval(f"SELECT min(usename) {ours}")
    count = await system.fetchval(f"SELECT count(*) {ours}")
    await system.execute(f"ALTER ROLE {login} CONNECTION LIMIT {count + 1}")
    try:
        tokens = [server.token(subject=f"caller-{number % 3}") for number in range(30)]
        for _ in range(3):
            done = await asyncio.gather(
                *(server("POST", f"{base}/query", {}, token=token) for token in tokens)
            )
            assert {reply.status for reply in done} == {200}
        assert server.resources.postgres.data.limit.current < 16
    finally:
        await system.execute(f"ALTER ROLE {login} CONNECTION LIMIT -1")


async def test_the_shares_follow_what_postgresql_has_for_the_pool(make_server: MakeServer) -> None:
    server = await make_server(pool_size=8)
    share, limit = server.resources.data_share, server.resources.postgres.data.limit
    assert (share.most_each, share.most_of_table) == (6, 5)
    limit.refused(4)
    assert (share.most_each, share.most_of_table) == (3, 2)
    # None at all is nobody's share: who asks is told so by the pool.
    limit.refused(0)
    assert (share.most_each, share.most_of_table) == (3, 2)
    limit.opened(8)
    assert (share.most_each, share.most_of_table) == (6, 5)


async def test_a_body_that_drips_is_given_up(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "RATE_WINDOW_SECONDS", 0.3)
    server = await make_server(min_body_rate=1000)
    base = await make_table(server, "slow")

    async def drip(size: int) -> AsyncIterator[bytes]:
        yield b"{}\n"
        for _ in range(200):
            await asyncio.sleep(0.02)
            yield json.dumps({"n": 1}).encode() + b" " * size + b"\n"

    began = time.monotonic()
    reply = await server("POST", f"{base}/bulk-insert", drip(1), kind=LINES)
    assert (reply.status, reply.code) == (408, "body_too_slow")
    assert time.monotonic() - began < 2
    assert (await server("POST", f"{base}/query", {})).data["total"] == 0
    # One that is fast enough, and one that nobody reads for a while, are let be.
    assert (await server("POST", f"{base}/bulk-insert", drip(200), kind=LINES)).status == 200


async def test_time_in_which_the_body_was_not_asked_for_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body, "RATE_WINDOW_SECONDS", 0.05)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"x", "more_body": True}

    reader = body.BodyReader(receive, None, 1000, least_rate=1000)
    stream = reader.rest(b"")
    for _ in range(5):
        assert await anext(stream) == b"x"
        await asyncio.sleep(0.03)
