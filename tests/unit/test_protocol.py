"""A connection that brings no request is ended; one that does is left alone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from uvicorn.server import ServerState

from dominus.orchestrator.net import addresses
from dominus.orchestrator.net.addresses import Addresses, AddressLimits, Trusted
from dominus.orchestrator.serving import http_protocol as protocol
from dominus.orchestrator.serving.http_protocol import BoundedConfig, BoundedHttp, HttpLimits

REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n"


async def echo_size(_scope: Any, receive: Any, send: Any) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = str(size).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
    )
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def listening(
    app: Any = echo_size, states: list[ServerState] | None = None, **limits: Any
) -> AsyncIterator[int]:
    config = BoundedConfig(app, limits=HttpLimits(**limits), lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    state.default_headers = []
    if states is not None:
        states.append(state)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedHttp(config, state, {}), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for connection in list(state.connections):
        connection.transport.abort()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with listening() as found:
        yield found


async def test_a_request_in_pieces_is_answered_and_the_next_one_too(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(3):
        for start in range(0, len(REQUEST), 7):
            writer.write(REQUEST[start : start + 7])
            await writer.drain()
        for _ in range(3):
            writer.write(b"x" * 100_000)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(6) == b"300000"
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("sent", "status"), [(b"", b""), (b"GET / HT", b"408"), (b"GET / HTTP/1.1\r\nhost: x\r\n", b"408")]
)
async def test_a_head_that_does_not_come_is_not_waited_for(
    sent: bytes, status: bytes, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(5):
        assert (await reader.read())[9:12] == status
    writer.close()


async def test_a_slow_body_is_the_apps_to_judge(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.15):
            await reader.read(1)
    writer.write(b"x")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_head_over_64_kibibytes_is_a_431(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nx-a: " + b"a" * 70_000)
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 431")
    writer.close()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"x-a: " + b"a" * 16_000, b"200"),
        (b"x-a: " + b"a" * 17_000, b"431"),
        (b"x-a: " + b"a" * 100_000, b"431"),
        (b"\r\n".join(b"x-%d: " % n + b"a" * 10_000 for n in range(6)), b"200"),
        (b"\r\n".join(b"x-%d: " % n + b"a" * 10_000 for n in range(7)), b"431"),
    ],
)
async def test_headers_have_a_size_however_fast_they_come(head: bytes, status: bytes, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n" + head + b"\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await reader.readline())[9:12] == status
    writer.close()


async def test_a_long_path_is_a_431(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await reader.readline())[9:12] == b"431"
    writer.close()


async def test_a_refused_request_never_reaches_the_app() -> None:
    called: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.append(scope["path"])
        await echo_size(scope, receive, send)

    async with listening(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b"x" * 10
        large = (
            b"POST /a HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 20_000 + b"\r\ncontent-length: 10\r\n\r\n" + body
        )
        writer.write(large + b"GET /b HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.read())[9:12] == b"431"
        writer.close()
    assert called == []


# --- clients that do not read


async def large_answer(_scope: Any, receive: Any, send: Any) -> None:
    await receive()
    body = b"x" * 10_000_000
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
    )
    await send({"type": "http.response.body", "body": body})


async def until_none(state: ServerState, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while state.connections:
            await asyncio.sleep(0.01)


async def test_a_client_that_does_not_read_is_cut_off_and_its_answer_forgotten() -> None:
    states: list[ServerState] = []
    async with listening(large_answer, states, stall_seconds=0.2) as port:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(0)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", port))
            await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            async with asyncio.timeout(5):
                while not states[0].connections:
                    await asyncio.sleep(0.01)
            await until_none(states[0])


async def test_a_client_that_reads_slowly_but_steadily_gets_all() -> None:
    async with listening(large_answer, stall_seconds=0.2, least_rate=1000) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        received = 0
        while received < 10_000_000:
            received += len(await reader.read(200_000))
            await asyncio.sleep(0.002)
        writer.close()


# --- many connections of one address


async def test_an_address_has_so_many_connections_and_the_next_is_told_to_come_back() -> None:
    async with listening(addresses=AddressLimits(connections=3)) as port:
        open_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for reader, writer in open_ones:
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await reader.readline())[9:12] == b"200"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(5):
            refused = await reader.read()
        assert refused[9:12] == b"503"
        assert b"retry-after: 1" in refused
        writer.close()
        open_ones[0][1].close()
        async with asyncio.timeout(5):
            while True:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    if (await reader.readline())[9:12] == b"200":
                        break
                writer.close()
        for _, other in [*open_ones, (reader, writer)]:
            other.close()


async def test_unfinished_heads_of_one_address_make_room_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(addresses, "GRACE_SECONDS", 0.0)
    async with listening(addresses=AddressLimits(unfinished=5)) as port:
        silent = []
        for _ in range(50):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HT")
            silent.append((reader, writer))
        async with asyncio.timeout(5):
            for reader, _ in silent[:45]:
                assert (await reader.read())[9:12] in {b"408", b""}
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await reader.readline())[9:12] == b"200"
        for _, other in [*silent, (reader, writer)]:
            other.close()


def test_who_has_just_come_is_let_be_and_proxies_have_no_limit() -> None:
    counted: Addresses[int] = Addresses(
        AddressLimits(connections=2, unfinished=2, trusted=("10.0.0.0/8", "::1"))
    )
    assert [counted.begin("192.0.2.1", n, 0.1 * n) for n in range(3)] == [None, None, None]
    assert counted.begin("192.0.2.1", 3, 5.0) == 0
    assert [counted.enter("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert [counted.enter("10.1.2.3") for _ in range(5)] == [True] * 5
    assert [counted.begin("::1", n, 10.0 * n) for n in range(5)] == [None] * 5
    counted.leave("192.0.2.1")
    assert counted.enter("192.0.2.1")


@pytest.mark.parametrize(
    ("names", "address", "is_trusted"),
    [
        (("*",), "192.0.2.1", True),
        ((), "127.0.0.1", False),
        (("127.0.0.1", "10.0.0.0/8"), "10.9.9.9", True),
        (("nonsense", "10.0.0.0/8"), "11.0.0.1", False),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("10.0.0.1",), "unix", False),
    ],
)
def test_addresses_of_proxies_are_names_of_networks_too(
    names: tuple[str, ...], address: str, is_trusted: bool
) -> None:
    assert Trusted(names)(address) is is_trusted
