"""`dominus courier`: the outbox, for people and for programs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import typer
from pydantic_core import to_json

from dominus import Dominus
from dominus.cli.report import coloured, visible

__all__ = ["run_outbox", "run_retry"]

_COLOURS = {
    "queued": typer.colors.CYAN,
    "sending": typer.colors.CYAN,
    "uncertain": typer.colors.YELLOW,
    "sent": typer.colors.GREEN,
    "dead": typer.colors.RED,
    "kept": typer.colors.BRIGHT_BLACK,
}
MAX_PAGE = 500


def run_outbox(*, is_json: bool, limit: int, **wanted: Any) -> None:
    """Print so many mails, the newest first."""
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(_outbox(limit, wanted, is_json=is_json))


async def _outbox(left: int, wanted: dict[str, Any], *, is_json: bool) -> None:
    cursor: str | None = None
    async with Dominus() as client:
        while left > 0:
            page = await client.courier.outbox(limit=min(left, MAX_PAGE), cursor=cursor, **wanted)
            for mail in page["items"]:
                typer.echo(to_json(mail).decode() if is_json else _shown(mail))
            left -= len(page["items"])
            cursor = page["cursor"]
            if cursor is None:
                return


def _shown(mail: Any) -> str:
    """Write a mail for people. Its model is left out: it holds links that let their readers in."""
    status = coloured(f"{mail['status']:<9}", _COLOURS.get(mail["status"], typer.colors.WHITE))
    said = f"{mail['template_alias']}  {mail['to']}  {mail['subject']}"
    lines = [f"{mail['submitted_at'][:19]}  {status}  {mail['message_id']}  {visible(said)}"]
    if mail["next_attempt_at"] and mail["attempts"]:
        lines.append(f"tried {mail['attempts']} times, again at {mail['next_attempt_at'][:19]}")
    if mail["error"]:
        lines.append(mail["error"])
    lines += [f"refused for {address}: {why}" for address, why in mail["refused"].items()]
    if mail["may_be_duplicate"]:
        lines.append("may have arrived twice")
    return "\n                     ".join([lines[0], *map(visible, lines[1:])])


def run_retry(message_ids: list[str], *, is_all_dead: bool) -> None:
    """Queue mails again, and print how many."""

    async def retry() -> int:
        async with Dominus() as client:
            return await client.courier.retry(message_ids or None, all_dead=is_all_dead)

    count = asyncio.run(retry())
    typer.echo(f"queued {count} {'mail' if count == 1 else 'mails'} again")
