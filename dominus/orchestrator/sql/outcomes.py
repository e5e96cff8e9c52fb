"""The outcome of a write as it is stored: the column types of the answer in the first line, then the JSON of its data.

PostgreSQL writes it in the write's own statement, or we do beside one; both forms are here, and how it is read.
"""

from __future__ import annotations

__all__ = ["REMEMBER", "as_outcome", "outcome_expression", "read_outcome"]

REMEMBER = "SELECT dominus_api.remember($1, $2, $3)"
"""Its arguments are slot, fingerprint and outcome."""


def as_outcome(data: str, types: bytes | None = None) -> str:
    """Write an outcome."""
    return f"{types.decode() if types else ''}\n{data}"


def outcome_expression(types: str, data: str) -> str:
    """Return the SQL that writes an outcome, of the SQL of its two parts."""
    return f"{types}::text || E'\\n' || {data}"


def read_outcome(outcome: str) -> tuple[bytes, bytes | None]:
    """Return the JSON of the data, and the column types."""
    types, _, data = outcome.partition("\n")
    return data.encode(), types.encode() or None
