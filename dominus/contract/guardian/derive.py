"""From an entity its five operations, from a link its three or four: routes, request models, scopes and examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, create_model
from typing_extensions import TypedDict

from dominus.contract.guardian.records import (
    EXAMPLE_ID,
    MAX_LINKS,
    MAX_RECORDS,
    Column,
    Entity,
    EntityCalls,
    FixedCalls,
    Id,
    Link,
    LinkCalls,
    LinksChanged,
    RecordDeleted,
    Records,
    ReplaceableCalls,
)
from dominus.contract.operation import Operation, Service
from dominus.contract.request import Example, Omit, Request

__all__ = ["derive", "derive_fixed", "derive_link", "derive_replaceable", "guardian"]

Row = TypeVar("Row")

guardian = Service("guardian", "/api/guardian", namespace="auth")
"""What `auth` keeps. With a breaker of its own: when records fail, calls still get their tokens from the mint."""


class _Derived(Request):
    # Built at its first use: a program calls few of them.
    model_config = ConfigDict(defer_build=True)


def _model(name: str, doc: str, example: Example, fields: Mapping[str, tuple[Any, Any]]) -> type[Request]:
    given: dict[str, Any] = dict(fields)
    made = create_model(name, __base__=_Derived, __doc__=doc, __module__=__name__, **given)
    made.example = example
    return made


class _Place(TypedDict):
    path: str
    method: str
    errors: tuple[str, ...]


def _at(path: str, method: str, *errors: str) -> _Place:
    return {"path": path, "method": method, "errors": errors}


def derive(entity: Entity[Row], *errors: str) -> EntityCalls[Row]:
    """Declare the operations of an entity; `errors` are those of changing one, beside those that its columns tell."""
    name, words = entity.name, entity.words
    update = _models(entity)[3]
    changed = [column for column in entity.columns.values() if column.in_update]
    create, get, listed = _made_and_read(entity)
    place = _at(_record(entity), "PUT", "not_found", *_codes(changed), *errors)
    updating = guardian.write(f"update_{name}", update, entity.row, f"Change a {words}.", **place)
    return EntityCalls(entity, create, get, listed, _deleted(entity), updating)


def derive_fixed(entity: Entity[Row], *errors: str) -> FixedCalls[Row]:
    """Declare the operations of an entity whose records stay as they were made; `errors` are those of making one."""
    return FixedCalls(entity, *_made_and_read(entity, *errors), _deleted(entity))


def _made_and_read(
    entity: Entity[Row], *errors: str
) -> tuple[Operation[Any, Row], Operation[Any, Row], Operation[Any, Records[Row]]]:
    name, row, words, route = entity.name, entity.row, entity.words, entity.route
    create, get, listed, _, _ = _models(entity)
    made = [column for column in entity.columns.values() if column.in_create] + [*entity.extra.values()]
    creating = _at(route, "POST", *_codes(made), *errors)
    listing, reading = _at(route, "GET", "invalid_cursor"), _at(_record(entity), "GET", "not_found")
    many = f"List {entity.plural.replace('_', ' ')}, a page at a time."
    return (
        guardian.write(f"create_{name}", create, entity.made_row or row, f"Create a {words}.", **creating),
        guardian.read(f"get_{name}", get, row, f"Read a {words}.", **reading),
        guardian.read(f"list_{entity.plural}", listed, Records[row], many, **listing),
    )


def _deleted(entity: Entity[Any]) -> Operation[Any, RecordDeleted]:
    place = _at(_record(entity), "DELETE", "not_found", "in_use")
    delete = _models(entity)[4]
    return guardian.write(
        f"delete_{entity.name}", delete, RecordDeleted, f"Delete a {entity.words}.", **place
    )


def _record(entity: Entity[Any]) -> str:
    return f"{entity.route}/{{{entity.id_field}}}"


def _codes(written: Iterable[Column]) -> Iterator[str]:
    for column in written:
        if column.is_unique:
            yield "already_exists"
        if column.references is not None:
            yield "not_found"


def _models(entity: Entity[Any]) -> list[type[Request]]:
    """Return the request models: create, get, list, update, delete."""
    title, words = _title(entity.name), entity.words
    new = {name: column for name, column in entity.columns.items() if column.in_create} | dict(entity.extra)
    changing = {name: column for name, column in entity.columns.items() if column.in_update}
    one: dict[str, tuple[Any, Any]] = {entity.id_field: (Id, ...)}
    example = {entity.id_field: EXAMPLE_ID}
    filters: dict[str, tuple[Any, Any]] = {
        **{name: (Omit[entity.columns[name].kind], None) for name in entity.filters},
        **dict.fromkeys(entity.link_filters, (Omit[Id], None)),
    }
    if entity.sorting is not None:
        filters["order_by"] = (Omit[Literal[entity.sorting.columns]], None)
        filters["order_desc"] = (Omit[bool], None)
    page: dict[str, tuple[Any, Any]] = {
        "limit": (Annotated[int, Field(ge=1, le=MAX_RECORDS)], 100),
        "offset": (Annotated[int, Field(ge=0, le=2**31 - 1)], 0),
        "cursor": (Omit[str], None),
    }
    return [
        _model(
            f"Create{title}",
            f"A new {words}.",
            {name: column.example for name, column in new.items() if column.example is not None},
            {name: column.field for name, column in new.items()},
        ),
        _model(f"Get{title}", f"Names a {words}.", example, one),
        _model(f"List{title}", f"Names a page of {entity.plural}.", {"limit": 10}, {**filters, **page}),
        _model(
            f"Update{title}",
            f"What changes of a {words}; what is left out stays as it is.",
            {**example, **{name: column.example for name, column in changing.items()}},
            {**one, **{name: column.change for name, column in changing.items()}},
        ),
        _model(
            f"Delete{title}", f"Names a {words} to delete.", example, {**one, "force": (Omit[bool], None)}
        ),
    ]


def derive_link(link: Link[Row]) -> LinkCalls[Row]:
    """Declare the operations of a link."""
    name, row, of, route = link.table, link.target.row, _words(link), _route(link)
    owner = {link.owner.id_field: (Id, ...)}
    get = _model(f"Get{_title(name)}", f"Names the {of}.", {link.owner.id_field: EXAMPLE_ID}, owner)
    some = _some_model(link, f"{_title(name)}Ids", f"Some {of}.", min_length=1)
    return LinkCalls(
        link,
        guardian.read(f"get_{name}", get, list[row], f"List the {of}.", **_at(route, "GET", "not_found")),
        guardian.write(
            f"add_{name}", some, LinksChanged, f"Add {_words(link, 'to')}.", **_at(route, "POST", "not_found")
        ),
        guardian.write(
            f"remove_{name}",
            some,
            LinksChanged,
            f"Remove {_words(link, 'from')}.",
            **_at(route, "DELETE", "not_found"),
        ),
    )


def derive_replaceable(link: Link[Row]) -> ReplaceableCalls[Row]:
    """Declare the operations of a link, and one that replaces all its records."""
    calls, name, of = derive_link(link), link.table, _words(link)
    whole = _some_model(link, f"All{_title(name)}Ids", f"All {of}.", min_length=0)
    place = _at(_route(link), "PUT", "not_found")
    replacing = guardian.write(f"set_{name}", whole, list[link.target.row], f"Replace all {of}.", **place)
    return ReplaceableCalls(link, calls.get, calls.add, calls.remove, replacing)


def _title(name: str) -> str:
    return name.title().replace("_", "")


def _route(link: Link[Any]) -> str:
    return f"{link.owner.route}/{{{link.owner.id_field}}}/{link.name.replace('_', '-')}"


def _words(link: Link[Any], preposition: str = "of") -> str:
    return f"{link.name.replace('_', ' ')} {preposition} a {link.owner.words}"


def _some_model(link: Link[Any], name: str, doc: str, *, min_length: int) -> type[Request]:
    ids = Annotated[list[Id], Field(min_length=min_length, max_length=MAX_LINKS)]
    fields = {link.owner.id_field: (Id, ...), link.ids_field: (ids, ...)}
    return _model(name, doc, {link.owner.id_field: EXAMPLE_ID, link.ids_field: [EXAMPLE_ID]}, fields)
