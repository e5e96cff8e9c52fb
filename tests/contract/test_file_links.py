"""Download links: what they open, for how long, and what they refuse."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from files_support import client, end_retention
from server_support import Server, make_server, process_resources, server

from dominus import Dominus
from dominus.orchestrator.engines.objects.store import objects_at

__all__ = ["client", "make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
MIB = 1024 * 1024


async def link_of(server: Server, client: Dominus, seconds: int = 60, **file: Any) -> str:
    found = await client.files.download(expires_seconds=seconds, **file)
    return found["download_url"].removeprefix("http://dominus.test")


async def test_a_link_gives_the_bytes_and_ranges_without_a_token(client: Dominus, server: Server) -> None:
    data = os.urandom(9 * MIB)
    made = await client.files.upload(data, "wörd.html")
    path = await link_of(server, client, file_id=made["id"])
    whole = await server("GET", path, token=None)
    assert (whole.status, whole.body == data) == (200, True)
    assert whole.headers["content-type"] == "text/html"
    assert whole.headers["content-disposition"] == "attachment; filename*=UTF-8''w%C3%B6rd.html"
    assert whole.headers["x-content-type-options"] == "nosniff"
    for asked, start, end in (("8388600-8388620", 8388600, 8388621), ("-5", len(data) - 5, len(data))):
        part = await server("GET", path, token=None, headers={"range": f"bytes={asked}"})
        assert (part.status, part.body) == (206, data[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(data)}"
    beyond = await server("GET", path, token=None, headers={"range": f"bytes={len(data)}-"})
    assert beyond.status == 416
    assert (
        await server("GET", path, token=None, headers={"if-none-match": whole.headers["etag"]})
    ).status == 304
    head = await server("HEAD", path, token=None)
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(data)))


async def test_a_link_that_was_changed_has_expired_or_lost_its_file_opens_nothing(
    client: Dominus, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await client.files.upload(b"x", "x.txt")
    path = await link_of(server, client, file_id=made["id"])
    _, _, ticket, name = path.split("/")
    payload, seal = ticket.split(".")
    for wrong in (
        f"{payload}.{'0' * 64}",
        f"{payload[:-2]}AA.{seal}",
        payload,
        f"{payload}.",
        f".{seal}",
        "ü.ü",
    ):
        assert (
            await server("GET", f"/files/{wrong}/{name}".encode().decode("latin-1"), token=None)
        ).status == 403
    later = time.time() + 61
    monkeypatch.setattr("time.time", lambda: later)
    expired = await server("GET", path, token=None)
    assert (expired.status, expired.document["code"]) == (403, "link_expired")
    monkeypatch.undo()
    await client.files.delete(made["id"])
    assert (await server("GET", path, token=None)).status == 404


async def test_a_link_made_before_the_file_became_one_for_compliance_opens_it_no_more(
    client: Dominus, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dominus.access.files")
    made = await client.files.upload(b"draft", "deed.txt")
    early = await link_of(server, client, file_id=made["id"])
    deed = await client.files.upload(b"deed", "deed.txt", compliance=True, actor="ada")
    assert deed["id"] == made["id"]
    refused = await server("GET", early, token=None)
    assert (refused.status, refused.document["code"]) == (403, "link_invalid")
    late = await link_of(server, client, file_id=made["id"], actor="bert")
    caplog.clear()
    assert (await server("GET", late, token=None)).body == b"deed"
    lines = [line.getMessage() for line in caplog.records if line.name == "dominus.access.files"]
    assert [made["id"] in line and "link_of_request_id" in line for line in lines] == [True]
    assert "bert" not in late
    await end_retention(server)
    assert await client.files.delete(made["id"])


async def test_a_link_to_a_store_that_does_not_answer_is_a_503(client: Dominus, server: Server) -> None:
    made = await client.files.upload(b"x" * MIB, "away.bin")
    path = await link_of(server, client, file_id=made["id"])
    kept = server.resources.objects
    server.resources.objects = objects_at("s3://bucket?region=us-east-1&endpoint=http://127.0.0.1:9")
    try:
        away = await server("GET", path, token=None)
    finally:
        server.resources.objects = kept
    assert (away.status, away.document["code"]) == (503, "files_unavailable")
