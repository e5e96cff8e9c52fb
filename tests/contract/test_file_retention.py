"""Compliance files: nobody deletes, replaces or changes them before their retention ends."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from files_support import chunks, client, end_retention, expire_garbage
from server_support import Server, make_server, process_resources, server

from dominus import ConflictError, Dominus, ValidationError
from dominus.orchestrator.services.files import collect

__all__ = ["client", "make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
MIB = 1024 * 1024


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
