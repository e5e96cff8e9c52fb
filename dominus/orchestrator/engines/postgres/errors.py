"""What PostgreSQL says when it refuses, as the errors of this package: one table SQLSTATE -> error.

The caller reads PostgreSQL's own sentence, which names the constraint, column or value. DETAIL and CONTEXT
stay here, since they may show a whole row; of them only column names and line numbers get out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from dominus.errors import (
    RETRYABLE_STATUSES,
    AuthorizationError,
    ConflictError,
    DominusError,
    DominusTimeoutError,
    NotFoundError,
    ServiceError,
    ValidationError,
)

__all__ = ["FAILURES", "attribute", "copy_line", "from_postgres", "is_raised", "is_stale_catalog", "sqlstate"]

FAILURES: tuple[type[Exception], ...] = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""What a call of asyncpg may raise; `from_postgres` turns each of them into a DominusError."""


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: type[DominusError]
    code: str
    status: int | None = None
    hint: str | None = None
    retry_after: float | None = None


_DOWN = _Rule(ServiceError, "database_unavailable", 503, retry_after=1.0)
_BROKEN = _Rule(ServiceError, "database_error", 500, retry_after=1.0)
_RAISED = _Rule(ValidationError, "raised_by_trigger")
# The other transaction is over: the next try need not wait.
_CONFLICT = _Rule(ServiceError, "transaction_conflict", 503)
# Not 503: proxies and older clients take that for a server that starts, and ask again and again.
_FULL = _Rule(
    ServiceError,
    "disk_full",
    507,
    hint="make space: reads go on, and writes do as soon as there is some",
)
_NO_TEXT = _Rule(ValidationError, "invalid_text")
_LOCKED = _Rule(
    ServiceError,
    "lock_timeout",
    503,
    hint="find the long transaction with pg_stat_activity, or set DOMINUS_LOCK_TIMEOUT",
    # Who tries again by itself must not be back in the line at once.
    retry_after=1.0,
)
_MESSAGES: Mapping[_Rule, str] = {
    _DOWN: "the database is not available",
    _BROKEN: "the database failed",
    _CONFLICT: "the transaction ran into another one and was rolled back",
    _FULL: "the disk of the database is full",
    _LOCKED: "another transaction held a lock on the table or row for too long",
}
"""Where PostgreSQL's own message is about the server itself, and for the log alone."""

_BY_STATE: Mapping[str, _Rule] = {
    "0A000": _Rule(ValidationError, "not_supported"),
    "22021": _Rule(ValidationError, "invalid_text", hint="PostgreSQL text is UTF-8 without NUL characters"),
    "22P05": _Rule(ValidationError, "invalid_text", hint="PostgreSQL text cannot hold \\u0000"),
    "22P02": _Rule(ValidationError, "invalid_value"),
    "23001": _Rule(ConflictError, "foreign_key_violation"),
    "23502": _Rule(ValidationError, "not_null_violation"),
    "23503": _Rule(ConflictError, "foreign_key_violation"),
    "23505": _Rule(ConflictError, "unique_violation"),
    "23514": _Rule(ValidationError, "check_violation"),
    "23P01": _Rule(ConflictError, "exclusion_violation"),
    "25001": _RAISED,
    "25006": _Rule(ServiceError, "database_read_only", 503),
    "2BP01": _Rule(
        ConflictError, "dependent_objects", hint="other tables or views stand on it: drop those first"
    ),
    "3F000": _Rule(NotFoundError, "unknown_schema"),
    "40001": _CONFLICT,
    "40P01": _CONFLICT,
    "DF001": _Rule(ConflictError, "file_retained"),
    "42501": _Rule(AuthorizationError, "insufficient_privilege"),
    "42701": _Rule(ConflictError, "column_exists"),
    "42703": _Rule(ValidationError, "unknown_column"),
    "42704": _Rule(ValidationError, "unknown_type"),
    "42710": _Rule(ConflictError, "object_exists"),
    "42P01": _Rule(NotFoundError, "unknown_table"),
    "42P06": _Rule(ConflictError, "schema_exists"),
    "42P07": _Rule(ConflictError, "table_exists"),
    "428C9": _Rule(
        ValidationError, "generated_column", hint="leave the column out: PostgreSQL makes its values"
    ),
    "42P10": _Rule(
        ValidationError, "no_unique_index", hint="name the columns of a primary key or unique constraint"
    ),
    "53100": _FULL,
    "53400": _Rule(ValidationError, "too_large"),
    "54000": _Rule(ValidationError, "too_large"),
    "54011": _Rule(ValidationError, "too_many_columns"),
    "55P03": _LOCKED,
    "57014": _Rule(DominusTimeoutError, "statement_timeout", 504, hint="narrow the filters, or add an index"),
}
_BY_CLASS: Mapping[str, _Rule] = {
    "08": _DOWN,
    "09": _RAISED,
    "20": _RAISED,
    "21": _Rule(ValidationError, "cardinality"),
    "22": _Rule(ValidationError, "invalid_value"),
    "23": _Rule(ConflictError, "constraint_violation"),
    "24": _RAISED,
    "26": _DOWN,
    "27": _RAISED,
    "2D": _RAISED,
    "2F": _RAISED,
    "38": _RAISED,
    "39": _RAISED,
    "40": _CONFLICT,
    "42": _Rule(ValidationError, "invalid_statement"),
    "44": _Rule(ValidationError, "check_violation"),
    "53": _DOWN,
    "54": _Rule(ValidationError, "too_large"),
    "55": _Rule(ConflictError, "wrong_state"),
    "57": _DOWN,
    "58": _DOWN,
    "P0": _RAISED,
}
_STALE = frozenset({"42703", "42P01", "42883", "42804", "3F000"})


def sqlstate(error: BaseException) -> str | None:
    """Return the five characters of a PostgreSQL error, None for any other."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None


def is_stale_catalog(error: BaseException) -> bool:
    """Return whether the error is what a statement gets that was built for a table as it was."""
    return sqlstate(error) in _STALE


def is_raised(error: BaseException) -> bool:
    """Return whether RAISE of PL/pgSQL made it: its SQLSTATE is what a user's function chose, not what happened."""
    return attribute(error, "server_source_function") == "exec_stmt_raise"


def _rule(error: BaseException, state: str) -> _Rule:
    rule = _BY_STATE.get(state) or _BY_CLASS.get(state[:2]) or _BROKEN
    if rule is _FULL and attribute(error, "server_source_filename") == "dsm_impl.c":
        # It is shared memory that has no space, which no write needs: a query in parallel does.
        return _DOWN
    # A function cannot feign an outage. That it asks for another try is taken at its word.
    if is_raised(error) and rule is not _CONFLICT and (rule.status or 0) >= 500:
        return _RAISED
    return rule


def from_postgres(
    error: BaseException, *, columns: Sequence[str] = (), line: int | None = None
) -> DominusError:
    """Return (not raise) the typed error for what asyncpg raised.

    Args:
        error: one of FAILURES, or a DominusError, which stays as it is.
        columns: those that it is about, where PostgreSQL does not say so itself.
        line: the line of a stream that it is about, from 1.
    """
    if isinstance(error, DominusError):
        return error
    state = sqlstate(error)
    if state is None:
        return _without_state(error)
    rule = _rule(error, state)
    message = attribute(error, "message") or "the database refused the statement"
    if isinstance(error, asyncpg.DataError) and attribute(error, "message") is None:
        # asyncpg's own: a value that it cannot encode.
        rule, message = _NO_TEXT, "a text is not valid Unicode"
    if rule in _MESSAGES:
        return _withheld(rule, state, message if is_raised(error) else _MESSAGES[rule])
    columns = columns or _key_columns(attribute(error, "detail"))
    column = attribute(error, "column_name") or (columns[0] if len(columns) == 1 else None)
    line = copy_line(error) if line is None else line
    hint = rule.hint or (attribute(error, "hint") if state[:2] in {"22", "42"} else None)
    facts = {
        "sqlstate": state,
        "constraint": attribute(error, "constraint_name"),
        "table": attribute(error, "table_name"),
        "column": column,
        "columns": list(columns) or None,
        "line": line,
    }
    details = {name: value for name, value in facts.items() if value is not None}
    message = _located(message, column, line)
    return rule.kind(message, code=rule.code, status_code=rule.status, details=details, hint=hint)


def _located(message: str, column: str | None, line: int | None) -> str:
    places = [f"line {line}"] if line is not None else []
    if column and f'"{column}"' not in message:
        places.append(f"column {column!r}")
    return f"{', '.join(places)}: {message}" if places else message


def _withheld(rule: _Rule, state: str, message: str) -> DominusError:
    return rule.kind(
        message,
        code=rule.code,
        status_code=rule.status,
        details={"engine": "postgres", "sqlstate": state} if rule is _FULL else {"sqlstate": state},
        retryable=rule.status in RETRYABLE_STATUSES,
        retry_after=rule.retry_after,
        hint=rule.hint,
    )


def _without_state(error: BaseException) -> DominusError:
    if isinstance(error, TimeoutError):
        return DominusTimeoutError("the database did not answer in time", code="database_timeout")
    return ServiceError("the database is not available", code=_DOWN.code, status_code=503, retry_after=1.0)


def attribute(error: BaseException, name: str) -> str | None:
    """Return a field of PostgreSQL's error report, None when it is empty."""
    value = getattr(error, name, None)
    return value if isinstance(value, str) and value else None


def copy_line(error: BaseException) -> int | None:
    """Return the number of the line that COPY could not read."""
    found = re.search(r"^COPY \S+, line (\d+)", attribute(error, "context") or "", re.MULTILINE)
    return int(found.group(1)) if found else None


def _key_columns(detail: str | None) -> list[str]:
    # Of an index over expressions DETAIL names no columns: `Key (lower(email))=(x)`.
    found = re.match(r"Key \(([^()]*)\)=", detail or "")
    return [name.strip().strip('"') for name in found.group(1).split(",")] if found else []
