"""Whatever is sent to whichever route, with or without a token: an answer in order, and never a 5xx."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from operation_samples import wire
from server_support import BASE64, JSON, LINES, Server, make_server, process_resources, server

from dominus.contract import operations
from dominus.contract.ddl import CREATE_TABLE
from dominus.contract.kinds import Auth
from dominus.contract.operation import Operation

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

RUN = uuid.uuid4().hex[:8]
COLUMNS: dict[str, Any] = {
    "id": "bigint",
    "name": "text",
    "price": "numeric(12,4)",
    "born": "timestamptz",
    "tags": "text[]",
    "doc": "jsonb",
    "raw": "bytea",
    "key": "uuid",
    "day": "date",
    "score": "double precision",
}
OPERATIONS = sorted(operations().values(), key=lambda op: op.name)
TRICKY = [
    "",
    ".",
    "..",
    "\x00",
    "'; DROP TABLE t; --",
    "é",
    "\ud7ff",
    "💥",
    "%",
    "a" * 300,
    "NaN",
    "public",
    "dominus",
]

text = st.one_of(st.sampled_from(TRICKY), st.text(max_size=20))
numbers = st.one_of(
    st.integers(-5, 5),
    st.integers(),
    st.floats(),
    st.sampled_from([2**31, -(2**63), 2**63, 10**40, 1e308, 5e-324]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, text)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
names = sorted(
    {name for op in OPERATIONS for name in op.request.model_fields} | {"gt", "in", "or", "like", "between"}
)
objects = st.dictionaries(st.sampled_from(names), documents, max_size=5)


@st.composite
def mutated(draw: st.DrawFn, op: Operation[Any, Any]) -> Any:
    """A good request with one field replaced, added, or taken away."""
    fields = dict(wire(op, f"fuzz_{RUN}"))
    fields = {name: value for name, value in fields.items() if name not in op.path_fields}
    what = draw(st.sampled_from(["as it is", "replace", "nest", "add", "take away"]))
    if fields and what != "add":
        name = draw(st.sampled_from(sorted(fields)))
        if what == "take away":
            del fields[name]
        elif what == "replace":
            fields[name] = draw(documents)
        elif what == "nest":
            fields[name] = draw(st.dictionaries(st.sampled_from(names), documents, max_size=3))
    elif what == "add":
        fields[draw(st.sampled_from(names))] = draw(documents)
    return fields


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    op = draw(st.sampled_from(OPERATIONS))
    good = {**op.request.example, "schema": "public", "table": f"t_fuzz_{RUN}"}
    segment = lambda name: st.one_of(st.just(str(good[name])), text)  # noqa: E731 - a strategy with a name
    path = op.path.format(**{name: quote(draw(segment(name)), safe="") for name in op.path_fields})
    kind = draw(st.sampled_from([JSON, JSON, BASE64, BASE64, LINES]))
    body: Any = draw(st.one_of(mutated(op), mutated(op), objects, documents, st.binary(max_size=200)))
    if not isinstance(body, bytes):
        body = json.dumps(body).encode("utf-8", "surrogatepass")
        if draw(st.booleans()) and kind == LINES:
            body += b"\n" + draw(st.binary(max_size=60)) + b"\n" + json.dumps(draw(objects)).encode()
        if kind == BASE64:
            body = base64.b64encode(body)
    if op.method == "GET" and draw(st.booleans()):
        path += "?" + draw(st.text("abc=&%;+19é\x00", max_size=20))
    headers = {
        "Dominus-Deadline-Ms": draw(st.sampled_from(["5000", "x", "", "99999999999999999999"])),
        "Idempotency-Key": draw(st.sampled_from(["a", "b", "c", "k" * 255, "", "\t"])),
        "Dominus-Project": draw(st.sampled_from(["default", "", "a/b", "é", "x" * 99])),
    }
    used = draw(st.sets(st.sampled_from(sorted(headers)), max_size=2))
    return {
        "op": op,
        "method": draw(st.sampled_from([op.method] * 6 + ["GET", "POST", "DELETE", "PUT"])),
        "path": path,
        "kind": kind,
        "body": body,
        "token": draw(st.sampled_from(["good", "good", "good", "good", "none", "weak", "garbage"])),
        "headers": {name: headers[name] for name in used},
    }


# --- well-formed requests with strange contents: what gets past the models, and reaches the engines

LITERALS = """
2026-01-01|infinity|-infinity|NaN|\\xff|\\xf|{1,2}|{{1},{2}}|[1]|null|1e400|0x1F|epoch|now|25:00|9999999-01-01|2026-02-30|
%|\\|_|{|'|"|1_0| 1 |c7f1b2de-0000-0000-0000-000000000000|999999999999999999999999999999|-0|true|{NULL}|1.0000000000000000001
"""
TYPES = """
int|VARCHAR(50)|varchar(0)|varchar(99999999999)|numeric(1001,2)|numeric(5,9)|serial|text[][]|timestamptz(9)|bit(0)|int)|
int; drop table x|oid|void|record|anyelement|pg_type|public.int|double  precision|interval year|char(-1)|"int"|int4range|
vector(3)|setof int|regclass|xml|bool|jsonb|uuid|bigint
"""
CLAUSES = """
NOW()|'pending'|nextval('x')|1/0|'a'::int|gen_random_uuid()|(SELECT 1)|pg_sleep(9)|'|$1|PRIMARY KEY|NOT NULL|NULL|UNIQUE|
CHECK (id > 0)|CHECK (1)|CHECK (none > 0)|REFERENCES none(id)|REFERENCES dominus.secrets(key)|DEFAULT 1|COLLATE xx|E'\\|
GENERATED ALWAYS AS IDENTITY|array[1,'a']|REFERENCES t(id) ON DELETE CASCADE|CHECK (pg_read_file('/etc/passwd') = '')|
current_user|-- x|/*|id|CHECK (id IN (1, 'x'))|CHECK (id ~ '(')|'x' || 1|now() - interval 'x'|1e400|0|-1|true
"""


def one_of(list_: str) -> st.SearchStrategy[str]:
    return st.sampled_from([item for item in list_.replace("\n", "").split("|") if item])


good_columns = st.sampled_from(sorted(COLUMNS))
columns = st.one_of(
    good_columns, good_columns, good_columns, st.sampled_from(["none", "ID", "ctid", 'a"b', "é"])
)
texts = st.one_of(st.text(max_size=30), one_of(LITERALS), st.sampled_from(["\x00", "\ud800"]))
finite = st.floats(allow_nan=False, allow_infinity=False)
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.integers(-3, 3), finite, texts)
values = st.one_of(
    leaves,
    st.lists(leaves, max_size=3),
    st.recursive(
        leaves, lambda v: st.lists(v, max_size=2) | st.dictionaries(texts, v, max_size=2), max_leaves=6
    ),
)
OPERATORS = [
    "eq",
    "ne",
    "gt",
    "gte",
    "lt",
    "lte",
    "like",
    "ilike",
    "contains",
    "is_null",
    "between",
    "in",
    "not_in",
    "$gt",
]
conditions = st.one_of(
    values,
    st.dictionaries(st.sampled_from(OPERATORS), values, max_size=2),
    st.builds(lambda v: {"between": [v, v]}, leaves),
)
filters = st.recursive(
    st.dictionaries(columns, conditions, max_size=3),
    lambda inner: st.builds(lambda groups: {"or": groups}, st.lists(inner, max_size=3)),
    max_leaves=4,
)
rows = st.builds(
    lambda id_, row: {"id": id_, **row}, st.integers(-9, 2**40), st.dictionaries(columns, values, max_size=2)
)
sql_types = st.one_of(one_of(TYPES), one_of(TYPES), st.text(min_size=1, max_size=12))
sql_texts = st.one_of(one_of(CLAUSES), one_of(CLAUSES), st.text(min_size=1, max_size=20))
new_names = st.one_of(st.from_regex(r"[a-z]{3,9}", fullmatch=True), st.text(min_size=1, max_size=70))
a_column = st.fixed_dictionaries(
    {"name": new_names, "type": sql_types},
    optional={
        "default": sql_texts,
        "constraints": st.lists(sql_texts, max_size=3),
        "nullable": st.booleans(),
        "primary_key": st.booleans(),
        "unique": st.booleans(),
    },
)
small = st.integers(1, 10)
an_entry = st.fixed_dictionaries(
    {"logical_path": st.text(min_size=1, max_size=9)}, optional={"category": st.text(min_size=1)}
)
CONTENTS: dict[str, st.SearchStrategy[Any]] = {
    "filters": filters,
    "data": rows,
    "rows": st.lists(rows, max_size=3),
    "sort_by": st.one_of(columns, st.lists(columns, max_size=3)),
    "sort_order": st.one_of(
        st.sampled_from(["asc", "DESC", "x", ""]), st.lists(st.sampled_from(["asc", "desc"]), max_size=3)
    ),
    "limit": small,
    "offset": st.sampled_from([0, 1, 2**31, 2**53]),
    "columns": st.lists(columns, min_size=1, max_size=3),
    "by": st.lists(columns, min_size=1, max_size=3),
    "page_size": small,
    "conflict_columns": st.lists(columns, min_size=1, max_size=2),
    "on_conflict": st.sampled_from(["ignore", "update"]),
    "reason": texts,
    "actor": texts,
    "all_rows": st.booleans(),
    "count": st.booleans(),
    "descending": st.booleans(),
    "cursor": st.one_of(
        st.text(max_size=20), st.sampled_from(["0", "ff", "1.2.3", "-1", "f" * 30, "eyJhIjoxfQ", "AA.BB"])
    ),
    "logical_path": st.text(min_size=1, max_size=6),
    "category": st.text(min_size=1, max_size=6),
    "logical_prefix": st.text(max_size=6),
    "value": values,
    "delta": st.integers(-(2**63), 2**63 - 1),
    "field": st.text(min_size=1, max_size=6),
    "owner": st.text(min_size=8, max_size=12),
    "nudge": st.booleans(),
    "ttl_seconds": st.integers(60, 86_400),
    "key": st.text(min_size=1, max_size=9),
    "prefix": texts,
    "comment": texts,
    "version": st.one_of(small, st.integers(1)),
    "column": new_names,
    "type": sql_types,
    "default": sql_texts,
    "nullable": st.booleans(),
}
DEEP = [
    op
    for op in OPERATIONS
    if op.method == "POST"
    and op.service in {"db", "ddl", "redis"}
    and op.path_fields.keys() <= {"schema", "table"}
]
DEEP += [op for op in OPERATIONS if op.name.startswith("secrets.")]


@st.composite
def deep_requests(draw: st.DrawFn) -> tuple[Operation[Any, Any], dict[str, Any]]:
    op = draw(st.sampled_from([*DEEP, *(op for op in DEEP if op.service == "db")]))
    body = {name: value for name, value in wire(op, f"fuzz_{RUN}").items() if name not in op.path_fields}
    for name, info in op.request.model_fields.items():
        if name in CONTENTS and (info.is_required() or draw(st.integers(0, 2)) == 0):
            body[name] = draw(CONTENTS[name])
    if op.name == "ddl.create_table":
        body |= {
            "columns": draw(st.lists(a_column, min_size=1, max_size=3)),
            "table": draw(new_names),
        }
    if op.name == "redis.mget":
        body["keys"] = draw(st.lists(an_entry, min_size=1, max_size=3))
    if op.name == "secrets.get_many":
        body["keys"] = draw(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3))
    return op, body


async def make_table(server: Server) -> None:
    columns = [{"name": name, "type": kind} for name, kind in COLUMNS.items()]
    columns[0]["primary_key"] = True
    await server("POST", CREATE_TABLE.path, {"table": f"t_fuzz_{RUN}", "columns": columns})


@example(asked=(operations()["db.query"], {"sort_by": [], "sort_order": []}))
@given(asked=deep_requests())
@settings(
    max_examples=600,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
async def test_no_strange_content_gives_a_5xx(asked: tuple[Operation[Any, Any], Any], server: Server) -> None:
    op, body = asked
    if op.service in {"db", "ddl"}:
        await make_table(server)
    place = {"schema": "public", "table": f"t_fuzz_{RUN}"}
    path = op.path.format(**{name: place[name] for name in op.path_fields})
    reply = await server(
        "POST", path, json.dumps(body).encode(), headers={"Idempotency-Key": uuid.uuid4().hex}
    )
    assert 200 <= reply.status < 500, (op.name, body, reply)
    assert reply.status == 200 or reply.document["error"]


@given(asked=requests())
@settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
async def test_no_request_gives_a_5xx(asked: dict[str, Any], server: Server) -> None:
    op: Operation[Any, Any] = asked["op"]
    token = {
        "good": {
            Auth.TOKEN: server.token(),
            Auth.PSK: server.psk,
            Auth.SESSION: server.session_token("postgres"),
            Auth.NONE: None,
        }[op.auth],
        "none": None,
        "weak": server.token("db:read", subject="weak"),
        "garbage": "x.y.z",
    }[asked["token"]]
    if op.service in {"db", "ddl"}:
        await make_table(server)
    reply = await server(
        asked["method"],
        asked["path"].encode("utf-8", "replace").decode("latin-1"),
        asked["body"],
        kind=asked["kind"],
        token=token,
        headers=asked["headers"],
        address=uuid.uuid4().hex,
    )
    assert 200 <= reply.status < 500, (asked, reply)
    assert reply.status != 499
    document = reply.document
    assert document.get("success", op.is_plain) is (reply.status == 200) or op.is_plain
    assert reply.status == 200 or document["error"]
    if asked["token"] == "none" and op.auth is not Auth.NONE:
        assert reply.status in {401, 404, 405}


async def test_the_server_is_whole_after_all_that(server: Server) -> None:
    warm = (await server("GET", "/api/health/warmup")).data
    assert warm["status"] == "ok"
    open_count = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
    assert await server.resources.postgres.system.fetchval(open_count) == 0
