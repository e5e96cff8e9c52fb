"""Files: parts, replacement, paths, and what is collected."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from files_support import chunks, client, expire_garbage, objects, store_of
from server_support import Server, make_server, process_resources, server

from dominus import ConflictError, Dominus, NotFoundError, ServiceError, ValidationError
from dominus.contract import files as contract
from dominus.errors import RateLimitError
from dominus.orchestrator.services.files import collect

__all__ = ["client", "make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
MIB = 1024 * 1024
BYTES = "application/octet-stream"


@pytest.mark.parametrize("form", ["bytes", "path", "file", "iterator"])
async def test_a_large_file_travels_in_parts_and_comes_back(
    form: str, client: Dominus, tmp_path: Path
) -> None:
    data = os.urandom(20 * MIB + 17)
    path = tmp_path / "large.bin"
    path.write_bytes(data)
    told: list[tuple[int, int | None]] = []
    with path.open("rb") as opened:
        given: Any = {"bytes": data, "path": path, "file": opened, "iterator": chunks(data)}[form]
        made = await client.files.upload(
            given, "large.bin", path=f"large/{form}", progress=lambda done, total: told.append((done, total))
        )
    assert (made["size"], made["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert told[-1][0] == len(data)
    assert b"".join([piece async for piece in client.files.stream(made["id"])]) == data
    saved = tmp_path / "saved.bin"
    await client.files.save(saved, made["id"])
    assert saved.read_bytes() == data
    assert [item.name for item in tmp_path.iterdir() if item.name.endswith(".part")] == []
    async with client.files.open(made["id"]) as file:
        file.seek(8 * MIB - 5)
        assert await file.read(10) == data[8 * MIB - 5 : 8 * MIB + 5]
        assert file.tell() == 8 * MIB + 5
        file.seek(-3, 2)
        assert await file.read() == data[-3:]
        assert await file.read() == b""


async def test_an_empty_file_is_a_file(client: Dominus) -> None:
    made = await client.files.upload(b"", "empty")
    streamed = await client.files.upload(chunks(b""), "streamed-empty")
    assert (made["size"], streamed["size"]) == (0, 0)
    assert await client.files.read(made["id"]) == await client.files.read(streamed["id"]) == b""


async def test_an_interrupted_upload_goes_on_with_what_is_missing(client: Dominus, server: Server) -> None:
    data = os.urandom(20 * MIB)

    async def broken() -> AsyncIterator[bytes]:
        yield data[: 9 * MIB]
        raise ServiceError("the source broke")

    with pytest.raises(ServiceError) as caught:
        await client.files.upload(broken(), "resumed.bin")
    upload_id = caught.value.details["upload_id"]
    # A restart forgets what was added up.
    server.resources.digests.forget(upload_id)
    before = {path for path in objects(server) if upload_id in str(path)}
    made = await client.files.upload(data, "resumed.bin", resume=upload_id)
    assert made["sha256"] == hashlib.sha256(data).hexdigest()
    assert len(before) <= 1
    assert before <= {path for path in objects(server) if upload_id in str(path)}


@pytest.mark.parametrize(
    ("data", "options", "what"),
    [
        (Path("/nonexistent"), {}, "cannot be read: No such file"),
        (Path("/tmp"), {}, "cannot be read: Is a directory"),
        ("text", {}, "a path"),
        (b"x", {"tags": ["a"]}, "tags"),
        (b"x" * 2 * MIB, {"tags": ["a"]}, "tags"),
        (b"x", {"content_type": "text/html\r\nx: y"}, "content_type"),
    ],
)
async def test_what_cannot_be_uploaded_is_refused_and_begins_nothing(
    data: Any, options: dict[str, Any], what: str, client: Dominus, server: Server
) -> None:
    async def contents() -> int:
        return await server.resources.postgres.system.fetchval("SELECT count(*) FROM dominus.file_contents")

    before = await contents()
    with pytest.raises(ValidationError, match=what):
        await client.files.upload(data, "wrong.bin", **options)
    assert await contents() == before


def cursor(*values: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).rstrip(b"=").decode()


async def test_a_cursor_or_text_that_no_database_takes_is_refused_by_its_name(
    client: Dominus, server: Server
) -> None:
    for kind in (10**30, 2**40, -1, True, 1.5, None):
        reply = await server("POST", "/api/archivist/browse", {"cursor": cursor(kind, "a", "b")})
        assert (reply.status, reply.code) == (400, "invalid_cursor")
    for said in ("[]", '["a\\u0000", "b"]', '["\\ud800", "b"]', "x"):
        wrong = base64.urlsafe_b64encode(said.encode()).decode()
        assert (await server("POST", "/api/archivist/list", {"cursor": wrong})).code == "invalid_cursor"
    made = await client.files.upload(b"x", "described.txt")
    with pytest.raises(ValidationError, match="description"):
        await client.files.update_meta(made["id"], description="a\0b")
    reply = await server("POST", "/api/archivist/update", {"id": made["id"], "description": "a\0b"})
    assert (reply.status, reply.code) == (400, "validation")
    changed = await client.files.update_meta(made["id"], description="two\nlines")
    assert changed["description"] == "two\nlines"


async def test_a_file_of_the_longest_name_is_saved_and_one_that_is_too_long_here_is_refused(
    client: Dominus, tmp_path: Path
) -> None:
    long, too_long = "n" * 251 + ".txt", "é" * 200
    for name in (long, too_long):
        await client.files.upload(b"x", name, path=name)
    await client.files.save(tmp_path, path=long)
    assert (tmp_path / long).read_bytes() == b"x"
    with pytest.raises(ValidationError, match="cannot be written: File name too long"):
        await client.files.save(tmp_path, path=too_long)
    with pytest.raises(ValidationError, match="cannot be written"):
        await client.files.save(tmp_path / "none" / "x", path=long)
    assert [path.name for path in tmp_path.iterdir()] == [long]


async def test_an_error_of_the_source_itself_says_how_the_upload_goes_on(client: Dominus) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (9 * MIB)
        raise KeyError("the caller's own")

    with pytest.raises(KeyError) as caught:
        await client.files.upload(broken(), "note.bin")
    (note,) = caught.value.__notes__
    upload_id = note.split("'")[1]
    made = await client.files.upload(b"x" * (9 * MIB), "note.bin", resume=upload_id)
    assert made["size"] == 9 * MIB


async def test_parts_in_any_order_and_twice_make_one_file_and_gaps_make_none(client: Dominus) -> None:
    first, last = os.urandom(8 * MIB), b"end"
    whole = hashlib.sha256(first + last).hexdigest()
    upload_id = (await client.files.start_upload("ordered"))["upload_id"]
    await client.files.put_part(upload_id, 1, last)
    with pytest.raises(ConflictError) as caught:
        await client.files.finish_upload(upload_id, whole, len(first + last))
    assert (caught.value.code, caught.value.details["missing"]) == ("part_missing", [0])
    await client.files.put_part(upload_id, 0, b"other bytes")
    await client.files.put_part(upload_id, 0, first)
    await client.files.put_part(upload_id, 0, first)
    with pytest.raises(ValidationError) as wrong:
        await client.files.finish_upload(upload_id, "0" * 64, len(first + last))
    assert wrong.value.code == "checksum_mismatch"
    made = await client.files.finish_upload(upload_id, whole, len(first + last))
    assert await client.files.read(made["id"], 8 * MIB - 1) == first[-1:] + last
    with pytest.raises(NotFoundError):
        await client.files.put_part(upload_id, 1, b"too late")


async def test_a_part_that_changed_on_its_way_is_refused(client: Dominus, server: Server) -> None:
    upload_id = (await client.files.start_upload("changed"))["upload_id"]
    path = f"/api/archivist/uploads/{upload_id}/parts/0/{'0' * 64}"
    reply = await server("POST", path, b"hello", kind=BYTES)
    assert (reply.status, reply.code) == (400, "checksum_mismatch")
    too_large = await server("POST", path, [b"x" * MIB] * 9, kind=BYTES)
    assert (too_large.status, too_large.code) == (400, "part_too_large")
    other = await server("POST", path, b"hello", kind=BYTES, token=server.token(subject="service:other"))
    assert (other.status, other.code) == (404, "upload_not_found")


async def test_of_uploads_to_one_path_one_wins_whole_and_the_others_are_collected(
    client: Dominus, server: Server
) -> None:
    bodies = [bytes([number]) * (9 * MIB) for number in range(4)]
    made = await asyncio.gather(
        *(client.files.upload(body, "raced.bin", category="raced") for body in bodies)
    )
    assert len({file["id"] for file in made}) == 1
    assert sorted(file["version"] for file in made) == [1, 2, 3, 4]
    stored = b"".join([piece async for piece in client.files.stream(category="raced", path="raced.bin")])
    assert stored in bodies
    current = await client.files.get(category="raced", path="raced.bin")
    async with client.files.open(current["id"]) as file:
        await client.files.upload(b"new", "raced.bin", category="raced")
        # Who began to read goes on with what it saw.
        assert await file.read() == stored
        await expire_garbage(server)
        await collect(server.resources)
        file.seek(0)
        with pytest.raises(ConflictError) as caught:
            await file.read(5)
        assert caught.value.code == "file_changed"
    assert await client.files.read(current["id"]) == b"new"


async def test_what_no_file_needs_is_collected_and_nothing_else(client: Dominus, server: Server) -> None:
    await client.files.factory_reset(confirm=True)
    kept = await client.files.upload(b"kept", "kept.txt")
    gone = await client.files.upload(b"gone", "gone.txt")
    upload_id = (await client.files.start_upload("half"))["upload_id"]
    await client.files.put_part(upload_id, 0, b"half")
    await client.files.delete(gone["id"])
    await client.files.abort_upload(upload_id)
    await expire_garbage(server)
    assert await collect(server.resources) >= 2
    assert len(objects(server)) == 1
    assert await client.files.read(kept["id"]) == b"kept"
    assert await collect(server.resources) == 0


async def test_files_and_folders_of_the_store_are_for_their_user_alone(
    client: Dominus, server: Server
) -> None:
    await client.files.upload(b"secret", "secret-name.txt")
    root = store_of(server)
    for path in (root, *root.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
        assert "secret-name" not in str(path)


@pytest.mark.parametrize(
    "path",
    [
        "../etc/passwd",
        "a/../b",
        "/etc/passwd",
        "a\0b",
        "x" * 5000,
        "a//b",
        ".",
        "a/",
        "a\\..\\b",
        "\ud800",
        "x" * 300,
    ],
)
async def test_a_wrong_path_is_refused_by_both_halves(path: str, client: Dominus, server: Server) -> None:
    for call in (
        lambda: client.files.upload(b"x", "x", path=path),
        lambda: client.files.upload(b"x" * 2 * MIB, "x", path=path),
        lambda: client.files.get(path=path),
    ):
        with pytest.raises(ValidationError):
            await call()
    body = {"filename": "x", "file_content": "eA==", "logical_path": path}
    reply = await server("POST", "/api/archivist/upload", body)
    assert (reply.status, reply.code in {"validation", "bad_body"}) == (400, True)


async def test_projects_see_nothing_of_each_other(client: Dominus, server: Server) -> None:
    made = await client.files.upload(b"mine", "mine.txt")
    other = server.token(project="other")
    for route, body in (
        ("get", {"id": made["id"]}),
        ("get", {"logical_path": "mine.txt"}),
        ("fetch", {"id": made["id"]}),
    ):
        assert (await server("POST", f"/api/archivist/{route}", body, token=other)).status == 404
    listed = await server("POST", "/api/archivist/list", {}, token=other)
    assert listed.data["objects"] == []
    assert (await server("POST", "/api/archivist/delete", {"id": made["id"]}, token=other)).data == {
        "deleted": False
    }


async def test_folders_are_browsed_page_by_page(client: Dominus) -> None:
    for path in ("a/1.txt", "a/2.pdf", "a/b/3.txt", "a/c/d/4.txt", "ab/5.txt"):
        await client.files.upload(b"x", path.rpartition("/")[2], category="tree", path=path)
    await client.files.create_folder("/a/empty", "tree")
    names: list[str] = []
    cursor: str | None = None
    while True:
        page = await client.files.browse("/a", "tree", limit=2, cursor=cursor)
        names += [folder["name"] for folder in page["folders"]] + [file["filename"] for file in page["files"]]
        cursor = page["cursor"]
        if not cursor:
            break
    assert names == ["b", "c", "empty", "1.txt", "2.pdf"]
    assert [file["path"] async for file in client.files.iterate("tree", "a/")] == [
        "a/1.txt",
        "a/2.pdf",
        "a/b/3.txt",
        "a/c/d/4.txt",
    ]
    with pytest.raises(ConflictError):
        await client.files.delete_folder("/a", "tree")
    assert (await client.files.delete_folder("/a", "tree", force=True))["deleted_count"] == 4
    assert [file["path"] async for file in client.files.iterate("tree")] == ["ab/5.txt"]
    with pytest.raises(ValidationError):
        await client.files.list(cursor="nonsense")


async def test_one_caller_has_so_many_uploads_at_a_time(client: Dominus, server: Server) -> None:
    await client.files.factory_reset(confirm=True)
    started = [await client.files.start_upload(f"u{number}") for number in range(64)]
    with pytest.raises(RateLimitError) as caught:
        await client.files.start_upload("one more", timeout=1)
    assert caught.value.code == "too_many_uploads"
    # Those of a program that left them behind do not keep it out.
    await server.resources.postgres.system.execute(
        "UPDATE dominus.file_contents SET created_at = created_at - interval '1 hour' WHERE id = $1",
        started[0]["upload_id"],
    )
    started.append(await client.files.start_upload("one more"))
    for upload in started:
        await client.files.abort_upload(upload["upload_id"])


async def test_a_server_without_a_store_says_so(server: Server) -> None:
    kept, server.resources.objects = server.resources.objects, None
    try:
        reply = await server("POST", "/api/archivist/upload", dict(contract.UploadRequest.example))
        assert (reply.status, reply.code) == (503, "files_not_configured")
        assert (await server("POST", "/api/archivist/list", {})).status == 200
    finally:
        server.resources.objects = kept
