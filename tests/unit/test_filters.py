"""Filters -> SQL, without a database."""

from __future__ import annotations

from typing import Any

import pytest

from dominus.contract.db import DeleteRequest, InsertRequest, PageRequest, QueryRequest, UpdateRequest
from dominus.errors import ValidationError
from dominus.orchestrator.sql import keyset
from dominus.orchestrator.sql import statements as sql
from dominus.orchestrator.sql.filters import MAX_DEPTH, MAX_TERMS, condition
from dominus.orchestrator.sql.parameters import Parameters
from dominus.orchestrator.sql.tables import Column, Table


def column(name: str, type_: str, category: str = "N", **more: Any) -> Column:
    facts: dict[str, Any] = {
        "cast": type_,
        "kind": type_,
        "is_array": False,
        "is_nullable": True,
        "is_generated": False,
        "identity": "",
        "default": None,
        "is_primary_key": False,
    }
    return Column(name=name, type=type_, category=category, **{**facts, **more})


COLUMNS = [
    column("id", "bigint", is_nullable=False, is_primary_key=True),
    column("name", "text", "S"),
    column("age", "integer"),
    column("tags", "text[]", "A", is_array=True, kind="text"),
    column("meta", "jsonb", "U"),
    column("raw", "json", "U"),
    column("at", "timestamp with time zone", "D", kind="timestamptz", is_nullable=False),
    column("price", "numeric"),
    column('q"uo', "text", "S"),
]
TABLE = Table(1, "public", "t", "r", {c.name: c for c in COLUMNS}, ("id",), (("id",), ("at",)))

CASES: list[tuple[Any, str, list[Any]]] = [
    ({"name": "x"}, 't."name" = $1::text::text', ["x"]),
    ({"name": None}, 't."name" IS NULL', []),
    ({"age": 5}, 't."age" = $1::text::integer', ["5"]),
    ({"age": True}, 't."age" = $1::text::integer', ["true"]),
    ({"age": {"gt": 1.5}}, 't."age" > $1::text::numeric', ["1.5"]),
    ({"age": 2**70}, 't."age" = $1::text::integer', [str(2**70)]),
    ({"age": [1, 2]}, 't."age" = ANY ($1::text[]::integer[])', [["1", "2"]]),
    ({"age": [1, 2.5]}, 't."age" = ANY ($1::text[]::numeric[])', [["1", "2.5"]]),
    ({"age": []}, "FALSE", []),
    ({"age": [None]}, 't."age" IS NULL', []),
    ({"age": [1, None]}, '(t."age" = ANY ($1::text[]::integer[]) OR t."age" IS NULL)', [["1"]]),
    ({"age": {"in": [1]}}, 't."age" = ANY ($1::text[]::integer[])', [["1"]]),
    ({"age": {"not_in": []}}, "TRUE", []),
    ({"age": {"not_in": [1]}}, '(t."age" <> ALL ($1::text[]::integer[]) OR t."age" IS NULL)', [["1"]]),
    (
        {"age": {"not_in": [1, None]}},
        '(t."age" <> ALL ($1::text[]::integer[]) AND t."age" IS NOT NULL)',
        [["1"]],
    ),
    ({"age": {"ne": 1}}, 't."age" IS DISTINCT FROM $1::text::integer', ["1"]),
    ({"age": {"ne": None}}, 't."age" IS NOT NULL', []),
    (
        {"age": {"gte": 18, "lt": 65}},
        't."age" >= $1::text::integer AND t."age" < $2::text::integer',
        ["18", "65"],
    ),
    ({"age": {"lte": 1}}, 't."age" <= $1::text::integer', ["1"]),
    (
        {"age": {"between": [1, 2]}},
        't."age" BETWEEN $1::text::integer AND $2::text::integer',
        ["1", "2"],
    ),
    ({"age": {"is_null": True}}, 't."age" IS NULL', []),
    ({"age": {"is_null": False}}, 't."age" IS NOT NULL', []),
    ({"name": {"like": "a%"}}, 't."name" LIKE $1::text', ["a%"]),
    ({"name": {"ilike": "a%"}}, 't."name" ILIKE $1::text', ["a%"]),
    ({"name": {"contains": "50%_\\"}}, 't."name" LIKE $1::text', ["%50\\%\\_\\\\%"]),
    ({"tags": {"contains": "a"}}, 't."tags" @> $1::text::text[]', ['{"a"}']),
    (
        {"tags": {"eq": ['a"', "b\\", None, "NULL"]}},
        't."tags" = $1::text::text[]',
        ['{"a\\"","b\\\\",NULL,"NULL"}'],
    ),
    ({"meta": {"contains": {"a": 1}}}, 't."meta" @> $1::text::jsonb', ['{"a":1}']),
    ({"meta": {"eq": {"gt": 1}}}, 't."meta" = $1::text::jsonb', ['{"gt":1}']),
    ({"meta": "x"}, 't."meta" = $1::text::jsonb', ['"x"']),
    ({"raw": {"eq": 1}}, 't."raw"::jsonb = $1::text::jsonb', ["1"]),
    (
        {"at": "2024-01-01T00:00:00Z"},
        't."at" = $1::text::timestamp with time zone',
        ["2024-01-01T00:00:00Z"],
    ),
    ({'q"uo': "x"}, 't."q""uo" = $1::text::text', ["x"]),
    (
        {"or": [{"age": 1, "name": "x"}, {"age": None}]},
        '((t."age" = $1::text::integer AND t."name" = $2::text::text) OR (t."age" IS NULL))',
        ["1", "x"],
    ),
    ({"and": [{"age": 1}]}, '((t."age" = $1::text::integer))', ["1"]),
    ({"not": {"age": 1}}, '((t."age" = $1::text::integer) IS NOT TRUE)', ["1"]),
    (
        {"id": 1, "not": {"or": [{"age": 1}]}},
        't."id" = $1::text::bigint AND ((((t."age" = $2::text::integer))) IS NOT TRUE)',
        ["1", "1"],
    ),
    (None, "", []),
    ({}, "", []),
]


@pytest.mark.parametrize(("filters", "expected", "values"), CASES)
def test_a_filter_becomes_sql_with_its_values_as_parameters(filters: Any, expected: str, values: list[Any]):
    parameters = Parameters()
    assert condition(TABLE, filters, parameters) == expected
    assert parameters.values == values


def nested(depth: int) -> dict[str, Any]:
    return {"age": 1} if depth == 1 else {"and": [nested(depth - 1)]}


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"agee": 1}, "has no column 'agee'"),
        ({"id; drop table t": 1}, "has no column"),
        ({"age": {"gtt": 1}}, "no operator 'gtt'"),
        ({"age": {}}, "empty object"),
        ({"meta": {"a": 1}}, "no operator 'a'"),
        ({"age": {"gt": None}}, "null"),
        ({"age": {"between": [1]}}, "two values"),
        ({"age": {"between": [1, None]}}, "two values"),
        ({"age": {"in": 1}}, "takes a list"),
        ({"age": {"is_null": 1}}, "true or false"),
        ({"age": {"like": "x"}}, "needs a text column"),
        ({"name": {"like": 1}}, "takes a text"),
        ({"age": {"contains": 1}}, "needs a text, array or json"),
        ({"tags": ["a"]}, "array column"),
        ({"age": {"eq": {"a": 1}}}, "an object cannot be compared"),
        ({"age": {"eq": [1]}}, "a list cannot be compared"),
        ({"or": []}, "none of them empty"),
        ({"or": [{}]}, "none of them empty"),
        ({"or": {"age": 1}}, "takes a list of filters"),
        ({"or": [1]}, "takes a list of filters"),
        ({"not": {}}, "takes a filter"),
        ({"not": [{"age": 1}]}, "takes a filter"),
        (nested(MAX_DEPTH + 1), "deep"),
        ({"or": [{"age": n} for n in range(MAX_TERMS + 1)]}, "terms"),
    ],
)
def test_a_wrong_filter_is_refused_with_what_is_wrong(filters: Any, said: str):
    with pytest.raises(ValidationError, match=said):
        condition(TABLE, filters, Parameters())


def test_the_bounds_themselves_are_allowed():
    assert condition(TABLE, nested(MAX_DEPTH), Parameters())
    assert condition(TABLE, {"or": [{"age": n} for n in range(MAX_TERMS)]}, Parameters())


def test_a_near_name_is_suggested_and_operators_are_listed():
    with pytest.raises(ValidationError) as caught:
        condition(TABLE, {"nmae": 1}, Parameters())
    assert caught.value.code == "unknown_column"
    assert caught.value.hint == "did you mean 'name'?"
    with pytest.raises(ValidationError) as caught:
        condition(TABLE, {"age": {"above": 1}}, Parameters())
    assert "gte" in (caught.value.hint or "")


def test_a_column_called_or_is_a_column():
    table = Table(1, "public", "t", "r", {"or": column("or", "integer")}, (), ())
    assert condition(table, {"or": [1]}, Parameters()) == 't."or" = ANY ($1::text[]::integer[])'
    assert condition(table, {"or": {"gt": 1}}, Parameters()) == 't."or" > $1::text::integer'


@pytest.mark.parametrize(
    ("sort_by", "sort_order", "expected"),
    [
        (None, "ASC", ' ORDER BY t."id" ASC'),
        ("age", "desc", ' ORDER BY t."age" DESC, t."id" DESC'),
        (["age", "name"], "Asc", ' ORDER BY t."age" ASC, t."name" ASC, t."id" ASC'),
        (["age", "id"], ["desc", "asc"], ' ORDER BY t."age" DESC, t."id" ASC'),
        ("id", "ASC", ' ORDER BY t."id" ASC'),
    ],
)
def test_an_order_ends_with_the_primary_key(sort_by: Any, sort_order: Any, expected: str):
    request = QueryRequest(table="t", sort_by=sort_by, sort_order=sort_order)
    assert sql.order_by(TABLE, request) == expected


@pytest.mark.parametrize(
    ("sort_by", "sort_order"),
    [
        ("age", "up"),
        ("age", "asc; drop table t"),
        (["age", "id"], ["asc", "asc", "asc"]),
        ("nope", "asc"),
        ("age", []),
    ],
)
def test_a_wrong_order_is_refused(sort_by: Any, sort_order: Any):
    with pytest.raises(ValidationError):
        sql.order_by(TABLE, QueryRequest(table="t", sort_by=sort_by, sort_order=sort_order))


def test_equal_shapes_give_equal_sql():
    first = sql.query(TABLE, QueryRequest(table="t", filters={"age": 1}, limit=5))
    second = sql.query(TABLE, QueryRequest(table="t", filters={"age": 2}, limit=9, offset=3))
    assert first.sql == second.sql
    assert first.args != second.args


@pytest.mark.parametrize("filters", [None, {}])
def test_changing_every_row_must_be_said(filters: Any):
    with pytest.raises(ValidationError, match="all_rows=True"):
        sql.delete(TABLE, DeleteRequest(table="t", filters=filters), None)
    with pytest.raises(ValidationError, match="all_rows=True"):
        sql.update(TABLE, UpdateRequest(table="t", data={"age": 1}, filters=filters), None)
    assert "WHERE" not in sql.delete(TABLE, DeleteRequest(table="t", all_rows=True), None).sql
    with pytest.raises(ValidationError, match="contradict"):
        sql.delete(TABLE, DeleteRequest(table="t", filters={"age": 1}, all_rows=True), None)


@pytest.mark.parametrize(
    ("data", "columns"), [({"name": "x"}, None), ({"id": 1}, ["name"]), ({}, None), ({"id": 1}, ["nope"])]
)
def test_a_conflict_needs_its_columns_in_the_row(data: Any, columns: Any):
    request = InsertRequest(table="t", data=data, on_conflict="ignore", conflict_columns=columns)
    with pytest.raises(ValidationError):
        sql.insert(TABLE, request, None)


def test_a_walk_wants_a_unique_key_without_null():
    statement, _ = keyset.page(TABLE, PageRequest(table="t"))
    assert 'ORDER BY t."id" LIMIT' in statement.sql
    statement, _ = keyset.page(TABLE, PageRequest(table="t", by=["at"], descending=True))
    assert 'ORDER BY t."at" DESC, t."id" DESC LIMIT' in statement.sql
    with pytest.raises(ValidationError, match="may be NULL"):
        keyset.page(TABLE, PageRequest(table="t", by=["age"]))
    assert keyset.page(TABLE, PageRequest(table="t", by=["age"], filters={"age": {"is_null": False}}))
    without_key = Table(1, "public", "v", "v", {c.name: c for c in COLUMNS}, (), (("at",),))
    with pytest.raises(ValidationError, match="no primary key") as caught:
        keyset.page(without_key, PageRequest(table="v"))
    assert "by=" in (caught.value.hint or "")
    with pytest.raises(ValidationError, match="equal name"):
        keyset.page(without_key, PageRequest(table="v", by=["name"]))
    assert keyset.page(without_key, PageRequest(table="v", by=["at"]))


def test_a_cursor_belongs_to_its_walk():
    _, digest = keyset.page(TABLE, PageRequest(table="t"))
    cursor = keyset.cursor_after(digest, '["5"]')
    statement, _ = keyset.page(TABLE, PageRequest(table="t", cursor=cursor))
    assert '(t."id") > ($1::text::bigint)' in statement.sql
    assert statement.args[0] == "5"
    for other in (
        PageRequest(table="t", cursor=cursor, descending=True),
        PageRequest(table="t", cursor=cursor, by=["at"]),
    ):
        with pytest.raises(ValidationError, match="another walk"):
            keyset.page(TABLE, other)


@pytest.mark.parametrize("cursor", ["x", "!", "", "e30", "W10", "WzEsMl0", "bnVsbA", "é", "A" * 8000])
def test_a_made_up_cursor_is_refused(cursor: str):
    with pytest.raises(ValidationError, match="cursor"):
        keyset.page(TABLE, PageRequest(table="t", cursor=cursor))
