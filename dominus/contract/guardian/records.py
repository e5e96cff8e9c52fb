"""What the table of entities and links is made of, and what its operations answer."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar

from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict

from dominus.contract.operation import Operation
from dominus.contract.request import Omit

__all__ = [
    "EXAMPLE_ID",
    "MAX_LINKS",
    "MAX_RECORDS",
    "Column",
    "Entity",
    "EntityCalls",
    "FixedCalls",
    "Id",
    "Link",
    "LinkCalls",
    "LinksChanged",
    "RecordDeleted",
    "Records",
    "ReplaceableCalls",
    "Sorting",
]

Row = TypeVar("Row")

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
    is_clearable: bool = False
    """An update empties it by ""; of a text that is no matter of course, such as an id."""
    is_secret: bool = False
    """No repr shows it."""

    @property
    def field(self) -> tuple[Any, Any]:
        """What pydantic makes a field of: type and default."""
        kind = Omit[self.kind] if self.default is None else self.kind
        return (kind, Field(default=self.default, repr=False) if self.is_secret else self.default)

    @property
    def change(self) -> tuple[Any, Any]:
        """What pydantic makes a field of an update of: type and default."""
        return (Omit[self.kind | Literal[""]] if self.is_clearable else Omit[self.kind], None)


@dataclass(frozen=True, slots=True)
class Sorting:
    """How a list may be sorted. The first column is the usual one."""

    columns: tuple[str, ...]
    is_descending: bool = False
    """The usual direction."""


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
    made_row: type[Any] | None = None
    """What making one answers, where that is more than the record."""
    extra: Mapping[str, Column] = field(default_factory=dict[str, Column])
    """What making one takes besides, and the table has no column for."""
    sorting: Sorting | None = None
    """How callers may sort a list; without it, it is sorted by `order`."""
    link_filters: Mapping[str, str] = field(default_factory=dict[str, str])
    """What narrows a list besides: the id of a linked record -> the table of the link."""

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
class FixedCalls(Generic[Row]):
    """The operations of an entity whose records stay as they were made."""

    entity: Entity[Row]
    create: Operation[Any, Row]
    get: Operation[Any, Row]
    list: Operation[Any, Records[Row]]
    delete: Operation[Any, RecordDeleted]


@dataclass(frozen=True, slots=True)
class EntityCalls(FixedCalls[Row]):
    """The operations of an entity."""

    update: Operation[Any, Row]


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
