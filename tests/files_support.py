"""A client of an orchestrator in this process, and what lies in its store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from server_support import Server

from dominus import Dominus
from dominus.orchestrator.serving.in_process import EmbeddedTransport


class Borrowed(EmbeddedTransport):
    async def aclose(self) -> None:
        """The app goes on."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(server: Server) -> AsyncIterator[Dominus]:
    async with Dominus(url="http://dominus.test", token=server.psk, transport=Borrowed(server.app)) as made:
        yield made


def store_of(server: Server) -> Path:
    return server.resources.settings.home / "files"


async def end_retention(server: Server) -> None:
    async with server.resources.postgres.system.acquire() as connection, connection.transaction():
        await connection.execute("ALTER TABLE dominus.files DISABLE TRIGGER keep_retained")
        await connection.execute(
            "UPDATE dominus.files SET retained_until = now() WHERE retained_until IS NOT NULL"
        )
        await connection.execute("ALTER TABLE dominus.files ENABLE TRIGGER keep_retained")


async def expire_garbage(server: Server) -> None:
    await server.resources.postgres.system.execute(
        "UPDATE dominus.file_contents SET keep_until = now() - interval '1 s' WHERE keep_until IS NOT NULL"
    )


def objects(server: Server) -> list[Path]:
    return [path for path in store_of(server).rglob("*") if path.is_file()]


async def chunks(data: bytes, size: int = 700_001) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
