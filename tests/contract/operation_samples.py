"""A real call of each operation: what the SDK sends, the same by hand, and what both must give."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dominus import Dominus
from dominus._version import __version__

Fields = dict[str, Any]
OWNER = "owner-of-the-lock"
COLUMNS: list[Any] = [
    {"name": "id", "type": "bigint", "primary_key": True},
    {"name": "name", "type": "text", "nullable": False},
    {"name": "price", "type": "numeric(12,4)"},
    {"name": "born", "type": "timestamptz"},
    {"name": "tags", "type": "text[]"},
]
ROW: Fields = {
    "id": 3,
    "name": "carl",
    "price": "12.5000",
    "born": "2026-01-02T03:04:05+00:00",
    "tags": ["a"],
}


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
    shape: Callable[[Any, str], Any] = lambda result, _tag: result
    """What of a result is compared, whichever way it came."""


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


async def resolved(d: Dominus, _: str) -> Any:
    return await d.sessions.resolve(await d.sessions.token("postgres"))


async def a_login(d: Dominus, _: str) -> Any:
    return await d.sessions.credentials(await d.sessions.token("postgres"), db_type="postgres")


async def no_release(d: Dominus, tag: str) -> Any:
    return await d.sessions.release(await d.sessions.token("postgres"), tag)


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
        expected=True,
        before=with_secret,
        wrong={"key": {}},
    ),
    "db.schemas": Sample(
        lambda d, _: d.db.schemas(), lambda _: {}, lambda data: data["schemas"], expected=["public"]
    ),
    "db.tables": Sample(
        lambda d, _: d.db.tables("public"),
        lambda _: {"schema": "public"},
        lambda data: data["tables"],
        [{"table_name": "t_TAG", "schema_name": "public", "type": "table", "estimated_rows": 0}],
        a_table,
        shape=lambda found, tag: [item for item in found if tag in item["table_name"]],
    ),
    "db.columns": Sample(
        lambda d, tag: d.db.columns(f"t_{tag}"),
        in_table,
        lambda data: data["columns"],
        [
            {
                "column_name": name,
                "data_type": kind,
                "is_nullable": free,
                "is_primary_key": key,
                "default": None,
            }
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
        lambda d, tag: d.db.query(
            f"t_{tag}", filters={"id": [1, 2]}, sort_by="id", sort_order="desc", limit=1
        ),
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
            "migration_version": "str",
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
            "migration_version": "str",
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
        in_table,
        expected={"schema": "public", "table": "t_TAG", "dropped": True, "migration_version": "str"},
        before=a_table,
        wrong={"table": ["t"]},
    ),
    "redis.set": Sample(
        lambda d, tag: d.redis.set(f"k-{tag}", {"a": [1, None]}, ttl=60),
        lambda tag: entry(tag, value={"a": [1, None]}, ttl_seconds=60),
        lambda data: data["stored"],
        expected=True,
        wrong={"ttl_seconds": "soon"},
    ),
    "redis.get": Sample(
        lambda d, tag: d.redis.get(f"k-{tag}"),
        entry,
        lambda data: data["value"],
        {"ü": [1.5, "x"]},
        put({"ü": [1.5, "x"]}),
        {"nudge": "perhaps"},
    ),
    "redis.delete": Sample(
        lambda d, tag: d.redis.delete(f"k-{tag}"),
        entry,
        lambda data: data["deleted"],
        expected=True,
        before=put(1),
        wrong={"category": 1},
    ),
    "redis.list": Sample(
        lambda d, tag: d.redis.list(prefix=f"k-{tag}"),
        lambda tag: {"logical_prefix": f"k-{tag}", "limit": 100},
        expected={"keys": ["k-TAG"], "count": 1, "cursor": None},
        before=put(1),
        wrong={"limit": 501},
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
        expected=False,
        before=put("theirs"),
        wrong={"logical_path": 7},
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
        expected=True,
        before=a_hash,
        wrong={"field": 7},
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
        entry,
        lambda data: data["fields"],
        {"f": {"n": 1}},
        a_hash,
        {"logical_path": []},
    ),
    "redis.hdel": Sample(
        lambda d, tag: d.redis.hdel(f"k-{tag}", "f"),
        lambda tag: entry(tag, field="f"),
        lambda data: data["deleted"],
        expected=True,
        before=a_hash,
        wrong={"field": ["f"]},
    ),
    "redis.expire": Sample(
        lambda d, tag: d.redis.expire(f"k-{tag}", 60),
        lambda tag: entry(tag, ttl_seconds=60),
        lambda data: data["updated"],
        expected=True,
        before=put(1),
        wrong={"ttl_seconds": 59},
    ),
    "redis.ttl": Sample(
        lambda d, tag: d.redis.ttl(f"k-{tag}"),
        entry,
        lambda data: data["ttl_seconds"],
        expected=True,
        before=put(1),
        wrong={"category": ""},
        shape=lambda seconds, _: 3590 < seconds <= 3600,
    ),
    "redis.exists": Sample(
        lambda d, tag: d.redis.exists(f"k-{tag}"),
        entry,
        lambda data: data["exists"],
        expected=True,
        before=put(None),
        wrong={"category": {}},
    ),
    "redis.acquire_lock": Sample(
        lambda d, tag: d.redis.acquire_lock(f"k-{tag}", OWNER),
        lambda tag: entry(tag, owner=OWNER),
        lambda data: data["fence"],
        expected=True,
        wrong={"owner": "short"},
        shape=lambda fence, _: fence > 0,
    ),
    "redis.renew_lock": Sample(
        lambda d, tag: d.redis.renew_lock(f"k-{tag}", OWNER),
        lambda tag: entry(tag, owner=OWNER),
        lambda data: data["held"],
        expected=True,
        before=locked,
        wrong={"owner": 7},
    ),
    "redis.release_lock": Sample(
        lambda d, tag: d.redis.release_lock(f"k-{tag}", OWNER),
        lambda tag: entry(tag, owner=OWNER),
        lambda data: data["held"],
        expected=True,
        before=locked,
        wrong={"owner": None},
    ),
    "sessions.token": Sample(
        lambda d, _: d.sessions.token("postgres"),
        lambda _: {"target": "postgres"},
        lambda data: data["access_token"],
        expected=True,
        wrong={"expires_in": "soon"},
        shape=lambda token, _: token.count(".") == 2,
    ),
    "gateway.resolve": Sample(
        resolved,
        lambda _: {},
        expected={
            "dns": "127.0.0.1",
            "gateway_host": "127.0.0.1",
            "port": True,
            "tls": False,
            "target": "postgres",
            "endpoints": 1,
        },
        shape=lambda found, _: found | {"port": 0 < found["port"] < 65_536},
    ),
    "gateway.credentials": Sample(
        a_login,
        lambda _: {"db_type": "postgres"},
        expected={"password": 43, "host": "127.0.0.1", "database": "dominus", "expires_in": 900},
        wrong={"database": 7},
        shape=lambda found, _: {
            name: len(value) if name == "password" else value
            for name, value in found.items()
            if name not in {"username", "port"}
        },
    ),
    "gateway.release": Sample(
        no_release, lambda tag: {"username": tag}, expected={"released": False}, wrong={"username": 7}
    ),
    "health.check": Sample(
        lambda d, _: d.health.check(),
        lambda _: {},
        expected={"status": "ok", "version": __version__, "engines": ENGINES},
    ),
    "health.ping": Sample(lambda d, _: d.health.ping(), lambda _: {}, expected={"status": "ok"}),
    "health.warmup": Sample(
        lambda d, _: d.health.warmup(), lambda _: {}, expected={"status": "ok", "engines": ENGINES}
    ),
}
