"""dominus.ddl.pull: pydantic models of tables, as Python source."""

from __future__ import annotations

import asyncio
import keyword
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dominus.contract import ddl as contract
from dominus.errors import ValidationError
from dominus.namespaces.base import Namespace, as_list

__all__ = ["Models", "models_source"]

_PYTHON = {
    **dict.fromkeys(("smallint", "integer", "bigint", "smallserial", "serial", "bigserial", "oid"), "int"),
    **dict.fromkeys(("real", "double precision"), "float"),
    **dict.fromkeys(("json", "jsonb"), "Any"),
    **dict.fromkeys(("timestamp with time zone", "timestamp without time zone"), "dt.datetime"),
    **dict.fromkeys(("time with time zone", "time without time zone"), "dt.time"),
    **dict.fromkeys(
        ("text", "character varying", "character", "name", "citext", "interval", "inet", "cidr", "macaddr"),
        "str",
    ),
    "numeric": "Decimal",
    "boolean": "bool",
    "uuid": "UUID",
    "date": "dt.date",
    "bytea": "bytes",
}
"""PostgreSQL's names -> what `db.query` gives; anything else is Any."""
_IMPORTS = {
    "dt.": "import datetime as dt",
    "Decimal": "from decimal import Decimal",
    "Any": "from typing import Any",
    "UUID": "from uuid import UUID",
}
_MEANT = {
    "dt",
    "Any",
    "Decimal",
    "UUID",
    "int",
    "float",
    "str",
    "bool",
    "bytes",
    "list",
    "BaseModel",
    "Field",
}
_HEAD = '"""Written by dominus from the schema {schema}: a model for each of its tables. Do not edit: write it anew."""'


class Models(Namespace):
    """Models of the tables that there are."""

    async def pull(
        self,
        out: str | os.PathLike[str] | None = None,
        schema: str = "public",
        tables: Sequence[str] | None = None,
        *,
        timeout: float | None = None,
    ) -> str:
        """Write pydantic models of the tables and views of a schema, and return their source.

        With `model=` of `db.query` and `db.iterate` rows become instances of them. On the command line it is
        `dominus ddl types --out models.py`.

        Args:
            out: the file to write, which is replaced as a whole; without it, nothing is written.
            schema: which schema.
            tables: only these.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such schema or table.

        Example:
            ```python
            source = await dominus.ddl.pull(tables=["orders"])
            assert "class Orders(" in source
            ```
        """
        request = contract.Describe(schema_=schema, table=None)
        found = (await self._call(contract.DESCRIBE, request, timeout=timeout))["tables"]
        if tables is not None:
            wanted = as_list(tables, "tables")
            for table in wanted:
                if table not in {known["table"] for known in found}:
                    # The server knows what is near.
                    await self._call(
                        contract.DESCRIBE, contract.Describe(schema_=schema, table=table), timeout=timeout
                    )
            found = [table for table in found if table["table"] in wanted]
        source = models_source(found, schema)
        if out is not None:
            await asyncio.to_thread(_write, Path(out), source)
        return source


def _write(path: Path, source: str) -> None:
    """Replace a file as a whole."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}", delete=False
        ) as file:
            file.write(source)
        made = Path(file.name)
        mask = os.umask(0)
        os.umask(mask)
        made.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~mask)
        made.replace(path)
    except OSError as error:
        raise ValidationError(f"out: {path} cannot be written: {error.strerror}") from error


def models_source(tables: Sequence[Mapping[str, Any]], schema: str) -> str:
    """Return a module with a pydantic model of each table, in the order of their names."""
    taken: set[str] = set()
    models = [_model(table, taken) for table in tables]
    body = "\n\n\n".join(models)
    imports = [line for mark, line in _IMPORTS.items() if re.search(rf"[:\[ ]{re.escape(mark)}", body)]
    uses_field = "Field(" in body
    names = "BaseModel, ConfigDict, Field" if uses_field else "BaseModel"
    plain = [line for line in imports if line.startswith("import")]
    others = [line for line in imports if line.startswith("from")]
    blocks = [
        [_HEAD.format(schema=_plain_text(schema))],
        ["from __future__ import annotations"],
        plain + others,
    ]
    blocks += [[f"from pydantic import {names}"]] if models else []
    head = "\n\n".join("\n".join(block) for block in blocks if block)
    return f"{head}\n\n\n{body}\n" if models else f"{head}\n"


def _model(table: Mapping[str, Any], taken: set[str]) -> str:
    name = _class_name(table["table"], taken)
    fields: list[str] = []
    has_alias = False
    used: set[str] = set()
    for column in table["columns"]:
        field = _field_name(column["name"], used)
        kind = _kind(column)
        is_nullable = column["nullable"] and kind != "Any"
        kind = f"{kind} | None" if is_nullable else kind
        default = " = None" if column["nullable"] else ""
        if field != column["name"]:
            has_alias = True
            value = "default=None, " if column["nullable"] else ""
            default = f" = Field({value}alias={_literal(column['name'])})"
        fields.append(f"    {field}: {kind}{default}")
    what = f'    """The {table["kind"]} `{_plain_text(table["table"])}`."""'
    config = ["    model_config = ConfigDict(populate_by_name=True)", ""] if has_alias else []
    return "\n".join([f"class {name}(BaseModel):", what, "", *config, *fields]).rstrip()


def _kind(column: Mapping[str, Any]) -> str:
    name: str = column.get("base") or column["type"]
    dimensions = name.count("[]")
    name = name.replace("[]", "")
    plain = re.sub(r"\([^)]*\)", "", name).strip()
    kind = _PYTHON.get(plain, "Any")
    # PostgreSQL keeps no number of dimensions: an array of a column may hold arrays.
    return f"list[{kind}]" if dimensions and kind == "Any" else f"list[{kind} | None]" if dimensions else kind


def _class_name(table: str, taken: set[str]) -> str:
    words = re.findall(r"[^\W_]+", table)
    name = "".join(word[:1].upper() + word[1:] for word in words) or "Table"
    name = f"Table{name}" if not name.isidentifier() or name in {"None", "True", "False"} else name
    while name in taken or name in {"BaseModel", "ConfigDict", "Field", "Any", "Decimal", "UUID"}:
        name += "_"
    taken.add(name)
    return name


def _field_name(column: str, used: set[str]) -> str:
    name = re.sub(r"\W", "_", column).lstrip("_") or "column"
    name = f"column_{name}" if name[0].isdigit() else name
    if name.startswith("model_"):
        name = f"column_{name}"
    # What the annotations mean by a name, and what a model has by it, its metaclass's methods too.
    elif keyword.iskeyword(name) or name in _MEANT or hasattr(BaseModel, name):
        name += "_"
    while name in used:
        name += "_"
    used.add(name)
    return name


def _literal(text: str) -> str:
    return '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'


def _plain_text(text: str) -> str:
    return re.sub(r"[^\w .$-]", "?", text)
