"""Rows on their way out (JSON lines in chunks) and back (dicts or the user's model)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any, TypeVar

import pydantic
from pydantic_core import PydanticSerializationError, to_json

from dominus.contract.db import Row
from dominus.contract.values import wire_value
from dominus.errors import ServiceError, ValidationError
from dominus.namespaces.base import check_many
from dominus.transport.encode import Lines

__all__ = ["RowSource", "as_models", "check_model", "filters_of", "lines_of", "row_of"]

M = TypeVar("M", bound=pydantic.BaseModel)
RowSource = Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]
CHUNK_BYTES = 256 * 1024


def row_of(value: Any, at: str) -> Row:
    """Return a row as JSON types; a pydantic model or a dataclass is a row too."""
    row = wire_value(value, at, allow_bytes=True)
    if not isinstance(row, dict):
        raise ValidationError(f"{at}: must be a dict of column to value, not {type(value).__name__}")
    return row  # pyright: ignore[reportUnknownVariableType]


def filters_of(value: Mapping[str, Any] | None) -> Row | None:
    """Return filters as JSON types."""
    return None if value is None else row_of(value, "filters")


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
    try:
        return to_json(row_of(row, f"rows[{index}]")) + b"\n"
    except (PydanticSerializationError, RecursionError) as error:
        raise ValidationError(f"rows[{index}]: not JSON: {error}") from None
