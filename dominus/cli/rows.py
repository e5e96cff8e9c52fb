"""What `dominus call` reads from its arguments, files and stdin: JSON values, and rows in three formats."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any, cast

from pydantic_core import from_json

__all__ = ["UsageError", "parsed", "read_rows"]


class UsageError(ValueError):
    """The command line, or what it names, is malformed."""


def parsed(text: str, key: str) -> Any:
    """Return a JSON value; what is not JSON is text, but a broken object or list is an error.

    Raises:
        UsageError: it says which parameter, and where in it.
    """
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        if text.lstrip()[:1] not in {"{", "["}:
            return text
        raise UsageError(
            f"{key} is broken JSON: {error}; a text that begins so is written as a JSON string, "
            f"{key}='\"...\"'"
        ) from None


def read_rows(text: str, key: str, form: str | None = None) -> Iterator[Any]:
    """Read rows from `json` (a list), `jsonl` or `csv`; without `form`, from what the text looks like.

    Raises:
        UsageError: it says which line.
    """
    form = form or _form_of(text)
    if form == "csv":
        return _csv_rows(text, key)
    return _json_rows(text, key) if form == "json" else _json_lines(text, key)


def _form_of(text: str) -> str:
    first = text.lstrip()[:1]
    if first == "{":
        return "jsonl"
    return "json" if first == "[" else "csv"


def _json_rows(text: str, key: str) -> Iterator[Any]:
    found = parsed(text, key)
    if not isinstance(found, list):
        raise UsageError(f"{key} is no JSON list of rows")
    return iter(cast("list[Any]", found))


def _json_lines(text: str, key: str) -> Iterator[Any]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield from_json(line, allow_inf_nan=False)
            except ValueError as error:
                # Each line is a document of its own: its number is ours to tell.
                said = str(error).replace(" at line 1 column ", " at column ")
                raise UsageError(f"{key}, line {number} is broken JSON: {said}") from None


def _csv_rows(text: str, key: str) -> Iterator[dict[str, str | None]]:
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = next(reader, None) or []
        if len(set(header)) != len(header):
            raise UsageError(f"{key}: the first line of the CSV names a column twice")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise UsageError(
                    f"{key}, line {reader.line_num} of the CSV has {len(cells)} cells, its first line {len(header)}"
                )
            # As PostgreSQL's own CSV: nothing between two commas is NULL.
            yield {name: cell or None for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise UsageError(f"{key}, line {reader.line_num} of the CSV: {error}") from None
