"""`DOMINUS_ENV_FILE`: a file of NAME=VALUE lines, read only where it is named. The environment itself wins."""

from __future__ import annotations

import os
from pathlib import Path

from dominus.errors import ValidationError

__all__ = ["ENV_FILE", "env_file"]

ENV_FILE = "DOMINUS_ENV_FILE"


def env_file() -> Path | None:
    """Return the file that `DOMINUS_ENV_FILE` names, None where it names none.

    Raises:
        ValidationError: it cannot be read.
    """
    name = os.environ.get(ENV_FILE)
    if not name:
        return None
    path = Path(name).expanduser().absolute()
    try:
        path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ValidationError(
            f"{ENV_FILE} names {path}, which cannot be read: {reason}",
            code="settings",
            hint=f"correct it, or unset {ENV_FILE}",
        ) from None
    return path
