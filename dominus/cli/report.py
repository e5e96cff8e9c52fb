"""How the commands say that something went wrong: an error, a hint, an exit code, and never a traceback."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator

import typer

from dominus.errors import DominusError
from dominus.hints import install_command

__all__ = ["coloured", "reported", "show_error", "visible", "warn"]


def show_error(error: DominusError) -> None:
    """Print an error on stderr, with what to do about it and where to look."""
    _say("error", error.message, typer.colors.RED)
    if error.hint:
        _say("hint", error.hint, typer.colors.CYAN)
    facts = {"operation": error.endpoint, "request id": error.request_id}
    said = ", ".join(f"{name} {value}" for name, value in facts.items() if value)
    if said:
        _say("where", said, typer.colors.BRIGHT_BLACK)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    _say("warning", message, typer.colors.YELLOW)


@contextlib.contextmanager
def reported() -> Generator[None]:
    """Turn the errors of a command into messages and exit code 1."""
    try:
        yield
    except DominusError as error:
        show_error(error)
        raise typer.Exit(1) from None
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dominus"):
            raise
        _say("error", f"this command needs {error.name}, which is not installed", typer.colors.RED)
        _say("hint", install_command("orchestrator"), typer.colors.CYAN)
        raise typer.Exit(1) from None


def coloured(text: str, colour: str) -> str:
    """Return a word in bold colour, unless NO_COLOR is set (no-color.org)."""
    return text if os.environ.get("NO_COLOR") else typer.style(text, fg=colour, bold=True)


def visible(text: str) -> str:
    """Return a text of anybody's as one line, with escapes for what a terminal would obey."""
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _say(label: str, text: str, colour: str) -> None:
    typer.echo(f"{coloured(f'{label}:', colour)} {text}", err=True)
