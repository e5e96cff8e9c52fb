"""`dominus dev` and `dominus serve`: what they say at the terminal."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import typer

from dominus._version import __version__
from dominus.cli.report import warn
from dominus.orchestrator.net.listener import is_loopback
from dominus.orchestrator.serving.assembly import ProcessResources
from dominus.orchestrator.serving.server import run_dev, run_serve

__all__ = ["start_dev", "start_serve"]


def start_dev(host: str, port: int, home: Path, log_level: str) -> None:
    """Run `dominus dev`."""
    if not is_loopback(host):
        warn(
            f"--host {host} lets other machines in: whoever has the token has everything, "
            "and nothing on the way is encrypted"
        )
    run_dev(host=host, port=port, home=home, log_level=log_level, on_ready=_greet)


def start_serve(
    host: str, port: int, workers: int, certfile: Path | None, keyfile: Path | None, log_level: str
) -> None:
    """Run `dominus serve`."""
    run_serve(host=host, port=port, workers=workers, certfile=certfile, keyfile=keyfile, log_level=log_level)


def _greet(process: ProcessResources, url: str) -> None:
    home = process.home or Path()
    # Terminals are shared and logs are kept: the token itself stays in its file.
    is_given = process.settings.root_token is not None
    token = '"$DOMINUS_ROOT_TOKEN"' if is_given else f"$(cat {shlex.quote(str(home / 'token'))})"
    lines = [
        f"Dominus {__version__} answers on {url}",
        "",
        f"  export DOMINUS_URL={url}",
        f"  export DOMINUS_TOKEN={token}",
        "",
    ]
    if process.postgres is not None:
        # The owner sees the system's tables alone; users' tables are the data role's.
        role = f"PGOPTIONS='-c role={process.settings.data_role}'"
        lines.append(f'Its database: {role} psql "$(cat {shlex.quote(str(home / "dsn"))})"')
    lines.append(f"Its data: {home}  API: {url}/docs  End: Ctrl-C")
    # A reader that went away (`dominus dev | head -1`) is no reason to end.
    with contextlib.suppress(BrokenPipeError):
        typer.echo("\n".join(lines))
