"""A real call of each operation of the entities and links, walked off the contract's table."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from dominus import Dominus
from dominus.contract.guardian import ENTITIES, LINKS, accounts
from dominus.contract.guardian.accounts import CLIENTS, USERS
from dominus.contract.guardian.records import Entity, EntityCalls, ReplaceableCalls
from dominus.crypto import hash_password

Fields = dict[str, Any]
Call = Callable[[Dominus, Fields], Awaitable[Any]]
_numbers = itertools.count()


@functools.cache
def password_hash() -> str:
    return hash_password("correct horse")


async def fields_of(client: Dominus, entity: Entity[Any], tag: str, *, update: bool = False) -> Fields:
    """The fields of the example, with names of their own and records to name."""
    found: Fields = {}
    for name, column in entity.columns.items():
        if not (column.in_update if update else column.in_create):
            continue
        found[name] = column.example
        if column.is_unique:
            found[name] = tagged(column.example, tag)
        if column.references is entity:
            # A parent of its own kind, at the top.
            found[name] = (await client(f"auth.create_{entity.name}", **{entity.order: f"Parent {tag}-0"}))[
                "id"
            ]
        elif column.references is not None:
            found[name] = await record(client, column.references, tag)
    if entity.name == "client" and not update:
        found["label"] = f"{found['label']}{tag}"
    if entity.name == "nav_item" and not update:
        found["title"] = f"{found['title']}{tag}"
    if entity.name == "user" and not update:
        found["password"] = "correct horse"
    if entity.name == "secure_table":
        found["table_name"] = found["table_name"].replace("-", "_")
        await client.ddl.add_table(
            found["table_name"], [{"name": "id", "type": "bigint", "primary_key": True}]
        )
    return found


def tagged(example: Any, tag: str) -> str:
    local, sign, domain = str(example).partition("@")
    return f"{local}{tag}{sign}{domain}"


async def record(client: Dominus, entity: Entity[Any], tag: str) -> str:
    """Make a record and return its id."""
    fields = await fields_of(client, entity, f"{tag}-{next(_numbers)}")
    if entity is USERS.entity:
        # Hashed once for all: each would take a quarter of a second.
        del fields["password"]
        request = USERS.create.request(**fields, password_hash=password_hash())
        return (await client._caller.send(USERS.create, request))["id"]
    return (await client(f"auth.create_{entity.name}", **fields))["id"]


def expected_of(entity: Entity[Any]) -> Fields:
    found = {
        name: tagged(column.example, "TAG") if column.is_unique else column.example
        for name, column in entity.columns.items()
    }
    found |= {name: f"{found[name]}TAG" for name in ("label", "title") if name in found}
    found |= {"email_verified": False} if entity is USERS.entity else {}
    found |= {name: "ID" for name, column in entity.columns.items() if column.references is not None}
    return found | {"id": "ID", "created_at": "str", "updated_at": "str"}


def without_ids(value: Any, _tag: str = "") -> Any:
    if isinstance(value, list):
        return [without_ids(item) for item in value]
    shaped = {
        name: "ID" if name == "id" or (name.endswith("_id") and item) else item
        for name, item in value.items()
    }
    if "psk" in shaped:
        assert len(shaped["psk"]) == 43
        shaped["psk"] = "PSK"
    return shaped


def only_names(entity: Entity[Any]) -> Callable[[Any, str], Any]:
    """What is told of a record that was made under another number: which kind it is."""
    return lambda found, _tag: [sorted(item) == sorted(entity.row.__annotations__) for item in found]


def entity_samples() -> Iterator[tuple[str, Fields]]:
    for calls in ENTITIES:
        entity = calls.entity
        whole = expected_of(entity)

        async def to_create(client: Dominus, fields: Fields, entity: Entity[Any] = entity) -> Fields:
            return await fields_of(client, entity, fields["tag"])

        async def to_find(client: Dominus, fields: Fields, entity: Entity[Any] = entity) -> Fields:
            made = await client(
                f"auth.create_{entity.name}", **await fields_of(client, entity, fields["tag"])
            )
            return {entity.id_field: made["id"]}

        async def to_list(client: Dominus, fields: Fields, entity: Entity[Any] = entity) -> Fields:
            await client(f"auth.create_{entity.name}", **await fields_of(client, entity, fields["tag"]))
            return {"limit": 1000}

        async def to_update(client: Dominus, fields: Fields, entity: Entity[Any] = entity) -> Fields:
            changes = await fields_of(client, entity, fields["tag"], update=True)
            return {entity.id_field: await record(client, entity, fields["tag"]), **changes}

        def of_tag(found: Any, tag: str) -> Any:
            return [
                without_ids(item)
                for item in found["items"]
                if tag in str(item) and not re.search(rf"{tag}[-_]", str(item))
            ]

        made = {**whole, "psk": "PSK"} if entity is CLIENTS.entity else whole
        yield calls.create.name, {"expected": made, "before": to_create, "shape": without_ids}
        yield calls.get.name, {"expected": whole, "before": to_find, "shape": without_ids}
        yield calls.list.name, {"expected": [whole], "before": to_list, "shape": of_tag}
        if isinstance(calls, EntityCalls):
            yield calls.update.name, {"before": to_update, "shape": _changed(entity)}
        yield (
            calls.delete.name,
            {"expected": {"id": "ID", "deleted": True}, "before": to_find, "shape": without_ids},
        )


def account_samples() -> Iterator[tuple[str, Fields]]:
    async def user(client: Dominus, fields: Fields) -> Fields:
        return {"user_id": await record(client, USERS.entity, fields["tag"]), "password": "correct horse"}

    async def client_of(client: Dominus, fields: Fields) -> Fields:
        return {"client_id": await record(client, CLIENTS.entity, fields["tag"])}

    async def client_and_psk(client: Dominus, fields: Fields) -> Fields:
        made = await client.auth.create_client("Import")
        return {"client_id": made["id"], "psk": made["psk"]}

    changed = {"expected": {"id": "ID", "updated": True}, "shape": without_ids}
    renewed = {"shape": lambda found, tag: sorted(without_ids(found))}
    yes = {"expected": True, "read": lambda data: data["valid"]}
    yield accounts.UPDATE_PASSWORD.name, {"before": user, **changed}
    yield accounts.VERIFY_PASSWORD.name, {"before": user, **yes}
    yield accounts.REGENERATE_PSK.name, {"before": client_of, **renewed}
    yield accounts.VERIFY_PSK.name, {"before": client_and_psk, **yes}


def _changed(entity: Entity[Any]) -> Callable[[Any, str], Any]:
    names = {name for name, column in entity.columns.items() if column.in_update}
    return lambda found, _tag: {name: without_ids(found)[name] for name in names}


def link_samples() -> Iterator[tuple[str, Fields]]:
    for calls in LINKS:
        link = calls.link
        add = calls.add.name

        async def two(client: Dominus, fields: Fields, link: Any = link) -> Fields:
            owner = await record(client, link.owner, fields["tag"])
            return {
                link.owner.id_field: owner,
                link.ids_field: [await record(client, link.target, fields["tag"])],
            }

        async def linked(client: Dominus, fields: Fields, make: Call = two, add: str = add) -> Fields:
            made = await make(client, fields)
            await client(add, **made)
            return made

        async def owner_of_one(
            client: Dominus, fields: Fields, make: Call = linked, link: Any = link
        ) -> Fields:
            made = await make(client, fields)
            return {link.owner.id_field: made[link.owner.id_field]}

        one = {"expected": [True], "shape": only_names(link.target)}
        yield calls.get.name, {"before": owner_of_one, **one}
        yield calls.add.name, {"expected": {"added": 1}, "before": two}
        yield calls.remove.name, {"expected": {"removed": 1}, "before": linked}
        if isinstance(calls, ReplaceableCalls):
            yield calls.set.name, {"before": two, **one}
