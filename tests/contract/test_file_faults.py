"""Files when something is in the way: a full disk, too many at once, a deadline in the middle, a collector."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from disk_support import mounted, no_space
from server_support import Server, make_server, process_resources, server

from dominus.orchestrator.engines.objects.store import LocalFolder
from dominus.orchestrator.handlers import resources
from dominus.orchestrator.services.files import collect

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
MakeServer = Callable[..., Awaitable[Server]]
MIB = 1024 * 1024
BYTES = "application/octet-stream"


async def start(server: Server, name: str) -> str:
    return (await server("POST", "/api/archivist/uploads/start", {"filename": name})).data["upload_id"]


async def put(server: Server, upload_id: str, number: int, data: Any, sha256: str | None = None) -> Any:
    if sha256 is None:
        sha256 = hashlib.sha256(data).hexdigest()
    return await server(
        "POST", f"/api/archivist/uploads/{upload_id}/parts/{number}/{sha256}", data, kind=BYTES
    )


async def finish(server: Server, upload_id: str, data: bytes) -> Any:
    body = {"upload_id": upload_id, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    return await server("POST", "/api/archivist/uploads/finish", body)


async def test_a_full_disk_is_told_and_the_upload_goes_on_when_there_is_space(
    server: Server, tmp_path: Path
) -> None:
    data = os.urandom(9 * MIB)
    kept = server.resources.objects
    with mounted(tmp_path / "disk", "32m") as disk:
        server.resources.objects = LocalFolder(disk / "files", is_durable=False)
        try:
            upload_id = await start(server, "full.bin")
            assert (await put(server, upload_id, 0, data[: 8 * MIB])).status == 200
            with no_space(disk):
                small = {"filename": "small", "file_content": "aGVsbG8="}
                for refused in (
                    await put(server, upload_id, 1, data[8 * MIB :]),
                    await server("POST", "/api/archivist/upload", small),
                ):
                    assert (refused.status, refused.code) == (507, "disk_full")
                    assert refused.document["details"] == {"engine": "files"}
                health = await server("GET", "/api/health", token=None)
                assert health.document["engines"]["postgres"]["status"] == "ok"
                assert (await server("POST", "/api/archivist/list", {})).status == 200
            assert (await put(server, upload_id, 1, data[8 * MIB :])).status == 200
            made = await finish(server, upload_id, data)
            assert made.data["sha256"] == hashlib.sha256(data).hexdigest()
        finally:
            server.resources.objects = kept


async def test_more_parts_at_once_than_a_caller_may_send_are_refused_as_its_own_doing(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "FILES_WAIT_SECONDS", 0.3)
    server = await make_server()
    upload_id = await start(server, "crowd")
    sent, release = 0, asyncio.Event()

    async def dripping() -> Any:
        nonlocal sent
        sent += 1
        yield b"x"
        await release.wait()
        yield b"y"

    sha256 = hashlib.sha256(b"xy").hexdigest()
    tasks = [asyncio.ensure_future(put(server, upload_id, number, dripping(), sha256)) for number in range(6)]
    async with asyncio.timeout(5):
        while sent < 6:
            await asyncio.sleep(0.01)
    refused = await put(server, upload_id, 6, b"more")
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (429, "too_many_parts", "1")
    # Others have theirs.
    other = server.token(subject="service:other")
    assert (await server("POST", "/api/archivist/read", {"logical_path": "none"}, token=other)).status == 404
    release.set()
    assert {reply.status for reply in await asyncio.gather(*tasks)} == {200}


async def test_a_part_that_waits_for_a_place_holds_up_none_that_has_one(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "FILES_WAIT_SECONDS", 2.0)
    server = await make_server()
    upload_id = await start(server, "backwards")
    parts = [bytes([number]) * 100 for number in range(40)]
    replies = await asyncio.gather(
        *(put(server, upload_id, number, parts[number]) for number in reversed(range(40)))
    )
    assert {reply.status for reply in replies} == {200}


async def test_a_part_whose_deadline_passed_while_it_was_added_up_is_added_once(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(MIB)
    upload_id = await start(server, "late.bin")
    running = server.resources.digests.of(upload_id)
    slow, added, release = _SlowDigest(), threading.Event(), threading.Event()
    slow.added, slow.release = added, release
    running._hash = slow
    sha256 = hashlib.sha256(data).hexdigest()
    path = f"/api/archivist/uploads/{upload_id}/parts/0/{sha256}"
    late = await server("POST", path, data, kind=BYTES, headers={"dominus-deadline-ms": "300"})
    assert (late.status, late.code) == (504, "deadline")
    release.set()
    assert await asyncio.to_thread(added.wait, 5)
    assert (await put(server, upload_id, 0, data)).status == 200
    assert (await finish(server, upload_id, data)).status == 200


class _SlowDigest:
    """A SHA-256 whose first update ends when the test says so."""

    added: threading.Event
    release: threading.Event

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, data: bytes | bytearray) -> None:
        self.release.wait(5)
        self._hash.update(data)
        self.added.set()

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def copy(self) -> _SlowDigest:
        other = _SlowDigest()
        other._hash = self._hash.copy()
        other.added, other.release = self.added, self.release
        return other


async def test_a_part_that_comes_when_its_upload_was_collected_leaves_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = await start(server, "collected")
    store = server.resources.objects
    assert isinstance(store, LocalFolder)
    write = store.put

    async def meanwhile(name: str, data: bytes | bytearray) -> None:
        await server("POST", "/api/archivist/uploads/abort", {"upload_id": upload_id})
        await collect(server.resources)
        await write(name, data)

    monkeypatch.setattr(store, "put", meanwhile)
    reply = await put(server, upload_id, 0, b"late")
    assert (reply.status, reply.code) == (404, "upload_not_found")
    folder = server.resources.settings.home / "files"
    assert not list(folder.rglob(f"*{upload_id}*"))


async def test_an_upload_whose_end_was_not_heard_of_is_found_finished(server: Server) -> None:
    data = os.urandom(100)
    upload_id = await start(server, "heard.bin")
    await put(server, upload_id, 0, data)
    made = await finish(server, upload_id, data)
    for _ in range(2):
        parts = (await server("POST", "/api/archivist/uploads/parts", {"upload_id": upload_id})).data["parts"]
        assert [part["number"] for part in parts] == [0]
        assert (await finish(server, upload_id, data)).data == made.data
    other = await finish(server, upload_id, b"other bytes")
    assert (other.status, other.code) == (404, "upload_not_found")
    stranger = server.token(subject="service:other")
    body = {"upload_id": upload_id, "sha256": made.data["sha256"], "size": 100}
    assert (await server("POST", "/api/archivist/uploads/finish", body, token=stranger)).status == 404
    await server("POST", "/api/archivist/upload", {"filename": "heard.bin", "file_content": "eA=="})
    gone = await finish(server, upload_id, data)
    assert (gone.status, gone.code) == (404, "upload_not_found")


async def test_of_small_and_large_uploads_to_one_path_at_once_the_last_answer_is_the_file(
    server: Server,
) -> None:
    """What is read is one of them whole; versions count all; the bytes are those of the highest version."""
    bodies = {f"{number}": bytes([65 + number]) * (900 + number) for number in range(12)}

    async def send(data: bytes) -> Any:
        if data[0] % 2:
            reply = await server(
                "POST",
                "/api/archivist/upload",
                {"filename": "one", "logical_path": "raced/one", "file_content": _base64(data)},
            )
            return reply.data
        upload = {"filename": "one", "logical_path": "raced/one"}
        upload_id = (await server("POST", "/api/archivist/uploads/start", upload)).data["upload_id"]
        assert (await put(server, upload_id, 0, data)).status == 200
        return (await finish(server, upload_id, data)).data

    stop = asyncio.Event()

    async def reading() -> int:
        count = 0
        while not stop.is_set():
            reply = await server("POST", "/api/archivist/fetch", {"logical_path": "raced/one"})
            if reply.status == 200:
                assert base64.b64decode(reply.data["data"]) in bodies.values()
                count += 1
            else:
                assert reply.status == 404
        return count

    reader = asyncio.ensure_future(reading())
    made = await asyncio.gather(*map(send, bodies.values()))
    stop.set()
    assert await reader > 0
    assert sorted(file["version"] for file in made) == list(range(1, 13))
    last = max(made, key=lambda file: file["version"])
    found = await server("POST", "/api/archivist/get", {"logical_path": "raced/one"})
    assert found.data == last
    fetched = await server("POST", "/api/archivist/fetch", {"logical_path": "raced/one"})
    assert hashlib.sha256(_bytes(fetched.data["data"])).hexdigest() == last["sha256"]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
