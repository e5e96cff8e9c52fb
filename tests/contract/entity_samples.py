"""A real call of each operation of the entities and links, walked off the contract's table."""

from __future__ import annotations

import itertools
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from dominus import Dominus
from dominus.contract.guardian import ENTITIES, LINKS
from dominus.contract.guardian.records import Entity, EntityCalls, ReplaceableCalls

Fields = dict[str, Any]
Call = Callable[[Dominus, Fields], Awaitable[Any]]
_numbers = itertools.count()


async def fields_of(client: Dominus, entity: Entity[Any], tag: str, *, update: bool = False) -> Fields:
    """The fields of the example, with names of their own and records to name."""
    found: Fields = {}
    for name, column in entity.columns.items():
        if not (column.in_update if update else column.in_create):
            continue
        found[name] = column.example
        if column.is_unique:
            found[name] = f"{column.example}{tag}"
        if column.references is not None:
            found[name] = await record(client, column.references, tag)
    if entity.name == "secure_table":
        found["table_name"] = found["table_name"].replace("-", "_")
        await client.ddl.add_table(
            found["table_name"], [{"name": "id", "type": "bigint", "primary_key": True}]
        )
    return found


async def record(client: Dominus, entity: Entity[Any], tag: str) -> str:
    """Make a record and return its id."""
    fields = await fields_of(client, entity, f"{tag}-{next(_numbers)}")
    return (await client(f"auth.create_{entity.name}", **fields))["id"]


def expected_of(entity: Entity[Any]) -> Fields:
    found = {
        name: f"{column.example}TAG" if column.is_unique else column.example
        for name, column in entity.columns.items()
    }
    found |= {name: "ID" for name, column in entity.columns.items() if column.references is not None}
    return found | {"id": "ID", "created_at": "str", "updated_at": "str"}


def without_ids(value: Any, _tag: str = "") -> Any:
    if isinstance(value, list):
        return [without_ids(item) for item in value]
    return {
        name: "ID" if name == "id" or (name.endswith("_id") and item) else item
        for name, item in value.items()
    }


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

        yield calls.create.name, {"expected": whole, "before": to_create, "shape": without_ids}
        yield calls.get.name, {"expected": whole, "before": to_find, "shape": without_ids}
        yield calls.list.name, {"expected": [whole], "before": to_list, "shape": of_tag}
        if isinstance(calls, EntityCalls):
            yield calls.update.name, {"before": to_update, "shape": _changed(entity)}
        yield (
            calls.delete.name,
            {"expected": {"id": "ID", "deleted": True}, "before": to_find, "shape": without_ids},
        )


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
