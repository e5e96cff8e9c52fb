"""A session holder who attacks, and callers of the same orchestrator: on the embedded PostgreSQL, and on one that serves."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import re
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest

from dominus import Dominus
from dominus.contract.handshake import encode_hello, read_reply
from dominus.orchestrator.engines.postgres import embedded
from dominus.orchestrator.engines.postgres.template import clone_database, drop_database
from dominus.orchestrator.gateway.logins.credentials import Login
from dominus.orchestrator.handlers.resources import Resources
from dominus.orchestrator.http.app import Orchestrator
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.serving.assembly import ProcessResources, open_process_resources, open_resources
from dominus.orchestrator.serving.in_process import EmbeddedTransport
from dominus.orchestrator.settings import ServerSettings

MALLORY = Principal("psk:mallory", "session", frozenset({"gateway:postgres"}), target="postgres")
ALICE = Principal("psk:alice", "session", frozenset({"gateway:postgres"}), target="postgres")
PORT = 5432
numbers = itertools.count()

# What a trap tries wherever it runs: to be whoever logged in, and to write itself a key with every scope. It runs as
# whoever sprang it, and writes down what came of it.
PAYLOAD = """
CREATE TABLE public.loot (said text);
CREATE FUNCTION public.payload() RETURNS text LANGUAGE plpgsql AS $$
DECLARE said text;
BEGIN
  PERFORM set_config('role', 'none', true);
  BEGIN
    INSERT INTO dominus.psks (id, name, psk_sha256, scopes) VALUES ('evil', 'evil', '\\x00', '{*}');
    said := 'wrote a key';
  EXCEPTION WHEN OTHERS THEN
    said := SQLERRM;
  END;
  PERFORM set_config('role', 'dominus_data', true);
  INSERT INTO public.loot VALUES (said);
  RETURN said;
END $$;
CREATE FUNCTION public.trap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM public.payload();
  RETURN coalesce(NEW, OLD);
END $$;
"""


@dataclass
class World:
    """One orchestrator with a database of its own."""

    process: ProcessResources
    resources: Resources
    client: Dominus
    transport: EmbeddedTransport
    opened: list[Any] = field(default_factory=list[Any])

    async def login(self, principal: Principal = MALLORY) -> Login:
        gateway = self.resources.gateway
        assert gateway is not None
        return await gateway.credentials.create(principal, "postgres")

    async def session(self, principal: Principal = MALLORY) -> Any:
        """Open a session's connection, past the gateway."""
        login = await self.login(principal)
        connection = await asyncpg.connect(self.process.dsn, user=login.username, password=login.password)
        await connection.execute("SET search_path = public")
        self.opened.append(connection)
        return connection

    async def loot(self) -> list[str]:
        """Return what the traps have noted."""
        async with self.resources.postgres.data.acquire() as connection:
            return [row["said"] for row in await connection.fetch("SELECT said FROM public.loot")]

    async def keys(self) -> int:
        return await self.resources.postgres.system.fetchval("SELECT count(*) FROM dominus.psks")

    async def knock(self, *messages: bytes, principal: Principal = MALLORY, hello: bool = True) -> bytes:
        """Say something through the gateway, and return what the server answers before it waits or hangs up."""
        gateway = self.resources.gateway
        assert gateway is not None
        place = await gateway.place()
        token = self.resources.tokens.mint_session(principal, "postgres", 60)
        reader, writer = await asyncio.open_connection(place.host, place.port)
        try:
            writer.write(encode_hello(token))
            reply = b""
            while (read := read_reply(reply)) is None:
                chunk = await asyncio.wait_for(reader.read(1), 10)
                assert chunk, reply
                reply += chunk
            assert read.code == "", read
            heard = b""
            for message in messages:
                writer.write(message)
                heard = await asyncio.wait_for(reader.read(4096), 10)
            return heard
        finally:
            writer.close()


def startup(version: int = 196608, **parameters: str) -> bytes:
    """Write a startup message."""
    words = [word.encode() + b"\0" for pair in parameters.items() for word in pair]
    return framed(struct.pack(">I", version) + b"".join(words) + b"\0")


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 4) + body


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _settings(home: Path, **more: Any) -> ServerSettings:
    # One connection for users' statements: whatever a trap leaves there, the next caller would get.
    return ServerSettings(
        home=home, is_durable=False, request_log=False, pool_size=1, rate_limit=1e6, rate_burst=10**6, **more
    )


async def _prepare(process: ProcessResources) -> None:
    async with open_resources(process):
        pass


@pytest.fixture(scope="module", params=["embedded", "served"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProcessResources]:
    """An installation whose database is the template of the tests'."""
    home = tmp_path_factory.mktemp("escape") / "home"
    if request.param == "embedded":
        process = open_process_resources(_settings(home), "a test")
        try:
            asyncio.run(_prepare(process))
            yield process
        finally:
            process.close()
        return
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(embedded._SETTINGS, "listen_addresses", "127.0.0.1")
        patch.setitem(embedded._SETTINGS, "port", str(port))
        server = embedded.EmbeddedPostgres(home / "server", is_durable=False)
        dsn = server.start().replace("port=5432", f"port={port}")
    try:
        asyncio.run(_make_owner(dsn))
        url = f"postgresql://app:{quote('of the app')}@127.0.0.1:{port}/app"
        process = open_process_resources(_settings(home / "app", database_url=url), "a test")
        asyncio.run(_prepare(process))
        yield process
        process.close()
    finally:
        server.stop()


async def _make_owner(dsn: str) -> None:
    """As an administrator of a managed PostgreSQL does; CREATEDB is for these tests alone."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "CREATE ROLE app LOGIN CREATEROLE CREATEDB PASSWORD 'of the app'; GRANT app TO CURRENT_USER"
    )
    await connection.execute("CREATE DATABASE app OWNER app")
    await connection.close()


@pytest.fixture
async def world(place: ProcessResources) -> AsyncIterator[World]:
    name = f"world{next(numbers)}"
    origin = re.search(r"/(\w+)(\?|$)", place.dsn.partition("@")[2])
    assert origin
    dsn = await clone_database(place.dsn, origin[1], name)
    process = dataclasses.replace(
        place, dsn=dsn, home=(place.home or Path()) / name, hold=None, postgres=None
    )
    app = Orchestrator(lambda: open_resources(process))
    transport = EmbeddedTransport(app)
    await transport.open()
    client = Dominus(url="http://localhost", token=process.root_token, transport=transport)
    world = World(process, app.resources, client, transport)
    try:
        yield world
    finally:
        for connection in world.opened:
            connection.terminate()
        await client.aclose()
        await transport.aclose()
        await drop_database(place.dsn, name)
