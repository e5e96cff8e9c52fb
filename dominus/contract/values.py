r"""How Python values become JSON, and which types an answer's column hints bring back.

What JSON has no word for travels as text: Decimal and UUID as themselves, times in ISO 8601, bytes as
`\x` and hex (PostgreSQL's own form). Everything else that is not JSON is refused before it is sent.
A datetime without a time zone says no moment, so it is refused too, but for a row: its column may be a
`timestamp`, which has none either. Who writes the row learns of it, and tells the server, which knows the columns.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, cast

from pydantic import BaseModel

from dominus.errors import ValidationError

__all__ = ["RowForm", "record_fields", "restore_rows", "wire_value"]

MAX_DEPTH = 100
_BYTES: Any = (bytes, bytearray, memoryview)
_PLAIN: frozenset[type] = frozenset({str, int, bool, type(None)})


@dataclasses.dataclass(slots=True)
class RowForm:
    """Asks for the form that rows and filters have: bytes may be in them, and models give the fields that were set."""

    naive_count: int = 0
    """How many datetimes without a time zone were written."""


def wire_value(value: Any, at: str = "value", *, row: RowForm | None = None, depth: int = 0) -> Any:
    """Return `value` as JSON types. `at` names it in errors; `row` takes what only rows may hold.

    Raises:
        ValidationError: it holds NaN, an infinity, itself, a type without a JSON form or, outside of a row, bytes
            or a datetime without a time zone.
    """
    kind = cast("type[object]", type(value))
    if kind in _PLAIN:
        return value
    if kind is float:
        if not math.isfinite(value):
            raise ValidationError(f"{at}: {value} is no JSON number", hint="store None or a string instead")
        return value
    if depth > MAX_DEPTH:
        raise ValidationError(f"{at}: nested more than {MAX_DEPTH} deep, or it contains itself")
    if isinstance(value, Mapping):
        return _wire_mapping(cast("Mapping[Any, Any]", value), at, row, depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        items = cast("Sequence[Any]", value)
        return [
            wire_value(item, f"{at}[{index}]", row=row, depth=depth + 1) for index, item in enumerate(items)
        ]
    return _wire_scalar(value, at, row, depth)


def _wire_mapping(value: Mapping[Any, Any], at: str, row: RowForm | None, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise ValidationError(f"{at}: the key {key!r} is {type(key).__name__}, JSON keys are text")
        # The path is written only when it is needed: flat rows are the common case.
        if type(item) in _PLAIN:
            found[key] = item
        else:
            found[key] = wire_value(item, f"{at}.{key}", row=row, depth=depth + 1)
    return found


def _wire_scalar(value: Any, at: str, row: RowForm | None, depth: int) -> Any:
    if isinstance(value, (enum.Enum, BaseModel)) or _is_record(value):
        content = record_fields(value, at, only_set=row is not None)
        return wire_value(content, at, row=row, depth=depth + 1)
    if isinstance(value, _BYTES) and row is None:
        raise ValidationError(f"{at}: bytes are not JSON", hint="decode them, or encode them as base64 text")
    if row is not None and isinstance(value, dt.datetime) and value.tzinfo is None:
        row.naive_count += 1
        return value.isoformat()
    for kind, write in _WRITERS:
        if isinstance(value, kind):
            return write(value, at)
    raise ValidationError(f"{at}: {type(value).__name__} has no JSON form")


def record_fields(value: Any, at: str, *, only_set: bool) -> Any:
    """Return what an enum, a pydantic model or a dataclass holds; anything else as it is.

    Args:
        value: anything.
        at: names it in errors.
        only_set: leave out the fields of a model, and of the models in it, that nobody gave a value. A dataclass
            does not know which those are: it gives all its fields.
    """
    if isinstance(value, enum.Enum):
        return value.value
    try:
        if isinstance(value, BaseModel):
            return value.model_dump(exclude_unset=only_set)
        return dataclasses.asdict(value) if _is_record(value) else value
    except (ValueError, RecursionError):
        raise ValidationError(
            f"{at}: {type(value).__name__} is nested too deep, or it contains itself"
        ) from None


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _write_datetime(value: dt.datetime, at: str) -> str:
    if value.tzinfo is None:
        raise ValidationError(
            f"{at}: the datetime {value.isoformat()} has no time zone",
            hint="use datetime.now(timezone.utc), or value.replace(tzinfo=...)",
        )
    return value.isoformat()


def _write_decimal(value: Decimal, at: str) -> str:
    if not value.is_finite():
        raise ValidationError(f"{at}: {value} is no number", hint="store None instead")
    return str(value)


def _write_duration(value: dt.timedelta, _at: str) -> str:
    return f"{value.days} days {value.seconds}.{value.microseconds:06} seconds"


# In this order: a datetime is a date too, and the first that fits counts.
_WRITERS: Sequence[tuple[Any, Callable[[Any, str], Any]]] = (
    ((str, int), lambda value, _: value),
    (dt.datetime, _write_datetime),
    ((dt.date, dt.time), lambda value, _: value.isoformat()),
    (dt.timedelta, _write_duration),
    (Decimal, _write_decimal),
    (uuid.UUID, lambda value, _: str(value)),
    (_BYTES, lambda value, _: "\\x" + value.hex()),
    (float, lambda value, at: wire_value(float(value), at)),
)


# The column types that JSON cannot say, as an answer's `types` names them. Text that does not fit, such as
# PostgreSQL's 'infinity', stays text.
_RESTORE: Mapping[str, Callable[[Any], Any]] = {
    "numeric": Decimal,
    "uuid": uuid.UUID,
    "timestamptz": dt.datetime.fromisoformat,
    "timestamp": dt.datetime.fromisoformat,
    "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat,
    "timetz": dt.time.fromisoformat,
    "bytea": lambda text: bytes.fromhex(text[2:]),
    "float": float,
}


def _restore(value: Any, convert: Callable[[Any], Any]) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return [_restore(item, convert) for item in items]
    try:
        return convert(value)
    except (ValueError, TypeError, ArithmeticError):
        return value


def restore_rows(rows: list[dict[str, Any]], types: Mapping[str, str]) -> None:
    """Turn the text of typed columns back into Python values, in place."""
    for column, kind in types.items():
        convert = _RESTORE.get(kind)
        if convert is None:
            continue
        for row in rows:
            value = row.get(column)
            if value is not None:
                row[column] = _restore(value, convert)
