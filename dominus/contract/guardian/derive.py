"""From an entity its five operations, from a link its three or four: routes, request models, scopes and examples."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Generic, NotRequired, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, create_model
from typing_extensions import TypedDict

from dominus.contract.operation import Operation, Service
from dominus.contract.request import Example, Omit, Request

__all__ = [
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
    "derive",
    "derive_link",
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
    can_be_set: bool = False
    """There is an operation that replaces them all."""

    @property
    def table(self) -> str:
        """Its table."""
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
    """The operations of a link; `set` is there for some."""

    link: Link[Row]
    get: Operation[Any, list[Row]]
    add: Operation[Any, LinksChanged]
    remove: Operation[Any, LinksChanged]
    set: Operation[Any, list[Row]] | None = None


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
    owner, row = link.owner, link.target.row
    called = f"{owner.id_field.removesuffix('_id')}_{link.name}"
    path = f"{owner.route}/{{{owner.id_field}}}/{link.name.replace('_', '-')}"
    of = f"{link.name.replace('_', ' ')} of a {owner.words}"
    title = called.title().replace("_", "")
    example, one = {owner.id_field: EXAMPLE_ID}, {owner.id_field: (Id, ...)}
    some = Annotated[list[Id], Field(min_length=1, max_length=MAX_LINKS)]
    pairs = {**example, link.ids_field: [EXAMPLE_ID]}
    get = _model(f"Get{title}", f"Names the {of}.", example, one)
    named = _model(f"{title}Named", f"Some {of}.", pairs, {**one, link.ids_field: (some, ...)})
    calls = LinkCalls(
        link,
        guardian.read(f"get_{called}", get, list[row], f"List the {of}.", path=path, method="GET"),
        guardian.write(f"add_{called}", named, LinksChanged, f"Add {of}.", path=path),
        guardian.write(f"remove_{called}", named, LinksChanged, f"Remove {of}.", path=path, method="DELETE"),
    )
    if not link.can_be_set:
        return calls
    any_number = Annotated[list[Id], Field(max_length=MAX_LINKS)]
    whole = _model(f"{title}Set", f"All {of}.", pairs, {**one, link.ids_field: (any_number, ...)})
    replaced = guardian.write(
        f"set_{called}", whole, list[row], f"Replace all {of}.", path=path, method="PUT"
    )
    return replace(calls, set=replaced)
