"""A gateway of the tests' own, and an orchestrator that is nothing but its calls: what sessions see when all is not well."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest_asyncio
from conftest import TOKEN, URL

from dominus import Dominus
from dominus.contract.handshake import Hello, encode_reply, read_hello
from dominus.testing import Recorded, Reply, ScriptedTransport, failure, ok

Refusal = tuple[str, str]
Address = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""


@dataclass
class TestGateway:
    """Speaks our handshake and pipes to `upstream`; `judge` may refuse."""

    __test__ = False

    upstream: Address = ("127.0.0.1", 1)
    judge: Callable[[Hello], Refusal | None] = lambda _: None
    tls: ssl.SSLContext | None = None
    port: int = 0
    hellos: list[Hello] = field(default_factory=list)
    open_count: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, cut every connection, and wait until they are gone."""
        if self._server is not None:
            self._server.close()
        async with asyncio.timeout(10):
            while self._writers:
                self.drop()
                await asyncio.sleep(0.001)

    def drop(self) -> None:
        """Cut every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_count += 1
        self._writers.add(writer)
        with contextlib.suppress(OSError):
            await self._lead(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self._writers.discard(writer)
        self.open_count -= 1

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = b""
        while (hello := read_hello(received)) is None:
            chunk = await reader.read(4096)
            if not chunk:
                return
            received += chunk
        self.hellos.append(hello)
        refused = self.judge(hello)
        if refused is not None:
            writer.write(encode_reply(*refused))
            return
        path = self.upstream
        far = await (
            asyncio.open_unix_connection(path) if isinstance(path, str) else asyncio.open_connection(*path)
        )
        # Cut with the others: a database that waits for a password would hold its connection for a minute.
        self._writers.add(far[1])
        # In two pieces, as a slow network might.
        reply = encode_reply()
        writer.write(reply[:7])
        await asyncio.sleep(0)
        writer.write(reply[7:])
        far[1].write(received[hello.size :])
        try:
            await asyncio.gather(_pipe(reader, far[1]), _pipe(far[0], writer))
        finally:
            self._writers.discard(far[1])
            far[1].close()
            with contextlib.suppress(OSError):
                await far[1].wait_closed()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(1 << 18):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()


@dataclass
class Rig:
    """A client whose orchestrator knows only the calls around sessions."""

    gateway: TestGateway
    host: str = "127.0.0.1"
    endpoints: int = 1
    answers: dict[str, Any] = field(default_factory=dict)
    """Path -> a reply instead of the usual one."""
    login: Callable[[str | None], dict[str, Any]] | None = None
    lifetime: int = 900
    released: list[str] = field(default_factory=list)
    token_count: int = 0
    client: Dominus = field(init=False)
    server: ScriptedTransport = field(init=False)

    def __post_init__(self) -> None:
        self.server = ScriptedTransport(default=self._answer)
        self.client = Dominus(url=URL, token=TOKEN, transport=Lasting(self.server), cold_start_timeout=0)

    def _answer(self, asked: Recorded) -> Reply:
        given = self.answers.get(asked.path)
        if given is not None:
            return given(asked) if callable(given) else given
        return getattr(self, _CALLS[asked.path])(asked)

    def _token(self, asked: Recorded) -> Reply:
        self.token_count += 1
        return ok(
            {
                "access_token": f"session-{asked.body['target']}-{self.token_count}",
                "token_type": "Bearer",
                "expires_in": self.lifetime,
                "target": asked.body["target"],
            }
        )

    def _resolve(self, asked: Recorded) -> Reply:
        assert asked.bearer.startswith(("session-", "given-"))
        found = {
            "dns": self.host,
            "gateway_host": self.host,
            "port": self.gateway.port,
            "endpoints": self.endpoints,
        }
        return plain({**found, "tls": self.gateway.tls is not None})

    def _credentials(self, asked: Recorded) -> Reply:
        if self.login is None:
            return failure(400, "no logins here")
        return plain({"host": self.host, "port": self.gateway.port, **self.login(asked.body.get("database"))})

    def _release(self, asked: Recorded) -> Reply:
        self.released.append(asked.body["username"])
        return plain({"released": True})

    def asked(self, path: str) -> list[Recorded]:
        return [one for one in self.server.requests if one.path == path]


class Lasting(httpx.AsyncBaseTransport):
    """One for the loops of several threads; whoever closes it first ends it for none."""

    def __init__(self, inner: ScriptedTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._inner.handle_async_request(request)


SESSION, RESOLVE = "/api/warden/session", "/api/v1/gateway/resolve"
CREDENTIALS, RELEASE = "/v1/db/credentials", "/v1/db/release"
_CALLS = {SESSION: "_token", RESOLVE: "_resolve", CREDENTIALS: "_credentials", RELEASE: "_release"}


def plain(document: dict[str, Any]) -> Reply:
    """An answer without the envelope."""
    return Reply(200, content=json.dumps(document).encode(), headers={"content-type": "application/json"})


async def rigs() -> AsyncIterator[Callable[..., Any]]:
    """`await make_rig_of(upstream, judge=..., tls=..., **options of Rig)`; ended in the loop that made them."""
    made: list[Rig] = []

    async def make(
        upstream: Address = ("127.0.0.1", 1), *, tls: ssl.SSLContext | None = None, **options: Any
    ) -> Rig:
        gateway = TestGateway(upstream, tls=tls)
        if "judge" in options:
            gateway.judge = options.pop("judge")
        await gateway.start()
        made.append(Rig(gateway, **options))
        return made[-1]

    yield make
    for rig in made:
        await rig.client.aclose()
        await rig.gateway.stop()


@pytest_asyncio.fixture
async def make_rig_of() -> AsyncIterator[Callable[..., Any]]:
    async for make in rigs():
        yield make


@contextlib.asynccontextmanager
async def http_of(rig: Rig) -> AsyncIterator[str]:
    """Serve a rig's calls on a real port, for what takes an address and no transport."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path, _ = first.split(" ")
                answer = await rig.server.handle_async_request(
                    httpx.Request(method, URL + path, headers=headers, content=body)
                )
                content = await answer.aread()
                writer.write(
                    f"HTTP/1.1 {answer.status_code} X\r\ncontent-length: {len(content)}\r\n\r\n".encode()
                    + content
                )
                await writer.drain()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    listener.close()
