"""What narrows a right is not taken away by the way: a record that others are tied to alone does not go by force."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from server_support import Server, process_resources, server

from dominus import ConflictError, Dominus
from dominus.orchestrator.serving.in_process import EmbeddedTransport

__all__ = ["process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
_numbers = itertools.count()


class Borrowed(httpx.AsyncBaseTransport):
    """A transport that a client may close, and the app goes on."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self.inner.handle_async_request(request)


@pytest_asyncio.fixture(loop_scope="module")
async def auth(server: Server) -> AsyncIterator[Any]:
    transport = Borrowed(EmbeddedTransport(server.app))
    project = f"ties{next(_numbers)}"
    async with Dominus(
        url="http://dominus.test", token=server.psk, transport=transport, project=project
    ) as made:
        yield made.auth


async def made(auth: Any, kind: str) -> str:
    name = f"one-{next(_numbers)}"
    fields: dict[str, Any] = {
        "roles": {"name": name},
        "scopes": {"slug": name, "display_name": name},
        "tenants": {"name": name, "slug": name},
        "tenant_categories": {"name": name, "slug": name},
        "subtypes": {"name": name, "slug": name},
        "pages": {"path": f"/{name}", "name": name},
        "nav_items": {"title": name},
    }
    return (await getattr(auth, kind).create(**fields[kind]))["id"]


TIES = [
    ("roles", "tenants", "tenants"),
    ("roles", "categories", "tenant_categories"),
    ("roles", "subtypes", "subtypes"),
    ("scopes", "tenants", "tenants"),
    ("scopes", "categories", "tenant_categories"),
    ("subtypes", "tenants", "tenants"),
    ("pages", "tenants", "tenants"),
    ("pages", "scopes", "scopes"),
    ("nav_items", "tenants", "tenants"),
    ("nav_items", "scopes", "scopes"),
    ("nav_items", "roles", "roles"),
    ("nav_items", "subtypes", "subtypes"),
]


@pytest.mark.parametrize(("owner", "link", "target"), TIES)
async def test_the_only_one_that_another_is_tied_to_does_not_go_by_force(
    auth: Any, owner: str, link: str, target: str
) -> None:
    tied, first, second = await made(auth, owner), await made(auth, target), await made(auth, target)
    links = getattr(getattr(auth, owner), link)
    await links.add(tied, [first])
    with pytest.raises(ConflictError) as caught:
        await getattr(auth, target).delete(first, force=True)
    assert caught.value.code == "in_use"
    assert caught.value.details["used_by"][0]["id"] == tied
    await links.add(tied, [second])
    await getattr(auth, target).delete(first, force=True)
    assert [one["id"] for one in await links.list(tied)] == [second]
    await getattr(auth, owner).delete(tied, force=True)
    await getattr(auth, target).delete(second, force=True)


async def test_a_tie_to_a_category_stands_for_one_to_a_tenant(auth: Any) -> None:
    role, tenant = await made(auth, "roles"), await made(auth, "tenants")
    category = await made(auth, "tenant_categories")
    await auth.roles.tenants.add(role, [tenant])
    await auth.roles.categories.add(role, [category])
    await auth.tenants.delete(tenant, force=True)
    with pytest.raises(ConflictError):
        await auth.tenant_categories.delete(category, force=True)
