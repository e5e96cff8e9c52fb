"""From an entity its five operations, from a link its three or four: routes, request models, scopes and examples."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, NotRequired, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, create_model
from typing_extensions import TypedDict

from dominus.contract.operation import Operation, Service
from dominus.contract.request import Example, Omit, Request

__all__ = [
    "EXAMPLE_ID",
    "MAX_LINKS",
    "MAX_RECORDS",
    "Column",
    "Entity",
    "EntityCalls",
    "Id",
    "Link",
    "LinkCalls",
    "LinksChanged",
    "RecordDeleted",
    "Records",
    "ReplaceableCalls",
    "derive",
    "derive_link",
    "derive_replaceable",
    "guardian",
]

Row = TypeVar("Row")

guardian = Service("auth", "/api/guardian")
"""The part of `auth` that keeps records; the mint and the keys are the other part."""

EXAMPLE_ID = "6f1ed002-ab5a-4d4f-9d1c-0d2a3b4c5d6e"
MAX_RECORDS = 1000
"""Of a page."""
MAX_LINKS = 1000
"""Named in one call."""


def _as_id(value: object) -> str:
    try:
        return str(value if isinstance(value, uuid.UUID) else uuid.UUID(str(value)))
    except ValueError:
        raise ValueError(f"must be an id, such as {EXAMPLE_ID}") from None


Id = Annotated[str, BeforeValidator(_as_id), Field(json_schema_extra={"format": "uuid"})]


class Records(TypedDict, Generic[Row]):
    """A page of records. `total` counts those of all pages; `cursor` continues, None at the end."""

    items: list[Row]
    total: int
    cursor: NotRequired[str | None]


class RecordDeleted(TypedDict):
    """Which record is gone."""

    id: str
    deleted: bool


class LinksChanged(TypedDict, total=False):
    """How many links were new, or are gone; those that were there already, or never, do not count."""

    added: int
    removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A field of a record that callers write."""

    kind: Any
    """What pydantic checks it by."""
    example: Any
    default: Any = ...
    """None: it may be left out; `...`: it may not."""
    is_unique: bool = False
    is_filter: bool = False
    """The list can be narrowed by it."""
    in_create: bool = True
    in_update: bool = True
    references: Entity[Any] | None = None
    """It holds the id of one of these."""

    @property
    def field(self) -> tuple[Any, Any]:
        """What pydantic makes a field of: type and default."""
        return (Omit[self.kind] if self.default is None else self.kind, self.default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity(Generic[Row]):
    """A kind of record. `dominus.<plural>` is its table."""

    name: str
    plural: str
    row: type[Row]
    """What a record shows; its keys are columns of the table."""
    order: str
    """The column that lists are sorted by, and that messages call a record by."""
    columns: Mapping[str, Column]
    short: str = ""
    """What ids of it are called by, where that is not its name: `<short>_id`."""

    @property
    def words(self) -> str:
        """Its name in messages."""
        return self.name.replace("_", " ")

    @property
    def route(self) -> str:
        """Its routes, below the service's prefix."""
        return self.plural.replace("_", "-")

    @property
    def id_field(self) -> str:
        """What an id of it is called on the wire."""
        return f"{self.short or self.name}_id"

    @property
    def filters(self) -> list[str]:
        """The columns that narrow a list."""
        return [name for name, column in self.columns.items() if column.is_filter]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(Generic[Row]):
    """Records of one kind that belong to a record of another. `dominus.<table>` holds the pairs of ids."""

    owner: Entity[Any]
    name: str
    """What the owner calls them."""
    target: Entity[Row]

    @property
    def table(self) -> str:
        """Its table, and what it is called in the names of its operations."""
        return f"{self.owner.id_field.removesuffix('_id')}_{self.name}"

    @property
    def ids_field(self) -> str:
        """What the ids of the linked records are called on the wire."""
        return f"{self.target.id_field}s"


@dataclass(frozen=True, slots=True)
class EntityCalls(Generic[Row]):
    """The operations of an entity."""

    entity: Entity[Row]
    create: Operation[Any, Row]
    get: Operation[Any, Row]
    list: Operation[Any, Records[Row]]
    update: Operation[Any, Row]
    delete: Operation[Any, RecordDeleted]


@dataclass(frozen=True, slots=True)
class LinkCalls(Generic[Row]):
    """The operations of a link."""

    link: Link[Row]
    get: Operation[Any, list[Row]]
    add: Operation[Any, LinksChanged]
    remove: Operation[Any, LinksChanged]


@dataclass(frozen=True, slots=True)
class ReplaceableCalls(LinkCalls[Row]):
    """The operations of a link whose records can be replaced all at once."""

    set: Operation[Any, list[Row]]


class _Derived(Request):
    # Built at its first use: a program calls few of them.
    model_config = ConfigDict(defer_build=True)


def _model(name: str, doc: str, example: Example, fields: Mapping[str, tuple[Any, Any]]) -> type[Request]:
    given: dict[str, Any] = dict(fields)
    made = create_model(name, __base__=_Derived, __doc__=doc, __module__=__name__, **given)
    made.example = example
    return made


def derive(entity: Entity[Row]) -> EntityCalls[Row]:
    """Declare the operations of an entity."""
    words, many = entity.words, entity.plural.replace("_", " ")
    record = f"{entity.route}/{{{entity.id_field}}}"
    create, get, listed, update, delete = _models(entity)
    return EntityCalls(
        entity,
        guardian.write(f"create_{entity.name}", create, entity.row, f"Create a {words}.", path=entity.route),
        guardian.read(f"get_{entity.name}", get, entity.row, f"Read a {words}.", path=record, method="GET"),
        guardian.read(
            f"list_{entity.plural}",
            listed,
            Records[entity.row],
            f"List {many}, a page at a time.",
            path=entity.route,
            method="GET",
        ),
        guardian.write(
            f"update_{entity.name}", update, entity.row, f"Change a {words}.", path=record, method="PUT"
        ),
        guardian.write(
            f"delete_{entity.name}", delete, RecordDeleted, f"Delete a {words}.", path=record, method="DELETE"
        ),
    )


def _models(entity: Entity[Any]) -> list[type[Request]]:
    """Return the request models: create, get, list, update, delete."""
    title, words = entity.name.title().replace("_", ""), entity.words
    new = {name: column for name, column in entity.columns.items() if column.in_create}
    changing = {name: column for name, column in entity.columns.items() if column.in_update}
    one: dict[str, tuple[Any, Any]] = {entity.id_field: (Id, ...)}
    example = {entity.id_field: EXAMPLE_ID}
    filters = {name: (Omit[entity.columns[name].kind], None) for name in entity.filters}
    page: dict[str, tuple[Any, Any]] = {
        "limit": (Annotated[int, Field(ge=1, le=MAX_RECORDS)], 100),
        "offset": (Annotated[int, Field(ge=0, le=2**31 - 1)], 0),
        "cursor": (Omit[str], None),
    }
    return [
        _model(
            f"Create{title}",
            f"A new {words}.",
            {name: column.example for name, column in new.items()},
            {name: column.field for name, column in new.items()},
        ),
        _model(f"Get{title}", f"Names a {words}.", example, one),
        _model(f"List{title}", f"Names a page of {entity.plural}.", {"limit": 10}, {**filters, **page}),
        _model(
            f"Update{title}",
            f"What changes of a {words}; what is left out stays as it is.",
            {**example, **{name: column.example for name, column in changing.items()}},
            {**one, **{name: (Omit[column.kind], None) for name, column in changing.items()}},
        ),
        _model(
            f"Delete{title}", f"Names a {words} to delete.", example, {**one, "force": (Omit[bool], None)}
        ),
    ]


def derive_link(link: Link[Row]) -> LinkCalls[Row]:
    """Declare the operations of a link."""
    path, title, of = _route(link), link.table.title().replace("_", ""), _words(link)
    owner: dict[str, tuple[Any, Any]] = {link.owner.id_field: (Id, ...)}
    example = {link.owner.id_field: EXAMPLE_ID}
    get = _model(f"Get{title}", f"Names the {of}.", example, owner)
    some = _some_model(link, f"{title}Ids", f"Some {of}.", min_length=1)
    return LinkCalls(
        link,
        guardian.read(
            f"get_{link.table}", get, list[link.target.row], f"List the {of}.", path=path, method="GET"
        ),
        guardian.write(f"add_{link.table}", some, LinksChanged, f"Add {of}.", path=path),
        guardian.write(
            f"remove_{link.table}", some, LinksChanged, f"Remove {of}.", path=path, method="DELETE"
        ),
    )


def derive_replaceable(link: Link[Row]) -> ReplaceableCalls[Row]:
    """Declare the operations of a link, and one that replaces all its records."""
    calls, of = derive_link(link), _words(link)
    whole = _some_model(link, f"All{link.table.title().replace('_', '')}Ids", f"All {of}.", min_length=0)
    replace_all = guardian.write(
        f"set_{link.table}",
        whole,
        list[link.target.row],
        f"Replace all {of}.",
        path=_route(link),
        method="PUT",
    )
    return ReplaceableCalls(link, calls.get, calls.add, calls.remove, replace_all)


def _route(link: Link[Any]) -> str:
    return f"{link.owner.route}/{{{link.owner.id_field}}}/{link.name.replace('_', '-')}"


def _words(link: Link[Any]) -> str:
    return f"{link.name.replace('_', ' ')} of a {link.owner.words}"


def _some_model(link: Link[Any], name: str, doc: str, *, min_length: int) -> type[Request]:
    ids = Annotated[list[Id], Field(min_length=min_length, max_length=MAX_LINKS)]
    fields = {link.owner.id_field: (Id, ...), link.ids_field: (ids, ...)}
    return _model(name, doc, {link.owner.id_field: EXAMPLE_ID, link.ids_field: [EXAMPLE_ID]}, fields)
