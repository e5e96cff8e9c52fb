"""Tables and their columns as PostgreSQL's catalog has them: the only source of identifiers in statements."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dominus.contract.db import ColumnInfo
from dominus.contract.suggestion import suggestion
from dominus.errors import ValidationError

__all__ = ["SYSTEM_SCHEMAS", "Column", "Table", "is_system_schema", "naive_datetime", "quote"]

SYSTEM_SCHEMAS = frozenset({"information_schema", "dominus", "dominus_api", "dominus_secure"})

# What JSON cannot say, by PostgreSQL's name of the (element) type; see contract/values.py.
_KINDS = {
    **{
        name: name
        for name in ("numeric", "uuid", "timestamptz", "timestamp", "date", "time", "timetz", "bytea")
    },
    "float4": "float",
    "float8": "float",
}
_INTEGERS = frozenset({"smallint", "integer", "bigint"})
# As PostgreSQL writes them: what is not in pg_catalog has a schema before it there.
_PLAIN_DEFAULT = re.compile(
    r"""nextval\('(?:[^']|'')+'::regclass\) | now\(\) | clock_timestamp\(\) | gen_random_uuid\(\) | uuidv[47]\(\)
    | CURRENT_(?:TIMESTAMP|DATE|TIME) | LOCALTIME(?:STAMP)? | true | false | -?\d+(?:\.\d+)?
    | (?:NULL|'(?:[^']|'')*') (?:::[a-z\ ]+(?:\(\d+(?:,\d+)?\))?(?:\[\])?)?""",
    re.VERBOSE,
)


def quote(name: str) -> str:
    """Write an identifier so that it can be nothing else."""
    return '"' + name.replace('"', '""') + '"'


def is_system_schema(name: str) -> bool:
    """Return whether a schema is PostgreSQL's or ours, hence out of users' reach."""
    return name in SYSTEM_SCHEMAS or name.startswith("pg_")


@dataclass(frozen=True)
class Column:
    """A column of a table, as PostgreSQL's catalog has it."""

    name: str
    type: str
    """With its modifier, as in a declaration: `character varying(50)`."""
    cast: str
    """The base type without modifier, to which a filter's text is cast: an explicit cast to
    `varchar(5)` would cut the text, and find what is not equal."""
    category: str
    """PostgreSQL's typcategory of the base type: S text, A array, ..."""
    kind: str
    """The name of the base type, of an array its elements'."""
    is_array: bool
    is_nullable: bool
    is_generated: bool
    identity: str
    """`a` always, `d` by default, or empty."""
    default: str | None
    """SQL text."""
    is_primary_key: bool
    operators: str | None = None
    """The schema of the operators by which the type of an extension compares (only a superuser can make such); None:
    PostgreSQL's own. No other schema is searched for one."""

    def sign(self, operator: str) -> str:
        """Return an operator between two values of this column's type."""
        return operator if self.operators is None else f"OPERATOR({quote(self.operators)}.{operator})"

    @cached_property
    def ref(self) -> str:
        """The column in a statement whose table has the alias `t`."""
        return f"t.{quote(self.name)}"

    @cached_property
    def operand(self) -> str:
        """The column in a comparison; `json` has none of its own."""
        return f"{self.ref}::jsonb" if self.cast == "json" else self.ref

    @cached_property
    def selected(self) -> str:
        """The column in a select list; a numeric leaves as text, as JSON numbers are read as floats."""
        if self.kind != "numeric":
            return self.ref
        return f"{self.ref}::text{'[]' if self.is_array else ''} AS {quote(self.name)}"

    @property
    def is_json(self) -> bool:
        """Whether values are JSON documents."""
        return self.cast in {"json", "jsonb"}

    @property
    def is_integer(self) -> bool:
        """Whether values are whole numbers."""
        return self.cast in _INTEGERS

    @property
    def is_plain_to_writes(self) -> bool:
        """Whether PostgreSQL makes its value, where it does, of nothing but what is PostgreSQL's own."""
        is_plain = self.default is None or _PLAIN_DEFAULT.fullmatch(self.default) is not None
        return is_plain and not self.is_generated

    def info(self) -> ColumnInfo:
        """Return the column as `db.columns` lists it."""
        return {
            "column_name": self.name,
            "data_type": self.type.removeprefix("public."),
            "is_nullable": self.is_nullable,
            "is_primary_key": self.is_primary_key,
            "default": self.default,
        }

    @property
    def hint(self) -> str | None:
        """What a client needs to know to restore values, None when JSON says it all."""
        return _KINDS.get(self.kind)


def naive_datetime(column: Column, line: int | None = None) -> ValidationError:
    """Return (not raise) the error for a datetime without a time zone in a column that needs one."""
    details = {"column": column.name} if line is None else {"column": column.name, "line": line}
    return ValidationError(
        f"{'' if line is None else f'line {line}, '}column {column.name!r}: the datetime has no time zone,"
        f" and the column is {column.type}",
        code="invalid_value",
        details=details,
        hint="use datetime.now(timezone.utc), or value.replace(tzinfo=...)",
    )


@dataclass(frozen=True)
class Table:
    """A table, partitioned table, view or foreign table."""

    oid: int
    schema: str
    name: str
    relkind: str
    columns: dict[str, Column]
    primary_key: tuple[str, ...]
    unique_keys: tuple[tuple[str, ...], ...]
    """Column sets that no two rows share (NULLs aside)."""
    is_inert: bool = False
    """Whether reading it runs nothing that users made, as far as was known when it was read."""
    is_inert_to_writes: bool = False
    """Likewise of writing: no trigger, no check, no foreign key, and only plain defaults."""
    owner: str = ""
    has_foreign_keys: bool = False
    """Of a secure table, which has no other triggers: whether a write looks into other tables."""
    secure_scopes: tuple[str, ...] | None = None
    """Of a secure table: a caller needs one of these, where there are any. None: it is not secure."""
    place: tuple[str, str] | None = None
    """Project and environment, of a table in a tenant's schema. None: it is every project's."""
    statements: dict[tuple[Any, ...], tuple[str, bytes | None]] = field(
        default_factory=dict[tuple[Any, ...], "tuple[str, bytes | None]"], compare=False, repr=False
    )
    """Query texts and type hints by the shape of their requests."""
    _lists: dict[tuple[str, ...], tuple[str, bytes | None]] = field(
        default_factory=dict[tuple[str, ...], "tuple[str, bytes | None]"], compare=False, repr=False
    )

    @cached_property
    def sql(self) -> str:
        """The quoted name."""
        return f"{quote(self.schema)}.{quote(self.name)}"

    @property
    def is_secure(self) -> bool:
        """Whether rows are touched with a reason only, and each access is written down."""
        return self.secure_scopes is not None

    @property
    def label(self) -> str:
        """The name for messages."""
        return f"{self.schema}.{self.name}"

    def touched(self, alias: str) -> str:
        """Return the SQL of what the audit trail calls a row by: its primary key as JSON, NULL without one."""
        if not self.primary_key:
            return "NULL::json"
        names = [f"{alias}.{quote(name)}" for name in self.primary_key]
        return f"to_json({names[0]})" if len(names) == 1 else f"json_build_array({', '.join(names)})"

    def column(self, name: str) -> Column:
        """Return a column. Raises ValidationError (code `unknown_column`) when there is none."""
        found = self.columns.get(name)
        if found is None:
            raise ValidationError(
                f"table {self.label!r} has no column {name!r}",
                code="unknown_column",
                details={"table": self.label, "column": name},
                hint=suggestion(name, self.columns),
            )
        return found

    def refuse_naive(self, names: Iterable[str]) -> None:
        """Raise ValidationError where one of these columns needs datetimes with a time zone.

        PostgreSQL would take a text without an offset for UTC, which a program's local time seldom is.
        """
        for name in names:
            column = self.columns.get(name)
            if column is not None and column.kind == "timestamptz":
                raise naive_datetime(column)

    def select_list(self, names: Sequence[str] | None = None) -> tuple[str, bytes | None]:
        """Return the SQL of a select list and the type hints of its columns as JSON; None: all columns."""
        key = tuple(names or ())
        known = self._lists.get(key)
        if known is None:
            columns = (
                [self.column(name) for name in dict.fromkeys(key)] if key else list(self.columns.values())
            )
            hints = {column.name: column.hint for column in columns if column.hint}
            known = (
                ", ".join(column.selected for column in columns),
                json.dumps(hints, separators=(",", ":")).encode() if hints else None,
            )
            if (
                len(self._lists) < 256
            ):  # a table lives for seconds; this bounds what one caller can make of it
                self._lists[key] = known
        return known
