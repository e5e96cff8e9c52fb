"""Files: parts, replacement, retention, links, paths, and what is collected."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from server_support import Server, make_server, process_resources, server

from dominus import ConflictError, Dominus, NotFoundError, ServiceError, ValidationError
from dominus.contract import files as contract
from dominus.errors import RateLimitError
from dominus.orchestrator.engines.objects.store import objects_at
from dominus.orchestrator.services.files import collect
from dominus.orchestrator.serving.in_process import EmbeddedTransport

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
MIB = 1024 * 1024
BYTES = "application/octet-stream"


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


async def test_a_retained_file_stays_as_it_is_whoever_asks(client: Dominus, server: Server) -> None:
    with pytest.raises(ValidationError, match="owner"):
        await client.files.upload(b"x", "law.txt", compliance=True)
    kept: dict[str, Any] = {"category": "law", "path": "cases/law.txt"}
    law = await client.files.upload(b"law", "law.txt", compliance=True, actor="ada", **kept)
    attempts = [
        client.files.delete(law["id"]),
        client.files.upload(b"other", "law.txt", **kept),
        client.files.upload(chunks(b"other"), "law.txt", **kept),
        client.files.move(law["id"], new_category="other"),
        client.files.delete_folder("cases", "law", force=True),
    ]
    for attempt in attempts:
        with pytest.raises(ConflictError) as caught:
            await attempt
        assert caught.value.code == "file_retained"
    found = await client.files.factory_reset(confirm=True, preserve_compliance=False)
    assert (found["retained_count"], found["by_category"]["law"]["retained_count"]) == (1, 1)
    for read in (client.files.fetch, client.files.read, client.files.download):
        with pytest.raises(ValidationError) as nobody:
            await read(law["id"])
        assert nobody.value.code == "actor_required"
    assert await client.files.read(law["id"], actor="bert") == b"law"
    moved = await client.files.move(law["id"], new_path="closed/law.txt")
    assert (moved["path"], moved["retained_until"]) == ("closed/law.txt", law["retained_until"])
    await end_retention(server)
    assert await client.files.delete(law["id"])


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM dominus.files",
        "TRUNCATE dominus.files",
        "UPDATE dominus.files SET retained_until = NULL WHERE id = $1",
        "UPDATE dominus.files SET retained_until = retained_until - interval '1 s' WHERE id = $1",
        "UPDATE dominus.files SET content_id = gen_random_uuid() WHERE id = $1",
        "UPDATE dominus.files SET sha256 = 'x' WHERE id = $1",
        "UPDATE dominus.files SET is_compliance = false WHERE id = $1",
        "UPDATE dominus.files SET project = 'other' WHERE id = $1",
        "UPDATE dominus.files SET category = 'other' WHERE id = $1",
    ],
)
async def test_a_statement_that_forgot_retention_is_refused_by_the_table(
    statement: str, client: Dominus, server: Server
) -> None:
    law = await client.files.upload(b"law", "kept.txt", category="law2", compliance=True, actor="ada")
    system = server.resources.postgres.system
    try:
        with pytest.raises(asyncpg.PostgresError) as caught:
            await system.execute(statement, *([law["id"]] if "$1" in statement else []))
        assert caught.value.sqlstate == "DF001"
        assert await client.files.read(law["id"], actor="ada") == b"law"
    finally:
        await end_retention(server)
        await client.files.delete(law["id"])


async def test_a_retained_file_is_safe_from_what_happens_around_it(client: Dominus, server: Server) -> None:
    law = await client.files.upload(b"law", "a/kept.txt", category="law3", compliance=True, actor="ada")
    other = await client.files.upload(b"other", "other.txt", category="law3")
    with pytest.raises(ConflictError) as taken:
        await client.files.move(other["id"], new_path="a/kept.txt")
    assert taken.value.code == "file_exists"
    moved = await client.files.move(law["id"], new_path="b/kept.txt")
    # The folder that it left may go, and the one that it is in may not.
    assert not (await client.files.delete_folder("a", "law3", force=True))["deleted_count"]
    beside = await client.files.upload(b"x", "b/free.txt", category="law3")
    with pytest.raises(ConflictError):
        await client.files.delete_folder("b", "law3", force=True)
    assert (await client.files.get(beside["id"]))["path"] == "b/free.txt"
    for again in ({}, {"compliance": True, "actor": "ada", "retention_days": 1}):
        with pytest.raises(ConflictError):
            await client.files.upload(b"new", "b/kept.txt", category="law3", **again)
    found = await client.files.get(law["id"])
    assert (found["retained_until"], found["sha256"]) == (moved["retained_until"], law["sha256"])
    # What is collected is never what a file has.
    await expire_garbage(server)
    await collect(server.resources)
    assert await client.files.read(law["id"], actor="ada") == b"law"
    await end_retention(server)
    assert (await client.files.delete_folder("b", "law3", force=True))["deleted_count"] == 2


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
    assert [made["id"] in line and "link_of_request_id" in line for line in caplog.messages] == [True]
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


async def test_one_caller_has_so_many_uploads_at_a_time(client: Dominus) -> None:
    await client.files.factory_reset(confirm=True)
    started = [await client.files.start_upload(f"u{number}") for number in range(64)]
    with pytest.raises(RateLimitError) as caught:
        await client.files.start_upload("one more", timeout=1)
    assert caught.value.code == "too_many_uploads"
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
