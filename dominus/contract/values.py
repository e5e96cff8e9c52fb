r"""How Python values become JSON, and which types an answer's column hints bring back.

What JSON has no word for travels as text: Decimal and UUID as themselves, times in ISO 8601, bytes as
`\x` and hex (PostgreSQL's own form). Everything else that is not JSON is refused before it is sent.
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

__all__ = ["restore_rows", "wire_value"]

MAX_DEPTH = 100
_BYTES: Any = (bytes, bytearray, memoryview)
_PLAIN: frozenset[type] = frozenset({str, int, bool, type(None)})


def wire_value(value: Any, at: str = "value", *, allow_bytes: bool = False, depth: int = 0) -> Any:
    """Return `value` as JSON types. `at` names it in errors.

    Raises:
        ValidationError: it holds NaN, an infinity, a naive datetime, itself, or a type without a JSON form.
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
        return _wire_mapping(cast("Mapping[Any, Any]", value), at, allow_bytes, depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        items = cast("Sequence[Any]", value)
        return [
            wire_value(item, f"{at}[{index}]", allow_bytes=allow_bytes, depth=depth + 1)
            for index, item in enumerate(items)
        ]
    return _wire_scalar(value, at, allow_bytes, depth)


def _wire_mapping(value: Mapping[Any, Any], at: str, allow_bytes: bool, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise ValidationError(f"{at}: the key {key!r} is {type(key).__name__}, JSON keys are text")
        # The path is written only when it is needed: flat rows are the common case.
        if type(item) in _PLAIN:
            found[key] = item
        else:
            found[key] = wire_value(item, f"{at}.{key}", allow_bytes=allow_bytes, depth=depth + 1)
    return found


def _wire_scalar(value: Any, at: str, allow_bytes: bool, depth: int) -> Any:
    if isinstance(value, (enum.Enum, BaseModel)) or _is_record(value):
        return wire_value(_content(value, at), at, allow_bytes=allow_bytes, depth=depth + 1)
    if isinstance(value, _BYTES) and not allow_bytes:
        raise ValidationError(f"{at}: bytes are not JSON", hint="decode them, or encode them as base64 text")
    for kind, write in _WRITERS:
        if isinstance(value, kind):
            return write(value, at)
    raise ValidationError(f"{at}: {type(value).__name__} has no JSON form")


def _content(value: Any, at: str) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    try:
        return value.model_dump() if isinstance(value, BaseModel) else dataclasses.asdict(value)
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
