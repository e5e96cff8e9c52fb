"""The codes of errors, by what an operation does. Messages may change, codes do not."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "ALIVE",
    "CACHED",
    "COMMON",
    "FILLING",
    "FILTERED",
    "KEYED",
    "SHAPED",
    "STORED",
    "TABLE",
    "USERS_FAULT",
]

COMMON = (
    "validation",
    "bad_body",
    "bad_query",
    "bad_stream",
    "body_too_large",
    "body_too_slow",
    "too_many_values",
    "repeated_header",
    "unknown_operation",
    "token_missing",
    "token_invalid",
    "token_expired",
    "token_unknown",
    "session_revoked",
    "authorization",
    "rate_limited",
    "deadline",
    "disk_full",
    "internal",
)
"""What any operation may answer. With 503, and worth another try: `database_unavailable`, `redis_unavailable` ..."""
KEYED = ("idempotency_key_reused",)
"""Every write, but only if the caller sends its own keys."""
TABLE = (
    "secure_table",
    "unknown_schema",
    "unknown_table",
    "insufficient_privilege",
    "statement_timeout",
    "lock_timeout",
    "transaction_conflict",
    "raised_by_trigger",
    "wrong_state",
)
"""What names a table: its view, its policies and its triggers may call functions."""
FILTERED = ("unknown_column", "invalid_filter", "invalid_value", "invalid_text")
"""What chooses rows."""
STORED = (
    "unknown_column",
    "invalid_value",
    "invalid_text",
    "not_null_violation",
    "check_violation",
    "unique_violation",
    "foreign_key_violation",
    "exclusion_violation",
    "generated_column",
    "too_large",
)
"""What stores rows: the constraints of their table."""
SHAPED = (
    "invalid_name",
    "invalid_sql",
    "invalid_statement",
    "invalid_value",
    "unknown_type",
    "unknown_schema",
    "insufficient_privilege",
    "table_is_secure",
    "lock_timeout",
    "wrong_state",
)
"""What changes the shape of a table."""
CACHED = ("wrong_type",)
"""What reads or writes an entry of one kind."""
FILLING = ("redis_full",)
"""What needs more memory of Redis."""
ALIVE: Mapping[str, bool] = {
    "statement_timeout": False,
    "lock_timeout": False,
    "database_busy": True,
    "transaction_conflict": True,
    "disk_full": False,
    "redis_full": False,
    "files_not_configured": False,
    "files_busy": True,
    "portal_not_configured": False,
}
"""The failures with a status of 500 and more that a living service answers: no breaker counts them. True: the client
repeats the call by itself, since the next try has a good chance."""
USERS_FAULT = frozenset({"login_failed", "refresh_invalid", "refresh_reused", "session_revoked"})
"""The refusals with 401 that are about a user who logs in, not about the caller's token: a new one would not help."""
