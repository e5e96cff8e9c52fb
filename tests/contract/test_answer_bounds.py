"""An answer that would be too large is refused before it is built: what a server process of PostgreSQL takes is bounded."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from pg_support import Caller, call, data_of, pg_dsn, postgres

from dominus.contract.db import InsertRequest, PageRequest, QueryRequest
from dominus.errors import ValidationError
from dominus.orchestrator.services import db

__all__ = ["call", "pg_dsn", "postgres"]

MB = 1024 * 1024
MAX_BACKEND_BYTES = 300 * MB
"""Of its own memory, for a query of 3 GB worth: four times the 64 MiB that an answer may have, and what a row takes."""


async def peak_of_backends(call: Caller) -> int:
    """Return the most memory that any server process of the data pool ever had, less what all of them share."""
    pids = await call.postgres.system.fetch(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'dominus data'"
    )
    peaks: list[int] = []
    for record in pids:
        status = Path(f"/proc/{record['pid']}/status").read_text(encoding="ascii")
        facts = {
            name: int(size) * 1024 for name, size in re.findall(r"^(\w+):\s+(\d+) kB", status, re.MULTILINE)
        }
        peaks.append(facts["VmHWM"] - facts["RssShmem"])
    return max(peaks)


async def refused(ask: Any) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        await ask
    assert caught.value.code == "answer_too_large"
    return caught.value


@pytest.fixture
async def wide(call: Caller) -> Caller:
    """Rows of 32 MB as JSON, 3 GB in all, which PostgreSQL keeps compressed."""
    await call.sql("CREATE TABLE wide (id integer PRIMARY KEY, body text, doc jsonb, raw bytea)")
    await call.sql("INSERT INTO public.wide (id, body) VALUES (0, repeat('x', 33554432))")
    await call.sql(
        "INSERT INTO public.wide (id, body) SELECT n, body FROM public.wide, generate_series(1, 95) AS n"
    )
    return call


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_query_of_three_gigabytes_is_refused_in_bounded_memory(wide: Caller) -> None:
    await refused(db.query(wide(), QueryRequest(table="wide")))
    await refused(db.page(wide(), PageRequest(table="wide")))
    peak = await peak_of_backends(wide)
    print(f"a server process took {peak / MB:.0f} MB")
    assert peak < MAX_BACKEND_BYTES
    one = data_of(await db.query(wide(), QueryRequest(table="wide", limit=1)))
    assert len(one["items"][0]["body"]) == 33554432
    assert len(data_of(await db.page(wide(), PageRequest(table="wide", columns=["id"])))["items"]) == 96


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("doc", "jsonb_build_array(repeat('x', 33554432))"),
        ("doc", "to_jsonb(array_fill(1e131000::numeric, ARRAY[200]))"),
        ("raw", "convert_to(repeat('x', 16777216), 'UTF8')"),
    ],
)
async def test_what_is_small_as_it_is_kept_is_measured_as_it_is_written(
    call: Caller, column: str, value: str
) -> None:
    await call.sql("CREATE TABLE wide (id integer PRIMARY KEY, doc jsonb, raw bytea)")
    await call.sql(f"INSERT INTO public.wide (id, {column}) VALUES (0, {value})")
    await call.sql(
        f"INSERT INTO public.wide (id, {column}) SELECT n, {column} FROM public.wide, generate_series(1, 2) AS n"
    )
    await refused(db.query(call(), QueryRequest(table="wide")))
    await refused(db.page(call(), PageRequest(table="wide")))


async def test_an_insert_whose_row_is_too_large_to_return_stores_nothing(call: Caller) -> None:
    await call.sql("CREATE TABLE wide (id integer PRIMARY KEY, body text DEFAULT repeat('x', 80000000))")
    request = InsertRequest(table="wide", data={"id": 1})
    error = await refused(db.insert(call("key"), request))
    assert "was not stored" in error.message
    assert (await call.sql("SELECT count(*) FROM wide"))[0][0] == 0
    await call.sql("INSERT INTO public.wide VALUES (1)")
    ignored = InsertRequest(table="wide", data={"id": 1}, on_conflict="ignore")
    await refused(db.insert(call(), ignored))
    small = InsertRequest(table="wide", data={"id": 2, "body": "x"})
    assert data_of(await db.insert(call("key2"), small)) == {"id": 2, "body": "x"}


async def test_a_column_may_have_the_name_that_the_measure_has(call: Caller) -> None:
    await call.sql("CREATE TABLE named (size integer PRIMARY KEY, size_ text, k text, kk text)")
    row = {"size": 1, "size_": "a", "k": "b", "kk": None}
    assert data_of(await db.insert(call(), InsertRequest(table="named", data=row))) == row
    assert data_of(await db.query(call(), QueryRequest(table="named")))["items"] == [row]
    page = data_of(await db.page(call(), PageRequest(table="named", columns=["k", "size"])))
    assert page["items"] == [{"k": "b", "size": 1}]
