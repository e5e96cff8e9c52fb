"""Writes that happen once, and streams: all or nothing, whatever becomes of the client."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from server_support import BASE64, GONE, JSON, LINES, Reply, Server, make_server, process_resources, server

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

MakeServer = Callable[..., Awaitable[Server]]
INCR = "/api/whisperer/incr"


async def make_table(server: Server) -> str:
    """A table that takes a row any number of times."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    columns = [
        {"name": "id", "type": "uuid", "primary_key": True, "default": "gen_random_uuid()"},
        {"name": "n", "type": "bigint"},
    ]
    made = await server("POST", "/api/smith/schema/create-table", {"table": name, "columns": columns})
    assert made.status == 200, made.document
    return f"/api/scribe/data/public/{name}"


async def count(server: Server, base: str) -> int:
    return (await server("POST", f"{base}/query", {"limit": 1})).data["total"]


async def once(server: Server, path: str, body: Any, key: str, **more: Any) -> Reply:
    return await server("POST", path, body, headers={"Idempotency-Key": key}, **more)


# --- idempotency keys


async def test_a_repeat_gets_the_stored_outcome_and_writes_nothing(server: Server) -> None:
    base, key = await make_table(server), uuid.uuid4().hex
    first = await once(server, f"{base}/insert", {"data": {"n": 1}}, key)
    again = await once(server, f"{base}/insert", {"data": {"n": 1}}, key)
    assert first.status == again.status == 200
    assert first.document == again.document
    assert first.document["types"] == {"id": "uuid"}
    assert await count(server, base) == 1


async def test_a_repeat_in_the_other_dialect_is_the_same_write(server: Server) -> None:
    base, key = await make_table(server), uuid.uuid4().hex
    first = await once(server, f"{base}/insert", {"data": {"n": 1}}, key, kind=BASE64)
    again = await once(server, f"{base}/insert", {"data": {"n": 1}}, key, kind=JSON)
    assert first.data == again.data
    assert await count(server, base) == 1


@pytest.mark.parametrize(
    ("path", "body", "other"),
    [
        (INCR, {"logical_path": "counter"}, {"logical_path": "counter", "delta": 2}),
        ("/api/whisperer/hset", {"logical_path": "h", "field": "f", "value": 1}, {"logical_path": "h2"}),
        (
            "/api/warden/secrets",
            {"action": "update", "key": "A", "value": 1},
            {"value": 2},
        ),
        (
            "/api/smith/schema/create-table",
            {"table": "once", "columns": [{"name": "a", "type": "int"}]},
            {"table": "twice"},
        ),
    ],
)
async def test_a_key_belongs_to_one_write(path: str, body: Any, other: Any, server: Server) -> None:
    key = uuid.uuid4().hex
    first = await once(server, path, body, key)
    again = await once(server, path, body, key)
    assert first.status == 200, first.document
    assert first.document == again.document
    reused = await once(server, path, {**body, **other}, key)
    assert reused.status == 409, reused.document
    assert reused.code == "idempotency_key_reused"


async def test_concurrent_repeats_write_once(server: Server) -> None:
    base, key = await make_table(server), uuid.uuid4().hex
    replies = await asyncio.gather(
        *(once(server, f"{base}/insert", {"data": {"n": 7}}, key) for _ in range(12))
    )
    assert {reply.status for reply in replies} <= {200, 409}
    stored = [reply.document["data"] for reply in replies if reply.status == 200]
    assert stored
    assert stored == [stored[0]] * len(stored)
    for reply in replies:
        assert reply.status == 200 or int(reply.headers["retry-after"]) >= 1
    assert await count(server, base) == 1


async def test_the_same_key_of_two_principals_is_two_keys(server: Server) -> None:
    base, key = await make_table(server), uuid.uuid4().hex
    for subject in ("anna", "bert"):
        token = server.token(subject=subject)
        for n in (1, 1):
            reply = await once(server, f"{base}/insert", {"data": {"n": n}}, key, token=token)
            assert reply.status == 200
    assert await count(server, base) == 2
    counts = [
        (
            await once(server, INCR, {"logical_path": f"shared-{key}"}, key, token=server.token(subject=who))
        ).data
        for who in ("anna", "bert", "anna")
    ]
    assert counts == [{"value": 1}, {"value": 2}, {"value": 1}]


@pytest.mark.parametrize("key", ["", "k" * 256, "a\tb", "é", "a\x7fb"])
@pytest.mark.parametrize("kind", [JSON, BASE64, LINES])
async def test_a_malformed_key_is_refused_and_nothing_is_written(key: str, kind: str, server: Server) -> None:
    base = await make_table(server)
    path, body = f"{base}/insert", {"data": {"n": 1}}
    if kind == LINES:
        path, body = f"{base}/bulk-insert", b'{}\n{"n": 1}\n'
    reply = await once(server, path, body, key, kind=kind)
    assert reply.status == 400
    assert "Idempotency-Key" in reply.document["error"]
    assert await count(server, base) == 0


async def test_a_write_that_failed_does_not_use_its_key_up(server: Server) -> None:
    base, key = await make_table(server), uuid.uuid4().hex
    failed = await once(server, f"{base}/insert", {"data": {"n": "no number"}}, key)
    assert failed.status == 400
    assert (await once(server, f"{base}/insert", {"data": {"n": 5}}, key)).data["n"] == 5


async def test_reads_take_no_notice_of_a_key(server: Server) -> None:
    base, key = await make_table(server), uuid.uuid4().hex
    assert (await once(server, f"{base}/query", {}, key)).data["total"] == 0
    await server("POST", f"{base}/insert", {"data": {"n": 1}})
    assert (await once(server, f"{base}/query", {}, key)).data["total"] == 1


# --- streams


def lines(*rows: Any, header: bytes = b"{}") -> bytes:
    return b"\n".join([header, *(json.dumps(row).encode() for row in rows)]) + b"\n"


async def stream(server: Server, base: str, body: Any, **more: Any) -> Reply:
    return await server("POST", f"{base}/bulk-insert", body, kind=LINES, **more)


async def test_a_stream_is_not_bound_by_the_body_limit(make_server: MakeServer) -> None:
    server = await make_server(max_body_bytes=4096)
    base = await make_table(server)
    body = lines(*({"n": n} for n in range(5000)))
    assert len(body) > 10 * 4096
    pieces = [body[start : start + 977] for start in range(0, len(body), 977)]
    assert (await stream(server, base, pieces)).data == {"inserted_count": 5000}
    found = await server("POST", f"{base}/query", {"filters": {"n": {"gte": 4999}}})
    assert found.data["total"] == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (lines({"n": 1}, {"n": "x"}), "n"),
        (lines({"n": 1}) + b'{"n": 2', "line 2"),
        (lines({"n": 1}, [2]), "line 2"),
        (lines({"n": 1}, {"m": 1}), "m"),
        (lines({"n": 1}) + b"\xff\xfe\n", "line 2"),
        (lines({"n": 1}) + b'{"n": "\\u0000"}\n', ""),
        (lines({"n": 1}) + b"\\.\n", "line 2"),
        (lines({"n": 1}, header=b"not json"), "JSON"),
        (lines({"n": 1}, header=b"[]"), "object"),
        (lines({"n": 1}, header=b'{"bogus": 1}'), "bogus"),
        (lines({"n": 1}, header=b'{"rows": [{"n": 1}]}'), "rows"),
        (lines({"n": 1}, header=b'{"table": "other"}'), "table"),
        (b'{"reason": "' + b"x" * 70_000 + b'"}\n{"n": 1}\n', "64 KiB"),
    ],
)
async def test_a_wrong_line_is_a_400_and_stores_nothing(body: bytes, said: str, server: Server) -> None:
    base = await make_table(server)
    reply = await stream(server, base, body)
    assert reply.status == 400, reply.document
    assert said in reply.document["error"]
    assert await count(server, base) == 0


async def test_a_stream_without_rows_stores_none(server: Server) -> None:
    base = await make_table(server)
    for body in (b"{}", b"{}\n", b"\n", b""):
        assert (await stream(server, base, body)).data == {"inserted_count": 0}


async def test_a_client_that_leaves_amid_a_stream_leaves_nothing_behind(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    base = await make_table(server)
    sent = lines(*({"n": n} for n in range(1000)))
    with caplog.at_level("INFO", "dominus.access"):
        reply = await stream(server, base, [sent, sent, GONE])
    assert reply.status == 0  # nobody was there to be answered
    assert json.loads(caplog.records[-1].getMessage())["status"] == 499
    assert await count(server, base) == 0
    open_count = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
    assert await server.resources.postgres.system.fetchval(open_count) == 0


async def test_a_client_that_leaves_before_its_body_is_whole_changes_nothing(server: Server) -> None:
    base = await make_table(server)
    body = json.dumps({"data": {"n": 1}}).encode()
    assert (await server("POST", f"{base}/insert", [body[:5], GONE])).status == 0
    assert await count(server, base) == 0


async def test_a_stream_that_pauses_past_the_deadline_is_rolled_back(server: Server) -> None:
    base = await make_table(server)

    async def paused() -> AsyncIterator[Any]:
        yield lines({"n": 1})
        await asyncio.sleep(0.3)
        yield b'{"n": 2}\n'
        yield b""

    reply = await stream(server, base, paused(), headers={"Dominus-Deadline-Ms": "100"})
    assert (reply.status, reply.code) == (504, "deadline")
    assert await count(server, base) == 0


async def test_a_streamed_write_happens_once_too(server: Server) -> None:
    base, key = await make_table(server), uuid.uuid4().hex
    more = {"headers": {"Idempotency-Key": key}}
    body = lines({"n": 1}, {"n": 2})
    first = await stream(server, base, [body], **more)
    again = await stream(server, base, [body[:7], body[7:]], **more)
    assert first.data == again.data == {"inserted_count": 2}
    other = await stream(server, base, lines({"n": 1}, {"n": 3}), **more)
    assert (other.status, other.code) == (409, "idempotency_key_reused")
    assert await count(server, base) == 2
