"""A bad argument is a typed error that names the place, and nothing is sent."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx
import pydantic
import pytest
from conftest import TOKEN, URL, MakeRig

from dominus import Dominus
from dominus.errors import AuthenticationError, DominusError, ValidationError
from dominus.testing import ok

Call = Callable[[Dominus], Awaitable[Any]]
CIRCULAR: dict[str, Any] = {}
CIRCULAR["self"] = CIRCULAR
CIRCULAR_LIST: list[Any] = []
CIRCULAR_LIST.append(CIRCULAR_LIST)
NAIVE = dt.datetime(2026, 1, 1)  # noqa: DTZ001 - what is tested
LONE = "\ud800"
LONG = "k" * 10_000


@dataclasses.dataclass
class Node:
    next: Any = None


class Model(pydantic.BaseModel):
    next: Any = None
    price: float = 0.0


KNOT = Node()
KNOT.next = KNOT
MODEL_KNOT = Model()
MODEL_KNOT.next = MODEL_KNOT

BAD: dict[str, tuple[Call, str]] = {
    "key: 10,000 characters": (lambda d: d.redis.get(LONG), "key: "),
    "key: empty": (lambda d: d.redis.get(""), "key: "),
    "key: NUL": (lambda d: d.redis.get("a\0b"), "key: .*control"),
    "key: newline": (lambda d: d.secrets.get("a\nb"), "key: .*control"),
    "sql: lone surrogate": (lambda d: d.ddl.execute_raw("public", LONE), "sql: .*surrogate"),
    "key: lone surrogate": (lambda d: d.redis.get(LONE), "key: "),
    "key: number": (lambda d: d.redis.get(5), "key: "),  # type: ignore[arg-type]
    "key: None": (lambda d: d.redis.get(None), "key: "),  # type: ignore[arg-type]
    "category: empty": (lambda d: d.redis.get("k", ""), "category: "),
    "secret key: 10,000": (lambda d: d.get(LONG), "key: "),
    "ttl: too short": (lambda d: d.redis.set("k", 1, ttl=59), "ttl: "),
    "ttl: too long": (lambda d: d.redis.set("k", 1, ttl=86_401), "ttl: "),
    "ttl: text": (lambda d: d.redis.set("k", 1, ttl="soon"), "ttl: "),  # type: ignore[arg-type]
    "value: NaN": (lambda d: d.redis.set("k", float("nan")), "value: nan"),
    "value: infinity inside": (lambda d: d.redis.set("k", {"a": [1, float("inf")]}), r"value\.a\[1\]: inf"),
    "value: NaN in a model": (lambda d: d.redis.set("k", Model(price=float("nan"))), "nan"),
    "value: Decimal NaN": (lambda d: d.redis.set("k", Decimal("NaN")), "value: "),
    "value: naive datetime": (
        lambda d: d.redis.set("k", {"at": NAIVE}),
        r"value\.at: .*time zone",
    ),
    "value: circular dict": (lambda d: d.redis.set("k", CIRCULAR), "value.*contains itself"),
    "value: circular list": (lambda d: d.redis.set("k", CIRCULAR_LIST), "value.*contains itself"),
    "value: circular dataclass": (lambda d: d.redis.set("k", KNOT), "value.*contains itself"),
    "value: circular model": (lambda d: d.redis.set("k", MODEL_KNOT), "value.*contains itself"),
    "value: bytes": (lambda d: d.redis.set("k", b"raw"), "value: bytes"),
    "value: bytes inside": (lambda d: d.redis.setnx("k", {"a": {"b": b"raw"}}), r"value\.a\.b: bytes"),
    "value: number as a key": (lambda d: d.redis.set("k", {"a": {5: 1}}), r"value\.a: .*5"),
    "value: lone surrogate": (lambda d: d.redis.set("k", {"a": LONE}), r"redis\.set: .*surrogate"),
    "value: lone surrogate as a key": (lambda d: d.redis.set("k", {LONE: 1}), "redis.set"),
    "value: object": (lambda d: d.redis.set("k", object()), "value: object has no JSON form"),
    "value: function inside": (lambda d: d.redis.set("k", [print]), r"value\[0\]: "),
    "value: in a secret": (lambda d: d.upsert("K", {"a": {1, float("nan")}}), "value"),
    "delta: too large": (lambda d: d.redis.incr("k", 2**63), "delta: "),
    "delta: fraction": (lambda d: d.redis.incr("k", 0.5), "delta: "),  # type: ignore[arg-type]
    "mget: text": (lambda d: d.redis.mget("abc"), "keys: a list, not str"),
    "mget: 101 keys": (lambda d: d.redis.mget([str(n) for n in range(101)]), "keys: "),
    "mget: a bad key inside": (lambda d: d.redis.mget(["a", ""]), "key"),
    "mget: number": (lambda d: d.redis.mget(5), "keys"),  # type: ignore[arg-type]
    "get_many: text": (lambda d: d.secrets.get_many("abc"), "keys: a list, not str"),
    "get_many: none": (lambda d: d.secrets.get_many([]), "keys: "),
    "get_many: number": (lambda d: d.secrets.get_many(5), "keys"),  # type: ignore[arg-type]
    "table: NUL": (lambda d: d.db.query("a\0b"), "table: "),
    "table: empty": (lambda d: d.db.query(""), "table: "),
    "table: ..": (lambda d: d.db.insert("..", {"a": 1}), "table: "),
    "table: lone surrogate": (lambda d: d.db.query(LONE), "table: "),
    "schema: 10,000": (lambda d: d.db.query("t", schema=LONG), "schema: "),
    "filters: list": (lambda d: d.db.query("t", filters=[1]), "filters"),  # type: ignore[arg-type]
    "filters: NaN": (lambda d: d.db.query("t", filters={"a": {"gt": float("nan")}}), r"filters\.a\.gt"),
    "limit: 0": (lambda d: d.db.query("t", limit=0), "limit: "),
    "limit: too large": (lambda d: d.db.query("t", limit=10_001), "limit: "),
    "offset: negative": (lambda d: d.db.query("t", offset=-1), "offset: "),
    "sort_by: number": (lambda d: d.db.query("t", sort_by=5), "sort_by"),  # type: ignore[arg-type]
    "sort_order: number": (lambda d: d.db.query("t", sort_order=5), "sort_order"),  # type: ignore[arg-type]
    "columns: number": (lambda d: d.db.query("t", columns=5), "columns"),  # type: ignore[arg-type]
    "data: list": (lambda d: d.db.insert("t", [1]), "data: "),  # type: ignore[arg-type]
    "data: number as a column": (lambda d: d.db.insert("t", {5: 1}), "data"),  # type: ignore[dict-item]
    "data: NaN": (lambda d: d.db.insert("t", {"a": float("nan")}), r"data\.a"),
    "data: circular": (lambda d: d.db.insert("t", {"a": CIRCULAR}), r"data\.a"),
    "update: no filters": (lambda d: d.db.update("t", {"a": 1}), "filters.*all rows"),
    "delete: empty filters": (lambda d: d.db.delete("t", filters={}), "filters.*all rows"),
    "on_conflict: unknown": (lambda d: d.db.insert("t", {"a": 1}, on_conflict="merge"), "on_conflict: "),  # type: ignore[arg-type]
    "rows: dict": (lambda d: d.db.bulk_insert("t", {"a": 1}), "rows: "),  # type: ignore[arg-type]
    "rows: number": (lambda d: d.db.bulk_insert("t", 5), "rows: "),  # type: ignore[arg-type]
    "ddl columns: text": (lambda d: d.ddl.add_table("t", "id"), "columns: a list, not str"),  # type: ignore[arg-type]
    "ddl columns: number": (lambda d: d.ddl.add_table("t", 5), "columns"),  # type: ignore[arg-type]
    "user token scope: number": (lambda d: d.auth.mint_jwt("u", scope=5), "scope"),  # type: ignore[arg-type]
    "expires_in: too long": (lambda d: d.auth.mint_jwt("u", expires_in=86_401), "expires_in: "),
    "query: filters in the schema's place": (lambda d: d.db.query("t", {"a": 1}), r"schema: .*filters="),  # type: ignore[call-overload]
    "query: model is a dataclass": (lambda d: d.db.query("t", model=Node), "model: .*Node"),  # type: ignore[type-var]
    "query: model is an instance": (lambda d: d.db.query("t", model=Model()), "model: .*Model object"),  # type: ignore[call-overload]
    "ddl column: no type": (lambda d: d.ddl.add_table("t", [{"name": "a"}]), r"columns\.0\.type: "),  # type: ignore[typeddict-item]
    "ddl column: text": (
        lambda d: d.ddl.add_table("t", [{"name": "a", "type": "INT"}, "b INT"]),
        r"columns\.1: .*dict",
    ),  # type: ignore[list-item]
    "add_column: five names": (lambda d: d.ddl.add_column("s", "t", "c", "INT", "5"), "4 names"),
    "add_column: twice": (lambda d: d.ddl.add_column("t", "c", "INT", table="u"), "table is given twice"),
    "stale_if_error: text": (lambda d: d.secrets.get("K", stale_if_error="5"), "stale_if_error: '5'"),  # type: ignore[call-overload]
    "stale_if_error: NaN": (lambda d: d.secrets.get("K", stale_if_error=float("nan")), "stale_if_error: nan"),
    "wait: negative": (lambda d: d.redis.lock("l", wait=-1).__aenter__(), "wait: -1"),
    "wait: text": (lambda d: d.redis.lock("l", wait="5").__aenter__(), "wait: '5'"),  # type: ignore[arg-type]
    "name: unknown": (lambda d: d("redis.gett", key="k"), "redis.gett.*redis.get"),
    "name: number": (lambda d: d(5), "5"),  # type: ignore[arg-type]
    "name: bad parameter": (lambda d: d("redis.get", key="k", kee="k"), "redis.get: .*kee"),
    "name: missing parameter": (lambda d: d("redis.get"), "redis.get: .*key"),
}


@pytest.mark.parametrize("case", BAD, ids=str)
async def test_it_is_refused_before_anything_is_sent(make_rig: MakeRig, case: str):
    call, words = BAD[case]
    rig = make_rig(default=ok({}))
    await rig.warm_up()
    with pytest.raises(ValidationError, match=f"(?s){words}") as caught:
        await call(rig.client)
    assert rig.server.requests == []
    assert len(str(caught.value)) < 2000


async def test_the_fields_are_in_the_details(make_rig: MakeRig):
    with pytest.raises(ValidationError) as caught:
        await make_rig().client.redis.set("", 1, ttl=5)
    assert [item["field"] for item in caught.value.details] == ["key", "ttl"]


async def test_a_wrong_secret_value_is_never_repeated_in_the_error(make_rig: MakeRig):
    with pytest.raises(ValidationError) as caught:
        await make_rig().client.secrets.upsert("K", "s3cret-value", comment="c" * 1001)
    assert "s3cret" not in str(caught.value) + repr(caught.value.details)


# --- settings


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"url": URL}, AuthenticationError, "DOMINUS_TOKEN is not set.*dominus dev"),
        ({"url": URL, "token": ""}, AuthenticationError, "DOMINUS_TOKEN is not set"),
        ({"url": URL, "token": "short"}, AuthenticationError, "malformed.*5 characters"),
        ({"url": URL, "token": "t" * 42 + "\n"}, AuthenticationError, "malformed.*ends with"),
        ({"url": URL, "token": "Bearer " + "t" * 42}, AuthenticationError, "malformed.*blanks"),
        ({"url": URL, "token": "t" * 42 + "é"}, AuthenticationError, "malformed"),
        ({"url": URL, "token": "two words " * 9}, AuthenticationError, "malformed"),
        ({"token": TOKEN}, ValidationError, "DOMINUS_URL is not set.*dominus dev"),
        ({"url": "", "token": TOKEN}, ValidationError, "DOMINUS_URL is not set"),
        ({"url": "dominus.example", "token": TOKEN}, ValidationError, "must begin with http"),
        ({"url": "localhost:8000", "token": TOKEN}, ValidationError, "must begin with http"),
        ({"url": "ftp://dominus.example", "token": TOKEN}, ValidationError, "must begin with http"),
        ({"url": "https://", "token": TOKEN}, ValidationError, "DOMINUS_URL"),
        ({"url": "https://host:99999", "token": TOKEN}, ValidationError, "DOMINUS_URL"),
        ({"url": "https://host:port", "token": TOKEN}, ValidationError, "DOMINUS_URL"),
        ({"url": "https://[::1", "token": TOKEN}, ValidationError, "DOMINUS_URL"),
        ({"url": "https://ho st", "token": TOKEN}, ValidationError, "DOMINUS_URL"),
        ({"url": "https://host\n", "token": TOKEN}, ValidationError, "DOMINUS_URL"),
        ({"url": "https://host\0", "token": TOKEN}, ValidationError, "DOMINUS_URL"),
        ({"url": "https://user:pw@host", "token": TOKEN}, ValidationError, "DOMINUS_URL"),
        ({"url": "https://host?x=1", "token": TOKEN}, ValidationError, "DOMINUS_URL"),
        ({"url": "https://host/#x", "token": TOKEN}, ValidationError, "DOMINUS_URL"),
        ({"url": "https://a..b", "token": TOKEN}, ValidationError, "DOMINUS_URL"),
        ({"url": URL, "token": TOKEN, "timeout": -1}, ValidationError, "DOMINUS_TIMEOUT"),
        ({"url": URL, "token": TOKEN, "timeout": float("nan")}, ValidationError, "DOMINUS_TIMEOUT"),
        ({"url": URL, "token": TOKEN, "project": "a\r\nX-Evil: 1"}, ValidationError, "PROJECT"),
        ({"url": URL, "token": TOKEN, "environment": "prödüction"}, ValidationError, "ENVIRONMENT"),
    ],
)
async def test_a_client_that_is_set_up_wrong_says_what_to_set(
    given: dict[str, Any], kind: type[DominusError], words: str
):
    requests: list[httpx.Request] = []

    def note(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(500)

    async def begin() -> None:
        await Dominus(**given, transport=httpx.MockTransport(note)).redis.get("k")

    with pytest.raises(kind, match=f"(?s){words}") as caught:
        await begin()
    assert requests == []
    assert given.get("token") in {None, ""} or given["token"] not in str(caught.value)


@pytest.mark.parametrize("url", ["https://ho st", "https://a..b", "https://host\n"])
async def test_a_wrong_url_is_typed_with_the_real_wire_too(url: str):
    client = Dominus(url, TOKEN, cold_start_timeout=0)
    with pytest.raises(DominusError, match="DOMINUS_URL"):
        await client.redis.get("k", timeout=5)
    await client.aclose()


async def test_a_wrong_variable_is_named_and_its_value_is_not_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOMINUS_TIMEOUT", "s3cret")
    with pytest.raises(ValidationError, match="DOMINUS_TIMEOUT") as caught:
        await Dominus(URL, TOKEN).redis.get("k")
    assert "s3cret" not in str(caught.value)


async def test_plain_http_to_another_machine_is_warned_of(
    caplog: pytest.LogCaptureFixture, make_rig: MakeRig
):
    rig = make_rig(ok({"found": False}), client={"url": "http://dominus.test"})
    await rig.client.redis.get("k")
    assert "plain http" in caplog.text
    caplog.clear()
    rig = make_rig(ok({"found": False}), client={"url": "http://127.0.0.1:1"})
    await rig.client.redis.get("k")
    assert "plain http" not in caplog.text


async def test_an_unknown_field_gets_the_nearest_and_the_list(make_rig: MakeRig):
    client = make_rig().client
    with pytest.raises(ValidationError, match=r"columns\.0\.primary: is not known") as caught:
        await client.ddl.add_table("t", [{"name": "id", "type": "INT", "primary": True}])
    fields = "name, type, nullable, primary_key, unique, default, constraints"
    assert caught.value.hint == f"did you mean 'primary_key'? fields are {fields}"
    with pytest.raises(ValidationError) as caught:
        await client.ddl.add_table("t", [{"name": "id", "type": "INT", "zzz": True}])
    assert caught.value.hint == f"fields are {fields}"
