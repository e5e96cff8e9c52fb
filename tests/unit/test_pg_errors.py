"""SQLSTATE -> error."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from dominus.contract.codes import ALIVE
from dominus.errors import (
    AuthorizationError,
    ConflictError,
    DominusError,
    DominusTimeoutError,
    NotFoundError,
    ServiceError,
    ValidationError,
)
from dominus.orchestrator.engines.postgres.errors import from_postgres, is_stale_catalog


def postgres_error(state: str, message: str = "said by PostgreSQL", **fields: str) -> Any:
    names = {"detail": "D", "column_name": "c", "constraint_name": "n", "table_name": "t", "context": "W"}
    names |= {"server_source_function": "R", "server_source_filename": "F"}
    raw = {"S": "ERROR", "C": state, "M": message, **{names[name]: text for name, text in fields.items()}}
    return asyncpg.PostgresError.new(raw)


@pytest.mark.parametrize(
    ("state", "kind", "status"),
    [
        ("22P02", ValidationError, 400),
        ("22003", ValidationError, 400),
        ("22021", ValidationError, 400),
        ("22P05", ValidationError, 400),
        ("22001", ValidationError, 400),
        ("23502", ValidationError, 400),
        ("23514", ValidationError, 400),
        ("23505", ConflictError, 409),
        ("23503", ConflictError, 409),
        ("23P01", ConflictError, 409),
        ("2BP01", ConflictError, 409),
        ("42P07", ConflictError, 409),
        ("42701", ConflictError, 409),
        ("42703", ValidationError, 400),
        ("42883", ValidationError, 400),
        ("42P10", ValidationError, 400),
        ("428C9", ValidationError, 400),
        ("42P01", NotFoundError, 404),
        ("3F000", NotFoundError, 404),
        ("42501", AuthorizationError, 403),
        ("57014", DominusTimeoutError, 504),
        ("57P01", ServiceError, 503),
        ("53300", ServiceError, 503),
        ("08006", ServiceError, 503),
        ("40001", ServiceError, 503),
        ("40P01", ServiceError, 503),
        ("55P03", ServiceError, 503),
        ("25006", ServiceError, 503),
        ("53100", ServiceError, 507),
        ("53200", ServiceError, 503),
        ("53400", ValidationError, 400),
        ("55006", ConflictError, 409),
        ("P0001", ValidationError, 400),
        ("20000", ValidationError, 400),
        ("2D000", ValidationError, 400),
        ("2F005", ValidationError, 400),
        ("38000", ValidationError, 400),
        ("39P01", ValidationError, 400),
        ("XX000", ServiceError, 500),
        ("F0000", ServiceError, 500),
    ],
)
def test_a_state_becomes_its_error(state: str, kind: type[DominusError], status: int):
    error = from_postgres(postgres_error(state))
    assert type(error) is kind
    assert error.status_code == status
    assert error.retryable is (status in {500, 503, 504})


@pytest.mark.parametrize(
    ("state", "code", "retry_after"),
    [
        ("40001", "transaction_conflict", None),
        ("40P01", "transaction_conflict", None),
        ("55P03", "lock_timeout", 1.0),
        ("57014", "statement_timeout", None),
        ("53100", "disk_full", None),
        ("55006", "wrong_state", None),
        ("53200", "database_unavailable", 1.0),
        ("XX000", "database_error", 1.0),
    ],
)
def test_a_pause_is_asked_for_where_another_try_at_once_would_not_help(
    state: str, code: str, retry_after: float | None
):
    error = from_postgres(postgres_error(state))
    assert (error.code, error.retry_after) == (code, retry_after)


@pytest.mark.parametrize(
    "code", sorted({"transaction_conflict", "lock_timeout", "disk_full", "statement_timeout"})
)
def test_what_a_living_database_answers_is_on_the_list_of_such_codes(code: str):
    assert code in ALIVE


@pytest.mark.parametrize(
    "state", ["53100", "53300", "57014", "57P01", "XX000", "08006", "58030", "25006", "MY001"]
)
def test_no_state_that_a_function_raises_looks_like_an_outage(state: str):
    error = from_postgres(postgres_error(state, "own words", server_source_function="exec_stmt_raise"))
    assert (type(error), error.code, error.status_code) == (ValidationError, "raised_by_trigger", 400)
    assert (error.message, error.details) == ("own words", {"sqlstate": state})


def test_full_shared_memory_is_no_full_disk():
    said = "could not resize shared memory segment: No space left on device"
    error = from_postgres(postgres_error("53100", said, server_source_filename="dsm_impl.c"))
    assert (error.code, error.status_code) == ("database_unavailable", 503)


def test_a_function_that_asks_for_another_try_gets_it():
    error = from_postgres(postgres_error("40001", "own words", server_source_function="exec_stmt_raise"))
    assert (error.code, error.message, error.retryable) == ("transaction_conflict", "own words", True)


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (OSError("refused"), ServiceError),
        (ConnectionResetError(), ServiceError),
        (asyncpg.InterfaceError("connection is closed"), ServiceError),
        (TimeoutError(), DominusTimeoutError),
    ],
)
def test_a_lost_connection_is_a_503_that_may_be_tried_again(raised: BaseException, kind: type[DominusError]):
    error = from_postgres(raised)
    assert type(error) is kind
    assert error.retryable


def test_a_column_and_a_line_are_named_once():
    failure = postgres_error("22P02", 'invalid input syntax for type integer: "abc"')
    error = from_postgres(failure, columns=["age"], line=3)
    assert error.message == "line 3, column 'age': invalid input syntax for type integer: \"abc\""
    assert (error.details["column"], error.details["line"]) == ("age", 3)
    absent = postgres_error("23502", 'null value in column "age" violates', column_name="age")
    assert from_postgres(absent).message == 'null value in column "age" violates'


def test_an_index_over_an_expression_names_no_columns():
    failure = postgres_error("23505", "duplicate", detail="Key (lower(email))=(x) already exists.")
    assert "columns" not in from_postgres(failure).details


def test_values_of_other_rows_do_not_get_out():
    failure = postgres_error(
        "23505",
        'duplicate key value violates unique constraint "users_email_key"',
        detail="Key (email)=(someone@example.org) already exists.",
        constraint_name="users_email_key",
        table_name="users",
    )
    error = from_postgres(failure)
    assert error.details == {
        "sqlstate": "23505",
        "constraint": "users_email_key",
        "table": "users",
        "column": "email",
        "columns": ["email"],
    }
    failing = postgres_error("23514", "violates check", detail="Failing row contains (1, hidden).")
    assert "hidden" not in str(from_postgres(failing)) + str(from_postgres(failing).details)


def test_what_the_server_says_of_itself_stays_here():
    error = from_postgres(postgres_error("XX000", "could not read block 5 in file base/1/2"))
    assert "block" not in str(error)


def test_a_typed_error_passes_through():
    error = ValidationError("x")
    assert from_postgres(error) is error


def test_only_errors_of_an_altered_table_ask_for_another_look():
    assert is_stale_catalog(postgres_error("42703"))
    assert not is_stale_catalog(postgres_error("23505"))
    assert not is_stale_catalog(OSError())
