"""The examples of docstrings run, against `dominus dev`. A ```py block is one that cannot."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import inspect
import os
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from test_examples import Served, environment, served

import dominus as package
from dominus import Dominus, NotFoundError, crypto, dominus
from dominus.integrations import fastapi as web

__all__ = ["environment", "served"]
_BLOCK = re.compile(r"^ *```python\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_TEXT, _INT = "TEXT", "INT"


def _documented(module: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, member in vars(module).items():
        if getattr(member, "__module__", "") != module.__name__:
            continue
        if inspect.isfunction(member):
            yield name, member
        elif inspect.isclass(member):
            yield name, member
            methods = inspect.getmembers(member, inspect.isfunction)
            # An assignment is told and run where the method is.
            own = [
                each for each in methods if each[0] in vars(member) and each[1].__module__ == module.__name__
            ]
            yield from ((f"{name}.{method}", target) for method, target in own)


def examples() -> dict[str, str]:
    """Return every ```python block of the client's docstrings, by where it is."""
    found: dict[str, str] = {}
    for info in pkgutil.walk_packages(package.__path__, "dominus."):
        if not info.name.startswith(
            (
                "dominus.namespaces",
                "dominus.sessions",
                "dominus.client",
                "dominus.crypto",
                "dominus.integrations",
            )
        ):
            continue
        for name, target in _documented(importlib.import_module(info.name)):
            text = inspect.cleandoc(target.__doc__ or "")
            for number, block in enumerate(_BLOCK.findall(text)):
                where = f"{info.name.removeprefix('dominus.')}.{name}"
                found[f"{where}-{number}" if number else where] = textwrap.dedent(block)
    return found


EXAMPLES = examples()


async def _prepare() -> None:
    """Make what the examples stand on; each may run alone, in any order."""
    for table in ("people", "orders", "invoices", "countries"):
        with contextlib.suppress(NotFoundError):
            await dominus.ddl.drop_table(table)
    key = {"name": "id", "type": "BIGSERIAL", "primary_key": True}
    people = [{"name": "name", "type": _TEXT}, {"name": "age", "type": _INT}, {"name": "city", "type": _TEXT}]
    await dominus.ddl.add_table("people", [key, *people])
    orders = [{"name": "customer", "type": _TEXT}, {"name": "status", "type": _TEXT, "default": "'open'"}]
    await dominus.ddl.add_table("orders", [key, *orders])
    names = ("Ada", "Bea", "Cleo", "Dora", "Eve")
    await dominus.db.bulk_insert("people", [{"name": name, "age": 36, "city": "Oslo"} for name in names])
    await dominus.db.insert("orders", {"customer": "ada"})
    for secret in ("SMTP_USER", "SMTP_PASSWORD", "API_KEY"):
        await dominus.upsert(secret, "correct horse", comment="first")
    for entry in ("greeting", "cart:ada", "job:report", "visits:ada", "import"):
        await dominus.redis.delete(entry)
    await dominus.redis.hset("cart:ada", "apples", 3)


async def _prepare_tenants() -> None:
    """A category with a table and a tenant."""
    for slug in ("hill", "dale"):
        with contextlib.suppress(NotFoundError):
            await dominus.ddl.deprovision_tenant(slug, cascade=True)
    if not any(found["slug"] == "schools" for found in await dominus.ddl.list_categories()):
        await dominus.auth.tenant_categories.create("Schools", "schools")
    await dominus.ddl.reset_category_schema("schools")
    columns = [{"name": "id", "type": "BIGINT", "primary_key": True}, {"name": "title", "type": _TEXT}]
    await dominus.ddl.category_create_table("schools", "classes", columns)
    await dominus.ddl.provision_tenant("hill", category_slug="schools")


async def _clear_portal() -> None:
    """Other examples make users, clients and tenants of these names, too."""
    for kind in (dominus.auth.users, dominus.auth.clients, dominus.auth.tenants):
        async for record in kind.iterate():
            if kind is not dominus.auth.tenants or record["slug"] in {"dale-school", "marsh-school", "fen"}:
                await kind.delete(record["id"], force=True)


async def _prepare_portal() -> dict[str, Any]:
    """A user who is logged in, and a client."""
    await _clear_portal()
    ada = await dominus.auth.users.create("ada", "ada@example.com", "correct horse")
    tenant = await dominus.auth.tenants.create("Fen", "fen")
    await dominus.auth.users.tenants.add(ada["id"], [tenant["id"]])
    made = await dominus.auth.clients.create("Import")
    return {"session": await dominus.portal.login("ada", "correct horse"), "psk": made["psk"]}


def test_the_examples_are_found() -> None:
    assert {
        "namespaces.db.Db.query",
        "sessions.factories.PostgresSessions.pool",
        "client.Dominus.get",
    } <= set(EXAMPLES)
    assert len(EXAMPLES) > 60


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_example_of_a_docstring_runs(environment: Served, name: str) -> None:
    code = compile(EXAMPLES[name], name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names: dict[str, Any] = {"dominus": dominus, "Dominus": Dominus, "crypto": crypto, "os": os}
    if name.startswith("integrations"):
        names |= {"FastAPI": FastAPI, "app": FastAPI(), "Annotated": Annotated, "Depends": Depends}
        names |= {each: getattr(web, each) for each in web.__all__}
    with asyncio.Runner() as runner:
        runner.run(dominus.aclose())
        try:
            runner.run(_prepare())
            if name.startswith("namespaces.ddl"):
                runner.run(_prepare_tenants())
            if name.startswith("namespaces.portal"):
                names |= runner.run(_prepare_portal())
            result = eval(code, names)
            if inspect.iscoroutine(result):
                runner.run(result)
            if name.startswith("namespaces.portal"):
                runner.run(_clear_portal())
        finally:
            runner.run(dominus.aclose())
