"""Records and links over bare HTTP: repeats, and what other clients send."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from server_support import BASE64, Server, make_server, process_resources, server

from dominus.contract.guardian import ENTITIES, LINKS
from dominus.orchestrator.engines.postgres.pools import Postgres

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
ROLES = "/api/guardian/roles"


async def made(server: Server, **fields: Any) -> dict[str, Any]:
    return (await server("POST", ROLES, {"name": uuid.uuid4().hex, **fields})).data


async def count(server: Server, name: str) -> int:
    return (await server("GET", f"{ROLES}?limit=1000")).document["data"]["items"].__str__().count(name)


async def test_a_repeated_write_is_answered_as_the_first(server: Server) -> None:
    name = uuid.uuid4().hex
    sent = {"idempotency-key": f"create-{name}"}
    first = await server("POST", ROLES, {"name": name}, headers=sent)
    again = await server("POST", ROLES, {"name": name}, headers=sent)
    assert again.body == first.body
    assert await count(server, name) == 1
    other = await server("POST", ROLES, {"name": f"{name}2"}, headers=sent)
    assert (other.status, other.code) == (409, "idempotency_key_reused")

    path = f"{ROLES}/{first.data['id']}"
    sent = {"idempotency-key": f"delete-{name}"}
    deleted = [await server("DELETE", path, headers=sent) for _ in range(2)]
    assert [reply.data["deleted"] for reply in deleted] == [True, True]
    assert (await server("DELETE", path)).status == 404


async def test_a_repeated_link_is_answered_as_the_first(server: Server) -> None:
    role = await made(server)
    scope = (await server("POST", "/api/guardian/scopes", {"slug": role["name"], "display_name": "S"})).data
    path, body = f"{ROLES}/{role['id']}/scopes", {"scope_ids": [scope["id"]]}
    replies = [await server("POST", path, body, headers={"idempotency-key": role["id"]}) for _ in range(2)]
    assert [reply.data for reply in replies] == [{"added": 1}, {"added": 1}]
    assert (await server("POST", path, body)).data == {"added": 0}


async def test_links_are_a_bare_list_as_the_published_client_reads_them(server: Server) -> None:
    role = await made(server)
    reply = await server("GET", f"{ROLES}/{role['id']}/scopes", kind=BASE64)
    assert reply.document == {"success": True, "data": []}


async def test_a_delete_whose_body_is_missing_removes_no_links(server: Server) -> None:
    role = await made(server)
    reply = await server("DELETE", f"{ROLES}/{role['id']}/scopes", kind=BASE64)
    assert (reply.status, reply.code) == (400, "validation")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("?limit=0", "limit"),
        ("?limit=x", "limit"),
        ("?offset=-1", "offset"),
        ("?offset=99999999999999999999", "offset"),
        ("?cursor=x", "cursor"),
        ("?cursor=WzEsMl0", "cursor"),
        ("?cursor=bnVsbA", "cursor"),
        ("?name=x", "name"),
        ("/not-an-id", "role_id"),
        ("/%2e%2e%2fscopes", "role_id"),
    ],
)
async def test_what_is_wrong_in_a_path_or_query_is_named(path: str, said: str, server: Server) -> None:
    reply = await server("GET", ROLES + path)
    assert reply.status == 400
    assert said in reply.document["error"]


async def test_null_is_as_if_left_out(server: Server) -> None:
    role = await made(server, description=None)
    changed = await server("PUT", f"{ROLES}/{role['id']}", {"name": None, "description": "d"})
    assert (changed.data["name"], changed.data["description"]) == (role["name"], "d")


async def test_the_tables_of_the_database_are_those_of_the_contract(server: Server) -> None:
    """Column by column: no statement names what is not there, nothing is there that no statement names."""
    for calls in ENTITIES:
        entity = calls.entity
        assert await columns(server.resources.postgres, entity.plural) == {
            "project",
            "environment",
            *entity.row.__annotations__,
        }
        assert entity.columns.keys() <= entity.row.__annotations__.keys()
        assert entity.order in entity.columns
    for calls in LINKS:
        link = calls.link
        assert await columns(server.resources.postgres, link.table) == {
            "project",
            "environment",
            link.owner.id_field,
            link.target.id_field,
        }


async def columns(postgres: Postgres, table: str) -> set[str]:
    rows = await postgres.system.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
        f"dominus.{table}",
    )
    return {row["attname"] for row in rows}
