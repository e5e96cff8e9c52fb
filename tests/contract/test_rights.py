"""What users and clients may do: direct, by roles and subtypes, and in which tenant; and that it is known at once."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from server_support import Server, make_server, process_resources, server

from dominus.crypto import hash_password
from dominus.orchestrator.identity.psks import ClientKeys, Psks
from dominus.orchestrator.identity.rights import NO_RIGHTS, Rights, RightsOf

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
HASH = hash_password("secret")
PLACE = ("default", "development")


class World:
    """Records by short names, and what a user of them may do."""

    def __init__(self, server: Server) -> None:
        self.server, self.tag = server, uuid.uuid4().hex[:8]
        self.ids: dict[str, str] = {}

    async def add(self, path: str, name: str, /, **fields: Any) -> str:
        made = await self.server("POST", f"/api/guardian/{path}", fields)
        assert made.status == 200, made.document
        self.ids[name] = made.data["id"]
        return self.ids[name]

    async def scope(self, name: str) -> str:
        return await self.add("scopes", name, slug=f"{name}:{self.tag}", display_name=name)

    async def role(self, name: str) -> str:
        return await self.add("roles", name, name=f"{name}:{self.tag}")

    async def subtype(self, name: str) -> str:
        return await self.add("subtypes", name, slug=f"{name}{self.tag}", name=name)

    async def tenant(self, name: str, category: str | None = None) -> str:
        more = {"category_id": self.ids[category]} if category else {}
        return await self.add("tenants", name, slug=f"{name}{self.tag}", name=name, **more)

    async def category(self, name: str) -> str:
        return await self.add("tenant-categories", name, slug=f"{name}{self.tag}", name=name)

    async def user(self, name: str) -> str:
        email = f"{name}{self.tag}@example.com"
        return await self.add("users", name, username=f"{name}{self.tag}", email=email, password_hash=HASH)

    async def link(self, path: str, owner: str, kind: str, target: str, method: str = "POST") -> None:
        field = {"categories": "category_ids"}.get(kind, f"{kind.removesuffix('s')}_ids")
        done = await self.server(
            method, f"/api/guardian/{path}/{self.ids[owner]}/{kind}", {field: [self.ids[target]]}
        )
        assert done.status == 200, done.document

    async def rights(self, name: str, tenant: str | None = None, of: Any = None) -> Rights:
        of = of or self.server.resources.rights
        return await of.of(*PLACE, "user", self.ids[name], self.ids[tenant] if tenant else None)

    async def scopes(self, name: str, tenant: str | None = None) -> str:
        found = await self.rights(name, tenant)
        return " ".join(sorted(slug.partition(":")[0] for slug in found.scopes))


@pytest.fixture
def world(server: Server) -> World:
    return World(server)


async def test_scopes_come_directly_by_roles_and_by_subtypes(world: World) -> None:
    for name in ("direct", "by_role", "by_subtype", "of_nobody"):
        await world.scope(name)
    await world.role("editor")
    await world.role("unused")
    await world.subtype("teacher")
    await world.link("roles", "editor", "scopes", "by_role")
    await world.link("roles", "unused", "scopes", "of_nobody")
    await world.link("subtypes", "teacher", "scopes", "by_subtype")
    await world.user("ada")
    assert await world.scopes("ada") == ""
    await world.link("users", "ada", "scopes", "direct")
    assert await world.scopes("ada") == "direct"
    await world.link("users", "ada", "roles", "editor")
    await world.link("users", "ada", "subtypes", "teacher")
    assert await world.scopes("ada") == "by_role by_subtype direct"
    found = await world.rights("ada")
    assert found.is_active
    assert found.roles == {f"editor:{world.tag}"}
    assert found.role_ids == {world.ids["editor"]}
    assert found.subtype_ids == {world.ids["teacher"]}
    assert found.scope_ids == {world.ids[name] for name in ("direct", "by_role", "by_subtype")}
    assert found.may(f"direct:{world.tag}")
    assert not found.may(f"of_nobody:{world.tag}")


async def test_what_is_tied_to_tenants_counts_in_them_alone(world: World) -> None:
    await world.category("schools")
    await world.tenant("hill", "schools")
    await world.tenant("vale", "schools")
    await world.tenant("museum")
    await world.tenant("foreign", "schools")
    await world.user("ada")
    for name in ("everywhere", "in_hill", "in_schools", "by_role", "by_subtype", "twice"):
        await world.scope(name)
    await world.role("in_vale")
    await world.subtype("at_museum")
    await world.link("roles", "in_vale", "scopes", "by_role")
    await world.link("roles", "in_vale", "scopes", "twice")
    await world.link("roles", "in_vale", "tenants", "vale")
    await world.link("subtypes", "at_museum", "scopes", "by_subtype")
    await world.link("subtypes", "at_museum", "tenants", "museum")
    await world.link("scopes", "in_hill", "tenants", "hill")
    await world.link("scopes", "twice", "tenants", "hill")
    await world.link("scopes", "in_schools", "categories", "schools")
    for name in ("hill", "vale", "museum"):
        await world.link("users", "ada", "tenants", name)
    for name in ("everywhere", "in_hill", "in_schools"):
        await world.link("users", "ada", "scopes", name)
    await world.link("users", "ada", "roles", "in_vale")
    await world.link("users", "ada", "subtypes", "at_museum")

    assert await world.scopes("ada") == "everywhere"
    assert await world.scopes("ada", "hill") == "everywhere in_hill in_schools"
    # `twice` comes with a role of vale and is tied to hill: in neither.
    assert await world.scopes("ada", "vale") == "by_role everywhere in_schools"
    assert await world.scopes("ada", "museum") == "by_subtype everywhere"
    # It is no tenant of hers.
    assert await world.scopes("ada", "foreign") == "everywhere"
    found = await world.rights("ada", "hill")
    assert (found.tenant_id, found.category_id) == (world.ids["hill"], world.ids["schools"])
    assert found.tenants == tuple(f"{name}{world.tag}" for name in ("hill", "museum", "vale"))
    assert (await world.rights("ada", "foreign")).tenant_id is None
    changed = await world.server("PUT", f"/api/guardian/tenants/{world.ids['hill']}", {"status": "suspended"})
    assert changed.status == 200
    assert await world.scopes("ada", "hill") == "everywhere"


async def test_a_role_for_subtypes_counts_for_those_alone(world: World) -> None:
    for name in ("ada", "alan"):
        await world.user(name)
    await world.subtype("teacher")
    await world.role("examiner")
    await world.scope("exams")
    await world.link("roles", "examiner", "scopes", "exams")
    await world.link("roles", "examiner", "subtypes", "teacher")
    await world.link("users", "ada", "subtypes", "teacher")
    for name in ("ada", "alan"):
        await world.link("users", name, "roles", "examiner")
    assert (await world.scopes("ada"), await world.scopes("alan")) == ("exams", "")


async def test_who_is_not_there_or_not_active_has_no_rights(world: World) -> None:
    await world.user("ada")
    await world.scope("direct")
    await world.link("users", "ada", "scopes", "direct")
    of = world.server.resources.rights
    assert await world.scopes("ada") == "direct"
    assert await of.of(*PLACE, "user", str(uuid.uuid4())) == NO_RIGHTS
    assert await of.of(*PLACE, "client", world.ids["ada"]) == NO_RIGHTS
    assert await of.of("other", PLACE[1], "user", world.ids["ada"]) == NO_RIGHTS
    assert await of.of(PLACE[0], "other", "user", world.ids["ada"]) == NO_RIGHTS
    path = f"/api/guardian/users/{world.ids['ada']}"
    await world.server("PUT", path, {"status": "inactive"})
    assert await world.rights("ada") == NO_RIGHTS
    await world.server("PUT", path, {"status": "active"})
    assert await world.scopes("ada") == "direct"
    await world.server("DELETE", path)
    assert await world.rights("ada") == NO_RIGHTS


async def until(holds: Callable[[], Any], seconds: float = 3.0) -> float:
    """Wait until something holds, and return how long that took."""
    begun = time.monotonic()
    while not await holds():
        assert time.monotonic() - begun < seconds
        await asyncio.sleep(0.01)
    return time.monotonic() - begun


async def test_another_replica_knows_of_a_change_long_before_its_memory_ends(world: World) -> None:
    await world.user("ada")
    await world.role("editor")
    await world.scope("by_role")
    await world.link("users", "ada", "roles", "editor")
    other = RightsOf(world.server.resources.postgres, clock=lambda: 0.0)  # nothing ends by itself

    async def scopes() -> int:
        return len((await world.rights("ada", of=other)).scopes)

    assert await scopes() == 0
    await world.link("roles", "editor", "scopes", "by_role")

    async def one() -> bool:
        return await scopes() == 1

    async def none() -> bool:
        return await scopes() == 0

    assert await until(one) < 2
    for path, method, body in (
        (f"roles/{world.ids['editor']}/scopes", "DELETE", {"scope_ids": [world.ids["by_role"]]}),
        (f"roles/{world.ids['editor']}/scopes", "POST", {"scope_ids": [world.ids["by_role"]]}),
        (f"scopes/{world.ids['by_role']}?force=true", "DELETE", {}),
    ):
        done = await world.server(
            method, f"/api/guardian/{path.partition('?')[0]}", body | ({"force": True} if "?" in path else {})
        )
        assert done.status == 200, done.document
        await until(one if method == "POST" else none)


async def test_what_changed_while_it_was_read_is_not_remembered(world: World) -> None:
    await world.user("ada")
    of = RightsOf(world.server.resources.postgres)
    reading = asyncio.create_task(of.of(*PLACE, "user", world.ids["ada"]))
    while not of._is_listening:
        await asyncio.sleep(0)
    original = of._postgres.system.fetchrow
    await reading
    of.forget()

    async def slow(*args: Any) -> Any:
        row = await original(*args)
        of.forget()
        return row

    class Slow:
        system = type("System", (), {"fetchrow": staticmethod(slow)})

    of._postgres = Slow()  # pyright: ignore[reportAttributeAccessIssue]
    await of.of(*PLACE, "user", world.ids["ada"])
    assert not of._known


async def test_memory_is_bounded_and_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("dominus.orchestrator.identity.rights._MAX_KNOWN", 3)
    of = RightsOf(world.server.resources.postgres, clock=lambda: now)
    for _ in range(5):
        await of.of(*PLACE, "user", str(uuid.uuid4()))
    assert len(of._known) == 3
    user = await world.user("ada")
    assert (await world.rights("ada", of=of)).is_active
    await world.server.resources.postgres.system.execute(
        "UPDATE dominus.users SET status = 'inactive' WHERE id = $1", user
    )
    now = 5.1
    assert not (await world.rights("ada", of=of)).is_active


async def test_a_key_ends_with_its_grace_also_where_it_is_remembered(world: World) -> None:
    made = (await world.server("POST", "/api/guardian/clients", {"label": "import"})).data
    path = f"/api/guardian/clients/{made['id']}/regenerate-psk"
    psks = world.server.resources.psks
    assert await psks.principal_of(made["psk"])
    first = await world.server("POST", path, {"grace_seconds": 100})
    assert await psks.principal_of(made["psk"])
    monotonic = psks._clock
    psks._clock = lambda: monotonic() + 101
    try:
        assert await psks.principal_of(made["psk"]) is None
    finally:
        psks._clock = monotonic
    # A second one with a longer grace does not bring more time.
    again = await world.server("POST", path, {"grace_seconds": 1000})
    assert again.data["previous_valid_until"] > first.data["previous_valid_until"]
    ends = await world.server.resources.postgres.system.fetch(
        "SELECT expires_at FROM dominus.client_psks WHERE client_id = $1 ORDER BY created_at", made["id"]
    )
    assert ends[0][0].isoformat() == first.data["previous_valid_until"]
    assert [row[0] is None for row in ends] == [False, False, True]


async def test_a_key_that_was_ended_opens_no_other_replica(world: World) -> None:
    made = (await world.server("POST", "/api/guardian/clients", {"label": "import"})).data
    resources = world.server.resources
    keys = ClientKeys(resources.vault, RightsOf(resources.postgres, clock=lambda: 0.0))
    now = time.time()
    other = Psks(resources.postgres.system, clients=keys, clock=lambda: now)  # nothing ends by itself
    assert await other.principal_of(made["psk"])
    path = f"/api/guardian/clients/{made['id']}/regenerate-psk"
    renewed = (await world.server("POST", path, {"grace_seconds": 0})).data

    async def is_ended() -> bool:
        return await other.principal_of(made["psk"]) is None

    assert await until(is_ended) < 2
    found = await other.principal_of(renewed["psk"])
    assert found is not None
    assert (found.subject, found.use, found.scopes) == (f"client:{made['id']}", "service", frozenset())


async def test_a_repeated_creation_answers_with_the_same_key_and_keeps_no_key(world: World) -> None:
    sent = {"idempotency-key": uuid.uuid4().hex}
    first, again = [
        await world.server("POST", "/api/guardian/clients", {"label": "import"}, headers=sent)
        for _ in range(2)
    ]
    assert first.body == again.body
    psk = first.data["psk"]
    assert await world.server.resources.psks.principal_of(psk)
    system = world.server.resources.postgres.system
    for table in ("outcomes", "clients", "client_psks"):
        rows = await system.fetch(f"SELECT t::text FROM dominus.{table} AS t")
        text = " ".join(row[0] for row in rows)
        assert psk not in text
        assert psk.encode().hex() not in text


async def test_nothing_that_is_stored_shows_a_password(world: World) -> None:
    sent = {"idempotency-key": uuid.uuid4().hex}
    fields = {"username": world.tag, "email": f"{world.tag}@example.com", "password": "a secret of hers"}
    made = await world.server("POST", "/api/guardian/users", fields, headers=sent)
    again = await world.server("POST", "/api/guardian/users", fields, headers=sent)
    assert made.body == again.body
    system = world.server.resources.postgres.system
    for table in ("outcomes", "users", "user_passwords"):
        rows = await system.fetch(f"SELECT t::text FROM dominus.{table} AS t")
        text = " ".join(row[0] for row in rows)
        assert "a secret of hers" not in text
        assert HASH not in text
        assert HASH[29:] not in text
