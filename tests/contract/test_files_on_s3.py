"""Files of an orchestrator that keeps them in S3: up in parts, resumed, read in ranges, linked, deleted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import obstore
import pytest
import pytest_asyncio
from files_support import Borrowed
from obstore.store import S3Store
from pydantic import SecretStr
from s3_support import s3_url
from server_support import Server, make_server, process_resources

from dominus import Dominus, DominusError, ServiceError
from dominus.orchestrator.engines.objects.store import objects_at
from dominus.orchestrator.services.files import collect

__all__ = ["make_server", "process_resources", "s3_url"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
MIB = 1024 * 1024


@pytest_asyncio.fixture(loop_scope="module")
async def server(make_server: Callable[..., Awaitable[Server]], s3_url: str) -> Server:
    return await make_server(files_url=SecretStr(s3_url))


@pytest_asyncio.fixture(loop_scope="module")
async def client(server: Server) -> AsyncIterator[Dominus]:
    async with Dominus(url="http://dominus.test", token=server.psk, transport=Borrowed(server.app)) as made:
        yield made


def names_in(s3_url: str) -> list[str]:
    endpoint = s3_url.partition("endpoint=")[2]
    options: Any = {"endpoint": endpoint, "region": "us-east-1", "client_options": {"allow_http": True}}
    store = S3Store("bucket", **options)
    return [item["path"] for page in obstore.list(store) for item in page]


async def test_a_file_goes_up_in_parts_is_resumed_read_linked_and_deleted(
    client: Dominus, server: Server, s3_url: str
) -> None:
    data = os.urandom(25 * MIB + 3)

    async def broken() -> AsyncIterator[bytes]:
        yield data[: 24 * MIB]
        raise ServiceError("the source broke")

    with pytest.raises(DominusError) as caught:
        await client.files.upload(broken(), "film.bin")
    upload_id: str = caught.value.details["upload_id"]
    arrived = {part["number"] for part in (await client.files.list_parts(upload_id))["parts"]}
    assert arrived
    before = {name for name in names_in(s3_url) if upload_id in name}
    made = await client.files.upload(data, "film.bin", resume=upload_id)
    assert (made["size"], made["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    names = [name for name in names_in(s3_url) if upload_id in name]
    # One object a part, below the prefix, and under no name of the user's.
    assert len(names) == 4
    assert before <= set(names)
    assert all(name.startswith("prefix/") and "film" not in name for name in names)

    assert b"".join([piece async for piece in client.files.stream(made["id"])]) == data
    assert await client.files.read(made["id"], 8 * MIB - 5, 10) == data[8 * MIB - 5 : 8 * MIB + 5]
    link = (await client.files.download(made["id"]))["download_url"].removeprefix("http://dominus.test")
    assert "127.0.0.1" not in link
    assert (await server("GET", link, token=None)).body == data
    part = await server("GET", link, token=None, headers={"range": f"bytes={16 * MIB - 2}-{16 * MIB + 1}"})
    assert (part.status, part.body) == (206, data[16 * MIB - 2 : 16 * MIB + 2])

    small = await client.files.upload(b"small", "film.bin")
    assert (small["id"], small["version"]) == (made["id"], 2)
    assert await client.files.read(small["id"]) == b"small"
    assert await client.files.delete(small["id"])
    assert (await server("GET", link, token=None)).status == 404
    await server.resources.postgres.system.execute(
        "UPDATE dominus.file_contents SET keep_until = now() - interval '1 s' WHERE keep_until IS NOT NULL"
    )
    assert await collect(server.resources) >= 2
    assert not [name for name in names_in(s3_url) if upload_id in name]


async def test_an_upload_waits_out_a_store_that_is_away(client: Dominus, server: Server) -> None:
    data = os.urandom(9 * MIB)
    kept = server.resources.objects
    upload_id = (await client.files.start_upload("away.bin"))["upload_id"]
    server.resources.objects = objects_at("s3://bucket?region=us-east-1&endpoint=http://127.0.0.1:9")
    try:
        with pytest.raises(ServiceError) as caught:
            await client.files.put_part(upload_id, 0, data[: 8 * MIB], timeout=20)
        assert caught.value.code == "files_unavailable"
        assert "127.0.0.1" not in str(caught.value)
        assert (await client.files.list_parts(upload_id))["parts"] == []
    finally:
        server.resources.objects = kept
    made = await client.files.upload(data, "away.bin", resume=upload_id)
    assert made["sha256"] == hashlib.sha256(data).hexdigest()
