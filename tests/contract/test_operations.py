"""Every operation of the contract, once through the SDK and once as raw HTTP, in both dialects; and refused where it must be."""

from __future__ import annotations

import base64
import datetime as dt
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, get_type_hints
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
from pydantic import TypeAdapter
from server_support import BASE64, JSON, Server, foundation, server

from dominus import Dominus
from dominus.contract import operations
from dominus.contract.operation import Auth, Operation
from dominus.names import METHOD_OF
from dominus.orchestrator import openapi
from dominus.orchestrator.context import HANDLERS
from dominus.orchestrator.embedded import EmbeddedTransport

__all__ = ["foundation", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

Fields = dict[str, Any]
OWNER = "owner-of-the-lock"
COLUMNS: list[Any] = [
    {"name": "id", "type": "bigint", "primary_key": True},
    {"name": "name", "type": "text", "nullable": False},
    {"name": "price", "type": "numeric(12,4)"},
    {"name": "born", "type": "timestamptz"},
    {"name": "tags", "type": "text[]"},
]
ROW: Fields = {"id": 3, "name": "carl", "price": "12.5000", "born": "2026-01-02T03:04:05+00:00", "tags": ["a"]}


@dataclass(frozen=True)
class Sample:
    """One real call. `tag` makes the names of each way of calling its own."""

    sdk: Callable[[Dominus, str], Awaitable[Any]]
    wire: Callable[[str], Fields]
    """The fields by their wire names, those of the path included."""
    read: Callable[[Any], Any] = lambda data: data
    """What the SDK makes of the answer's data."""
    expected: Any = ...
    """The result, with TAG for the tag; left out where every answer differs."""
    before: Callable[[Dominus, str], Awaitable[Any]] | None = None
    wrong: Fields = field(default_factory=dict)
    """A field of a wrong type."""


async def a_table(client: Dominus, tag: str) -> None:
    await client.ddl.add_table(f"t_{tag}", COLUMNS)
    await client.db.insert(f"t_{tag}", {"id": 1, "name": "anna", "price": "1.50"})
    await client.db.insert(f"t_{tag}", {"id": 2, "name": "bert", "price": None})


async def a_hash(client: Dominus, tag: str) -> None:
    await client.redis.hset(f"k-{tag}", "f", {"n": 1})


def in_table(tag: str, **more: Any) -> Fields:
    return {"schema": "public", "table": f"t_{tag}", **more}


def entry(tag: str, **more: Any) -> Fields:
    return {"logical_path": f"k-{tag}", **more}


def put(value: Any) -> Callable[[Dominus, str], Awaitable[Any]]:
    return lambda d, tag: d.redis.set(f"k-{tag}", value)


def with_secret(d: Dominus, tag: str) -> Awaitable[Any]:
    return d.secrets.upsert(f"S-{tag}", {"pass": "wörd"}, "why")


def locked(d: Dominus, tag: str) -> Awaitable[Any]:
    return d.redis.acquire_lock(f"k-{tag}", OWNER)


ANNA = {"id": 1, "name": "anna", "price": "1.5000", "born": None, "tags": None}
BERT = {"id": 2, "name": "bert", "price": None, "born": None, "tags": None}
MINTED = {"access_token": "str", "token_type": "Bearer", "expires_in": 900}
ENGINES = {name: {"status": "ok", "latency_ms": "float"} for name in ("postgres", "redis")}

SAMPLES: Mapping[str, Sample] = {
    "auth.self": Sample(
        lambda d, _: d.auth.token(), lambda _: {"method": "auth.self"}, expected=MINTED, wrong={"method": 7}
    ),
    "auth.mint": Sample(
        lambda d, tag: d.auth.mint_jwt(user_id=tag, scope=["db:read"]),
        lambda tag: {"method": "auth.mint", "params": {"user_id": tag, "scope": ["db:read"]}},
        expected=MINTED,
        wrong={"params": {"user_id": 7}},
    ),
    "auth.jwks": Sample(
        lambda d, _: d.auth.get_public_key(),
        lambda _: {"method": "auth.jwks"},
        lambda data: data["public_key"],
        wrong={"params": []},
    ),
    "auth.get_jwks": Sample(lambda d, _: d.auth.get_jwks(), lambda _: {}),
    "secrets.get": Sample(
        lambda d, tag: d.secrets.get(f"S-{tag}"),
        lambda tag: {"action": "get", "key": f"S-{tag}"},
        lambda data: data["secret"]["value"],
        {"pass": "wörd"},
        with_secret,
        {"key": 7},
    ),
    "secrets.get_many": Sample(
        lambda d, tag: d.secrets.get_many([f"S-{tag}"]),
        lambda tag: {"action": "get_many", "keys": [f"S-{tag}"]},
        lambda data: data["values"],
        {"S-TAG": {"pass": "wörd"}},
        with_secret,
        {"keys": "S"},
    ),
    "secrets.upsert": Sample(
        lambda d, tag: d.secrets.upsert(f"S-{tag}", "v", "why"),
        lambda tag: {"action": "update", "key": f"S-{tag}", "value": "v", "comment": "why"},
        expected={"key": "S-TAG", "version": 1, "operation": "create"},
        wrong={"comment": 7},
    ),
    "secrets.list": Sample(
        lambda d, tag: d.secrets.list(f"S-{tag}"),
        lambda tag: {"action": "list", "prefix": f"S-{tag}"},
        lambda data: data["secrets"],
        [
            {
                "key": "S-TAG",
                "version": 1,
                "comment": "why",
                "created_at": "str",
                "updated_at": "str",
                "updated_by": "service:root",
            }
        ],
        with_secret,
        {"prefix": ["S"]},
    ),
    "secrets.versions": Sample(
        lambda d, tag: d.secrets.versions(f"S-{tag}"),
        lambda tag: {"action": "versions", "key": f"S-{tag}"},
        lambda data: data["secrets"],
        [{"key": "S-TAG", "version": 1, "comment": "why", "created_at": "str", "updated_by": "service:root"}],
        with_secret,
        {"key": None},
    ),
    "secrets.delete": Sample(
        lambda d, tag: d.secrets.delete(f"S-{tag}"),
        lambda tag: {"action": "delete", "key": f"S-{tag}"},
        lambda data: data["deleted"],
        True,
        with_secret,
        {"key": {}},
    ),
    "db.schemas": Sample(
        lambda d, _: d.db.schemas(), lambda _: {}, lambda data: data["schemas"], expected=["public"]
    ),
    "db.tables": Sample(
        lambda d, _: d.db.tables("public"),
        lambda _: {"schema": "public"},
        lambda data: {"t": data["tables"]}["t"],
        before=a_table,
    ),
    "db.columns": Sample(
        lambda d, tag: d.db.columns(f"t_{tag}"),
        lambda tag: in_table(tag),
        lambda data: data["columns"],
        [
            {"column_name": name, "data_type": kind, "is_nullable": free, "is_primary_key": key, "default": None}
            for name, kind, free, key in (
                ("id", "bigint", False, True),
                ("name", "text", False, False),
                ("price", "numeric(12,4)", True, False),
                ("born", "timestamp with time zone", True, False),
                ("tags", "text[]", True, False),
            )
        ],
        a_table,
    ),
    "db.query": Sample(
        lambda d, tag: d.db.query(f"t_{tag}", filters={"id": [1, 2]}, sort_by="id", sort_order="desc", limit=1),
        lambda tag: in_table(tag, filters={"id": [1, 2]}, sort_by="id", sort_order="desc", limit=1),
        lambda data: {"rows": data["items"], "total": data["total"]},
        {"rows": [BERT], "total": 2},
        a_table,
        {"limit": "many"},
    ),
    "db.page": Sample(
        lambda d, tag: d.db.page(f"t_{tag}", page_size=9),
        lambda tag: in_table(tag, page_size=9),
        expected={"items": [ANNA, BERT], "cursor": None},
        before=a_table,
        wrong={"page_size": [9]},
    ),
    "db.insert": Sample(
        lambda d, tag: d.db.insert(f"t_{tag}", ROW),
        lambda tag: in_table(tag, data=ROW),
        expected=ROW,
        before=a_table,
        wrong={"data": [1]},
    ),
    "db.update": Sample(
        lambda d, tag: d.db.update(f"t_{tag}", {"name": "anne"}, filters={"id": 1}),
        lambda tag: in_table(tag, data={"name": "anne"}, filters={"id": 1}),
        expected={"affected_rows": 1},
        before=a_table,
        wrong={"filters": "id = 1"},
    ),
    "db.delete": Sample(
        lambda d, tag: d.db.delete(f"t_{tag}", all_rows=True),
        lambda tag: in_table(tag, all_rows=True),
        expected={"affected_rows": 2},
        before=a_table,
        wrong={"all_rows": "perhaps"},
    ),
    "db.bulk_insert": Sample(
        lambda d, tag: d.db.bulk_insert(f"t_{tag}", [ROW, {"id": 4, "name": "dora"}]),
        lambda tag: in_table(tag, rows=[ROW, {"id": 4, "name": "dora"}]),
        expected={"inserted_count": 2},
        before=a_table,
        wrong={"rows": [7]},
    ),
    "ddl.create_table": Sample(
        lambda d, tag: d.ddl.create_table("public", f"t_{tag}", [{"name": "id", "type": "INT"}]),
        lambda tag: in_table(tag, columns=[{"name": "id", "type": "INT"}]),
        expected={
            "schema": "public",
            "table": "t_TAG",
            "created": True,
            "columns": [
                {
                    "column_name": "id",
                    "data_type": "integer",
                    "is_nullable": True,
                    "is_primary_key": False,
                    "default": None,
                }
            ],
        },
        wrong={"columns": {"id": "int"}},
    ),
    "ddl.add_column": Sample(
        lambda d, tag: d.ddl.add_column("public", f"t_{tag}", "state", "VARCHAR(9)", default="'new'"),
        lambda tag: in_table(tag, column="state", type="VARCHAR(9)", default="'new'"),
        expected={
            "schema": "public",
            "table": "t_TAG",
            "column": "state",
            "created": True,
            "columns": [
                {
                    "column_name": "state",
                    "data_type": "character varying(9)",
                    "is_nullable": True,
                    "is_primary_key": False,
                    "default": "'new'::character varying",
                }
            ],
        },
        before=a_table,
        wrong={"nullable": "perhaps"},
    ),
    "ddl.drop_table": Sample(
        lambda d, tag: d.ddl.drop_table("public", f"t_{tag}"),
        lambda tag: in_table(tag),
        expected={"schema": "public", "table": "t_TAG", "dropped": True},
        before=a_table,
        wrong={"table": ["t"]},
    ),
    "redis.set": Sample(
        lambda d, tag: d.redis.set(f"k-{tag}", {"a": [1, None]}, ttl=60),
        lambda tag: entry(tag, value={"a": [1, None]}, ttl_seconds=60),
        lambda data: data["stored"],
        True,
        wrong={"ttl_seconds": "soon"},
    ),
    "redis.get": Sample(
        lambda d, tag: d.redis.get(f"k-{tag}"),
        lambda tag: entry(tag),
        lambda data: data["value"],
        {"ü": [1.5, "x"]},
        put({"ü": [1.5, "x"]}),
        {"nudge": "perhaps"},
    ),
    "redis.delete": Sample(
        lambda d, tag: d.redis.delete(f"k-{tag}"),
        lambda tag: entry(tag),
        lambda data: data["deleted"],
        True,
        put(1),
        {"category": 1},
    ),
    "redis.list": Sample(
        lambda d, tag: d.redis.list(prefix=f"k-{tag}"),
        lambda tag: {"logical_prefix": f"k-{tag}", "limit": 100},
        lambda data: {"keys": data["keys"], "count": data["count"], "is_end": not data["cursor"]},
        {"keys": ["k-TAG"], "count": 1, "is_end": True},
        put(1),
        {"limit": 501},
    ),
    "redis.mget": Sample(
        lambda d, tag: d.redis.mget([f"k-{tag}", f"none-{tag}"]),
        lambda tag: {"keys": [entry(tag), {"logical_path": f"none-{tag}"}]},
        lambda data: [item.get("value") for item in data["results"]],
        ["v", None],
        put("v"),
        {"keys": ["k"]},
    ),
    "redis.setnx": Sample(
        lambda d, tag: d.redis.setnx(f"k-{tag}", "mine"),
        lambda tag: entry(tag, value="mine"),
        lambda data: data["acquired"],
        False,
        put("theirs"),
        {"logical_path": 7},
    ),
    "redis.incr": Sample(
        lambda d, tag: d.redis.incr(f"k-{tag}", 5),
        lambda tag: entry(tag, delta=5),
        lambda data: data["value"],
        6,
        put(1),
        {"delta": 1.5},
    ),
    "redis.hset": Sample(
        lambda d, tag: d.redis.hset(f"k-{tag}", "g", 2),
        lambda tag: entry(tag, field="g", value=2),
        lambda data: data["set"],
        True,
        a_hash,
        {"field": 7},
    ),
    "redis.hget": Sample(
        lambda d, tag: d.redis.hget(f"k-{tag}", "f"),
        lambda tag: entry(tag, field="f"),
        lambda data: data["value"],
        {"n": 1},
        a_hash,
        {"field": None},
    ),
    "redis.hgetall": Sample(
        lambda d, tag: d.redis.hgetall(f"k-{tag}"),
        lambda tag: entry(tag),
        lambda data: data["fields"],
        {"f": {"n": 1}},
        a_hash,
        {"logical_path": []},
    ),
    "redis.hdel": Sample(
        lambda d, tag: d.redis.hdel(f"k-{tag}", "f"),
        lambda tag: entry(tag, field="f"),
        lambda data: data["deleted"],
        True,
        a_hash,
        {"field": ["f"]},
    ),
    "redis.expire": Sample(
        lambda d, tag: d.redis.expire(f"k-{tag}", 60),
        lambda tag: entry(tag, ttl_seconds=60),
        lambda data: data["updated"],
        True,
        put(1),
        {"ttl_seconds": 59},
    ),
    "redis.ttl": Sample(
        lambda d, tag: d.redis.ttl(f"k-{tag}"),
        lambda tag: entry(tag),
        lambda data: 3590 < data["ttl_seconds"] <= 3600,
        before=put(1),
        wrong={"category": ""},
    ),
    "redis.exists": Sample(
        lambda d, tag: d.redis.exists(f"k-{tag}"),
        lambda tag: entry(tag),
        lambda data: data["exists"],
        True,
        put(None),
        {"category": {}},
    ),
    "redis.acquire_lock": Sample(
        lambda d, tag: d.redis.acquire_lock(f"k-{tag}", OWNER),
        lambda tag: entry(tag, owner=OWNER),
        lambda data: data["fence"],
        1,
        wrong={"owner": "short"},
    ),
    "redis.renew_lock": Sample(
        lambda d, tag: d.redis.renew_lock(f"k-{tag}", OWNER),
        lambda tag: entry(tag, owner=OWNER),
        lambda data: data["held"],
        True,
        locked,
        {"owner": 7},
    ),
    "redis.release_lock": Sample(
        lambda d, tag: d.redis.release_lock(f"k-{tag}", OWNER),
        lambda tag: entry(tag, owner=OWNER),
        lambda data: data["held"],
        True,
        locked,
        {"owner": None},
    ),
    "health.check": Sample(
        lambda d, _: d.health.check(),
        lambda _: {},
        lambda data: {**data, "version": "v"},
        {"status": "ok", "version": "v", "engines": ENGINES},
    ),
    "health.ping": Sample(lambda d, _: d.health.ping(), lambda _: {}, expected={"status": "ok"}),
    "health.warmup": Sample(
        lambda d, _: d.health.warmup(), lambda _: {}, expected={"status": "ok", "engines": ENGINES}
    ),
}

_MASKED = {"access_token", "latency_ms", "created_at", "updated_at"}
EVERY = sorted(operations())


def comparable(value: Any, tag: str, name: str = "") -> Any:
    """What is the same in each answer: typed values as the text they travel as, no tags, no times."""
    if name in _MASKED:
        return type(value).__name__
    if isinstance(value, dict):
        return {comparable(key, tag): comparable(item, tag, key) for key, item in value.items()}
    if isinstance(value, list):
        return [comparable(item, tag) for item in value]
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, (Decimal, uuid.UUID)):
        return str(value)
    return value.replace(tag, "TAG") if isinstance(value, str) else value


class OtherServer(httpx.AsyncBaseTransport):
    """Answers as a server of the published client does: it says nothing of plain JSON."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.kinds: set[str] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.kinds.add(request.headers["content-type"])
        answer = await self.inner.handle_async_request(request)
        answer.headers.pop("dominus-wire", None)
        return answer


class Borrowed(httpx.AsyncBaseTransport):
    """A transport that a client may close, and the app goes on."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self.inner.handle_async_request(request)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(server: Server) -> AsyncIterator[Dominus]:
    transport = Borrowed(EmbeddedTransport(server.app))
    async with Dominus(url="http://dominus.test", token=server.psk, transport=transport) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def base64_client(server: Server) -> AsyncIterator[Dominus]:
    transport = OtherServer(EmbeddedTransport(server.app))
    async with Dominus(url="http://dominus.test", token=server.psk, transport=Borrowed(transport)) as made:
        yield made
        assert transport.kinds == {BASE64}


def request_of(op: Operation[Any, Any], fields: Fields) -> tuple[str, Fields]:
    """Return the path, and the fields of the body."""
    values = {name: quote(str(fields[name]), safe="") for name in op.path_fields}
    path = op.path.format(**values)
    return path, {name: value for name, value in fields.items() if name not in op.path_fields}


def credential(server: Server, op: Operation[Any, Any]) -> str | None:
    return {Auth.TOKEN: server.token(), Auth.PSK: server.psk, Auth.NONE: None}[op.auth]


async def ask(server: Server, op: Operation[Any, Any], fields: Fields, kind: str = JSON, **more: Any) -> Any:
    path, body = request_of(op, fields)
    more.setdefault("token", credential(server, op))
    return await server(op.method, path, b"" if op.method == "GET" else body, kind=kind, **more)


async def test_every_operation_has_a_sample_a_method_a_handler_and_an_openapi_entry() -> None:
    known = operations()
    assert SAMPLES.keys() == known.keys()
    assert known.keys() <= HANDLERS.keys()
    client = Dominus(url="http://dominus.test", token="x" * 43)
    paths = openapi.document()["paths"]
    for name, op in known.items():
        method: Any = client
        for part in METHOD_OF.get(name, name).split("."):
            method = getattr(method, part)
        assert callable(method), name
        assert method.__doc__, name
        assert name in json.dumps(paths[op.path][op.method.lower()]), name


@pytest.mark.parametrize("name", EVERY)
async def test_an_operation_gives_the_same_over_sdk_and_http_in_both_dialects(
    name: str, server: Server, client: Dominus, base64_client: Dominus
) -> None:
    op, sample = operations()[name], SAMPLES[name]
    results: dict[str, Any] = {}
    for way in ("sdk", "sdk base64", JSON, BASE64):
        tag = uuid.uuid4().hex[:12]
        if sample.before is not None:
            await sample.before(client, tag)
        if way.startswith("sdk"):
            found = await sample.sdk(client if way == "sdk" else base64_client, tag)
            found = sample.read({"ttl_seconds": found}) if name == "redis.ttl" else found
            if name in {"redis.list", "health.check"}:
                found = sample.read(found)
        else:
            reply = await ask(server, op, sample.wire(tag), way)
            assert reply.status == 200, reply.document
            data = reply.document if op.is_plain else reply.data
            check_shape(op, data)
            found = sample.read(data)
        if name == "db.tables":
            found = [item for item in found if item["table_name"] == f"t_{tag}"]
        results[way] = comparable(found, tag)
    expected = results["sdk"] if sample.expected is ... else sample.expected
    assert results == dict.fromkeys(results, expected)
    assert expected


def check_shape(op: Operation[Any, Any], data: Any) -> None:
    """The answer is what the operation declares: nothing missing, nothing that is not declared."""
    assert op.required_keys <= data.keys()
    TypeAdapter(op.result).validate_python(data)
    declared = getattr(op.result, "__annotations__", None)
    if declared:
        assert data.keys() <= get_type_hints(op.result).keys(), op.name


@pytest.mark.parametrize("kind", [JSON, BASE64])
@pytest.mark.parametrize("name", EVERY)
async def test_an_operation_is_refused_without_token_scope_or_sense(name: str, kind: str, server: Server) -> None:
    op, sample = operations()[name], SAMPLES[name]
    fields = sample.wire("missing")

    if op.auth is not Auth.NONE:
        nobody = await ask(server, op, fields, kind, token=None)
        assert (nobody.status, nobody.code) == (401, "token_missing")
        # Neither takes the other's credential: a PSK is no token, a token no PSK.
        other = server.psk if op.auth is Auth.TOKEN else server.token()
        assert (await ask(server, op, fields, kind, token=other)).status == 401

    if op.scope is not None:
        verb = {"read": "write", "write": "read"}[op.scope.rpartition(":")[2]]
        weak = server.token(f"{op.scope.partition(':')[0]}:{verb}", "other:admin")
        denied = await ask(server, op, fields, kind, token=weak)
        assert (denied.status, denied.code) == (403, "authorization")
        assert denied.document["details"] == {"scope": op.scope}

    path, body = request_of(op, fields)
    wrong = sample.wrong
    if op.method == "GET":
        path, body, wrong = f"{path}?bogus_field=1", {}, {}
    token = credential(server, op)
    for asked in ({**body, "bogus_field": 1}, {**body, **wrong} if wrong else None):
        if asked is None:
            continue
        content: Any = b"" if op.method == "GET" else asked
        refused = await server(op.method, path, content, kind=kind, token=token)
        assert (refused.status, refused.headers["content-type"].split(";")[0]) == (400, kind), refused.body
        named = next(iter(wrong), "") if "bogus_field" not in asked and op.method != "GET" else "bogus_field"
        assert named in refused.document["error"]


async def test_an_enveloped_answer_is_base64_of_json_to_those_who_ask_in_base64(server: Server) -> None:
    reply = await server("GET", "/api/health/ping", kind=BASE64)
    assert json.loads(base64.b64decode(reply.body)) == {"success": True, "data": {"status": "ok"}}
    assert reply.headers["content-type"].startswith("text/plain")
