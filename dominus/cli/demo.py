"""`dominus demo`: the quick start, run and shown."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
import pprint
import re
import shutil
import signal
import tempfile
import textwrap
import time
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from dominus._version import __version__
from dominus.cli.quickstart import CHAPTERS, TABLE, Step
from dominus.client import Dominus
from dominus.errors import DominusError, NotFoundError
from dominus.hints import shell_command
from dominus.settings import EMBEDDED

__all__ = ["run_demo"]

WIDTH = 80
MAX_RESULT_LINES = 6


def run_demo(home: Path | None) -> None:
    """Run the quick start in a home of its own, or in `home`.

    Raises:
        DominusError: a step failed; it was shown before.
    """
    # The demo must not touch what the environment points at: it stands on nothing but its home.
    for name in list(os.environ):
        if name.startswith(("DOMINUS_", "CB_")):
            del os.environ[name]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if home is None:
        home = Path(tempfile.mkdtemp(prefix="dominus-demo-"))
        # Exit handlers run in reverse: PostgreSQL, which registers later, is gone by then.
        atexit.register(shutil.rmtree, home, ignore_errors=True)
        is_kept = False
    else:
        is_kept = True
    asyncio.run(_run(home, is_kept=is_kept))


async def _run(home: Path, *, is_kept: bool) -> None:
    console = Console(width=min(Console().width, WIDTH), highlight=False)
    console.print(Text(f"Dominus {__version__}: the quick start, each call with its result", style="bold"))
    async with Dominus(EMBEDDED, home=str(home)) as dominus:
        began = time.perf_counter()
        console.print("starting an orchestrator inside this process ...")
        await dominus.health.ping()
        console.print(f"started in {time.perf_counter() - began:.1f} s")
        await _forget_last_run(dominus)
        for title, steps in CHAPTERS:
            console.print()
            console.print(Text(title, style="bold cyan"))
            for step in steps:
                await _show(console, dominus, step)
    _show_next(console, home if is_kept else None)


async def _forget_last_run(dominus: Dominus) -> None:
    try:
        await dominus.ddl.drop_table(TABLE)
    except NotFoundError:
        return


async def _show(console: Console, dominus: Dominus, step: Step) -> None:
    code = code_of(step)
    began = time.perf_counter()
    try:
        result = await step(dominus)
    except DominusError:
        console.print(_indented(code))
        console.print(Text("    this call failed:", style="bold red"))
        raise
    took = f"{(time.perf_counter() - began) * 1000:.1f} ms"
    console.print(_with_time(_highlighted(code, console), took, console.width))
    console.print(Text(textwrap.indent(_shortened(result, console.width), "    "), style="green"))


def _shortened(result: object, width: int) -> str:
    lines = pprint.pformat(result, width=width - 6, sort_dicts=False).splitlines()
    more = [f"... and {len(lines) - MAX_RESULT_LINES} more lines"] if len(lines) > MAX_RESULT_LINES else []
    return "\n".join([*lines[:MAX_RESULT_LINES], *more])


def code_of(step: Step) -> str:
    """Return the body of a step as a user would type it."""
    body = textwrap.dedent("".join(inspect.getsourcelines(step)[0][1:])).rstrip()
    return re.sub(r"^(\s*)return ", r"\1", body, flags=re.MULTILINE)


def _highlighted(code: str, console: Console) -> Text:
    if not console.is_terminal:
        return Text(_indented(code))
    text = Syntax("", "python", theme="ansi_dark").highlight(_indented(code))
    text.rstrip()
    return text


def _indented(code: str) -> str:
    return textwrap.indent(code, "  ")


def _with_time(code: Text, took: str, width: int) -> Text:
    """Put the time at the right of the last line, or below where there is no room."""
    last = code.plain.rpartition("\n")[2]
    room = width - len(last) - len(took)
    if room < 2:
        return code.append(f"\n{took:>{width}}", style="dim")
    return code.append(" " * room + took, style="dim")


def _show_next(console: Console, home: Path | None) -> None:
    console.print()
    console.print(Text("Next", style="bold cyan"))
    commands = {
        shell_command("dev"): "an orchestrator, and two lines to paste",
        "docs/examples": "quickstart.py is the one to begin with",
        shell_command("call --list"): "every operation, from the shell",
        "README.md": "the guide; LLM-GUIDE.md is for models",
    }
    width = max(map(len, commands)) + 2
    lines = [f"  {command:<{width}}{what}" for command, what in commands.items()]
    if home is not None:
        lines.insert(0, f"  The data is in {home}")
    console.print(Text("\n".join(lines)))
