"""The real wire against servers that break: what counts as sent, what is sent again, what is cleaned up."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from conftest import TOKEN
from raw_server import Exchange, RawServer, answers, garbage, half_an_answer, hang_up, raw_server

from dominus import Dominus
from dominus.errors import (
    AuthenticationError,
    DominusConnectionError,
    DominusError,
    DominusTimeoutError,
    ServiceError,
    ValidationError,
)

HIT = answers({"found": True, "value": 7})
STORED = answers({"stored": True})
INSERTED = answers({"inserted_count": 3})


@pytest.fixture(autouse=True, params=["direct", "session"])
def _carried(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Carry small requests straight over the pool, and by aiohttp's session, as with an aiohttp that is not known."""
    if request.param == "session":
        monkeypatch.setattr("dominus.transport.carriers.aiohttp.fits", lambda: False)


def client_of(server: RawServer, **options: Any) -> Dominus:
    return Dominus(server.url, TOKEN, cold_start_timeout=0, **options)


async def eventually(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < ends
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("broken", [hang_up, half_an_answer, garbage])
async def test_a_write_that_may_have_arrived_is_not_sent_again_to_a_foreign_server(
    broken: Callable[[Exchange], Awaitable[None]],
):
    async with raw_server(broken, STORED, is_foreign=True) as server, client_of(server) as client:
        with pytest.raises(DominusConnectionError, match="broke before the answer"):
            await client.redis.set("k", 1)
        assert len(server.seen) == 1


@pytest.mark.parametrize("broken", [hang_up, half_an_answer, garbage])
async def test_a_write_is_sent_again_under_the_same_key_to_a_server_that_keeps_keys(
    broken: Callable[[Exchange], Awaitable[None]],
):
    async with raw_server(broken, STORED) as server, client_of(server) as client:
        assert await client.redis.set("k", 1) is True
        first, second = server.seen
        assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


@pytest.mark.parametrize("broken", [hang_up, half_an_answer, garbage])
async def test_a_read_is_sent_again_to_any_server(broken: Callable[[Exchange], Awaitable[None]]):
    async with raw_server(broken, HIT, is_foreign=True) as server, client_of(server) as client:
        assert await client.redis.get("k") == 7
        assert len(server.seen) == 2


async def test_a_kept_connection_that_the_server_closed_is_no_error_for_a_read():
    async def answer_and_close(exchange: Exchange) -> None:
        await exchange.answer({"found": True, "value": 1})
        exchange.writer.close()

    async with raw_server(answer_and_close) as server, client_of(server) as client:
        for _ in range(5):
            assert await client.redis.get("k") == 1


async def test_refused_connections_never_left_and_are_tried_again():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{holder.getsockname()[1]}"
        async with Dominus(url, TOKEN, cold_start_timeout=0) as client:
            with pytest.raises(DominusConnectionError, match="was not reached") as caught:
                await client.redis.set("k", 1)
    assert caught.value.attempts == 4
    assert isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_wrong_port_on_this_machine_is_told_at_once_with_default_settings(host: str):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        async with Dominus(f"http://{host}:{holder.getsockname()[1]}", TOKEN) as client:
            began = time.monotonic()
            with pytest.raises(DominusConnectionError, match="connection refused") as caught:
                await client.redis.get("k")
    assert time.monotonic() - began < 5
    assert caught.value.attempts == 4
    assert caught.value.retryable


async def test_a_short_timeout_against_nobody_says_that_it_was_refused():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{holder.getsockname()[1]}"
        async with Dominus(url, TOKEN, cold_start_timeout=60) as client:
            with pytest.raises(DominusConnectionError, match="connection refused"):
                await client.redis.get("k", timeout=0.3)


async def test_a_server_that_starts_a_moment_later_is_waited_for():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
    server, progress = RawServer([HIT]), []
    async with Dominus(f"http://127.0.0.1:{port}", TOKEN, on_cold_start=progress.append) as client:
        call = asyncio.create_task(client.redis.get("k"))
        await eventually(lambda: len(progress) >= 2)
        listener = await asyncio.start_server(server.serve, "127.0.0.1", port)
        assert await call == 7
        listener.close()


async def test_an_unknown_host_is_a_typed_error():
    async with Dominus("http://no-such-host.invalid", TOKEN, cold_start_timeout=0) as client:
        with pytest.raises(DominusConnectionError, match="was not reached"):
            await client.redis.get("k", timeout=20)


async def test_plain_http_on_an_https_url_is_a_typed_error():
    async def speak_plainly(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(speak_plainly, "127.0.0.1", 0) as listener:
        url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with Dominus(url, TOKEN, cold_start_timeout=0) as client:
            with pytest.raises(DominusConnectionError, match="not reached"):
                await client.redis.get("k", timeout=10)


async def test_an_answer_without_end_is_left_at_the_limit_and_its_connection_closed(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("DOMINUS_MAX_RESPONSE_BYTES", "100000")

    async def endless(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            exchange.writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            await exchange.writer.drain()

    async with raw_server(endless) as server, client_of(server) as client:
        with pytest.raises(ServiceError, match="larger than 100000 bytes"):
            await client.redis.get("k", timeout=10)
        await eventually(lambda: server.open_count == 0)


async def test_a_promised_gigabyte_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    async def huge(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n")
        while not exchange.writer.is_closing():
            exchange.writer.write(b"x" * 1_000_000)
            await exchange.writer.drain()

    monkeypatch.setenv("DOMINUS_MAX_RESPONSE_BYTES", "1000000")
    async with raw_server(huge) as server, client_of(server) as client:
        with pytest.raises(ServiceError, match="larger than"):
            await client.redis.get("k", timeout=10)
        await eventually(lambda: server.open_count == 0)


async def test_a_header_without_end_is_a_typed_error():
    async def endless(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\ncontent-length: 0\r\n\r\n")
        await exchange.writer.drain()

    async with raw_server(endless) as server, client_of(server) as client:
        with pytest.raises(DominusConnectionError):
            await client.redis.get("k")


async def test_a_redirect_is_not_followed_by_the_real_wire():
    async def elsewhere(exchange: Exchange) -> None:
        await exchange.send(b"", 307, headers="location: http://127.0.0.1:9/\r\n")

    async with raw_server(elsewhere) as server, client_of(server) as client:
        with pytest.raises(ServiceError, match="redirects"):
            await client.redis.get("k")
        assert len(server.seen) == 1


async def test_cookies_are_not_kept():
    async def cookie(exchange: Exchange) -> None:
        await exchange.answer({"found": False}, headers="set-cookie: session=abc\r\n")

    async with raw_server(cookie) as server, client_of(server) as client:
        await client.redis.get("k")
        await client.redis.get("k")
        assert all("cookie" not in exchange.headers for exchange in server.seen)


async def test_a_deadline_closes_the_connection_of_a_silent_server():
    async def silent(exchange: Exchange) -> None:
        await asyncio.get_running_loop().create_future()

    async with raw_server(HIT, silent) as server, client_of(server) as client:
        await client.redis.get("k")
        with pytest.raises(DominusTimeoutError):
            await client.redis.get("k", timeout=0.05)
        # The next call has a connection of its own, and not the silent one.
        server.script = [HIT]
        assert await client.redis.get("k") == 7


async def test_many_concurrent_calls_share_a_bounded_pool(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOMINUS_MAX_CONNECTIONS", "4")
    most = 0

    async def slowly(exchange: Exchange) -> None:
        nonlocal most
        most = max(most, server.open_count)
        await asyncio.sleep(0.001)
        await exchange.answer({"found": True, "value": 7})

    async with raw_server(slowly) as server, client_of(server) as client:
        assert await asyncio.gather(*(client.redis.get("k") for _ in range(40))) == [7] * 40
    assert most == 4


# --- streamed rows


async def rows_of(*values: Any) -> AsyncIterator[dict[str, Any]]:
    for value in values:
        yield {"n": value}


async def test_rows_are_streamed_as_json_lines_behind_a_header_line():
    async with raw_server(INSERTED) as server, client_of(server) as client:
        assert await client.db.bulk_insert("t", rows_of(1, 2, 3)) == {"inserted_count": 3}
        head, *lines = server.seen[0].body.decode().splitlines()
        assert head == "{}"
        assert lines == ['{"n":1}', '{"n":2}', '{"n":3}']
        assert server.seen[0].headers["content-type"] == "application/x-ndjson"


async def test_a_list_is_sent_again_after_a_lost_connection_whole():
    async with raw_server(hang_up, INSERTED) as server, client_of(server) as client:
        await client.db.bulk_insert("t", [{"n": 1}, {"n": 2}])
        assert server.seen[0].body == server.seen[1].body


async def test_an_iterator_is_not_sent_again():
    async with raw_server(hang_up, INSERTED) as server, client_of(server) as client:
        with pytest.raises(DominusConnectionError):
            await client.db.bulk_insert("t", iter([{"n": 1}, {"n": 2}]))
        assert len(server.seen) == 1


async def test_an_iterator_is_not_sent_again_after_a_401_with_half_its_rows_missing():
    async def refuse(exchange: Exchange) -> None:
        await exchange.send(b'{"success":false,"error":"expired"}', 401)

    async with raw_server(refuse, INSERTED) as server, client_of(server) as client:
        with pytest.raises(AuthenticationError, match="expired"):
            await client.db.bulk_insert("t", iter([{"n": 1}, {"n": 2}]))
        assert len(server.seen) == 1


@pytest.mark.parametrize("source", [lambda rows: rows, iter], ids=["list", "iterator"])
async def test_a_wrong_row_in_a_stream_is_a_validation_error_that_names_it(
    source: Callable[[list[Any]], Any],
):
    async with raw_server(INSERTED) as server, client_of(server) as client:
        with pytest.raises(ValidationError, match=r"rows\[1\]\.n"):
            await client.db.bulk_insert("t", source([{"n": 1}, {"n": float("nan")}]))
        assert client.stats()["breakers"]["db"] == "closed"


async def test_an_iterator_that_fails_gives_its_own_error_to_the_caller():
    async def failing() -> AsyncIterator[dict[str, Any]]:
        yield {"n": 1}
        raise LookupError("the source dried up")

    async with raw_server(INSERTED) as server, client_of(server) as client:
        with pytest.raises(LookupError, match="dried up"):
            await client.db.bulk_insert("t", failing())
        assert client.stats()["breakers"]["db"] == "closed"


async def test_a_foreign_server_gets_the_rows_in_one_body():
    inserted = answers({"inserted_count": 1}, headers="")
    async with raw_server(inserted, is_foreign=True) as server, client_of(server) as client:
        await client.db.bulk_insert("t", [{"n": 1}])
        assert server.seen[0].headers["content-type"] == "text/plain"
        with pytest.raises(DominusError, match="asynchronous iterator"):
            await client.db.bulk_insert("t", rows_of(1))
