"""Users who log in: made quickly, with a hash of the least cost that is taken."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from functools import cache
from typing import Any

import bcrypt

from dominus import Dominus
from dominus.contract.guardian import accounts
from dominus.namespaces.base import Namespace

PASSWORD = "correct horse"


@cache
def hash_of(password: str) -> str:
    """A bcrypt hash of cost 10: 50 ms in place of 200."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(10)).decode()


@dataclass(frozen=True)
class Person:
    """A user of the tests."""

    id: str
    username: str
    email: str
    tenants: list[Any]


async def a_user(client: Dominus, password: str = PASSWORD, tenants: int = 0, **fields: Any) -> Person:
    """Make a user with a name of its own, who belongs to some new tenants."""
    name = f"ada-{uuid.uuid4().hex[:12]}"
    auth: Namespace = client.auth
    fields = {"username": name, "email": f"{name}@example.com", "status": "active", **fields}
    made = await auth._ask(accounts.USERS.create, None, **fields, password_hash=hash_of(password))
    joined = [await client.auth.tenants.create(f"T{n}", f"t{n}-{name}") for n in range(tenants)]
    if joined:
        await client.auth.users.tenants.add(made["id"], [each["id"] for each in joined])
    return Person(made["id"], made["username"], made["email"], joined)


async def link_of(client: Dominus, email: str, template: str) -> str:
    """Return the token of the newest mail of a kind to an address."""
    page = await client.courier.outbox(to=email, template_alias=template, limit=1)
    found = re.search(r"token=([\w-]+)", page["items"][0]["model"]["action_url"])
    assert found
    return found.group(1)


async def mails_to(client: Dominus, email: str) -> list[str]:
    """Return the templates of the mails to an address, the newest first."""
    return [mail["template_alias"] for mail in (await client.courier.outbox(to=email))["items"]]
