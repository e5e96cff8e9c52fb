"""What PostgreSQL finds for a filter is what Python finds for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pg_support import Caller, call, data_of, pg_dsn, postgres

from dominus.contract.db import QueryRequest
from dominus.orchestrator.services import db

__all__ = ["call", "pg_dsn", "postgres"]

NUMBERS = [None, -1, 0, 1, 2, 5]
TEXTS = [None, "", "a", "ab", "A%", "a_b", "\\"]
ROWS = [{"id": i, "n": n, "s": s} for i, (n, s) in enumerate((n, s) for n in NUMBERS for s in TEXTS)]

number = st.sampled_from([-1, 0, 1, 2, 3, 1.5])
text = st.sampled_from([text for text in TEXTS if text is not None] + ["%", "b"])


def nullable(values: Any) -> Any:
    return st.none() | values


number_operators = st.one_of(
    st.fixed_dictionaries({word: number}) for word in ("gt", "gte", "lt", "lte")
) | st.one_of(
    st.fixed_dictionaries({"between": st.tuples(number, number).map(list)}),
    st.fixed_dictionaries({"gt": number, "lt": number}),
)


def common_operators(values: Any) -> Any:
    return st.one_of(
        st.fixed_dictionaries({"eq": nullable(values)}),
        st.fixed_dictionaries({"ne": nullable(values)}),
        st.fixed_dictionaries({"in": st.lists(nullable(values), max_size=3)}),
        st.fixed_dictionaries({"not_in": st.lists(nullable(values), max_size=3)}),
        st.fixed_dictionaries({"is_null": st.booleans()}),
    )


def entry(values: Any, more: Any) -> Any:
    return nullable(values) | st.lists(nullable(values), max_size=3) | common_operators(values) | more


flat = st.fixed_dictionaries(
    {},
    optional={
        "n": entry(number, number_operators),
        "s": entry(text, st.fixed_dictionaries({"contains": text})),
    },
).filter(bool)
filters = st.recursive(
    flat,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"or": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"and": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=6,
)

SIGNS: dict[str, Any] = {
    "gt": lambda value, other: value > other,
    "gte": lambda value, other: value >= other,
    "lt": lambda value, other: value < other,
    "lte": lambda value, other: value <= other,
    "between": lambda value, other: other[0] <= value <= other[1],
    "contains": lambda value, other: other in value,
}


def holds(value: Any, word: str, other: Any) -> bool:
    match word:
        case "eq":
            return value == other
        case "ne":
            return value != other
        case "in":
            return value in other
        case "not_in":
            return value not in other
        case "is_null":
            return (value is None) is other
        case _:
            return value is not None and SIGNS[word](value, other)


def matches(row: dict[str, Any], said: dict[str, Any]) -> bool:
    results: list[bool] = []
    for name, value in said.items():
        if name == "or":
            results.append(any(matches(row, part) for part in value))
        elif name == "and":
            results.append(all(matches(row, part) for part in value))
        elif name == "not":
            results.append(not matches(row, value))
        elif isinstance(value, dict):
            results.append(all(holds(row[name], word, other) for word, other in value.items()))
        else:
            results.append(holds(row[name], "in" if isinstance(value, list) else "eq", value))
    return all(results)


@pytest.fixture
async def table(call: Caller) -> Caller:
    await call.sql("CREATE TABLE truth (id int PRIMARY KEY, n int, s text)")
    for row in ROWS:
        await call.sql("INSERT INTO truth VALUES ($1, $2, $3)", row["id"], row["n"], row["s"])
    return call


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
@given(said=filters)
async def test_postgresql_and_python_agree(table: Caller, said: dict[str, Any]):
    answer = data_of(await db.query(table(), QueryRequest(table="truth", filters=said)))
    expected = [row["id"] for row in ROWS if matches(row, said)]
    assert [row["id"] for row in answer["items"]] == expected
    assert answer["total"] == len(expected)
