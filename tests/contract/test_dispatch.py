"""How the orchestrator meets requests: routes, bodies, credentials, limits and deadlines; bad input is never a 5xx."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from server_support import BASE64, JSON, LINES, Server, make_server, process_resources, server

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

MakeServer = Callable[..., Awaitable[Server]]
SET, GET = "/api/whisperer/set", "/api/whisperer/get"


async def make_table(server: Server, name: str) -> str:
    columns = [{"name": "id", "type": "bigint", "primary_key": True}, {"name": "at", "type": "timestamptz"}]
    made = await server("POST", "/api/smith/schema/create-table", {"table": name, "columns": columns})
    assert made.status == 200, made.document
    return f"/api/scribe/data/public/{name}"


# --- request ids


@pytest.mark.parametrize("path", ["/api/health", "/api/health/ping", "/api/none"])
async def test_a_request_id_is_echoed(path: str, server: Server) -> None:
    reply = await server("GET", path, headers={"X-Request-Id": "job-7f3a-0001"})
    assert reply.headers["x-request-id"] == "job-7f3a-0001"


async def test_a_request_without_an_id_gets_its_own_and_errors_carry_it(server: Server) -> None:
    first, second = [await server("GET", "/api/none") for _ in range(2)]
    assert len(first.headers["x-request-id"]) >= 16
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.document["request_id"] == first.headers["x-request-id"]


@pytest.mark.parametrize("bad", ["", "x" * 65, "a b", 'a","status":200', "a\tb", "é", "-" * 5000])
async def test_a_request_id_that_could_forge_a_log_line_is_replaced(bad: str, server: Server) -> None:
    reply = await server("GET", "/api/health/ping", headers={"X-Request-Id": bad})
    assert reply.status == 200
    assert reply.headers["x-request-id"] != bad
    assert reply.headers["x-request-id"].isalnum()


# --- routes


@pytest.mark.parametrize("kind", [JSON, BASE64])
@pytest.mark.parametrize(
    "path",
    [
        "/api/",
        "/api/none",
        "/api/whisperer/set/",
        "/api//whisperer/set",
        "/api/Whisperer/set",
        "/%61pi/whisperer/set",
        "/api/whisperer%2Fset",
        "/api/whisperer/../whisperer/set",
        "/api/whisperer/%2e%2e/set",
        "/api/scribe/data/public/../query",
        "/api/scribe/data/public/t/x/query",
        "/api/" + "x" * 5000,
        "/api/%ff%fe",
    ],
)
async def test_an_unknown_route_is_a_404_in_the_callers_dialect(path: str, kind: str, server: Server) -> None:
    reply = await server("POST", path, kind=kind)
    assert (reply.status, reply.headers["content-type"].split(";")[0]) == (404, kind)
    assert reply.code in {"unknown_route", "not_found", "unknown_schema", "unknown_table"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", SET, "POST"),
        ("PUT", SET, "POST"),
        ("HEAD", SET, "POST"),
        ("OPTIONS", "/api/health", "GET"),
        ("POST", "/api/smith/schema/drop-table", "DELETE"),
        ("PATCH", "/api/warden/jwks", "GET, POST"),
        ("DELETE", "/api/scribe/data/public/t/query", "POST"),
    ],
)
async def test_a_wrong_method_is_a_405_that_names_the_right_ones(
    method: str, path: str, allowed: str, server: Server
) -> None:
    reply = await server(method, path)
    assert (reply.status, reply.code) == (405, "method_not_allowed")
    assert reply.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("segment", "name"),
    [
        ("a%2Fb", "a/b"),
        ("..%2F..%2Fx", "../../x"),
        ("%252e", "%2e"),
        ("t%3Fx%23y", "t?x#y"),
        ("t%22%3B--", 't";--'),
    ],
)
async def test_an_encoded_separator_stays_part_of_the_name(segment: str, name: str, server: Server) -> None:
    reply = await server("POST", f"/api/scribe/data/public/{segment}/query", {})
    assert reply.status == 404
    assert repr(name)[1:-1] in reply.document["error"] or name in reply.document["error"]


@pytest.mark.parametrize("segment", ["%00", "a%0Ab", "%7f", "x" * 129, ""])
async def test_a_name_that_no_table_can_have_is_refused(segment: str, server: Server) -> None:
    reply = await server("POST", f"/api/scribe/data/public/{segment}/query", {})
    assert reply.status in {400, 404}


async def test_a_value_of_the_path_cannot_be_named_again_in_the_body(server: Server) -> None:
    reply = await server("POST", "/api/scribe/data/public/t/query", {"table": "other", "schema": "dominus"})
    assert reply.status == 400
    assert "schema, table" in reply.document["error"]


async def test_the_pages_answer_outside_of_the_contract(server: Server) -> None:
    home = await server("GET", "/", token=None)
    assert (home.status, home.headers["location"]) == (307, "/docs")
    assert (await server("GET", "/none", token=None)).status == 404
    assert (await server("POST", "/openapi.json", token=None)).status == 405


# --- bodies

DEEP = 200_000
BAD_JSON: dict[str, bytes] = {
    "cut off": b'{"logical_path": "k", "value',
    "empty list": b"[]",
    "list": b'[{"logical_path": "k"}]',
    "text": b'"k"',
    "number": b"7",
    "null": b"null",
    "two documents": b"{} {}",
    "NaN": b'{"logical_path": "k", "value": NaN}',
    "infinity": b'{"logical_path": "k", "value": -Infinity}',
    "huge float": b'{"logical_path": "k", "value": 1e999}',
    "deep list": b'{"logical_path": "k", "value": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep object": b'{"logical_path": "k", "value": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "huge int": b'{"logical_path": "k", "value": ' + b"9" * 5000 + b"}",
    "huge int as ttl": b'{"logical_path": "k", "value": 1, "ttl_seconds": ' + b"9" * 4000 + b"}",
    "invalid UTF-8": b'{"logical_path": "\xff\xfe", "value": 1}',
    "UTF-16": '{"logical_path": "k", "value": 1}'.encode("utf-16"),
    "lone surrogate": b'{"logical_path": "\\ud800", "value": 1}',
    "NUL": b'{"logical_path": "a\\u0000b", "value": 1}',
    "raw NUL": b"\x00",
    "single quotes": b"{'logical_path': 'k'}",
    "trailing comma": b'{"logical_path": "k", "value": 1,}',
    "a page": b"<html></html>",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", [JSON, BASE64])
@pytest.mark.parametrize("what", BAD_JSON)
async def test_a_bad_document_is_a_400_in_the_callers_dialect(what: str, kind: str, server: Server) -> None:
    body = BAD_JSON[what]
    reply = await server("POST", SET, body if kind == JSON else base64.b64encode(body), kind=kind)
    assert (reply.status, reply.headers["content-type"].split(";")[0]) == (400, kind), reply.document
    assert reply.document["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"e30",
        b"e3 0=",
        b"e30=\n",
        b"!!!!",
        b"\xff\xff\xff\xff",
        b"e30=e30=",
        "\uff45\uff13\uff10\uff1d".encode(),
        b"__-_",
    ],
)
async def test_what_is_not_base64_is_a_400_in_base64(body: bytes, server: Server) -> None:
    reply = await server("POST", SET, body, kind=BASE64)
    assert (reply.status, reply.code) == (400, "bad_body")
    assert reply.headers["content-type"].startswith(BASE64)


async def test_the_last_of_duplicate_keys_counts_for_everything(server: Server) -> None:
    body = b'{"logical_path": "other", "value": 1, "logical_path": "twice", "value": 2}'
    assert (await server("POST", SET, body)).data["key"] == "twice"
    assert (await server("POST", GET, {"logical_path": "twice"})).data["value"] == 2
    assert (await server("POST", GET, {"logical_path": "other"})).data["found"] is False


@pytest.mark.parametrize(
    ("kind", "is_base64"),
    [
        ("text/plain; charset=utf-8", True),
        ("TEXT/PLAIN", True),
        ("application/json; charset=utf-8", False),
        ("application/octet-stream", False),
        (None, False),
        ("", False),
    ],
)
async def test_the_content_type_names_the_dialect(kind: str | None, is_base64: bool, server: Server) -> None:
    document = b'{"logical_path": "none"}'
    reply = await server("POST", GET, base64.b64encode(document) if is_base64 else document, kind=kind)
    assert reply.data == {"found": False}
    assert reply.headers["content-type"].startswith(BASE64 if is_base64 else JSON)


@pytest.mark.parametrize("query", ["a", "a=%ff", "a=1&&b", "=", "%", "a=1;b=2"])
async def test_a_malformed_or_unknown_query_string_is_a_400(query: str, server: Server) -> None:
    assert (await server("GET", f"/api/health/ping?{query}")).status == 400


async def test_types_that_json_cannot_say_are_named_in_both_dialects(server: Server) -> None:
    base = await make_table(server, "typed")
    row = {"id": 1, "at": "2026-01-02T03:04:05+00:00"}
    assert (await server("POST", f"{base}/insert", {"data": row})).document["types"] == {"at": "timestamptz"}
    in_json = (await server("POST", f"{base}/query", {})).document
    in_base64 = (await server("POST", f"{base}/query", {}, kind=BASE64)).document
    assert in_json["types"] == {"at": "timestamptz"}
    assert in_base64 == in_json


@pytest.mark.parametrize("is_declared", [True, False])
async def test_a_body_over_the_limit_is_a_413(is_declared: bool, make_server: MakeServer) -> None:
    server = await make_server(max_body_bytes=4096)
    fits = json.dumps({"logical_path": "k", "value": "x" * 4000}).encode()
    body = json.dumps({"logical_path": "k", "value": "x" * 5000}).encode()
    read: list[int] = []

    async def chunks(content: bytes) -> Any:
        for start in range(0, len(content), 500):
            read.append(start)
            yield content[start : start + 500]

    headers = {"content-length": str(len(body))} if is_declared else {}
    assert (await server("POST", SET, chunks(fits))).status == 200
    read.clear()
    reply = await server("POST", SET, chunks(body), headers=headers)
    assert (reply.status, reply.code) == (413, "body_too_large")
    # All of it was taken from the wire, so that the client gets to read the answer.
    assert read[-1] == (len(body) - 1) // 500 * 500
    assert (await server("POST", SET, body, headers={"content-length": "999999999999"})).status == 413


# --- credentials and limits


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic cm9vdDpyb290", "bearer x.y.z", "Bearer é", "Bearer " + "x." * 9000],
)
async def test_a_malformed_authorization_is_a_401_with_a_challenge(header: str, server: Server) -> None:
    sent = {"authorization": header}
    reply = await server(
        "GET", "/api/health/ping", token=None, headers=sent, address=f"malformed {header[:20]}"
    )
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert "retry-after" not in reply.headers


@pytest.mark.parametrize("name", [b"authorization", b"idempotency-key", b"dominus-project", b"host"])
async def test_a_header_that_is_sent_twice_is_a_400(name: bytes, server: Server) -> None:
    twice = [(name, b"a"), (name, b"b")]
    reply = await server("GET", "/api/health/ping", more_headers=twice)
    assert (reply.status, reply.code) == (400, "repeated_header")
    other = [(b"x-anything", b"a"), (b"x-anything", b"b")]
    assert (await server("GET", "/api/health/ping", more_headers=other)).status == 200


async def test_the_rate_limit_of_a_principal_is_a_429_that_says_when(make_server: MakeServer) -> None:
    server = await make_server(rate_limit=0.5, rate_burst=2)
    mine, other = server.token(subject="a"), server.token(subject="b")
    statuses = [(await server("GET", "/api/health/ping", token=mine)).status for _ in range(2)]
    refused = await server("GET", "/api/health/ping", token=mine, kind=BASE64)
    assert statuses == [200, 200]
    assert (refused.status, refused.code) == (429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    assert (await server("GET", "/api/health/ping", token=other)).status == 200


async def test_open_routes_are_limited_by_address(make_server: MakeServer) -> None:
    server = await make_server(rate_limit=0.5, rate_burst=2)
    found = [(await server("GET", "/api/health", token=None, address="10.0.0.1")).status for _ in range(3)]
    assert found == [200, 200, 429]
    assert (await server("GET", "/api/health", token=None, address="10.0.0.2")).status == 200


async def test_refused_credentials_are_limited_by_address_wherever_they_are_tried(
    make_server: MakeServer,
) -> None:
    server = await make_server(failed_auth_per_minute=3)
    wrong = "wrong-psk-" * 5
    places = [("POST", "/api/warden/mint"), ("GET", "/metrics"), ("POST", GET), ("POST", "/api/warden/mint")]
    tried = [await server(method, path, {}, token=wrong, address="10.6.6.6") for method, path in places]
    assert [reply.status for reply in tried] == [401, 401, 401, 429]
    assert 1 <= int(tried[-1].headers["retry-after"]) <= 20
    assert (await server("GET", "/metrics", token=wrong, address="10.6.6.6")).status == 429
    # Those who are known are not shut out by a neighbour behind the same address.
    assert (await server("GET", "/api/health/ping", address="10.6.6.6")).status == 200


# --- deadlines


async def wait_until(what: Callable[[], Awaitable[bool]], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not await what():
            await asyncio.sleep(0.01)


async def test_the_callers_deadline_stops_a_statement_that_waits(server: Server) -> None:
    base = await make_table(server, "locked")
    postgres = server.resources.postgres

    async def is_waiting() -> bool:
        return bool(await postgres.system.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    async def is_over() -> bool:
        return not await is_waiting()

    async with postgres.data.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE public.locked IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        reply = await server("POST", f"{base}/query", {}, headers={"Dominus-Deadline-Ms": "150"})
        assert (reply.status, reply.code) == (504, "deadline")
        assert 0.1 < time.monotonic() - began < 3
        await wait_until(is_over)
        in_time = asyncio.create_task(
            server("POST", f"{base}/query", {}, headers={"Dominus-Deadline-Ms": "9999"})
        )
        await wait_until(is_waiting)
    assert (await in_time).data["total"] == 0


@pytest.mark.parametrize("given", ["", "soon", "-1", "1.5", "0x10", "²", "9" * 400])
async def test_a_deadline_that_is_none_is_ignored(given: str, server: Server) -> None:
    reply = await server("GET", "/api/health/warmup", headers={"Dominus-Deadline-Ms": given})
    assert reply.status == 200


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("30000", 30), ("86400000", 86_400), ("9" * 400, 86_400), (None, 3600), ("soon", 3600)],
)
async def test_the_record_of_a_write_to_redis_outlives_the_callers_deadline(
    given: str | None, seconds: int, server: Server
) -> None:
    project, redis = uuid.uuid4().hex, server.resources.redis.client
    headers = {"Idempotency-Key": "k-1"} | ({} if given is None else {"Dominus-Deadline-Ms": given})
    for _ in range(2):
        token = server.token(project=project)
        reply = await server(
            "POST", "/api/whisperer/incr", {"logical_path": "n"}, token=token, headers=headers
        )
        assert reply.data == {"value": 1}
    (record,) = await redis.keys(f"dominus-once:{{{project}:*")
    life = seconds + server.resources.settings.redis_idempotency_minutes * 60
    assert life - 5 <= await redis.ttl(record) <= life


async def test_an_unforeseen_failure_tells_nothing_and_the_log_everything(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    async def broken(_context: Any, _request: Any) -> Any:
        raise RuntimeError("dsn=postgresql://u:hunter2@db")

    monkeypatch.setitem(server.app._handlers, "health.ping", broken)
    with caplog.at_level(logging.ERROR, "dominus.orchestrator"):
        reply = await server("GET", "/api/health/ping", headers={"X-Request-Id": "broken1"})
    assert (reply.status, reply.code) == (500, "internal")
    assert b"hunter2" not in reply.body
    assert "broken1" in caplog.text
    assert "RuntimeError" in caplog.text


# --- what is watched


async def test_a_request_leaves_one_line_of_json_and_no_secret(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    token = server.token(subject="svc-1")
    with caplog.at_level(logging.INFO, "dominus.access"):
        await server(
            "POST",
            "/api/warden/secrets?trace=abc",
            {"action": "update", "key": "K", "value": "hunter2"},
            token=token,
            headers={"X-Request-Id": "r1", "Idempotency-Key": "idem-77"},
        )
        await server("POST", "/api/warden/mint", {}, token=server.psk, headers={"X-Request-Id": "r2"})
        await server("GET", '/api/"\n{"forged": true}', token=None, headers={"X-Request-Id": "r3"})
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "dominus.access"]
    assert [line["request_id"] for line in lines] == ["r1", "r2", "r3"]
    first = lines[0]
    assert first.pop("ms") > 0
    assert first.pop("bytes") > 10
    assert first == {
        "request_id": "r1",
        "method": "POST",
        "path": "/api/warden/secrets",
        "operation": "secrets.upsert",
        "status": 200,
        "principal": "svc-1",
    }
    assert (lines[1]["operation"], lines[2]["operation"], lines[2]["status"]) == ("auth.self", "unknown", 404)
    for secret in ("hunter2", token, server.psk, "idem-77", "abc"):
        assert secret not in caplog.text
    assert not any("\n" in record.getMessage() for record in caplog.records)


async def test_the_access_log_can_be_turned_off(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = await make_server(request_log=False)
    with caplog.at_level(logging.INFO, "dominus.access"):
        await server("GET", "/api/health/ping")
    assert not caplog.records


async def test_metrics_count_by_operation_and_status_and_are_not_open(make_server: MakeServer) -> None:
    server = await make_server()
    await server("GET", "/api/health/ping")
    await server("POST", GET, {})
    await server("GET", f"/api/{'x' * 50}")
    assert (await server("GET", "/metrics", token=None)).status == 401
    assert (await server("GET", "/metrics", token=server.token("db:read"))).status == 403
    for token in (server.psk, server.token("metrics:read")):
        shown = await server("GET", "/metrics", token=token)
        assert shown.status == 200
        assert shown.headers["content-type"].startswith("text/plain; version=")
    text = shown.body.decode()
    assert 'dominus_requests_total{operation="health.ping",service="health",status="200"} 1.0' in text
    assert 'dominus_requests_total{operation="redis.get",service="redis",status="400"} 1.0' in text
    assert 'dominus_requests_total{operation="unknown",service="unknown",status="404"} 1.0' in text
    assert 'dominus_request_seconds_count{operation="health.ping",service="health"} 1.0' in text
    assert "xxxx" not in text


async def test_metrics_are_open_where_the_settings_say_so(make_server: MakeServer) -> None:
    server = await make_server(metrics_open=True)
    assert (await server("GET", "/metrics", token=None)).status == 200


async def test_a_stream_is_refused_where_none_is_taken(server: Server) -> None:
    reply = await server("POST", SET, b"{}\n{}\n", kind=LINES)
    assert (reply.status, reply.code) == (400, "bad_stream")


async def test_an_unknown_field_of_a_request_gets_the_nearest_and_the_list(server: Server) -> None:
    reply = await server("POST", "/api/scribe/data/public/t/query", {"filter": {"a": 1}})
    assert reply.status == 400
    assert reply.document["error"] == "filter: is not known"
    assert reply.document["hint"].startswith("did you mean 'filters'? fields are schema, table, ")
    reply = await server("POST", "/api/smith/schema/create-table", {"table": "t", "columns": [{"nam": "a"}]})
    assert reply.document["hint"].startswith("did you mean 'name'? fields are name, type, ")
