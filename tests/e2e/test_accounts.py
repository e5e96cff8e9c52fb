"""Users, clients and navigation, as their administrators meet them: through the SDK, on real engines."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from dominus import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    Dominus,
    NotFoundError,
    ValidationError,
)
from dominus.testing import LocalOrchestrator, OrchestratorTemplate

NOBODY = str(uuid.UUID(int=0))
PASSWORD = "correct horse"


async def test_the_short_forms_of_the_interface(dominus_client: Dominus) -> None:
    auth = dominus_client.auth
    made = await auth.add_user(username="ada", password=PASSWORD, email="ada@example.com")
    assert await auth.get_user(user_id=made["id"]) == made
    assert (await auth.list_users())["items"] == [made]
    assert (await auth.update_user(made["id"], status="suspended"))["status"] == "suspended"
    await auth.create_scope("articles:read", "Read")
    role = await auth.add_role(name="reader", scope_slugs=["articles:read"])
    assert [scope["slug"] for scope in await auth.get_role_scopes(role["id"])] == ["articles:read"]
    with pytest.raises(NotFoundError) as caught:
        await auth.add_role("writer", scope_slugs=["articles:read", "articles:write"])
    assert caught.value.details == {"missing": ["articles:write"]}
    assert (await auth.list_roles())["total"] == 1, "nothing is made"
    assert await auth.delete_user(made["id"]) == {"id": made["id"], "deleted": True}


async def test_no_answer_has_a_hash_or_a_password(dominus_client: Dominus) -> None:
    users = dominus_client.auth.users
    made = await users.create("ada", "ada@example.com", PASSWORD)
    said = [
        made,
        await users.get(made["id"]),
        await users.list(),
        await users.update(made["id"], status="inactive"),
        await users.update_password(made["id"], "battery staple"),
        await users.delete(made["id"]),
    ]
    assert "password" not in str(said)
    assert "$2b$" not in str(said)


async def test_a_password_is_verified_and_replaced(dominus_client: Dominus) -> None:
    users = dominus_client.auth.users
    made = await users.create("ada", "ada@example.com", PASSWORD)
    assert await users.verify_password(made["id"], PASSWORD) is True
    assert await users.verify_password(made["id"], "battery staple") is False
    await users.update_password(made["id"], "battery staple")
    assert await users.verify_password(made["id"], "battery staple")
    assert not await dominus_client.auth.verify_password(made["id"], PASSWORD)
    for nobody in (users.verify_password(NOBODY, PASSWORD), users.update_password(NOBODY, PASSWORD)):
        with pytest.raises(NotFoundError, match="there is no user"):
            await nobody


async def test_names_and_addresses_are_unique_whatever_their_case(dominus_client: Dominus) -> None:
    users = dominus_client.auth.users
    await users.create("Ada", "Ada@example.com", PASSWORD)
    alan = await users.create("alan", "alan@example.com", PASSWORD)
    for taken, which in (
        (users.create("ada", "other@example.com", PASSWORD), {"username": "ada"}),
        (users.create("other", "ada@EXAMPLE.com", PASSWORD), {"email": "ada@EXAMPLE.com"}),
        (users.update(alan["id"], username="ADA"), {"username": "ADA"}),
        (users.update(alan["id"], email="ada@example.com"), {"email": "ada@example.com"}),
    ):
        with pytest.raises(ConflictError) as caught:
            await taken
        assert (caught.value.code, caught.value.details) == ("already_exists", which)
    assert (await users.list())["total"] == 2


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (lambda users: users.create("", "a@b.de", PASSWORD), "username"),
        (lambda users: users.create(" ada", "a@b.de", PASSWORD), "username"),
        (lambda users: users.create("a\nb", "a@b.de", PASSWORD), "username"),
        (lambda users: users.create("ada", "no address", PASSWORD), "email"),
        (lambda users: users.create("ada", "Ada <a@b.de>", PASSWORD), "email"),
        (lambda users: users.create("ada", "a@b.de, c@d.de", PASSWORD), "email"),
        (lambda users: users.create("ada", "a@b.de\r\nBcc: x@y.de", PASSWORD), "email"),
        (lambda users: users.create("ada", "a@b.de", ""), "password"),
        (lambda users: users.create("ada", "a@b.de", "x" * 73), "password"),
        (lambda users: users.create("ada", "a@b.de", PASSWORD, "admin"), "status"),
        (lambda users: users.list(order_by="password"), "order_by"),
        (lambda users: users.update("x", status="active"), "user_id"),
    ],
)
async def test_a_wrong_value_is_named(dominus_client: Dominus, wrong: Any, field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        await wrong(dominus_client.auth.users)


async def test_another_address_is_not_verified(dominus_orchestrator: OrchestratorTemplate) -> None:
    async with LocalOrchestrator(dominus_orchestrator) as local:
        users = local.client().auth.users
        made = await users.create("ada", "ada@example.com", PASSWORD)
        assert made["email_verified"] is False
        changed = await users.update(made["id"], email="lovelace@example.com")
        assert (changed["email"], changed["email_verified"]) == ("lovelace@example.com", False)


async def test_users_come_in_the_order_that_is_asked_for(dominus_client: Dominus) -> None:
    users = dominus_client.auth.users
    for name, address in (("b", "x"), ("a", "z"), ("c", "y")):
        await users.create(name, f"{address}@example.com", PASSWORD)

    async def names(**asked: Any) -> str:
        return "".join(user["username"] for user in (await users.list(**asked))["items"])

    assert await names() == "cab"
    assert await names(order_desc=False) == "bac"
    assert await names(order_by="username") == "cba"
    assert await names(order_by="email", order_desc=False, limit=2) == "bc"
    assert await names(order_by="username", order_desc=False, offset=2) == "c"
    assert [user["username"] async for user in users.iterate(page_size=1)] == ["c", "a", "b"]
    assert (await dominus_client.auth.list_users(status="suspended"))["total"] == 0


async def test_a_cursor_belongs_to_its_order(dominus_client: Dominus) -> None:
    auth = dominus_client.auth
    for name in "ab":
        await auth.create_nav_item(name)
    page = await auth.nav_items.list(limit=1)
    calls = type(auth.nav_items)._calls
    for changed in ({"order_by": "title"}, {"order_desc": True}):
        with pytest.raises(ValidationError, match="cursor"):
            await dominus_client._caller.send(
                calls.list, calls.list.request(cursor=page.get("cursor"), **changed)
            )


async def test_what_users_and_clients_have_is_in_use(dominus_client: Dominus) -> None:
    auth = dominus_client.auth
    role = await auth.create_role("editor")
    user = await auth.create_user("ada", "ada@example.com", PASSWORD)
    client = await auth.create_client("import")
    assert await auth.users.roles.add(user["id"], [role["id"]]) == {"added": 1}
    await auth.add_client_roles(client["id"], [role["id"]])
    with pytest.raises(ConflictError, match="in use by client 'import', user 'ada'") as caught:
        await auth.delete_role(role["id"])
    assert caught.value.details["used_by"] == [
        {"kind": "client", "id": client["id"], "name": "import"},
        {"kind": "user", "id": user["id"], "name": "ada"},
    ]
    await auth.delete_role(role["id"], force=True)
    assert await auth.get_user_roles(user["id"]) == []
    scope = await auth.create_scope("a:b", "A")
    await auth.users.scopes.add(user["id"], [scope["id"]])
    await auth.delete_user(user["id"])
    assert (await auth.delete_scope(scope["id"]))["deleted"], "who is gone uses nothing"


# navigation


async def test_items_stand_below_each_other_and_never_below_themselves(dominus_client: Dominus) -> None:
    items = dominus_client.auth.nav_items
    page = await dominus_client.auth.create_page("/articles", "Articles")
    top = await items.create("Top", item_type="header")
    middle = await items.create("Middle", parent_id=top["id"], page_id=page["id"], sort_order=2)
    low = await items.create("Low", parent_id=middle["id"], icon="star", is_expanded_default=True)
    for below in (top, middle, low):
        with pytest.raises(ConflictError) as caught:
            await items.update(top["id"], parent_id=below["id"])
        assert caught.value.code == "nav_cycle"
    moved = await asyncio.gather(
        items.update(middle["id"], parent_id=low["id"]),
        items.update(low["id"], parent_id=middle["id"]),
        return_exceptions=True,
    )
    assert [isinstance(one, ConflictError) for one in moved] == [True, False]
    for wrong in (items.create("x", parent_id=NOBODY), items.update(low["id"], page_id=NOBODY)):
        with pytest.raises(NotFoundError):
            await wrong
    freed = await items.update(middle["id"], parent_id="", page_id="", sort_order=0)
    assert (freed["parent_id"], freed["page_id"], freed["sort_order"], freed["title"]) == (
        None,
        None,
        0,
        "Middle",
    )
    assert (await items.list(parent_id=middle["id"]))["items"] == [moved[1]]
    with pytest.raises(ConflictError, match="in use by nav item 'Low'"):
        await items.delete(middle["id"])
    await items.delete(middle["id"], force=True)
    assert (await items.get(low["id"]))["parent_id"] is None


async def test_two_who_put_items_below_each_other_make_no_circle(dominus_client: Dominus) -> None:
    items = dominus_client.auth.nav_items
    a, b = await items.create("a"), await items.create("b")
    done = await asyncio.gather(
        items.update(a["id"], parent_id=b["id"]),
        items.update(b["id"], parent_id=a["id"]),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in done) == ["ConflictError", "dict"]


async def test_items_are_listed_by_their_place_and_by_tenant(dominus_client: Dominus) -> None:
    auth = dominus_client.auth
    hill = await auth.create_tenant("Hill", "hill")
    ids = {}
    for title, place in (("b", 2), ("a", 10), ("c", 1)):
        ids[title] = (await auth.create_nav_item(title, sort_order=place))["id"]
    await auth.add_nav_tenants(ids["a"], [hill["id"]])

    async def titles(**asked: Any) -> str:
        listed = await auth.list_nav_items(**asked)
        return "".join(item["title"] for item in listed["items"])

    assert await titles() == "cba"
    assert "".join([item["title"] async for item in auth.nav_items.iterate(page_size=1)]) == "cba"
    assert await titles(order_by="title") == "abc"
    assert await titles(order_by="title", order_desc=True, limit=2) == "cb"
    assert await titles(tenant_id=hill["id"]) == "a"
    assert await titles(tenant_id=NOBODY) == ""


# clients


async def test_a_key_opens_what_its_client_may_do(dominus_orchestrator: OrchestratorTemplate) -> None:
    async with LocalOrchestrator(dominus_orchestrator) as local:
        auth = local.client().auth
        made = await auth.create_client("import")
        importer = local.client(token=made["psk"])
        with pytest.raises(AuthorizationError):
            await importer.redis.get("k")
        scope = await auth.create_scope("redis:read", "Read")
        await auth.add_client_scopes(made["id"], [scope["id"]])
        importer = local.client(token=made["psk"])
        assert await importer.redis.get("k") is None
        claims = await auth.validate_jwt((await importer.auth.token())["access_token"])
        assert (claims["sub"], claims["use"], claims["scopes"]) == (
            f"client:{made['id']}",
            "service",
            ["redis:read"],
        )
        with pytest.raises(AuthorizationError):
            await importer.redis.set("k", 1)
        with pytest.raises(AuthorizationError, match="project"):
            await local.client(token=made["psk"], project="other").redis.get("k")
        for ended in (auth.update_client(made["id"], status="suspended"), auth.delete_client(made["id"])):
            await ended
            with pytest.raises(AuthenticationError):
                await local.client(token=made["psk"]).redis.get("k")


async def test_nobody_poses_as_a_client(dominus_client: Dominus) -> None:
    with pytest.raises(ValidationError, match="user_id"):
        await dominus_client.auth.mint_jwt(f"client:{NOBODY}")


async def test_a_key_is_shown_once_and_replaced(dominus_orchestrator: OrchestratorTemplate) -> None:
    async with LocalOrchestrator(dominus_orchestrator) as local:
        clients = local.client().auth.clients
        first = await clients.create("import", "every night")
        assert len(first["psk"]) == 43
        shown = await clients.get(first["id"])
        assert shown == {name: value for name, value in first.items() if name != "psk"}
        second = await clients.regenerate_psk(first["id"])
        assert second.get("previous_valid_until")
        assert first["psk"] != second["psk"]

        async def valid(*made: Any) -> list[bool]:
            return [await clients.verify_psk(first["id"], one["psk"]) for one in made]

        assert await valid(first, second) == [True, True]
        third = await clients.regenerate_psk(first["id"], grace_seconds=0)
        assert third.get("previous_valid_until") is None
        assert await valid(first, second, third) == [False, False, True]
        for ended in (first, second):
            with pytest.raises(AuthenticationError):
                await local.client(token=ended["psk"]).auth.token()
        await local.client(token=third["psk"]).auth.token()
        other = await clients.create("other")
        assert not await clients.verify_psk(other["id"], third["psk"])
        for nobody in (clients.verify_psk(NOBODY, "x"), clients.regenerate_psk(NOBODY)):
            with pytest.raises(NotFoundError, match="there is no client"):
                await nobody
        for wrong in (-1, 30 * 86_400 + 1):
            with pytest.raises(ValidationError, match="grace_seconds"):
                await clients.regenerate_psk(first["id"], grace_seconds=wrong)


async def test_projects_share_no_accounts(dominus_orchestrator: OrchestratorTemplate) -> None:
    async with LocalOrchestrator(dominus_orchestrator) as local:
        shop, blog = local.client(project="shop").auth, local.client(project="blog").auth
        mine = await shop.create_user("ada", "ada@example.com", PASSWORD)
        theirs = await blog.create_user("ada", "ada@example.com", "battery staple")
        client, item = await shop.create_client("import"), await shop.create_nav_item("Top")
        role = await blog.create_role("editor")
        for reach in (
            blog.get_user(mine["id"]),
            blog.update_password(mine["id"], PASSWORD),
            blog.verify_password(mine["id"], PASSWORD),
            blog.add_user_roles(mine["id"], [role["id"]]),
            shop.add_user_roles(mine["id"], [role["id"]]),
            blog.regenerate_psk(client["id"]),
            blog.verify_psk(client["id"], client["psk"]),
            blog.create_nav_item("x", parent_id=item["id"]),
            blog.delete_user(mine["id"], force=True),
        ):
            with pytest.raises(NotFoundError):
                await reach
        assert not await blog.verify_password(theirs["id"], PASSWORD)


# administrators


async def test_administrators_have_every_scope_in_their_tenant(
    dominus_orchestrator: OrchestratorTemplate,
) -> None:
    async with LocalOrchestrator(dominus_orchestrator) as local:
        client = local.client()
        auth, admin = client.auth, client.admin
        seeded = (await admin.reseed_admin_category())["seeded_entities"]
        assert seeded["scopes"] == seeded["role_scopes"] > 10
        assert (seeded["tenants"], seeded["tenant_categories"], seeded["roles"]) == (1, 1, 1)
        again = await admin.reseed_admin_category()
        assert (set(again["seeded_entities"].values()), again["message"]) == ({0}, "nothing was missing")

        role = (await auth.list_roles())["items"][0]
        slugs = [scope["slug"] for scope in await auth.get_role_scopes(role["id"])]
        assert {"db:read", "secrets:write", "admin:admin"} <= set(slugs)
        assert "*" not in slugs
        user = await auth.create_user("ada", "ada@example.com", PASSWORD)
        await auth.add_user_roles(user["id"], [role["id"]])
        await auth.delete_scope((await auth.get_role_scopes(role["id"]))[0]["id"], force=True)
        with pytest.raises(ValidationError) as caught:
            await admin.reset_admin_category()
        assert caught.value.code == "confirm_required"
        assert len(await auth.get_user_roles(user["id"])) == 1
        done = await admin.reset_admin_category(confirm=True)
        assert "took the role from 1 users and 0 clients" in done["operations"]
        assert await auth.get_user_roles(user["id"]) == []
        anew = (await auth.list_roles())["items"][0]
        assert [scope["slug"] for scope in await auth.get_role_scopes(anew["id"])] == slugs
        minted = await auth.mint_jwt("ada", scope=["auth:write", "admin:write"])
        with pytest.raises(AuthorizationError):
            await client.as_user(minted["access_token"]).admin.reseed_admin_category()
