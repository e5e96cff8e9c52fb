"""`dominus ddl types`: pydantic models of the tables."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from dominus.client import Dominus

__all__ = ["write_types"]


def write_types(out: Path | None, schema: str, tables: Sequence[str] | None) -> None:
    """Write the models to a file, or to stdout."""

    async def pull() -> str:
        async with Dominus() as client:
            return await client.ddl.pull(out, schema, tables or None)

    source = asyncio.run(pull())
    if out is None:
        print(source, end="")
    else:
        print(f"wrote {out}")
