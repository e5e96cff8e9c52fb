"""Every operation of the contract, asked for one project's things by those who may not see them.

Project A gets things of every kind from the samples of the operations. Then others ask for the very same ids and
names, and for some that do not exist: both are answered alike, nothing of A is in any answer, and in the end everything
of A is as it was.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from entity_samples import record
from operation_samples import COLUMNS, Fields
from portal_support import PASSWORD, a_user
from server_support import Server, process_resources, server
from tenancy_support import (
    EVERY,
    TOLD_APART,
    A,
    Alpha,
    a_service_of,
    a_user_of,
    alpha,
    ask,
    client_of,
    expired,
    one_of,
    principal_of,
    rows_of_a,
    told,
    unchanged,
    walk,
    without_scope,
)

from dominus import Dominus
from dominus.contract.guardian import LINKS
from dominus.contract.kinds import Auth
from dominus.orchestrator.engines.postgres.quoting import quote_name

__all__ = ["alpha", "process_resources", "server", "unchanged"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

SHARED: Mapping[str, str] = {
    "db.query": "the tables of public are not partitioned; those of tenants' schemas are",
    "ddl.describe": "the tables of public have one shape for all who share them",
    "open.execute": "SQL of the caller's own runs as the data role, which owns all tables",
    "open.stream": "SQL of the caller's own runs as the data role, which owns all tables",
    "open.dsn": "the login is a member of the data role",
    "gateway.credentials": "the login is a member of the data role",
}
"""What others do reach, as docs/limits.md says: shown below. The walk asks for tables of A's tenants in their place."""
OPEN_TO_ALL_TENANTS: Mapping[str, str] = {
    "portal.get_navigation": "entries that name no tenant are for the users of all tenants of the project",
}
"""What a user sees of its own project, whatever its tenant: shown in the test of two tenants."""


@pytest.mark.parametrize("place", [("beta", A[1]), (A[0], "staging")], ids=["project", "environment"])
async def test_a_service_of_another_place_learns_and_changes_nothing(
    place: tuple[str, str], server: Server, alpha: Alpha, unchanged: None
) -> None:
    count = await rows_of_a(server)
    leaks = await walk(server, alpha, await a_service_of(server, place))
    assert leaks == TOLD_APART
    assert await rows_of_a(server) == count


async def test_an_administrator_of_another_project_learns_and_changes_nothing(
    server: Server, alpha: Alpha, unchanged: None
) -> None:
    count = await rows_of_a(server)
    leaks = await walk(server, alpha, await a_user_of(server, ("gamma", A[1]), is_administrator=True))
    assert leaks == TOLD_APART
    assert await rows_of_a(server) == count


async def test_a_user_of_another_tenant_learns_and_changes_nothing(
    server: Server, alpha: Alpha, unchanged: None
) -> None:
    names = EVERY.keys() - OPEN_TO_ALL_TENANTS.keys()
    assert await walk(server, alpha, await a_user_of(server, A, is_administrator=False), names) == {}


async def test_a_token_without_the_scope_learns_and_changes_nothing(
    server: Server, alpha: Alpha, unchanged: None
) -> None:
    statuses: dict[str, tuple[int, str]] = {}
    assert await walk(server, alpha, await without_scope(server), statuses=statuses) == {}
    scoped = [name for name, op in EVERY.items() if op.scope is not None]
    assert {name: statuses[name] for name in scoped} == dict.fromkeys(scoped, (403, "authorization"))


async def test_an_expired_token_learns_and_changes_nothing(
    server: Server, alpha: Alpha, unchanged: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses: dict[str, tuple[int, str]] = {}
    assert await walk(server, alpha, await expired(server, monkeypatch), statuses=statuses) == {}
    code = {Auth.TOKEN: "token_expired", Auth.SESSION: "token_expired", Auth.PSK: "token_unknown"}
    closed = {name: (401, code[op.auth]) for name, op in EVERY.items() if op.auth is not Auth.NONE}
    assert {name: statuses[name] for name in closed} == closed


async def test_nobody_learns_and_changes_nothing(server: Server, alpha: Alpha, unchanged: None) -> None:
    statuses: dict[str, tuple[int, str]] = {}
    assert await walk(server, alpha, one_of(None, None, None), statuses=statuses) == {}
    closed = [name for name, op in EVERY.items() if op.auth is not Auth.NONE]
    assert {name: statuses[name] for name in closed} == dict.fromkeys(closed, (401, "token_missing"))


async def test_the_key_of_a_repeat_is_of_its_place(server: Server, alpha: Alpha) -> None:
    """Nobody gets the answer to A's write by A's idempotency key."""
    op, key = EVERY["auth.create_role"], {"idempotency-key": uuid.uuid4().hex}
    fields = {"name": f"editor {key['idempotency-key']}"}
    made = [
        await server(
            "POST", op.path, fields, token=server.resources.tokens.mint(principal_of(place)), headers=key
        )
        for place in (A, ("beta", A[1]), (A[0], "staging"), A)
    ]
    ids = [each.data["id"] for each in made]
    assert ids[0] == ids[3]
    assert len(set(ids)) == 3


async def test_nothing_of_ones_own_is_tied_to_what_is_of_another_place(
    server: Server, alpha: Alpha, unchanged: None
) -> None:
    """A link from a record of one's own to one of A is refused as a link to nothing is."""
    place = ("beta", A[1])
    client, token = client_of(server, place), server.resources.tokens.mint(principal_of(place))
    owners = {each.link.owner.name: each.link.owner for each in LINKS}
    own = {name: await record(client, owner, uuid.uuid4().hex[:12]) for name, owner in owners.items()}
    owner_of = {
        f"auth.{verb}_{each.link.table}": each.link for each in LINKS for verb in ("add", "set", "remove")
    }
    checked = 0
    for name in sorted(owner_of.keys() & EVERY.keys()):
        link, theirs = owner_of[name], alpha.fields[name]
        told_of = [
            told(
                await ask(
                    server,
                    EVERY[name],
                    {link.owner.id_field: own[link.owner.name], link.ids_field: ids},
                    token,
                )
            )
            for ids in (theirs[link.ids_field], [str(uuid.uuid4())])
        ]
        assert told_of[0] == told_of[1], name
        checked += "404" in told_of[0]
    assert checked >= len(LINKS)

    item, theirs = own["nav_item"], alpha.fields["auth.update_nav_item"]
    for field in ("page_id", "parent_id"):
        replies = [
            await ask(server, EVERY["auth.update_nav_item"], {"nav_id": item, field: value}, token)
            for value in (theirs[field], str(uuid.uuid4()))
        ]
        assert told(replies[0]) == told(replies[1])
        assert replies[0].status == 404


async def test_what_is_shared_is_reached_by_others(server: Server, alpha: Alpha) -> None:
    """The list is no longer than it has to be: what is partitioned one day leaves it."""
    table = f"shared_{uuid.uuid4().hex[:12]}"
    client = client_of(server, A)
    await client.ddl.create_table("public", table, COLUMNS)
    await client.db.insert(table, {"id": 1, "customer": "anna of A"})
    stranger = await a_service_of(server, ("beta", A[1]))
    asked: dict[str, Fields] = {
        "db.query": {"schema": "public", "table": table},
        "ddl.describe": {"schema": "public"},
        "open.execute": {"sql": f"SELECT customer AS {table} FROM public.{table}"},
        "open.stream": {"sql": f"SELECT customer AS {table} FROM {quote_name(alpha.tenant)}.orders"},
        "open.dsn": {},
        "gateway.credentials": {"db_type": "postgres"},
    }
    assert asked.keys() == SHARED.keys()
    for name, fields in asked.items():
        reply = await ask(server, EVERY[name], fields, await stranger(EVERY[name]))
        if name in ("db.query", "ddl.describe", "open.execute", "open.stream"):
            assert {"db.query": "anna of A"}.get(name, table) in str(reply.data), name
            continue
        login = re.findall("dominus_s_[0-9a-f]+", reply.body.decode())[0]
        sql = "SELECT pg_has_role($1, $2, 'MEMBER')"
        assert await server.resources.postgres.system.fetchval(
            sql, login, server.resources.settings.data_role
        )


async def test_a_scope_of_a_login_is_of_the_whole_project(server: Server, alpha: Alpha) -> None:
    """A tenant decides where a scope counts, and not what it reaches: docs/limits.md."""
    client = client_of(server, A)
    person = await a_user(client, tenants=1)
    scope = await client.auth.scopes.create("db:read", "Read tables")
    fields = {"schema": alpha.tenant, "table": "orders"}
    for status in (403, 200):
        session = await client.portal.login(person.username, PASSWORD)
        assert (await ask(server, EVERY["db.query"], fields, session["access_token"])).status == status
        await client.auth.users.scopes.add(person.id, [scope["id"]])


@dataclass(frozen=True)
class Neighbours:
    """Two users of two tenants of one project, and what only the tenant of the second shall know of."""

    mine: Any
    theirs: Any
    page: str
    tenant: Any
    known: tuple[str, ...]


async def neighbours(client: Dominus) -> Neighbours:
    ada, bea = await a_user(client, tenants=1), await a_user(client, tenants=1)
    tenant, name = bea.tenants[0], f"hidden{uuid.uuid4().hex[:12]}"
    page = await client.auth.pages.create(f"/{name}", f"Page {name}")
    item = await client.auth.nav_items.create(f"Item {name}", page_id=page["id"])
    label = await client.auth.nav_items.create(f"Label {name}")
    role = await client.auth.roles.create(f"role {name}")
    scope = await client.auth.scopes.create(f"{name}:read", f"Scope {name}")
    for bound, kind in ((page, "pages"), (label, "nav_items"), (role, "roles"), (scope, "scopes")):
        await getattr(client.auth, kind).tenants.add(bound["id"], [tenant["id"]])
    for person in (ada, bea):
        await client.auth.users.roles.add(person.id, [role["id"]])
        await client.auth.users.scopes.add(person.id, [scope["id"]])
    mine, theirs = [await client.portal.login(each.username, PASSWORD) for each in (ada, bea)]
    known = (
        name,
        item["id"],
        bea.id,
        bea.username,
        bea.email,
        tenant["id"],
        tenant["slug"],
        theirs["session_id"],
    )
    return Neighbours(mine, theirs, page["path"], tenant, known)


async def test_a_user_sees_nothing_of_another_tenant_of_its_project(server: Server) -> None:
    """By the operations of portal and the token of its login alone."""
    client = client_of(server, A)
    found = await neighbours(client)
    shared = await client.auth.nav_items.create("Open to all tenants")
    here, there = (client.as_user(each["access_token"]).portal for each in (found.mine, found.theirs))
    calls = ("me", "get_navigation", "list_sessions", "get_profile", "get_preferences", "refresh")
    mine, theirs = [str([await getattr(portal, name)() for name in calls]) for portal in (here, there)]
    assert [each for each in found.known if each not in theirs] == []
    assert [each for each in found.known if each in mine] == []
    assert shared["id"] in mine, OPEN_TO_ALL_TENANTS["portal.get_navigation"]


async def test_a_user_infers_nothing_of_another_tenant_of_its_project(server: Server) -> None:
    """What is another tenant's is told as what is not there."""
    client = client_of(server, A)
    found, nowhere = await neighbours(client), str(uuid.uuid4())
    for name, field, theirs in (
        ("check_page_access", "path", found.page),
        ("switch_tenant", "tenant_id", found.tenant["id"]),
        ("switch_tenant", "tenant_id", found.tenant["slug"]),
        ("revoke_session", "session_id", found.theirs["session_id"]),
        ("refresh", "refresh_token", found.theirs["refresh_token"]),
    ):
        op, nothing = EVERY[f"portal.{name}"], f"/{nowhere}" if field == "path" else nowhere
        replies = [
            await ask(server, op, {field: value}, found.mine["access_token"]) for value in (theirs, nothing)
        ]
        assert told(replies[0]) == told(replies[1]), name
    assert await client.as_user(found.mine["access_token"]).portal.revoke_all_sessions() == 0
    assert await client.portal.me(user_token=found.theirs["access_token"])
