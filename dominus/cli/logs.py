"""`dominus logs tail`: lines as they arrive."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import typer
from pydantic_core import to_json

from dominus import Dominus
from dominus.cli.report import coloured, visible

__all__ = ["run_tail"]

_COLOURS = {
    "debug": typer.colors.BRIGHT_BLACK,
    "info": typer.colors.GREEN,
    "notice": typer.colors.CYAN,
    "warn": typer.colors.YELLOW,
    "error": typer.colors.RED,
    "critical": typer.colors.MAGENTA,
}


def run_tail(*, is_json: bool, count: int | None, **wanted: Any) -> None:
    """Print lines until Ctrl-C, or until so many were printed."""
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(_tail(count, wanted, is_json=is_json))


async def _tail(count: int | None, wanted: dict[str, Any], *, is_json: bool) -> None:
    left = count
    async with Dominus() as client:
        async for entry in client.logs.tail(**wanted):
            typer.echo(to_json(entry).decode() if is_json else _shown(entry))
            if left is not None:
                left -= 1
                if left <= 0:
                    return


def _shown(entry: Any) -> str:
    """Write a line for people. What a terminal would obey is written as an escape: lines are anybody's text."""
    place = f"{entry['file'] or '-'}:{entry['line'] or '-'}"
    context = f"  {to_json(entry['context']).decode()}" if entry["context"] else ""
    level = coloured(f"{entry['level']:<8}", _COLOURS.get(entry["level"], typer.colors.WHITE))
    text = f"{entry['category']}  {entry['message']}  {place}{context}"
    return f"{entry['time'][:23]}  {level}  {visible(text)}"
