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
from typing import Any, cast

from dominus.errors import ValidationError
from dominus.orchestrator.sql.parameters import Parameters, wrong_filter
from dominus.orchestrator.sql.tables import Column, Table

__all__ = ["MAX_DEPTH", "MAX_TERMS", "OPERATORS", "condition"]

MAX_DEPTH = 8


MAX_TERMS = 500


Operator = Callable[[Column, Any, Parameters], str]


def _eq(column: Column, value: Any, parameters: Parameters) -> str:
    if value is None:
        return f"{column.ref} IS NULL"
    return f"{column.operand} {column.sign('=')} {parameters.bind(column, value)}"


def _ne(column: Column, value: Any, parameters: Parameters) -> str:
    if value is None:
        return f"{column.ref} IS NOT NULL"
    if column.operators is not None:
        return f"({column.operand} {column.sign('=')} {parameters.bind(column, value)}) IS NOT TRUE"
    return f"{column.operand} IS DISTINCT FROM {parameters.bind(column, value)}"


def _comparison(sign: str) -> Operator:
    def compare(column: Column, value: Any, parameters: Parameters) -> str:
        if value is None:
            raise wrong_filter(column, f"nothing is {sign} null", "use is_null")
        return f"{column.operand} {column.sign(sign)} {parameters.bind(column, value)}"

    return compare


def _pattern(word: str, sign: str) -> Operator:
    def match(column: Column, value: Any, parameters: Parameters) -> str:
        _require_text(column, value, word.lower())
        parameters.terms.append((column.name, value, "text"))
        operator = word if column.operators is None else column.sign(sign)
        return f"{column.ref} {operator} {parameters.add(value)}::text"

    return match


def _require_text(column: Column, value: Any, operator: str) -> None:
    if column.category != "S":
        raise wrong_filter(column, f"{operator} needs a text column, this one is {column.type}")
    if not isinstance(value, str):
        raise wrong_filter(column, f"{operator} takes a text")


def _contains(column: Column, value: Any, parameters: Parameters) -> str:
    if column.is_array:
        items = cast("Any", value) if isinstance(value, list) else [value]
        return f"{column.ref} @> {parameters.bind(column, items)}"
    if column.is_json:
        return f"{column.operand} @> {parameters.bind(column, value)}"
    if column.category != "S":
        raise wrong_filter(column, f"contains needs a text, array or json column, this one is {column.type}")
    _require_text(column, value, "contains")
    escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    operator = "LIKE" if column.operators is None else column.sign("~~")
    return f"{column.ref} {operator} {parameters.add(f'%{escaped}%')}::text"


def _is_null(column: Column, value: Any, parameters: Parameters) -> str:
    del parameters
    if not isinstance(value, bool):
        raise wrong_filter(column, "is_null takes true or false")
    return f"{column.ref} IS {'' if value else 'NOT '}NULL"


def _between(column: Column, value: Any, parameters: Parameters) -> str:
    bounds = cast("list[Any]", value) if isinstance(value, list) else []
    if len(bounds) != 2 or None in bounds:
        raise wrong_filter(column, "between takes a list of two values, both ends included")
    low, high = bounds
    first, last = parameters.bind(column, low), parameters.bind(column, high)
    if column.operators is not None:
        operand = column.operand
        return f"({operand} {column.sign('>=')} {first} AND {operand} {column.sign('<=')} {last})"
    return f"{column.operand} BETWEEN {first} AND {last}"


def _members(column: Column, value: Any, operator: str) -> tuple[list[Any], bool]:
    if not isinstance(value, list):
        raise wrong_filter(column, f"{operator} takes a list")
    if column.is_array:
        raise wrong_filter(
            column, "a list is no choice for an array column", "use eq for the whole array, or contains"
        )
    values = cast("list[Any]", value)
    members = [item for item in values if item is not None]
    return members, len(members) < len(values)


def _in(column: Column, value: Any, parameters: Parameters) -> str:
    members, with_null = _members(column, value, "in")
    if not members:
        return f"{column.ref} IS NULL" if with_null else "FALSE"
    found = f"{column.operand} {column.sign('=')} ANY ({parameters.bind_all(column, members)})"
    return f"({found} OR {column.ref} IS NULL)" if with_null else found


def _not_in(column: Column, value: Any, parameters: Parameters) -> str:
    members, with_null = _members(column, value, "not_in")
    if not members:
        return f"{column.ref} IS NOT NULL" if with_null else "TRUE"
    found = f"{column.operand} {column.sign('<>')} ALL ({parameters.bind_all(column, members)})"
    return f"({found} {'AND' if with_null else 'OR'} {column.ref} IS {'NOT ' if with_null else ''}NULL)"


OPERATORS: Mapping[str, Operator] = {
    "eq": _eq,
    "ne": _ne,
    "gt": _comparison(">"),
    "gte": _comparison(">="),
    "lt": _comparison("<"),
    "lte": _comparison("<="),
    "like": _pattern("LIKE", "~~"),
    "ilike": _pattern("ILIKE", "~~*"),
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
            raise wrong_filter(column, said, hint)
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
