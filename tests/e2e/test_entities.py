"""Roles, scopes and the links between them, as users meet them: through the SDK, on real engines."""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import Any

import pytest

from dominus import (
    AuthorizationError,
    ConflictError,
    Dominus,
    DominusError,
    NotFoundError,
    ValidationError,
)
from dominus.testing import LocalOrchestrator, OrchestratorTemplate

NOBODY = str(uuid.UUID(int=0))
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00")


async def three_scopes(client: Dominus) -> list[str]:
    made = [
        await client.auth.scopes.create(slug, slug.title())
        for slug in ("articles:write", "articles:read", "users:read")
    ]
    return [scope["id"] for scope in made]


async def test_a_record_is_made_read_changed_and_deleted(dominus_client: Dominus) -> None:
    roles = dominus_client.auth.roles
    made = await roles.create("editor", description="May change articles.")
    assert made["name"] == "editor"
    assert TIME.fullmatch(made["created_at"])
    assert made["updated_at"] == made["created_at"]
    assert await roles.get(made["id"]) == made
    assert await roles.get(made["id"].upper()) == made

    changed = await roles.update(made["id"], name="chief editor")
    assert changed["description"] == "May change articles."
    assert changed["name"] == "chief editor"
    assert changed["updated_at"] > made["updated_at"]
    assert (await roles.update(made["id"], description=""))["description"] == ""

    assert await roles.delete(made["id"]) == {"id": made["id"], "deleted": True}
    with pytest.raises(NotFoundError) as caught:
        await roles.get(made["id"])
    assert caught.value.details == {"missing": [made["id"]]}
    for again in (roles.delete(made["id"]), roles.update(made["id"], name="x")):
        with pytest.raises(NotFoundError, match="there is no role"):
            await again


async def test_the_flat_names_are_the_same_calls_with_the_names_of_the_interface(
    dominus_client: Dominus,
) -> None:
    auth = dominus_client.auth
    scope = await auth.create_scope(slug="a:b", display_name="A", description="why")
    role = await auth.create_role(name="editor")
    assert role["description"] is None
    assert await auth.get_scope(scope_id=scope["id"]) == scope
    assert await auth.get_role(role_id=role["id"]) == role
    assert (await auth.update_scope(scope_id=scope["id"], display_name="B"))["display_name"] == "B"
    assert (await auth.update_role(role_id=role["id"], description="d"))["description"] == "d"
    assert await auth.add_role_scopes(role_id=role["id"], scope_ids=[scope["id"]]) == {"added": 1}
    assert [each["slug"] for each in await auth.get_role_scopes(role_id=role["id"])] == ["a:b"]
    assert (await auth.list_roles())["total"] == (await auth.list_scopes(limit=1, offset=1))["total"] == 1
    assert await auth.remove_role_scopes(role_id=role["id"], scope_ids=[scope["id"]]) == {"removed": 1}
    await auth.delete_scope(scope_id=scope["id"])
    await auth.delete_role(role_id=role["id"])
    assert await dominus_client("auth.list_roles") == {"items": [], "total": 0, "cursor": None}


async def test_names_are_unique_and_the_error_says_which(dominus_client: Dominus) -> None:
    roles = dominus_client.auth.roles
    await roles.create("editor")
    other = await roles.create("author")
    for again in (roles.create("editor"), roles.update(other["id"], name="editor")):
        with pytest.raises(ConflictError, match="a role with name 'editor'") as caught:
            await again
        assert (caught.value.code, caught.value.details) == ("already_exists", {"name": "editor"})
    tried = await asyncio.gather(*(roles.create("one") for _ in range(10)), return_exceptions=True)
    assert [type(one) for one in tried].count(ConflictError) == 9


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (lambda auth: auth.roles.create(""), "name"),
        (lambda auth: auth.roles.create("n" * 101), "name"),
        (lambda auth: auth.roles.create("a\nb"), "name"),
        (lambda auth: auth.roles.create("a", "d" * 1001), "description"),
        (lambda auth: auth.roles.create("a", "nul \0"), "description"),
        (lambda auth: auth.scopes.create("*", "All"), "slug"),
        (lambda auth: auth.scopes.create("a b", "A"), "slug"),
        (lambda auth: auth.roles.get("../roles/x"), "role_id"),
        (lambda auth: auth.roles.get(7), "role_id"),
        (lambda auth: auth.roles.scopes.add(NOBODY, []), "scope_ids"),
        (lambda auth: auth.roles.scopes.add(NOBODY, NOBODY), "scope_ids"),
        (lambda auth: auth.roles.scopes.add(NOBODY, ["x"]), "scope_ids"),
        (lambda auth: auth.roles.list(limit=0), "limit"),
        (lambda auth: auth.roles.list(limit=1001), "limit"),
        (lambda auth: auth.roles.list(offset=-1), "offset"),
    ],
)
async def test_a_wrong_value_is_named(dominus_client: Dominus, wrong: Any, field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        await wrong(dominus_client.auth)


async def test_a_list_comes_in_pages_in_the_order_of_names(dominus_client: Dominus) -> None:
    roles = dominus_client.auth.roles
    for name in ("b", "C", "a", "ä"):
        await roles.create(name)
    page = await roles.list(limit=2, offset=1)
    assert ([role["name"] for role in page["items"]], page["total"]) == (["a", "b"], 4)
    assert [role["name"] async for role in roles.iterate(page_size=1)] == ["C", "a", "b", "ä"]
    assert (await roles.list(limit=4)).get("cursor", "absent") is None
    assert (await roles.list(limit=3)).get("cursor")
    beyond = await roles.list(offset=9)
    assert (beyond["items"], beyond["total"]) == ([], 4)
    with pytest.raises(ValidationError, match="cursor"):
        await dominus_client._caller.send(
            (calls := type(roles)._calls).list, calls.list.request(cursor="WyJhIl0")
        )


async def test_a_walk_gives_every_record_once_while_others_come_and_go(dominus_client: Dominus) -> None:
    roles = dominus_client.auth.roles
    ids = {name: (await roles.create(name))["id"] for name in "bcdefgh"}
    seen: list[str] = []
    async for role in roles.iterate(page_size=2):
        seen.append(role["name"])
        if role["name"] == "d":
            await roles.delete(ids["b"])
            await roles.delete(ids["e"])
            await roles.create("a")
    assert seen in (list("bcdfgh"), list("bcdefgh"))


async def test_links_are_added_once_and_removed(dominus_client: Dominus) -> None:
    roles, ids = dominus_client.auth.roles, await three_scopes(dominus_client)
    role = await roles.create("editor")
    assert await roles.scopes.list(role["id"]) == []
    assert await roles.scopes.add(role["id"], [*ids[:2], ids[0]]) == {"added": 2}
    assert await roles.scopes.add(role["id"], ids) == {"added": 1}
    slugs = [scope["slug"] for scope in await roles.scopes.list(role["id"])]
    assert slugs == ["articles:read", "articles:write", "users:read"]
    assert await roles.scopes.remove(role["id"], [ids[0], NOBODY]) == {"removed": 1}
    assert await roles.scopes.remove(role["id"], [ids[0]]) == {"removed": 0}
    with pytest.raises(NotFoundError) as caught:
        await roles.scopes.add(role["id"], [ids[0], NOBODY])
    assert caught.value.details == {"missing": [NOBODY]}
    assert len(await roles.scopes.list(role["id"])) == 2, "all or none"
    for of_nobody in (
        roles.scopes.list(NOBODY),
        roles.scopes.add(NOBODY, ids),
        roles.scopes.remove(NOBODY, ids),
    ):
        with pytest.raises(NotFoundError, match="there is no role"):
            await of_nobody


async def test_what_others_use_is_deleted_only_by_force(dominus_client: Dominus) -> None:
    auth, ids = dominus_client.auth, await three_scopes(dominus_client)
    users = [await auth.roles.create(name) for name in ("editor", "author")]
    for role in users:
        await auth.roles.scopes.add(role["id"], ids)
    with pytest.raises(
        ConflictError, match="scope 'articles:write' is in use by role 'author', role 'editor'"
    ) as caught:
        await auth.scopes.delete(ids[0])
    assert caught.value.code == "in_use"
    assert caught.value.details["used_by"] == [
        {"kind": "role", "id": role["id"], "name": role["name"]} for role in reversed(users)
    ]
    await auth.scopes.delete(ids[0], force=True)
    assert [scope["id"] for scope in await auth.roles.scopes.list(users[0]["id"])] == [ids[1], ids[2]]
    # What a record links to does not use it.
    await auth.roles.delete(users[0]["id"])


async def test_a_category_in_use_names_its_tenants_and_leaves_them_by_force(dominus_client: Dominus) -> None:
    auth = dominus_client.auth
    schools = await auth.tenant_categories.create("Schools", "schools")
    hill = await auth.tenants.create("Hill School", "hill", schools["id"])
    role = await auth.roles.create("head")
    await auth.roles.categories.add(role["id"], [schools["id"]])
    with pytest.raises(ConflictError, match="'schools' is in use by role 'head', tenant 'hill'"):
        await auth.delete_tenant_category(schools["id"])
    # Tied to none, the role would count everywhere.
    with pytest.raises(ConflictError, match="all that role 'head' is tied to"):
        await auth.delete_tenant_category(schools["id"], force=True)
    colleges = await auth.tenant_categories.create("Colleges", "colleges")
    await auth.roles.categories.add(role["id"], [colleges["id"]])
    await auth.delete_tenant_category(schools["id"], force=True)
    assert (await auth.tenants.get(hill["id"]))["category_id"] is None
    assert [one["id"] for one in await auth.roles.categories.list(role["id"])] == [colleges["id"]]


async def test_a_tenant_names_a_category_that_is_there(dominus_client: Dominus) -> None:
    with pytest.raises(NotFoundError, match="there is no tenant category"):
        await dominus_client.auth.tenants.create("Hill School", "hill", NOBODY)
    assert (await dominus_client.auth.list_tenants())["total"] == 0


async def test_a_list_is_narrowed_by_what_the_interface_narrows_it_by(dominus_client: Dominus) -> None:
    auth = dominus_client.auth
    schools = await auth.create_tenant_category("Schools", "schools", color="#000000")
    hill = await auth.create_tenant("Hill School", "hill", category_id=schools["id"])
    assert (hill["status"], hill["registration_open"]) == ("active", False)
    vale = await auth.create_tenant("Vale", "vale", registration_open=True)
    changed = await auth.update_tenant(vale["id"], status="suspended", registration_open=False)
    assert (changed["status"], changed["registration_open"]) == ("suspended", False)

    async def slugs(**filters: Any) -> list[str]:
        listed = await auth.list_tenants(**filters)
        walked = [tenant async for tenant in auth.tenants.iterate(page_size=1, **filters)]
        assert (walked, len(walked)) == (listed["items"], listed["total"])
        return [tenant["slug"] for tenant in walked]

    assert await slugs() == ["hill", "vale"]
    assert await slugs(status="active") == ["hill"]
    assert await slugs(category_id=schools["id"]) == ["hill"]
    assert await slugs(status="suspended", category_id=schools["id"]) == []
    shown = await auth.create_page("/a", "A")
    await auth.create_page("/b", "B", is_active=False, show_in_nav=False)
    assert (await auth.list_pages(is_active=True))["items"] == [shown]
    assert (await auth.list_pages(False))["total"] == 1  # noqa: FBT003 - the interface has it
    assert (await auth.update_page(shown["id"], is_active=False))["is_active"] is False
    assert (await auth.list_pages(is_active=False))["total"] == 2


async def test_the_links_of_a_page_are_replaced_all_at_once(dominus_client: Dominus) -> None:
    auth, ids = dominus_client.auth, await three_scopes(dominus_client)
    page = await auth.create_page("/articles", "Articles")
    assert [scope["id"] for scope in await auth.set_page_scopes(page["id"], ids[:2])] == [ids[1], ids[0]]
    assert [scope["id"] for scope in await auth.pages.scopes.set(page["id"], [ids[2], ids[0]])] == [
        ids[0],
        ids[2],
    ]
    with pytest.raises(NotFoundError):
        await auth.pages.scopes.set(page["id"], [ids[1], NOBODY])
    assert len(await auth.get_page_scopes(page["id"])) == 2
    await asyncio.gather(*(auth.pages.scopes.set(page["id"], [one]) for one in ids * 3))
    assert len(await auth.pages.scopes.list(page["id"])) == 1
    assert await auth.pages.scopes.set(page["id"], []) == []
    await auth.set_page_excluded_scopes(page["id"], ids)
    assert await auth.get_page_scopes(page["id"]) == []


async def test_a_scope_is_never_linked_and_deleted_at_once(dominus_client: Dominus) -> None:
    auth = dominus_client.auth
    for n in range(10):
        scope = await auth.scopes.create(f"s:{n}", "S")
        role = await auth.roles.create(f"r{n}")
        done = await asyncio.gather(
            auth.roles.scopes.add(role["id"], [scope["id"]]),
            auth.scopes.delete(scope["id"]),
            return_exceptions=True,
        )
        linked, deleted = (not isinstance(one, DominusError) for one in done)
        assert linked != deleted, done
        assert len(await auth.roles.scopes.list(role["id"])) == linked


async def test_projects_and_environments_share_no_records(
    dominus_orchestrator: OrchestratorTemplate,
) -> None:
    async with LocalOrchestrator(dominus_orchestrator) as local:
        shop, blog = local.client(project="shop"), local.client(project="blog")
        staging = local.client(project="shop", environment="staging")
        mine = [await each.auth.roles.create("editor") for each in (shop, blog, staging)]
        assert len({role["id"] for role in mine}) == 3
        theirs = await blog.auth.scopes.create("a:b", "A")
        for other in (blog, staging):
            assert (await other.auth.roles.list())["total"] == 1
            for reach in (
                other.auth.roles.get(mine[0]["id"]),
                other.auth.roles.update(mine[0]["id"], name="mine now"),
                other.auth.roles.delete(mine[0]["id"], force=True),
                other.auth.roles.scopes.add(mine[0]["id"], [theirs["id"]]),
            ):
                with pytest.raises(NotFoundError):
                    await reach
        with pytest.raises(NotFoundError):
            await shop.auth.roles.scopes.add(mine[0]["id"], [theirs["id"]])
        assert await shop.auth.roles.get(mine[0]["id"]) == mine[0]


async def test_reading_and_writing_need_a_scope_each(dominus_client: Dominus) -> None:
    async def user(*scopes: str) -> Dominus:
        minted = await dominus_client.auth.mint_jwt("ada", scope=scopes)
        return dominus_client.as_user(minted["access_token"])

    reader, writer = await user("auth:read"), await user("auth:write")
    role = await writer.auth.create_role("editor")
    assert (await reader.auth.get_role(role["id"])) == role
    for denied in (reader.auth.create_role("x"), writer.auth.list_roles(), (await user()).auth.list_roles()):
        with pytest.raises(AuthorizationError, match="auth:"):
            await denied


async def test_a_role_registered_here_gives_no_token_a_scope_yet(dominus_client: Dominus) -> None:
    auth = dominus_client.auth
    scope = await auth.scopes.create("articles:read", "Read articles")
    role = await auth.roles.create("ada")
    await auth.roles.scopes.add(role["id"], [scope["id"]])
    claims = await auth.validate_jwt((await auth.mint_jwt("ada"))["access_token"])
    assert claims["scopes"] == []


async def test_a_tenant_with_a_schema_is_told_how_to_go(dominus_client: Dominus) -> None:
    auth, ddl = dominus_client.auth, dominus_client.ddl
    category = await auth.tenant_categories.create("Leaving", "leaving")
    columns = [{"name": "id", "type": "bigint", "primary_key": True}]
    await ddl.category_create_table("leaving", "orders", columns)
    await ddl.provision_tenant("goer", category_slug="leaving")
    tenant = next(found for found in (await auth.tenants.list())["items"] if found["slug"] == "goer")
    for force in (False, True):
        with pytest.raises(ConflictError) as caught:
            await auth.tenants.delete(tenant["id"], force=force)
        assert caught.value.code == "in_use"
        assert "dominus.ddl.deprovision_tenant('goer', cascade=True)" in (caught.value.hint or "")
        with pytest.raises(ConflictError) as caught:
            await auth.tenant_categories.delete(category["id"], force=force)
        assert (caught.value.code, "deprovision" in (caught.value.hint or "")) == ("in_use", True)
    await ddl.deprovision_tenant("goer", cascade=True)
    with pytest.raises(ConflictError) as caught:
        await auth.tenant_categories.delete(category["id"])
    assert "force=True" in (caught.value.hint or "")
    await auth.tenant_categories.delete(category["id"], force=True)
    assert (await auth.tenants.delete(tenant["id"]))["deleted"]
    # Of the same names again, as if nothing had been.
    await auth.tenant_categories.create("Leaving", "leaving")
    assert (await ddl.provision_tenant("goer", category_slug="leaving"))["applied_migrations"] == []
    await ddl.deprovision_tenant("goer")
