"""SQL of the caller's own: what is text and what is code, which parameter is which, and what is wrapped."""

from __future__ import annotations

from typing import Any

import pytest

from dominus.contract.open import SqlRequest
from dominus.errors import ValidationError
from dominus.orchestrator.engines.postgres.public_dsn import PublicDsn
from dominus.orchestrator.sql.lexer import UnclosedError, tokens_of
from dominus.orchestrator.sql.open_sql import Given, read_sql


def given(sql: str, params: Any = None) -> Given:
    return read_sql(SqlRequest(sql=sql, params=params))


def refusal(sql: str, params: Any = None) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        given(sql, params)
    return caught.value


@pytest.mark.parametrize(
    ("sql", "kinds"),
    [
        ("SELECT 'it''s; $1 :x' ", ["word", "string"]),
        (r"SELECT E'\'; $1' , $1", ["word", "string", "other", "parameter"]),
        ('SELECT "a;"" :b"', ["word", "quoted"]),
        ("SELECT $$ ; :a $1 $$", ["word", "string"]),
        ("SELECT $t$ $$ ; $t$", ["word", "string"]),
        ("SELECT 1 -- ; :a\n/* ; /* $1 */ ; */", ["word", "number"]),
        ("SELECT a::int, :b", ["word", "word", "cast", "word", "other", "name"]),
        ("SELECT a$1", ["word", "word"]),
        ("SELECT x'1F', U&'d', u&\"e\"", ["word", "string", "other", "string", "other", "quoted"]),
        ("a := :b;", ["word", "cast", "name", "end"]),
    ],
)
def test_tokens_tell_code_from_text(sql: str, kinds: list[str]) -> None:
    found = tokens_of(sql)
    assert [token.kind for token in found] == kinds
    assert all(sql[token.start : token.end] == token.text for token in found)


@pytest.mark.parametrize(
    "sql", ["SELECT 'a", 'SELECT "a', "SELECT $$ a", "SELECT $x$ a $$", "/* /* */ SELECT 1"]
)
def test_what_is_not_closed_is_said(sql: str) -> None:
    with pytest.raises(UnclosedError):
        tokens_of(sql)
    assert refusal(sql).code == "sql_refused"


@pytest.mark.parametrize(
    ("sql", "params", "text", "values"),
    [
        ("SELECT $2, $1, $2", ["a", "b"], "SELECT $2, $1, $2", ["a", "b"]),
        ("SELECT $1", {"1": 5}, "SELECT $1", [5]),
        ("SELECT :b, :a, :b", {"a": 1, "b": 2}, "SELECT $1, $2, $1", [2, 1]),
        ("SELECT :a::int, ':a', x[1:n]", {"a": 1}, "SELECT $1::int, ':a', x[1:n]", [1]),
        ("SELECT x[1:n], ARRAY[:n, 2, :n]", {"n": 1}, "SELECT x[1:n], ARRAY[$1, 2, $1]", [1]),
        ("SELECT x[:i], x[:j], x[y[1]:k]", {"i": 1}, "SELECT x[$1], x[:j], x[y[1]:k]", [1]),
        ("SELECT 1 ; ;", None, "SELECT 1", []),
        ("-- first\nSELECT 1 -- last", None, "SELECT 1", []),
    ],
)
def test_parameters_go_by_number_or_by_name(sql: str, params: Any, text: str, values: list[Any]) -> None:
    found = given(sql, params)
    assert found.text() == text
    assert list(found.values) == values


@pytest.mark.parametrize(
    ("sql", "params", "said"),
    [
        ("SELECT $1, $3", ["a"], "no value for $3"),
        ("SELECT 1", ["a"], "the statement has no $1"),
        ("SELECT $1, $3", {"1": 1, "3": 3}, "without gaps"),
        ("SELECT :name", {"nam": 1}, "no value for :name"),
        ("SELECT :name", None, "no value for :name"),
        ("SELECT :name", {"name": 1, "more": 2}, "the statement has no :more"),
        ("SELECT $1, :name", {"name": 1}, "use one of both"),
        ("SELECT $1, :name", ["a"], "no value for :name"),
    ],
)
def test_a_parameter_that_is_missing_or_unused_is_an_error(sql: str, params: Any, said: str) -> None:
    error = refusal(sql, params)
    assert error.code == "invalid_parameters"
    assert said in error.message


def test_a_misspelt_name_gets_the_nearest() -> None:
    assert refusal("SELECT :customer", {"costumer": 1}).hint == "did you mean 'costumer'?"


@pytest.mark.parametrize(
    "sql",
    [
        "",
        " ; ",
        "-- nothing",
        "SELECT 1; SELECT 2",
        "; SELECT 1",
        "BEGIN",
        "commit",
        "/* x */ ROLLBACK",
        "SAVEPOINT a",
        "PREPARE a AS SELECT 1",
        "SET search_path = evil",
        "reset role",
        "LISTEN x",
        "DECLARE c CURSOR FOR SELECT 1",
        "COPY t TO STDOUT",
    ],
)
def test_what_has_no_meaning_in_a_transaction_of_one_statement_is_refused(sql: str) -> None:
    if not sql:
        with pytest.raises(ValidationError):
            given(sql)
        return
    assert refusal(sql).code == "sql_refused"


@pytest.mark.parametrize(
    ("sql", "command"),
    [
        ("SELECT 1", "SELECT"),
        ("(SELECT 1) UNION (SELECT 2)", "SELECT"),
        ("((SELECT 1))", "SELECT"),
        ("VALUES (1)", "VALUES"),
        ("TABLE t", "TABLE"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "SELECT"),
        ("WITH a AS (SELECT 1) (SELECT * FROM a)", "SELECT"),
        ("WITH a(x) AS MATERIALIZED (SELECT 1), update AS (SELECT 2) DELETE FROM t RETURNING 1", "DELETE"),
        ("WITH RECURSIVE insert AS (SELECT 1) TABLE insert", "TABLE"),
        ("WITH values AS (VALUES (1)) SELECT * FROM values", "SELECT"),
        (
            "WITH RECURSIVE t AS (SELECT 1 UNION SELECT 2) SEARCH DEPTH FIRST BY a, b SET o CYCLE a SET c USING p SELECT 1",
            "SELECT",
        ),
        (
            "with a as (insert into t values (1) returning id) merge into u using a on true when matched then delete",
            "MERGE",
        ),
    ],
)
def test_the_main_statement_of_what_is_wrapped_is_found(sql: str, command: str) -> None:
    found = given(sql)
    assert found.is_wrapped
    assert found.command == command


@pytest.mark.parametrize(
    "sql", ["EXPLAIN SELECT 1", "SHOW all", "CALL p()", "CREATE TABLE t (id int)", "DO $$ BEGIN END $$"]
)
def test_what_is_no_query_is_not_wrapped(sql: str) -> None:
    assert not given(sql).is_wrapped


def test_a_wrapped_statement_keeps_its_comments_apart_and_its_own_with() -> None:
    found = given("WITH a AS (SELECT 1) -- one\nSELECT * FROM a -- two")
    assert found.wrapped([]).splitlines() == [
        "WITH a AS (SELECT 1)",
        ', "dominus rows" AS (',
        "SELECT * FROM a",
        ")",
    ]


@pytest.mark.parametrize(
    ("owners", "address", "made"),
    [
        (
            "postgresql://app:secret@db.internal:6432/shop?sslmode=require&sslkey=/k&password=x",
            None,
            "postgresql://u:p%2F@db.internal:6432/shop?sslmode=require",
        ),
        (
            "postgresql://app:s%40@db/shop",
            "pg.example.com:5433",
            "postgresql://u:p%2F@pg.example.com:5433/shop",
        ),
        (
            "postgresql://app:s@/shop?host=/run/pg&port=5432",
            None,
            "postgresql://u:p%2F@/shop?host=/run/pg&port=5432",
        ),
        ("postgresql://app:s@/shop?host=/run/pg", "::1", "settings"),
        ("postgresql://app:s@/shop?host=/run/pg", "[::1]:5432", "postgresql://u:p%2F@[::1]:5432/shop"),
        ("postgresql://app:s@/shop", "me@host", "settings"),
        ("postgresql://app:s@/shop", "host/x", "settings"),
        ("postgresql://app:s@/shop", "host:port", "settings"),
    ],
)
def test_the_dsn_of_a_login_says_where_and_nothing_of_the_owner(
    owners: str, address: str | None, made: str
) -> None:
    if made == "settings":
        with pytest.raises(ValidationError, match="DOMINUS_OPEN_ADDRESS"):
            PublicDsn(owners, address)
        return
    assert PublicDsn(owners, address)("u", "p/", "shop") == made
