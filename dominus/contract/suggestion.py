"""What to tell who named something that is not there."""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["suggestion"]


def suggestion(name: str, known: Collection[str], *, lists: str | None = None) -> str | None:
    """Return a hint with the nearest known name.

    Args:
        name: what was asked for.
        known: what there is.
        lists: with what words all that is known is listed too, for example "columns are".
    """
    # Only a mistake needs it.
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    parts = [f"did you mean {near[0]!r}?"] if near else []
    if lists and known:
        parts.append(f"{lists} {', '.join(known)}")
    return " ".join(parts) or None
