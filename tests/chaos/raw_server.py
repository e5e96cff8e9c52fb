"""A server on a real socket that breaks where the test says: below HTTP, a transport cannot lie."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Answer = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """One request, and the connection it came by."""

    path: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter

    async def answer(
        self, data: object, status: int = 200, *, headers: str = "dominus-wire: json\r\n"
    ) -> None:
        await self.send(json.dumps({"success": True, "data": data}).encode(), status, headers=headers)

    async def send(self, body: bytes, status: int = 200, *, headers: str = "") -> None:
        self.writer.write(
            f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body
        )
        await self.writer.drain()

    def hang_up(self) -> None:
        self.writer.transport.abort()


@dataclass
class RawServer:
    """Mints by itself; everything else is answered by `script`, one step a request, the last one for ever."""

    script: list[Answer]
    mint_headers: str = "dominus-wire: json\r\n"
    seen: list[Exchange] = field(default_factory=list)
    mint_count: int = 0
    open_count: int = 0
    connection_count: int = 0
    """All that ever were."""
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_count += 1
        self.connection_count += 1
        try:
            while (exchange := await _read(reader, writer)) is not None:
                if exchange.path.endswith("/api/warden/mint"):
                    self.mint_count += 1
                    await exchange.answer(
                        {"access_token": f"token-{self.mint_count}", "expires_in": 900},
                        headers=self.mint_headers,
                    )
                    continue
                self.seen.append(exchange)
                step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                await step(exchange)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self.open_count -= 1
            writer.close()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode().strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while (size := int(await reader.readline(), 16)) > 0:
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Exchange(first.split(" ")[1], headers, body, writer)


@contextlib.asynccontextmanager
async def raw_server(
    *script: Answer, is_foreign: bool = False, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    server = RawServer(list(script), mint_headers="" if is_foreign else "dominus-wire: json\r\n")
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.url = f"http{'s' if tls else ''}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()


async def hang_up(exchange: Exchange) -> None:
    """Read the request, and close without an answer."""
    exchange.hang_up()


async def half_an_answer(exchange: Exchange) -> None:
    """Promise a thousand bytes, send ten, and close."""
    exchange.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0123456789")
    await exchange.writer.drain()
    exchange.hang_up()


async def garbage(exchange: Exchange) -> None:
    """Answer what is no HTTP."""
    exchange.writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
    await exchange.writer.drain()
    exchange.hang_up()


def answers(data: object, *, headers: str = "dominus-wire: json\r\n") -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(data, headers=headers)

    return answer
