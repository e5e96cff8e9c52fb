"""The values of a statement: JSON as the text that PostgreSQL reads as a column's type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from pydantic_core import to_json

from dominus.errors import ValidationError
from dominus.orchestrator.sql.tables import Column

__all__ = ["Parameters", "Term", "array_text", "as_text", "cast_of"]

Term = tuple[str, str | list[str], str]
"""A column, the text or texts that are compared with it, and how they are cast."""


@dataclass(slots=True)
class Parameters:
    """The values of a statement, in the order of their numbers."""

    values: list[Any] = field(default_factory=list[Any])
    terms: list[Term] = field(default_factory=list[Term])
    """What PostgreSQL is asked again, one by one, when it refuses the statement (see blame)."""

    def add(self, value: Any) -> str:
        """Append a value; return its placeholder."""
        self.values.append(value)
        return f"${len(self.values)}"

    def bind(self, column: Column, value: Any) -> str:
        """Append a value that is compared with a column; return the placeholder with its cast."""
        text = as_text(column, value)
        cast = cast_of(column, value)
        self.terms.append((column.name, text, cast))
        self.values.append(text)
        return f"${len(self.values)}::{cast}"

    def bind_all(self, column: Column, values: list[Any]) -> str:
        """Append a list of values; return the placeholder of an array."""
        texts = [as_text(column, value) for value in values]
        odd = next((value for value in values if type(value) is float), values[0])
        cast = f"text[]::{_type_of(column, odd)}[]"
        self.terms.append((column.name, texts, cast))
        self.values.append(texts)
        return f"${len(self.values)}::{cast}"


def cast_of(column: Column, value: Any) -> str:
    """Return how the text of a value is cast to be compared with a column."""
    return f"text::{_type_of(column, value)}"


def _type_of(column: Column, value: Any) -> str:
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
        return array_text(cast("list[Any]", value))
    if value is None:
        raise wrong_filter(column, "null cannot be compared so: use is_null")
    kind = "a list" if isinstance(value, list) else "an object"
    raise wrong_filter(column, f"{kind} cannot be compared with {column.type}")


def array_text(items: list[Any]) -> str:
    """Write a JSON list as the text that PostgreSQL reads as an array."""
    return "{" + ",".join(_element_text(item) for item in items) + "}"


def _element_text(item: Any) -> str:
    if item is None:
        return "NULL"
    if isinstance(item, list):
        return array_text(cast("list[Any]", item))
    text = item if isinstance(item, str) else to_json(item).decode()
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def wrong_filter(column: Column, message: str, hint: str | None = None) -> ValidationError:
    return ValidationError(
        f"filter on {column.name!r}: {message}",
        code="invalid_filter",
        details={"column": column.name},
        hint=hint,
    )
