"""What of a model, a dataclass or a datetime goes into a row, without a server."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from typing import Any

import pytest
from pydantic import BaseModel

from dominus.errors import ValidationError
from dominus.namespaces.rows import filters_of, lines_of, row_of

NAIVE = dt.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001
AWARE = NAIVE.replace(tzinfo=dt.UTC)


class Address(BaseModel):
    city: str
    country: str = "NO"


class Person(BaseModel):
    id: int | None = None
    name: str
    tags: list[str] = []
    note: str | None = None
    address: Address | None = None


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Color(enum.Enum):
    RED = "red"


async def streamed(rows: Any) -> bytes:
    return b"".join([chunk async for chunk in lines_of(rows).open()])


async def test_a_model_gives_the_fields_that_were_set_and_its_models_too() -> None:
    ada = Person(name="Ada", address=Address(city="Oslo"))
    expected = {"name": "Ada", "address": {"city": "Oslo"}}
    assert row_of(ada, "data") == expected
    assert row_of({"who": ada}, "data") == {"who": expected}
    assert row_of(Person(name="Ada", note=None), "data") == {"name": "Ada", "note": None}
    assert await streamed([ada, Person(id=1, name="B")]) == (
        b'{"name":"Ada","address":{"city":"Oslo"}}\n{"id":1,"name":"B"}\n'
    )
    assert filters_of(Person(name="Ada"), set()) == {"name": "Ada"}


def test_a_dataclass_gives_all_its_fields() -> None:
    assert row_of(Point(1), "data") == {"x": 1, "y": 0}


def test_a_member_of_an_enum_is_no_row() -> None:
    with pytest.raises(ValidationError, match="data: must be a dict"):
        row_of(Color.RED, "data")


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"at": AWARE, "text": "2026-01-02T03:04:05"}, set()),
        ({"at": NAIVE, "other": AWARE}, {"at"}),
        ({"times": [AWARE, NAIVE]}, {"times"}),
        ({"meta": {"at": NAIVE}, "at": AWARE}, {"meta"}),
        ({"point": Point(1), "seen": {NAIVE}}, {"seen"}),
    ],
)
def test_columns_of_naive_datetimes_are_noted(row: Any, columns: set[str]) -> None:
    naive: set[str] = set()
    written = row_of(row, "data", naive)
    assert naive == columns
    assert "+00:00" not in str(written.get("seen"))


@pytest.mark.parametrize(
    ("filters", "columns"),
    [
        ({"at": {"gte": NAIVE, "lt": AWARE}}, {"at"}),
        ({"at": [AWARE, NAIVE]}, {"at"}),
        ({"or": [{"at": {"lt": AWARE}}, {"day": {"between": [NAIVE, NAIVE]}}]}, {"day", "or"}),
        ({"not": {"and": [{"seen": NAIVE}, {"at": None}]}}, {"seen", "not", "and"}),
        ({"or": {"gt": NAIVE}}, {"or", "gt"}),
        ({"meta": {"contains": {"at": NAIVE}}, "at": AWARE}, {"meta"}),
    ],
)
def test_filters_note_the_column_and_not_the_operator(filters: Any, columns: set[str]) -> None:
    naive: set[str] = set()
    filters_of(filters, naive)
    assert naive == columns


async def test_a_streamed_row_names_its_naive_columns() -> None:
    assert await streamed([{"at": NAIVE, "n": 1}, {"at": AWARE}]) == (
        b'{"at":"2026-01-02T03:04:05","n":1,"dominus:naive":["at"]}\n{"at":"2026-01-02T03:04:05+00:00"}\n'
    )


def test_a_server_that_takes_no_streams_gets_no_naive_datetimes() -> None:
    with pytest.raises(ValidationError, match=r"rows\[0\].*'at'.*time zone"):
        lines_of([{"at": NAIVE}]).rows()
