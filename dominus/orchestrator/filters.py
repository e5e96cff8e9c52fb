"""Filters -> the SQL of a WHERE clause: pure, identifiers from the catalog, values as parameters.

A filter is a dict; its entries must all hold. An entry is one of

    {"status": "active"}                     equal; None means IS NULL; a list means any of
    {"age": {"gte": 18, "lt": 65}}           operators, which must all hold
    {"or": [{...}, {...}]}, {"and": [...]}   groups
    {"not": {...}}                           the rows that do not match

`or`, `and` and `not` are groups only where the table has no column of that name. `ne`, `not_in` and `not`
are the exact opposites of `eq`, `in` and the filter: rows with NULL are among what they find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic_core import to_json

from dominus.errors import ValidationError
from dominus.orchestrator.engines.pg_errors import Term
from dominus.orchestrator.tables import Column, Table

__all__ = ["MAX_DEPTH", "MAX_TERMS", "OPERATORS", "Parameters", "as_text", "condition"]

MAX_DEPTH = 8
MAX_TERMS = 500


@dataclass(slots=True)
class Parameters:
    """The values of a statement, in the order of their numbers."""

    values: list[Any] = field(default_factory=list[Any])
    terms: list[Term] = field(default_factory=list[Term])
    """(column, text or texts), so that PostgreSQL's complaint about a text can name the column."""

    def add(self, value: Any) -> str:
        """Append a value; return its placeholder."""
        self.values.append(value)
        return f"${len(self.values)}"

    def bind(self, column: Column, value: Any) -> str:
        """Append a value that is compared with a column; return the placeholder with its cast."""
        text = as_text(column, value)
        self.terms.append((column.name, text))
        self.values.append(text)
        return f"${len(self.values)}::text::{_cast(column, value)}"

    def bind_all(self, column: Column, values: list[Any]) -> str:
        """Append a list of values; return the placeholder of an array."""
        texts = [as_text(column, value) for value in values]
        self.terms.append((column.name, texts))
        self.values.append(texts)
        odd = next((value for value in values if type(value) is float), values[0])
        return f"${len(self.values)}::text[]::{_cast(column, odd)}[]"


def _cast(column: Column, value: Any) -> str:
    if column.is_json:
        return "jsonb"
    # `age > 17.5` is a fair question about an integer column.
    return "numeric" if type(value) is float and column.is_integer else column.cast


def as_text(column: Column, value: Any) -> str:
    """Write a JSON value as the text that PostgreSQL reads as the column's type."""
    if column.is_json:
        return to_json(value).decode()
    if type(value) is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, list) and column.is_array:
        return _array_text(cast("list[Any]", value))
    if value is None:
        raise _wrong(column, "null cannot be compared so: use is_null")
    kind = "a list" if isinstance(value, list) else "an object"
    raise _wrong(column, f"{kind} cannot be compared with {column.type}")


def _array_text(items: list[Any]) -> str:
    return "{" + ",".join(_element_text(item) for item in items) + "}"


def _element_text(item: Any) -> str:
    if item is None:
        return "NULL"
    if isinstance(item, list):
        return _array_text(cast("list[Any]", item))
    text = item if isinstance(item, str) else to_json(item).decode()
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _wrong(column: Column, message: str, hint: str | None = None) -> ValidationError:
    return ValidationError(
        f"filter on {column.name!r}: {message}",
        code="invalid_filter",
        details={"column": column.name},
        hint=hint,
    )


Operator = Callable[[Column, Any, Parameters], str]


def _eq(column: Column, value: Any, parameters: Parameters) -> str:
    if value is None:
        return f"{column.ref} IS NULL"
    return f"{column.operand} = {parameters.bind(column, value)}"


def _ne(column: Column, value: Any, parameters: Parameters) -> str:
    if value is None:
        return f"{column.ref} IS NOT NULL"
    return f"{column.operand} IS DISTINCT FROM {parameters.bind(column, value)}"


def _comparison(sign: str) -> Operator:
    def compare(column: Column, value: Any, parameters: Parameters) -> str:
        if value is None:
            raise _wrong(column, f"nothing is {sign} null", "use is_null")
        return f"{column.operand} {sign} {parameters.bind(column, value)}"

    return compare


def _pattern(word: str) -> Operator:
    def match(column: Column, value: Any, parameters: Parameters) -> str:
        _require_text(column, value, word.lower())
        parameters.terms.append((column.name, value))
        return f"{column.ref} {word} {parameters.add(value)}::text"

    return match


def _require_text(column: Column, value: Any, operator: str) -> None:
    if column.category != "S":
        raise _wrong(column, f"{operator} needs a text column, this one is {column.type}")
    if not isinstance(value, str):
        raise _wrong(column, f"{operator} takes a text")


def _contains(column: Column, value: Any, parameters: Parameters) -> str:
    if column.is_array:
        items = cast("Any", value) if isinstance(value, list) else [value]
        return f"{column.ref} @> {parameters.bind(column, items)}"
    if column.is_json:
        return f"{column.operand} @> {parameters.bind(column, value)}"
    if column.category != "S":
        raise _wrong(column, f"contains needs a text, array or json column, this one is {column.type}")
    _require_text(column, value, "contains")
    escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{column.ref} LIKE {parameters.add(f'%{escaped}%')}::text"


def _is_null(column: Column, value: Any, parameters: Parameters) -> str:
    del parameters
    if not isinstance(value, bool):
        raise _wrong(column, "is_null takes true or false")
    return f"{column.ref} IS {'' if value else 'NOT '}NULL"


def _between(column: Column, value: Any, parameters: Parameters) -> str:
    bounds = cast("list[Any]", value) if isinstance(value, list) else []
    if len(bounds) != 2 or None in bounds:
        raise _wrong(column, "between takes a list of two values, both ends included")
    low, high = bounds
    return f"{column.operand} BETWEEN {parameters.bind(column, low)} AND {parameters.bind(column, high)}"


def _members(column: Column, value: Any, operator: str) -> tuple[list[Any], bool]:
    if not isinstance(value, list):
        raise _wrong(column, f"{operator} takes a list")
    if column.is_array:
        raise _wrong(
            column, "a list is no choice for an array column", "use eq for the whole array, or contains"
        )
    values = cast("list[Any]", value)
    members = [item for item in values if item is not None]
    return members, len(members) < len(values)


def _in(column: Column, value: Any, parameters: Parameters) -> str:
    members, with_null = _members(column, value, "in")
    if not members:
        return f"{column.ref} IS NULL" if with_null else "FALSE"
    found = f"{column.operand} = ANY ({parameters.bind_all(column, members)})"
    return f"({found} OR {column.ref} IS NULL)" if with_null else found


def _not_in(column: Column, value: Any, parameters: Parameters) -> str:
    members, with_null = _members(column, value, "not_in")
    if not members:
        return f"{column.ref} IS NOT NULL" if with_null else "TRUE"
    found = f"{column.operand} <> ALL ({parameters.bind_all(column, members)})"
    return f"({found} {'AND' if with_null else 'OR'} {column.ref} IS {'NOT ' if with_null else ''}NULL)"


OPERATORS: Mapping[str, Operator] = {
    "eq": _eq,
    "ne": _ne,
    "gt": _comparison(">"),
    "gte": _comparison(">="),
    "lt": _comparison("<"),
    "lte": _comparison("<="),
    "like": _pattern("LIKE"),
    "ilike": _pattern("ILIKE"),
    "contains": _contains,
    "is_null": _is_null,
    "between": _between,
    "in": _in,
    "not_in": _not_in,
}


def _are_filters(members: Any) -> bool:
    if not isinstance(members, list):
        return False
    items = cast("list[Any]", members)
    return bool(items) and all(isinstance(item, dict) and item != {} for item in items)


class _Compiler:
    def __init__(self, table: Table, parameters: Parameters) -> None:
        self._table = table
        self._parameters = parameters
        self._terms = 0

    def all_of(self, filters: Mapping[str, Any], depth: int) -> str:
        if depth > MAX_DEPTH:
            raise ValidationError(f"filters are nested more than {MAX_DEPTH} deep", code="invalid_filter")
        parts: list[str] = []
        for name, value in filters.items():
            if name in {"or", "and", "not"} and name not in self._table.columns:
                parts.append(self._group(name, value, depth))
            else:
                parts.append(self._entry(self._table.column(name), value))
        return " AND ".join(parts)

    def _group(self, word: str, value: Any, depth: int) -> str:
        # An empty group would match everything or nothing, by an accident of the caller's loop.
        members: Any = [value] if word == "not" else value
        if not _are_filters(members):
            takes = "a filter" if word == "not" else "a list of filters"
            raise ValidationError(f"{word!r} takes {takes}, none of them empty", code="invalid_filter")
        inner = [self.all_of(member, depth + 1) for member in members]
        if word == "not":
            return f"(({inner[0]}) IS NOT TRUE)"
        return "(" + f" {word.upper()} ".join(f"({part})" for part in inner) + ")"

    def _entry(self, column: Column, value: Any) -> str:
        if isinstance(value, dict):
            return self._operators(column, cast("dict[str, Any]", value))
        self._count()
        return (_in if isinstance(value, list) else _eq)(column, value, self._parameters)

    def _operators(self, column: Column, operators: dict[str, Any]) -> str:
        unknown = [name for name in operators if name not in OPERATORS]
        if unknown or not operators:
            said = f"there is no operator {unknown[0]!r}" if unknown else "an empty object is no filter"
            hint = f"operators are {', '.join(OPERATORS)}"
            if column.is_json:
                hint += '; to compare with an object write {"eq": {...}}'
            raise _wrong(column, said, hint)
        parts: list[str] = []
        for name, value in operators.items():
            self._count()
            parts.append(OPERATORS[name](column, value, self._parameters))
        return " AND ".join(parts)

    def _count(self) -> None:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise ValidationError(f"filters have more than {MAX_TERMS} terms", code="invalid_filter")


def condition(table: Table, filters: Mapping[str, Any] | None, parameters: Parameters) -> str:
    """Return the SQL condition on a table with the alias `t`; empty when there are no filters.

    Raises:
        ValidationError: an unknown column or operator, a value that does not fit, too many or too deep.
    """
    return _Compiler(table, parameters).all_of(filters, 1) if filters else ""
