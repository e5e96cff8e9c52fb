"""`dominus files`: files up and down, with a bar."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from dominus.cli.call import print_json
from dominus.client import Dominus
from dominus.errors import DominusError, ValidationError
from dominus.hints import shell_command

__all__ = ["run_download", "run_upload"]

Told = Callable[[int, int | None], None]


def run_upload(file: Path, facts: dict[str, Any], tags: list[str], resume: str | None) -> None:
    """Upload a file and print what is known of it."""
    given = dict(_pair(tag) for tag in tags)

    async def upload(client: Dominus, told: Told) -> Any:
        return await client.files.upload(file, **facts, tags=given or None, resume=resume, progress=told)

    try:
        print_json(_run(file.name, upload))
    except DominusError as error:
        details: Any = error.details
        if isinstance(details, dict) and "upload_id" in details:
            # The other options are known to the upload already.
            error.hint = f"`{shell_command(f'files upload {file} --resume')} {details['upload_id']}` goes on from there"
        raise


def run_download(name: str, to: Path, category: str | None, actor: str | None) -> None:
    """Download a file by its id, or by its path."""
    is_id = len(name) == 36 and name.count("-") == 4 and "/" not in name and "." not in name
    which: dict[str, Any] = {"file_id": name} if is_id else {"path": name, "category": category}

    async def download(client: Dominus, told: Told) -> Any:
        return await client.files.save(to, **which, actor=actor, progress=told)

    print_json(_run(name, download))


def _run(name: str, transfer: Callable[[Dominus, Told], Awaitable[Any]]) -> Any:
    async def run(told: Told) -> Any:
        async with Dominus() as client:
            return await transfer(client, told)

    with _bar(name) as told:
        return asyncio.run(run(told))


@contextmanager
def _bar(name: str) -> Generator[Told]:
    """Show a bar on stderr, where that is a terminal; stdout is for the result."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(name.replace("[", "\\["), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _pair(tag: str) -> tuple[str, str]:
    key, sign, value = tag.partition("=")
    if not sign or not key:
        raise ValidationError(f"--tag: {key[:40]!r} is not followed by =VALUE")
    return key, value
