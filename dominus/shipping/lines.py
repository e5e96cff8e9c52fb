"""A log line as JSON, made at the call in a few microseconds: what is logged is copied then."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import PurePath
from types import FrameType
from typing import Any, cast

from pydantic_core import from_json, to_json

from dominus.contract.line_id import LineIds
from dominus.contract.logs import (
    DEFAULT_CATEGORY,
    MAX_CATEGORY,
    MAX_CONTEXT_BYTES,
    MAX_MESSAGE,
    MAX_PLACE,
)

__all__ = ["IDS", "ID_LENGTH", "MAX_TRACEBACK", "call_site", "exception_facts", "make_line", "place_of"]

IDS = LineIds()
ID_LENGTH = len('{"id":"') + 32
"""Where the text of a line begins; before it stands nothing that was logged."""
MAX_TRACEBACK = 16_384
"""Characters; of a longer one the end is kept, where it says what happened."""
MAX_TEXT = 2_000
"""Characters of what stands for a value that has no JSON form."""
CUT = "… (cut)"
MAX_PLAIN_BYTES, MAX_PLAIN_DEPTH = 4_000, 100
"""A line with less of either is surely read again: parsers give up at 4,300 digits, and at a depth of 200."""
PLACE_PARTS = 3
_PACKAGE = str(PurePath(__file__).parents[1]) + "/"
_places: dict[str, str] = {}
_MAX_PLACES = 10_000

Site = tuple[str | None, str | None, int | None]
"""File, function and line."""


def place_of(path: str) -> str:
    """Return the last three parts of a path."""
    found = _places.get(path)
    if found is None:
        if len(_places) >= _MAX_PLACES:
            _places.clear()
        found = _places[path] = "/".join(PurePath(path).parts[-PLACE_PARTS:])[-MAX_PLACE:]
    return found


def call_site(frame: FrameType | None, others: tuple[str, ...] = ()) -> Site:
    """Return where the nearest frame outside of this package is, and of modules whose names begin like `others`."""
    while frame is not None:
        code = frame.f_code
        path = code.co_filename
        if not path.startswith(_PACKAGE) and not (
            others and str(frame.f_globals.get("__name__", "")).startswith(others)
        ):
            return place_of(path), code.co_name, frame.f_lineno
        frame = frame.f_back
    return None, None, None


def exception_facts(error: BaseException) -> dict[str, str]:
    """Return type, message and traceback of an exception, and of those that it came from."""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as failure:  # noqa: BLE001 - of foreign exceptions even the text may fail
        text = f"no traceback: {type(failure).__name__}"
    if len(text) > MAX_TRACEBACK:
        text = CUT + text[-MAX_TRACEBACK:]
    return {"type": type(error).__name__, "message": _said(error), "traceback": text}


def make_line(
    level: str,
    message: str,
    context: Any = None,
    category: str | None = None,
    site: Site = (None, None, None),
    exception: BaseException | None = None,
) -> bytes:
    """Return a line as JSON; nothing that is logged makes it fail."""
    if exception is not None:
        context = {**_as_context(context), "exception": exception_facts(exception)}
    elif context is not None and not isinstance(context, dict):
        context = _as_context(context)
    if type(message) is not str or len(message) > MAX_MESSAGE:
        message = _message(message)
    fields: dict[str, Any] = {
        "level": level,
        "message": message,
        "category": DEFAULT_CATEGORY if category is None else _category(category),
        "file": site[0],
        "function": site[1],
        "line": site[2],
        "context": context,
    }
    try:
        text = to_json(fields, fallback=_said, inf_nan_mode="strings")
        if len(text) > MAX_PLAIN_BYTES or text.count(b"[") + text.count(b"{") > MAX_PLAIN_DEPTH:
            _check_readable(text)
    except Exception:  # noqa: BLE001 - text that is no Unicode, bytes, a circle, a value whose own methods fail
        text = _carefully(fields)
    if len(text) > MAX_CONTEXT_BYTES:
        text = _shortened(fields, text)
    return f'{{"id":"{IDS.make()}",'.encode() + text[1:]


def _as_context(context: Any) -> dict[str, Any]:
    if context is None:
        return {}
    return dict(cast("Mapping[str, Any]", context)) if isinstance(context, Mapping) else {"value": context}


def _category(category: Any) -> str:
    text = category if type(category) is str else _said(category)
    if not text.isprintable() or len(text) > MAX_CATEGORY:
        text = "".join(character if character.isprintable() else " " for character in text)[:MAX_CATEGORY]
    return text or DEFAULT_CATEGORY


def _message(message: Any) -> str:
    text = message if isinstance(message, str) else _said(message)
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - len(CUT)] + CUT


def _said(value: Any) -> str:
    try:
        text = str(value)
    except Exception as error:  # noqa: BLE001 - a foreign __str__ may raise anything
        return f"<{type(value).__name__} without text: {type(error).__name__}>"
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + CUT


def _check_readable(text: bytes) -> None:
    """Raise for what can be written and not be read again: depths and numbers beyond a parser's limits."""
    from_json(b"[[[[%b]]]]" % text)


def _carefully(fields: dict[str, Any]) -> bytes:
    return to_json(_plain(fields, 0), inf_nan_mode="strings")


def _plain(value: Any, depth: int) -> Any:  # noqa: PLR0911 - a case for each kind
    """Return a copy that surely has a JSON form."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else _said(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if depth > 20:
        return CUT
    if isinstance(value, Mapping):
        items = list(cast("Mapping[Any, Any]", value).items())
        return {str(_plain(_said(key), depth)): _plain(item, depth + 1) for key, item in items}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth + 1) for item in cast("list[Any]", value)]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(cast("bytes", value)[: MAX_TEXT // 2]).decode("utf-8", "backslashreplace")
    return _plain(_said(value), depth)


def _shortened(fields: dict[str, Any], text: bytes) -> bytes:
    """Leave out a context that is too large, but for the exception."""
    context: dict[str, Any] | None = fields["context"]
    size = len(to_json(_plain(context, 0), inf_nan_mode="strings"))
    if size <= MAX_CONTEXT_BYTES or context is None:
        return text
    kept: dict[str, Any] = {"cut": f"a context of {size:,} bytes, more than {MAX_CONTEXT_BYTES:,}"}
    facts = context.get("exception")
    if isinstance(facts, dict):
        named = cast("dict[str, Any]", facts)
        kept["exception"] = {name: named.get(name) for name in ("type", "message", "traceback")}
    return _carefully({**fields, "context": kept})
