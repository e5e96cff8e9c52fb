"""The limits of a real server on a real socket: sizes, deadlines, clients that leave, and HTTP that is none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import asyncpg
import httpx
import pytest
from live_support import Answer, Live, live, read_answer, request_head, running

__all__ = ["live"]

SET, GET, INCR = (f"/api/whisperer/{name}" for name in ("set", "get", "incr"))
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def token(live: Live) -> str:
    return live.token()


@pytest.fixture
def base(live: Live, token: str) -> str:
    """The route of a new table with one column `n`, and one with a key of its own."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    columns = [
        {"name": "id", "type": "bigint", "constraints": ["PRIMARY KEY", "GENERATED ALWAYS AS IDENTITY"]},
        {"name": "n", "type": "text"},
    ]
    made = live.ask("POST", "/api/smith/schema/create-table", {"table": name, "columns": columns}, token)
    assert made.status == 200, made.body
    return f"/api/scribe/data/public/{name}"


def count(live: Live, base: str, token: str) -> int:
    return live.ask("POST", f"{base}/query", {"limit": 1}, token).data["total"]


def sql(live: Live, statement: str) -> object:
    """Ask the database itself, as its owner."""

    async def ask() -> object:
        connection = await asyncpg.connect((live.home / "dsn").read_text().strip())
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(ask())


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the deadline passed"
        threading.Event().wait(0.02)


# --- sizes


def test_a_body_over_ten_mebibytes_is_a_413_that_its_sender_gets_to_read(live: Live, token: str) -> None:
    content = json.dumps({"logical_path": "k", "value": "x" * 11 * MIB}).encode()
    refused = live.ask("POST", SET, content, token)
    assert (refused.status, refused.document["code"]) == (413, "body_too_large")
    # A usual client too, which writes all before it reads.
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    assert httpx.post(live.url + SET, content=content, headers=headers).status_code == 413


def test_a_chunked_body_over_the_limit_is_a_413(live: Live, token: str) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"logical_path": "k", "value": "'
        for _ in range(11):
            yield b"x" * MIB
        yield b'"}'

    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    refused = httpx.post(live.url + SET, content=chunks(), headers=headers, timeout=30)
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")


def test_nine_mebibytes_are_taken_and_come_back(live: Live, token: str, base: str) -> None:
    value = "x" * 9 * MIB
    assert live.ask("POST", f"{base}/insert", {"data": {"n": value}}, token).status == 200
    assert live.ask("POST", f"{base}/query", {}, token).data["items"][0]["n"] == value


def test_a_stream_of_rows_may_be_larger_than_any_body(live: Live, token: str, base: str) -> None:
    line = json.dumps({"n": "x" * 1000}).encode() + b"\n"
    rows = 12 * MIB // len(line)

    def chunks() -> Iterator[bytes]:
        yield b"{}\n"
        for _ in range(rows // 100):
            yield line * 100

    headers = {"authorization": f"Bearer {token}", "content-type": "application/x-ndjson"}
    stored = httpx.post(f"{live.url}{base}/bulk-insert", content=chunks(), headers=headers, timeout=60)
    assert stored.json()["data"] == {"inserted_count": rows // 100 * 100}
    assert count(live, base, token) == rows // 100 * 100


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /api/health HTTP/1.1\r\nhost: x\r\nx-a: ",
        b"GET /api/health?",
        b"POST /api/whisperer/get HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-trailer: ",
        b"POST /api/whisperer/get HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1;a=",
    ],
)
def test_a_head_or_trailer_without_end_ends_the_connection(raw: bytes, live: Live) -> None:
    with live.connect() as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(raw)
        for _ in range(64):
            connection.sendall(b"a" * 65536)
        assert read_answer(connection).status in {0, 400, 401, 431}
        assert connection.recv(1) == b"", "the connection is still open"
    assert live.ask("GET", "/api/health").status == 200


# --- HTTP that is none, and paths that clients do not send


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /api/health HTTP/9.9\r\nhost: x\r\n\r\n",
        b"POST /api/whisperer/set HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n",
        b"POST /api/whisperer/set HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /api/whisperer/set HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\x00 HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_hurts_nobody(raw: bytes, live: Live) -> None:
    with live.connect() as connection:
        connection.sendall(raw)
        connection.shutdown(1)
        answer = read_answer(connection)
    assert answer.status in {0, 400, 401}
    assert live.ask("GET", "/api/health").status == 200


def test_two_lengths_are_refused_so_that_no_proxy_sees_another_request(live: Live) -> None:
    raw = b"POST /api/whisperer/set HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
    answer = live.send(raw + b"0\r\n\r\nGET /api/health HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answer.status in {400, 401}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/whisperer/../whisperer/get", 404),
        ("/api/whisperer/%2e%2e/whisperer/get", 404),
        ("/api/whisperer%2Fget", 404),
        ("//api/whisperer/get", 404),
        ("/api/scribe/data/public/a%2Fb/query", 404),
        ("/api/scribe/data/public/%00/query", 400),
        ("/api/scribe/data/dominus/secrets/query", 404),
        ("/api/scribe/data/pg_catalog/pg_authid/query", 404),
        ("/%61pi/whisperer/get", 404),
        ("*", 404),
    ],
)
def test_a_path_is_taken_as_it_was_sent(path: str, status: int, live: Live, token: str) -> None:
    assert live.ask("POST", path, {}, token).status == status


def test_a_connection_goes_on_after_refused_requests(live: Live, token: str) -> None:
    with live.connect() as connection:
        for path, sent, body, status in [
            (SET, None, b"{}", 401),
            (SET, token, b"not json", 400),
            ("/api/none", token, b"x" * 5000, 404),
            (GET, token, b'{"logical_path": "none"}', 200),
        ]:
            head = request_head(
                "POST", path, sent, content_length=str(len(body)), content_type="application/json"
            )
            connection.sendall(head + body)
            assert read_answer(connection).status == status


# --- deadlines and clients that leave


def test_a_deadline_ends_a_statement_that_waits_for_a_lock(live: Live, token: str, base: str) -> None:
    table = base.rpartition("/")[2]
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"

    async def locked() -> Answer:
        connection = await asyncpg.connect((live.home / "dsn").read_text().strip())
        try:
            async with connection.transaction():
                await connection.execute(
                    f"SET ROLE dominus_data; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"
                )
                began = time.monotonic()
                more = {"dominus_deadline_ms": "200"}
                answer = await asyncio.to_thread(live.ask, "POST", f"{base}/query", {}, token, **more)
                assert time.monotonic() - began < 5
                # The statement is over on the server too, not only for the caller.
                async with asyncio.timeout(5):
                    while await connection.fetchval(waiting):
                        await asyncio.sleep(0.02)
                return answer
        finally:
            await connection.close()

    answer = asyncio.run(locked())
    assert (answer.status, answer.document["code"]) == (504, "deadline")
    assert count(live, base, token) == 0


def test_a_client_that_leaves_amid_a_stream_leaves_no_row_and_no_transaction(
    live: Live, token: str, base: str
) -> None:
    head = request_head(
        "POST",
        f"{base}/bulk-insert",
        token,
        content_type="application/x-ndjson",
        transfer_encoding="chunked",
    )
    lines = b"{}\n" + json.dumps({"n": "gone"}).encode() + b"\n"
    copying = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'"
    with live.connect() as connection:
        connection.sendall(head + b"%x\r\n%b\r\n" % (len(lines), lines))
        until(lambda: sql(live, copying) == 1)
        # A reset, as when a machine is gone.
        connection.setsockopt(1, 13, struct.pack("ii", 1, 0))
    until(lambda: sql(live, copying) == 0)
    assert sql(live, "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'") == 0
    assert count(live, base, token) == 0


def test_a_client_that_leaves_while_its_write_runs_finds_its_outcome_by_the_key(
    live: Live, token: str
) -> None:
    key, body = uuid.uuid4().hex, json.dumps({"logical_path": uuid.uuid4().hex}).encode()
    more = {"content_length": str(len(body)), "content_type": "application/json", "idempotency_key": key}
    with live.connect() as connection:
        connection.sendall(request_head("POST", INCR, token, **more) + body)
    repeated = [live.send(request_head("POST", INCR, token, **more) + body).data for _ in range(3)]
    assert repeated == [{"value": 1}] * 3


# --- clients that hold on to what they have


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    settings = {"WRITE_STALL": "1", "CONNECTIONS_PER_ADDRESS": "20", "UNFINISHED_PER_ADDRESS": "5"}
    with running(tmp_path_factory.mktemp("strict") / "home", **settings) as found:
        yield found


def test_an_answer_that_nobody_reads_is_not_kept(strict: Live) -> None:
    token = strict.token()
    assert strict.ask("POST", SET, {"logical_path": "large", "value": "x" * 900_000}, token).status == 200
    body = json.dumps({"keys": [{"logical_path": "large"}] * 5}).encode()
    with socket.socket() as client:
        # The kernel shall not take it all in place of the client.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(15)
        client.connect(("127.0.0.1", strict.port))
        more = {"content_length": str(len(body)), "content_type": "application/json"}
        client.sendall(request_head("POST", "/api/whisperer/mget", token, **more) + body)
        # Doing nothing is what this client is here for.
        time.sleep(2.5)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while chunk := client.recv(65536):
                received += len(chunk)
    assert received < 4_400_000, "it was kept for who did not read it"


def test_unfinished_requests_of_one_address_shut_out_neither_others_nor_itself_for_long(strict: Live) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            silent = stack.enter_context(socket.create_connection(("127.0.0.1", strict.port), timeout=15))
            with contextlib.suppress(OSError):
                silent.sendall(b"GET /api/health HT")
        other = stack.enter_context(
            socket.create_connection(("127.0.0.1", strict.port), 15, source_address=("127.0.0.2", 0))
        )
        other.sendall(request_head("GET", "/api/health"))
        assert read_answer(other).status == 200

        def answers() -> bool:
            with contextlib.suppress(OSError):
                return strict.ask("GET", "/api/health").status == 200
            return False

        until(answers, 5)


@pytest.mark.parametrize("size", [20_000, 100_000])
def test_a_large_header_is_a_431(size: int, live: Live) -> None:
    with live.connect() as connection, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        connection.sendall(request_head("GET", "/api/health", x_large="a" * size))
        assert read_answer(connection).status == 431


@pytest.mark.parametrize("path", ["/docs", "/api/health", "/api/warden/jwks", "/metrics"])
def test_a_page_that_calls_the_server_by_its_own_name_gets_nothing(path: str, live: Live) -> None:
    raw = f"GET {path} HTTP/1.1\r\nhost: evil.example:{live.port}\r\n\r\n".encode()
    answer = live.send(raw)
    assert (answer.status, answer.document["code"]) == (421, "unknown_host")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert live.send(raw.replace(b"evil.example", b"127.0.0.1")).status == 200


def test_two_authorizations_are_a_400(live: Live, token: str) -> None:
    head = request_head("GET", "/api/health/ping", token, Authorization="Bearer x.y.z")
    answer = live.send(head)
    assert (answer.status, answer.document["code"]) == (400, "repeated_header")


def test_every_answer_says_that_its_type_is_not_to_be_guessed(live: Live) -> None:
    for path in ("/docs", "/api/health", "/api/none", "/metrics", "/none"):
        assert live.ask("GET", path).headers["x-content-type-options"] == "nosniff"


# --- rates


def test_a_caller_over_its_rate_gets_429_and_says_when(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("rate") / "home"
    with running(home, RATE_LIMIT="0.5", RATE_BURST="3", FAILED_AUTH_PER_MINUTE="2") as slow:
        token = slow.token()
        answers = [slow.ask("GET", "/api/health/ping", token=token) for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 429, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 4
        wrong = [slow.ask("POST", "/api/warden/mint", {"method": "auth.self"}, "w" * 43) for _ in range(3)]
        assert [answer.status for answer in wrong] == [401, 401, 429]
        assert 1 <= int(wrong[-1].headers["retry-after"]) <= 30


def test_who_shows_no_token_may_send_little(live: Live) -> None:
    body = {"method": "auth.jwks", "params": {"x": "x" * 70_000}}
    assert live.ask("POST", "/api/warden/jwks", body).status == 413
    body["params"] = {"x": "x" * 1000}
    assert live.ask("POST", "/api/warden/jwks", body).status == 200
