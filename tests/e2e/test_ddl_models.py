"""`dominus.ddl.pull` and `dominus ddl types`: what is written reads the rows of the tables that it was made of."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib.util
import os
import subprocess
import sys
import types
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from pydantic import BaseModel

from dominus import Dominus, NotFoundError, ValidationError

COMMAND = [sys.executable, "-m", "dominus.cli"]
NOW = dt.datetime(2026, 11, 25, 15, 30, 1, 123456, dt.UTC)
KNOWN = uuid.UUID("018f2b7e-0000-7000-8000-0123456789ab")
# type -> value, and what the model says of a column of it.
TYPES: dict[str, tuple[Any, Any]] = {
    "smallint": (-7, int),
    "integer": (7, int),
    "bigint": (2**62, int),
    "real": (1.5, float),
    "double precision": (0.1, float),
    "numeric": (Decimal("12345678901234567890.0123456789"), Decimal),
    "numeric(10,2)": (Decimal("1.50"), Decimal),
    "boolean": (True, bool),
    "text": ("é\n'\"", str),
    "varchar(9)": ("nine", str),
    "char(3)": ("abc", str),
    "uuid": (KNOWN, uuid.UUID),
    "timestamptz": (NOW, dt.datetime),
    "timestamp": (NOW.replace(tzinfo=None), dt.datetime),
    "date": (NOW.date(), dt.date),
    "time": (NOW.time(), dt.time),
    "timetz": (NOW.timetz(), dt.time),
    "interval": ("1 day", str),
    "bytea": (b"\0\xff", bytes),
    "json": ({"a": [1, None]}, Any),
    "jsonb": ([{"b": 1.5}], Any),
    "inet": ("127.0.0.1", str),
    "cidr": ("10.0.0.0/8", str),
    "text[]": (["a", None, ""], list[str | None]),
    "bigint[]": ([1, 2**62], list[int | None]),
    "numeric[]": ([Decimal("1.10"), None], list[Decimal | None]),
    "uuid[]": ([KNOWN], list[uuid.UUID | None]),
    "timestamptz[]": ([NOW], list[dt.datetime | None]),
    "bytea[]": ([b"\1"], list[bytes | None]),
    "jsonb[]": ([{"a": 1}, [2]], list[Any]),
    "boolean[]": ([], list[bool | None]),
}


def loaded(source: str) -> types.ModuleType:
    module = types.ModuleType("pulled")
    sys.modules["pulled"] = module
    exec(compile(source, "pulled.py", "exec"), module.__dict__)
    return module


async def all_types(client: Dominus, table: str) -> None:
    columns: list[Any] = [{"name": "id", "type": "bigserial", "primary_key": True}]
    for number, kind in enumerate(TYPES):
        columns.append({"name": f"needed{number}", "type": kind, "nullable": False})
        columns.append({"name": f"may{number}", "type": kind})
    await client.ddl.add_table(table, columns)


async def test_every_type_of_column_comes_back_as_the_model_says(dominus_client: Dominus) -> None:
    await all_types(dominus_client, "everything")
    model: Any = loaded(await dominus_client.ddl.pull(tables=["everything"])).Everything
    hints = get_type_hints(model)
    values = [value for value, _ in TYPES.values()]
    needed = {f"needed{number}": value for number, value in enumerate(values)}
    full = {**needed, **{f"may{number}": value for number, value in enumerate(values)}}
    for row in (needed, full):
        await dominus_client.db.insert("everything", row)
    empty, whole = (await dominus_client.db.query("everything", sort_by="id", model=model))["rows"]
    assert isinstance(whole, model)
    for number, (kind, (value, hint)) in enumerate(TYPES.items()):
        assert hints[f"needed{number}"] == hint, kind
        assert hints[f"may{number}"] == (hint if hint is Any else hint | None), kind
        for name in (f"needed{number}", f"may{number}"):
            assert getattr(whole, name) == value, kind
            assert type(getattr(whole, name)) is type(value), kind
        assert getattr(empty, f"may{number}") is None, kind
    # A model is a row, too: what was read is written again.
    await dominus_client.db.insert("everything", full)
    again = [row async for row in dominus_client.db.iterate("everything", model=model)]
    assert len(again) == 3
    assert again[2].model_dump(exclude={"id"}) == whole.model_dump(exclude={"id"})


async def test_names_that_python_has_for_itself_get_others(dominus_client: Dominus) -> None:
    names = ("class", "model_dump", "json", "_hidden", "dt", "copy", "self", "Any", "str", "Größe", "a", "A", "BaseModel",
             "Field", "register", "None", "__init__", "int")  # fmt: skip
    columns = [{"name": "id", "type": "bigint", "primary_key": True}]
    columns += [
        {"name": name, "type": "text", "nullable": number % 2 == 0} for number, name in enumerate(names)
    ]
    for table in ("import", "base_model", "Any", "optional", "any"):
        await dominus_client.ddl.add_table(table, columns)
    source = await dominus_client.ddl.pull()
    module = loaded(source)
    models = {
        name: found
        for name, found in vars(module).items()
        if isinstance(found, type) and issubclass(found, BaseModel) and found is not BaseModel
    }
    assert len(models) == 5
    for table in ("import", "base_model", "Any"):
        row = {"id": 1, **{name: f"its {name}" for name in names}}
        await dominus_client.db.insert(table, row)
    found: Any = await dominus_client.db.query("import", model=models["Import"])
    assert found["rows"][0].model_dump(by_alias=True) == row


async def test_enums_domains_views_and_computed_columns(dominus_client: Dominus) -> None:
    await dominus_client.ddl.execute_raw(
        "public",
        "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN cents AS numeric(9,2) CHECK (VALUE >= 0);"
        " CREATE TABLE kinds (id bigint PRIMARY KEY, mood mood NOT NULL, price cents, moods mood[],"
        " twice numeric GENERATED ALWAYS AS (price * 2) STORED);"
        " CREATE VIEW seen AS SELECT id, price FROM kinds",
    )
    module: Any = loaded(await dominus_client.ddl.pull())
    row = {"id": 1, "mood": "glad", "price": Decimal("1.50"), "moods": ["sad"]}
    await dominus_client.db.insert("kinds", row)
    kinds = (await dominus_client.db.query("kinds", model=module.Kinds))["rows"]
    assert kinds[0].model_dump() == {**row, "twice": Decimal("3.00")}
    assert get_type_hints(module.Kinds)["mood"] is str
    seen = (await dominus_client.db.query("seen", model=module.Seen))["rows"]
    assert (seen[0].id, seen[0].price) == (1, Decimal("1.50"))


async def test_a_file_is_replaced_as_a_whole(dominus_client: Dominus, tmp_path: Path) -> None:
    await dominus_client.ddl.add_table("orders", [{"name": "id", "type": "bigint", "primary_key": True}])
    out = tmp_path / "models.py"
    out.write_text("old")
    out.chmod(0o640)
    source = await dominus_client.ddl.pull(out)
    assert out.read_text() == source
    assert out.stat().st_mode & 0o777 == 0o640
    with pytest.raises(NotFoundError) as caught:
        await dominus_client.ddl.pull(out, tables=["order"])
    assert "orders" in (caught.value.hint or "")
    with pytest.raises(NotFoundError):
        await dominus_client.ddl.pull(out, "nowhere")
    assert out.read_text() == source
    with pytest.raises(ValidationError, match="cannot be written"):
        await dominus_client.ddl.pull(tmp_path / "missing" / "models.py")
    assert list(tmp_path.iterdir()) == [out]


def cli(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOMINUS_", "CB_"))}
    return subprocess.run(
        [*COMMAND, "ddl", "types", *args],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        env={**kept, **env},
    )


async def test_the_command_writes_what_pull_returns(
    tmp_path: Path, dominus_url: str, dominus_token: str
) -> None:
    out = tmp_path / "models.py"
    env = {"DOMINUS_URL": dominus_url, "DOMINUS_TOKEN": dominus_token}
    async with Dominus(dominus_url, dominus_token) as client:
        await client.ddl.add_table("typed_orders", [{"name": "id", "type": "bigint", "primary_key": True}])
        await client.ddl.add_table("typed_lines", [{"name": "n", "type": "int"}])
        source = await client.ddl.pull()
        only = await client.ddl.pull(tables=["typed_lines"])
    written = await asyncio.to_thread(cli, "--out", str(out), **env)
    assert (written.returncode, written.stderr) == (0, "")
    assert out.read_text() == source
    shown = await asyncio.to_thread(cli, "--table", "typed_lines", **env)
    assert (shown.returncode, shown.stdout) == (0, only)
    wrong = await asyncio.to_thread(cli, "--table", "typed_lnes", "--out", str(out), **env)
    assert wrong.returncode != 0
    assert "typed_lines" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    spec = importlib.util.spec_from_file_location("models", out)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["models"] = module
    spec.loader.exec_module(module)
    assert module.TypedOrders(id=1).id == 1
