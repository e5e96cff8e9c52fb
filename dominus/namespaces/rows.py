"""Rows on their way out (JSON lines in chunks) and back (dicts or the user's model)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from dataclasses import Field
from typing import Any, ClassVar, Protocol, TypeVar, cast

import pydantic
from pydantic_core import PydanticSerializationError, to_json

from dominus.contract.db import NAIVE_KEY, Row
from dominus.contract.values import RowForm, record_fields, wire_value
from dominus.errors import ServiceError, ValidationError
from dominus.namespaces.base import check_many
from dominus.transport.encode import Lines

__all__ = [
    "DataclassInstance",
    "Filters",
    "RowLike",
    "RowSource",
    "as_models",
    "check_model",
    "filters_of",
    "lines_of",
    "row_of",
]


class DataclassInstance(Protocol):
    """An instance of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


M = TypeVar("M", bound=pydantic.BaseModel)
RowLike = Mapping[str, Any] | pydantic.BaseModel | DataclassInstance
"""A row: a dict; a model gives the fields that were set, a dataclass all of its fields."""
RowSource = Iterable[RowLike] | AsyncIterable[RowLike]
Filters = Mapping[str, Any] | pydantic.BaseModel
CHUNK_BYTES = 256 * 1024
_GROUPS = frozenset({"or", "and", "not"})


def row_of(value: Any, at: str, naive: set[str] | None = None) -> Row:
    """Return a row as JSON types.

    Args:
        value: a dict, a pydantic model or a dataclass.
        at: names it in errors.
        naive: takes the names of columns whose values hold datetimes without a time zone; without it there may be
            none.
    """
    form = RowForm()
    kind = cast("type[object]", type(value))
    fields = value if kind is dict else record_fields(value, at, only_set=True)
    row = wire_value(fields, at, row=form)
    if not isinstance(row, dict):
        raise ValidationError(f"{at}: must be a dict of column to value, not {kind.__name__}")
    if form.naive_count:
        found = {name for name, item in cast("Mapping[str, Any]", fields).items() if _is_naive(item)}
        if naive is None:
            raise ValidationError(f"{at}: the datetime of {min(found)!r} has no time zone", hint=_ZONE_HINT)
        naive |= found
    return cast("Row", row)


_ZONE_HINT = "use datetime.now(timezone.utc), or value.replace(tzinfo=...)"


def filters_of(value: Filters | None, naive: set[str]) -> Row | None:
    """Return filters as JSON types; `naive` as for rows."""
    if value is None:
        return None
    fields: Any = record_fields(value, "filters", only_set=True)
    inner: set[str] = set()
    filters = row_of(fields, "filters", inner)
    if inner:
        naive |= _naive_filters(fields)
    return filters


def _is_naive(value: Any) -> bool:
    form = RowForm()
    wire_value(value, row=form)
    return form.naive_count > 0


def _naive_filters(filters: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    for name, value in filters.items():
        members = cast("list[Any]", value) if isinstance(value, list) else [value]
        if not _is_naive(value):
            continue
        # A group, or a column of that name: the server knows, and takes no notice of what is no column.
        found.add(name)
        if name in _GROUPS and all(isinstance(member, Mapping) for member in members):
            for member in members:
                found |= _naive_filters(member)
    return found


def check_model(model: object) -> None:
    """Refuse what rows cannot become."""
    if model is None or (isinstance(model, type) and issubclass(model, pydantic.BaseModel)):
        return
    name = model.__name__ if isinstance(model, type) else f"{type(model).__name__} object"
    raise ValidationError(f"model: must be a class of pydantic models, {name} is none")


def as_models(rows: list[Row], model: type[M], endpoint: str) -> list[M]:
    """Return rows as instances of the user's model.

    Raises:
        ServiceError: a row does not fit it.
    """
    try:
        return [model.model_validate(row) for row in rows]
    except pydantic.ValidationError as error:
        details = [
            {"field": ".".join(map(str, item["loc"])), "message": item["msg"]}
            for item in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        said = "; ".join(f"{item['field']}: {item['message']}" for item in details[:5])
        raise ServiceError(
            f"a row does not fit {model.__name__}: {said}",
            code="model_mismatch",
            details=details,
            endpoint=endpoint,
            retryable=False,
        ) from None


def lines_of(rows: RowSource) -> Lines:
    """Return the rows as a stream; lists can be sent again, iterators only once."""
    check_many(rows, "rows", "an iterable of dicts", (Iterable, AsyncIterable))
    is_replayable = isinstance(rows, (list, tuple))
    return Lines(
        open=lambda: _chunks(rows),
        is_replayable=is_replayable,
        rows=lambda: _all(rows),
    )


def _all(rows: RowSource) -> list[Row]:
    if not isinstance(rows, Iterable):
        raise ValidationError("rows: this server takes a list, not an asynchronous iterator")
    return [row_of(row, f"rows[{index}]") for index, row in enumerate(rows)]


async def _chunks(rows: RowSource) -> AsyncIterator[bytes]:
    buffer = bytearray()
    index = 0
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            buffer += _line(row, index)
            index += 1
            if len(buffer) >= CHUNK_BYTES:
                yield bytes(buffer)
                buffer.clear()
    else:
        for row in rows:
            buffer += _line(row, index)
            index += 1
            if len(buffer) >= CHUNK_BYTES:
                yield bytes(buffer)
                buffer.clear()
                # The loop's other tasks get their turn between chunks of a long list.
                await asyncio.sleep(0)
    if buffer:
        yield bytes(buffer)


def _line(row: Any, index: int) -> bytes:
    naive: set[str] = set()
    fields = row_of(row, f"rows[{index}]", naive)
    if naive:
        fields = {**fields, NAIVE_KEY: sorted(naive)}
    try:
        return to_json(fields) + b"\n"
    except (PydanticSerializationError, RecursionError) as error:
        raise ValidationError(f"rows[{index}]: not JSON: {error}") from None
