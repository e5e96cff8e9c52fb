"""Names and texts as they stand in statements that take no parameters."""

from __future__ import annotations

from dominus.errors import ValidationError

__all__ = ["quote_literal", "quote_name"]


def quote_name(name: str) -> str:
    """Return a name as SQL writes it, in double quotes.

    Raises:
        ValidationError: PostgreSQL has no such names.
    """
    if not name or "\0" in name or len(name.encode()) > 63:
        raise ValidationError(f"{name[:80]!r} is no PostgreSQL name: 1 to 63 bytes, no NUL")
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """Return a text as SQL writes it; the form with E means the same whatever the session's settings are."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
