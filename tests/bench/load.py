"""A load generator that costs little itself: raw HTTP/1.1 over kept connections, one request in flight on each."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.body = b""

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._answer.set_result(self.body)

    def send(self, request: bytes) -> asyncio.Future[bytes]:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self._transport.close()


@dataclass
class Load:
    """What a run gave."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int


def request(path: str, body: object, token: str, *, keyed: bool = False) -> Callable[[], bytes]:
    """Return a maker of requests; keyed ones carry a fresh idempotency key each."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {token}\r\ncontent-length: {len(content)}\r\n"
    )
    plain = (head + "\r\n").encode() + content
    if not keyed:
        return lambda: plain
    return lambda: f"{head}idempotency-key: {uuid.uuid4()}\r\n\r\n".encode() + content


async def run(url: str, make: Callable[[], bytes], count: int, connections: int) -> Load:
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    lines = [
        (await loop.create_connection(_Connection, parts.hostname, parts.port))[1] for _ in range(connections)
    ]
    times: list[float] = []
    left, failed = count, 0

    async def caller(line: _Connection) -> None:
        nonlocal left, failed
        while left > 0:
            left -= 1
            began = time.perf_counter()
            await line.send(make())
            times.append(time.perf_counter() - began)
            failed += line.status != 200

    began = time.perf_counter()
    await asyncio.gather(*map(caller, lines))
    seconds = time.perf_counter() - began
    for line in lines:
        line.close()
    times.sort()
    return Load(count / seconds, times[len(times) // 2] * 1e3, times[int(len(times) * 0.99)] * 1e3, failed)
