"""A connection that brings no request is ended; one that does is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from dominus.orchestrator.serving import http_protocol as protocol
from dominus.orchestrator.serving.http_protocol import BoundedHttp

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


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(echo_size, lifespan="off", log_config=None, http=BoundedHttp)
    config.load()
    state = ServerState()
    state.default_headers = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedHttp(config, state, {}), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for connection in list(state.connections):
        connection.transport.abort()


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
