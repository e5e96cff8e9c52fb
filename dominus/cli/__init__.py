"""The command line."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command `dominus`."""
    try:
        from dominus.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dominus"):
            raise
        from dominus.hints import install_command

        print(f"error: the command line needs {error.name}, which is not installed", file=sys.stderr)
        print(f"hint: {install_command('orchestrator')}", file=sys.stderr)
        sys.exit(1)
    app()
