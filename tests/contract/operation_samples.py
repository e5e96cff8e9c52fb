"""What is told of each operation's call beside the contract's own example: what comes before it, and what it gives."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from ddl_samples import ddl_samples
from entity_samples import account_samples, entity_samples, link_samples
from portal_samples import portal_samples

from dominus import Dominus
from dominus._version import __version__
from dominus.contract.guardian.records import EXAMPLE_ID
from dominus.contract.operation import Operation
from dominus.errors import ValidationError
from dominus.names import example_params

Fields = dict[str, Any]
Call = Callable[[Dominus, Fields], Awaitable[Any]]
COLUMNS: list[Any] = [
    {"name": "id", "type": "bigint", "primary_key": True},
    {"name": "customer", "type": "text", "nullable": False},
    {"name": "total", "type": "numeric(12,4)"},
    {"name": "placed", "type": "timestamptz"},
    {"name": "tags", "type": "text[]"},
]
NAMED = {"table", "logical_path", "logical_prefix", "key", "prefix", "user_id", "username"}
"""The fields of an example that name something, so that calls beside each other need names of their own."""


@dataclass(frozen=True)
class Sample:
    """One real call. The fields are those of the contract's example, with a tag in every name."""

    expected: Any = ...
    """The result, with TAG for the tag; left out where every answer differs."""
    read: Callable[[Any], Any] = lambda data: data
    """What the SDK makes of the answer's data."""
    before: Call | None = None
    """What has to be there; it is given the fields by their wire names, and may return other values for them."""
    shape: Callable[[Any, str], Any] = lambda result, _tag: result
    """What of a result is compared, whichever way it came."""
    sdk: Call | None = None
    """The call through the SDK, where it is not the one by name with the example's parameters."""


def wire(op: Operation[Any, Any], tag: str) -> Fields:
    """The fields of a call by their wire names, those of the path included."""
    return cast("Fields", tagged(dict(op.request.example), tag))


def params(op: Operation[Any, Any], tag: str) -> Fields:
    """The parameters of a call by its name."""
    titles = {info.title or name for name, info in op.request.model_fields.items() if name in NAMED}
    return cast("Fields", tagged(example_params(op.name), tag, frozenset(titles)))


def tagged(value: Any, tag: str, more: frozenset[str] = frozenset(), at: str = "") -> Any:
    if isinstance(value, dict):
        return {key: tagged(item, tag, more, key) for key, item in value.items()}
    if isinstance(value, list):
        return [tagged(item, tag, more, at.removesuffix("s")) for item in value]
    is_name = isinstance(value, str) and (at in NAMED or at in more) and value != EXAMPLE_ID
    return f"{value}_{tag}" if is_name else value


def wrong_fields(op: Operation[Any, Any]) -> Fields:
    """A field of the example with a value that its type does not take; empty where there is none to be wrong."""
    chosen = op.select[0] if op.select else ""
    fields = dict(op.request.example)
    for name in sorted(fields.keys() - op.path_fields.keys(), key=lambda name: (name == chosen, name)):
        for value in ({"x": {}}, [[]], 7, "perhaps"):
            try:
                op.request(**{**fields, name: value})
            except ValidationError:
                return {name: value}
    return {}


async def a_table(client: Dominus, fields: Fields) -> None:
    table = fields.get("table") or f"orders_{fields['tag']}"
    await client.ddl.add_table(table, COLUMNS)
    await client.db.insert(table, {"id": 1, "customer": "anna", "total": "1.50"})
    await client.db.insert(table, {"id": 2, "customer": "bert", "total": None})


async def a_hash(client: Dominus, fields: Fields) -> None:
    await client.redis.hset(fields["logical_path"], "city", {"n": 1}, category=fields["category"])


def stored(value: Any) -> Call:
    async def put(client: Dominus, fields: Fields) -> None:
        entry = fields["keys"][0] if "keys" in fields else fields
        key = entry.get("logical_path") or f"user:_{fields['tag']}42"
        await client.redis.set(key, value, category=entry["category"])

    return put


async def with_secret(client: Dominus, fields: Fields) -> None:
    key = fields.get("key") or (fields["keys"][0] if "keys" in fields else f"{fields['prefix']}KEY")
    await client.secrets.upsert(key, {"pass": "wörd"}, "why")


async def locked(client: Dominus, fields: Fields) -> None:
    await client.redis.acquire_lock(fields["logical_path"], "worker-1-of-4", category=fields["category"])


async def a_refused_payment(client: Dominus, fields: Fields) -> None:
    await client.logs.batch([{"level": "error", "message": f"{fields['tag']} payment refused"}])


def with_session(method: str) -> Call:
    async def call(client: Dominus, fields: Fields) -> Any:
        token = await client.sessions.token("postgres")
        return await getattr(client.sessions, method)(token, **fields)

    return call


def row(number: int, customer: str, **more: Any) -> Fields:
    return {"id": number, "customer": customer, "total": None, "placed": None, "tags": None, **more}


def column(
    name: str, kind: str, *, key: bool = False, null: bool = True, default: str | None = None
) -> Fields:
    return {
        "column_name": name,
        "data_type": kind,
        "is_nullable": null,
        "is_primary_key": key,
        "default": default,
    }


def changed(done: str, **more: Any) -> Fields:
    return {"schema": "public", "table": "orders_TAG", done: True, "migration_version": "str", **more}


def of(name: str) -> Callable[[Any], Any]:
    return lambda data: data[name]


async def a_file(client: Dominus, fields: Fields) -> Fields:
    """A file at a path of its own; calls that name it by id get that."""
    tag = fields["tag"]
    await client.files.upload(b"hello", "hello.txt", category=f"notes_{tag}", path=f"letters/{tag}.txt")
    found = await client.files.get(category=f"notes_{tag}", path=f"letters/{tag}.txt")
    own = {"category": f"notes_{tag}"} if "category" in fields else {}
    own |= {"prefix": "letters/"} if "prefix" in fields else {}
    return {**own, **({"id": found["id"]} if "id" in fields else {})}


async def an_upload(client: Dominus, fields: Fields) -> Fields:
    upload = await client.files.start_upload(f"film_{fields['tag']}.mp4", category=f"media_{fields['tag']}")
    return {"upload_id": upload["upload_id"]}


async def a_part(client: Dominus, fields: Fields) -> Fields:
    found = await an_upload(client, fields)
    await client.files.put_part(found["upload_id"], 0, b"hello")
    return found


async def without_folder(client: Dominus, fields: Fields) -> None:
    await client.files.delete_folder("/letters/2026", "notes")


async def abandoned(client: Dominus, fields: Fields) -> Fields:
    # One principal has so many uploads at most.
    return {"filename": f"film_{fields['tag']}.mp4", "category": f"media_{fields['tag']}"}


def a_file_as(found: Any, tag: str) -> Any:
    """What of a file is the same in every answer."""
    return {name: found[name] for name in ("filename", "path", "category", "size", "sha256", "tags")}


def in_category(found: Any, tag: str) -> Any:
    return [{**item, "name": "notes"} for item in found["categories"] if tag in item["name"]]


HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
FILE = {
    "filename": "hello.txt",
    "path": "letters/TAG.txt",
    "category": "notes_TAG",
    "size": 5,
    "sha256": HELLO,
    "tags": {},
}
MINTED = {"access_token": "str", "token_type": "Bearer", "expires_in": 900}
ENGINES = {name: {"status": "ok", "latency_ms": "float"} for name in ("postgres", "redis")}
SECRET = {
    "key": "STRIPE_KEY_TAG",
    "version": 1,
    "comment": "why",
    "created_at": "str",
    "updated_by": "service:root",
}


async def with_mail(client: Dominus, fields: Fields) -> Fields:
    """A mail of this call alone, found by its tag."""
    sent = await client.courier.send_welcome(
        f"{fields['tag']}@example.com", "hello@example.org", "Ada", "Engine"
    )
    return {"to": sent["to"]} if "limit" in fields else {"message_id": sent["message_id"]}


async def with_template(client: Dominus, fields: Fields) -> Fields:
    alias = f"receipt-{fields['tag']}"
    await client.courier.put_template(alias, "Receipt {{number}}", text="{{total}}", comment="why")
    return {"alias": alias}


MAIL = {
    "to": "TAG@example.com",
    "from": "hello@example.org",
    "template_alias": "welcome",
    "template_version": 0,
    "model": {"name": "Ada", "product_name": "Engine"},
    "subject": "Welcome to Engine",
    "status": "kept",
    "tag": "welcome",
    "reply_to": None,
    "attempts": 0,
    "may_be_duplicate": False,
    "error": None,
    "refused": {},
    "next_attempt_at": None,
    "sending_since": None,
}
TEMPLATE = {
    "alias": "receipt-TAG",
    "version": 1,
    "subject": "Receipt {{number}}",
    "comment": "why",
    "created_at": "str",
    "created_by": "service:root",
}


async def outbox_items(client: Dominus, fields: Fields) -> Any:
    return (await client.courier.outbox(to=fields["to"], limit=fields["limit"]))["items"]


def timeless(mail: Any, _tag: str) -> Any:
    return {
        name: value
        for name, value in mail.items()
        if name not in {"message_id", "submitted_at", "finished_at", "html", "text"}
    }


SAMPLES: Mapping[str, Sample] = {
    "courier.send": Sample(
        {"to": "Ada Lovelace <ada@example.com>"}, shape=lambda sent, _: {"to": sent["to"]}
    ),
    "courier.outbox": Sample(
        [MAIL],
        of("items"),
        with_mail,
        lambda items, tag: [timeless(mail, tag) for mail in items if tag in mail["to"]],
        sdk=outbox_items,
    ),
    "courier.message": Sample(MAIL, before=with_mail, shape=timeless),
    "courier.retry": Sample(0, of("retried")),
    "courier.list_templates": Sample(
        ["email-verification", "invitation", "password-reset", "registration-notice", "welcome"],
        of("templates"),
        shape=lambda found, _: [item["alias"] for item in found if item["version"] == 0],
    ),
    "courier.get_template": Sample({**TEMPLATE, "html": None, "text": "{{total}}"}, before=with_template),
    "courier.put_template": Sample({"alias": "receipt-TAG", "version": 2}, before=with_template),
    "courier.template_versions": Sample([TEMPLATE], of("templates"), with_template),
    "courier.delete_template": Sample(expected=True, read=of("deleted"), before=with_template),
    "courier.preview": Sample({"subject": "Your receipt 7", "html": None, "text": "Ada, you paid 3.50."}),
    "auth.self": Sample(MINTED),
    "auth.mint": Sample(MINTED),
    "auth.jwks": Sample(read=of("public_key")),
    "auth.get_jwks": Sample(),
    **{name: Sample(**told) for name, told in (*entity_samples(), *link_samples(), *account_samples())},
    **{name: Sample(**told) for name, told in portal_samples().items()},
    "secrets.get": Sample({"pass": "wörd"}, lambda data: data["secret"]["value"], with_secret),
    "secrets.get_many": Sample(
        {"STRIPE_KEY_TAG": {"pass": "wörd"}},
        of("values"),
        with_secret,
        sdk=lambda d, fields: d.secrets.get_many(fields["keys"][:1]),
    ),
    "secrets.upsert": Sample({"key": "STRIPE_KEY_TAG", "version": 1, "operation": "create"}),
    "secrets.list": Sample(
        [{**SECRET, "key": "STRIPE__TAGKEY", "updated_at": "str"}], of("secrets"), with_secret
    ),
    "secrets.versions": Sample([SECRET], of("secrets"), with_secret),
    "secrets.delete": Sample(expected=True, read=of("deleted"), before=with_secret),
    "db.schemas": Sample(
        ["public"],
        of("schemas"),
        shape=lambda found, _tag: [name for name in found if not name.startswith("tenant_")],
    ),
    "db.tables": Sample(
        [{"table_name": "orders_TAG", "schema_name": "public", "type": "table", "estimated_rows": 0}],
        of("tables"),
        a_table,
        lambda found, tag: [item for item in found if tag in item["table_name"]],
    ),
    "db.columns": Sample(
        [
            column("id", "bigint", key=True, null=False),
            column("customer", "text", null=False),
            column("total", "numeric(12,4)"),
            column("placed", "timestamp with time zone"),
            column("tags", "text[]"),
        ],
        of("columns"),
        a_table,
    ),
    "db.query": Sample(
        {"rows": [row(2, "bert")], "total": 2},
        lambda data: {"rows": data["items"], "total": data["total"]},
        a_table,
    ),
    "open.execute": Sample(
        {"rows": [{"n": 1, "price": "1.5"}, {"n": 2, "price": "3.0"}], "row_count": 2, "command": "SELECT"},
        lambda data: {"rows": data["items"], **{key: data[key] for key in ("row_count", "command")}},
        shape=lambda result, _tag: {key: result[key] for key in ("rows", "row_count", "command")},
    ),
    "open.stream": Sample([{"n": 1, "price": "1.5"}, {"n": 2, "price": "3.0"}], of("items")),
    "open.dsn": Sample(
        "postgresql://dominus_s_", of("dsn"), shape=lambda dsn, _tag: dsn[: len("postgresql://dominus_s_")]
    ),
    "open.revoke": Sample(expected=False, read=of("revoked")),
    "db.page": Sample(
        {"items": [row(1, "anna", total="1.5000"), row(2, "bert")], "cursor": None}, before=a_table
    ),
    "db.insert": Sample(row(3, "carl", total="12.5000", tags=["new"]), before=a_table),
    "db.update": Sample({"affected_rows": 1}, before=a_table),
    "db.delete": Sample({"affected_rows": 1}, before=a_table),
    "db.bulk_insert": Sample({"inserted_count": 2}, before=a_table),
    "secure.audit": Sample(shape=lambda found, _tag: sorted(found)),
    "secure.verify": Sample(shape=lambda found, _tag: sorted(found)),
    "ddl.create_table": Sample(
        changed(
            "created",
            columns=[column("id", "bigint", key=True, null=False), column("customer", "text", null=False)],
        )
    ),
    "ddl.add_column": Sample(
        changed(
            "created",
            column="state",
            columns=[column("state", "character varying(9)", default="'new'::character varying")],
        ),
        before=a_table,
        sdk=lambda d, fields: d.ddl.add_column(
            "public", fields["table"], "state", "VARCHAR(9)", default="'new'"
        ),
    ),
    "ddl.drop_table": Sample(changed("dropped"), before=a_table),
    **{name: Sample(**told) for name, told in ddl_samples().items()},
    "redis.set": Sample(expected=True, read=of("stored")),
    "redis.get": Sample({"ü": [1.5, "x"]}, of("value"), stored({"ü": [1.5, "x"]})),
    "redis.delete": Sample(expected=True, read=of("deleted"), before=stored(1)),
    "redis.getdel": Sample({"n": 1}, of("value"), stored({"n": 1})),
    "redis.list": Sample({"keys": ["user:_TAG42"], "count": 1, "cursor": None}, before=stored(1)),
    "redis.mget": Sample(
        ["v", None], lambda data: [item.get("value") for item in data["results"]], stored("v")
    ),
    "redis.setnx": Sample(expected=False, read=of("acquired"), before=stored("theirs")),
    "redis.incr": Sample(6, of("value"), stored(1)),
    "redis.hset": Sample(expected=False, read=of("set"), before=a_hash),
    "redis.hget": Sample({"n": 1}, of("value"), a_hash),
    "redis.hgetall": Sample({"city": {"n": 1}}, of("fields"), a_hash),
    "redis.hdel": Sample(expected=True, read=of("deleted"), before=a_hash),
    "redis.expire": Sample(expected=True, read=of("updated"), before=stored(1)),
    "redis.ttl": Sample(
        expected=True,
        read=of("ttl_seconds"),
        before=stored(1),
        shape=lambda seconds, _: 3590 < seconds <= 3600,
    ),
    "redis.exists": Sample(expected=True, read=of("exists"), before=stored(None)),
    "redis.acquire_lock": Sample(expected=True, read=of("fence"), shape=lambda fence, _: fence > 0),
    "redis.renew_lock": Sample(expected=True, read=of("held"), before=locked),
    "redis.lock_epoch": Sample(
        expected=32, read=lambda data: data["epoch"], shape=lambda epoch, _: len(epoch)
    ),
    "redis.release_lock": Sample(expected=True, read=of("held"), before=locked),
    "files.upload": Sample(
        {**FILE, "path": "letters/hello.txt_TAG", "category": "notes", "tags": {"lang": "en"}},
        shape=a_file_as,
        sdk=lambda d, fields: d.files.upload(
            b"hello", "hello.txt", category="notes", path=fields["logical_path"], tags={"lang": "en"}
        ),
    ),
    "files.download": Sample(
        expected=True,
        before=a_file,
        shape=lambda found, _: found["download_url"].endswith("/hello.txt"),
        sdk=lambda d, fields: d.files.download(fields["id"], expires_seconds=600),
    ),
    "files.fetch": Sample(
        {
            "data": "aGVsbG8=",
            "filename": "hello.txt",
            "content_type": "text/plain",
            "size": 5,
            "sha256": HELLO,
        },
        before=a_file,
        sdk=lambda d, fields: d.files.fetch(fields["id"]),
    ),
    "files.list": Sample(
        [FILE], before=a_file, shape=lambda found, tag: [a_file_as(one, tag) for one in found["objects"]]
    ),
    "files.delete": Sample(
        expected=True, read=of("deleted"), before=a_file, sdk=lambda d, fields: d.files.delete(fields["id"])
    ),
    "files.move": Sample(
        {**FILE, "path": "archive/hello.txt"},
        before=a_file,
        shape=a_file_as,
        sdk=lambda d, fields: d.files.move(fields["id"], new_path="archive/hello.txt"),
    ),
    "files.update_meta": Sample(
        {**FILE, "tags": {"lang": "it"}},
        before=a_file,
        shape=a_file_as,
        sdk=lambda d, fields: d.files.update_meta(fields["id"], {"lang": "it"}, "A letter."),
    ),
    "files.browse": Sample(
        {"path": "/letters", "folders": [], "files": [FILE]},
        before=a_file,
        shape=lambda found, tag: {
            "path": found["path"],
            "folders": found["folders"],
            "files": [a_file_as(one, tag) for one in found["files"]],
        },
    ),
    "files.get_storage_stats": Sample(
        {"object_count": 1, "total_size_bytes": 5},
        before=a_file,
        shape=lambda found, tag: found["by_category"][f"notes_{tag}"],
    ),
    "files.list_categories": Sample(
        [{"name": "notes", "object_count": 1, "total_size_bytes": 5}], before=a_file, shape=in_category
    ),
    "files.list_views": Sample(
        ["all", "documents", "images", "media", "tagged"],
        shape=lambda found, _: [view["name"] for view in found["views"]],
    ),
    "files.list_categories_in_view": Sample(
        [{"name": "notes", "object_count": 1, "total_size_bytes": 5}], before=a_file, shape=in_category
    ),
    "files.create_folder": Sample({"path": "/letters/2026"}, shape=lambda found, _: {"path": found["path"]}),
    "files.delete_folder": Sample(
        {"deleted": False, "path": "/letters/2026", "deleted_count": 0},
        before=without_folder,
    ),
    "files.factory_reset": Sample(
        expected=True, read=of("reset"), shape=lambda found, _: found is True or found["reset"]
    ),
    "files.get": Sample(
        FILE, before=a_file, shape=a_file_as, sdk=lambda d, fields: d.files.get(fields["id"])
    ),
    "files.read": Sample(
        "ell",
        lambda data: base64.b64decode(data["data"]),
        a_file,
        lambda found, _: found.decode(),
        sdk=lambda d, fields: d.files.read(fields["id"], 1, 3),
    ),
    "files.start_upload": Sample(
        8 * 1024 * 1024, before=abandoned, shape=lambda found, _: found["part_bytes"]
    ),
    "files.put_part": Sample(
        {"number": 0, "size": 5, "sha256": HELLO},
        before=an_upload,
        sdk=lambda d, fields: d.files.put_part(fields["upload_id"], 0, b"hello", HELLO),
    ),
    "files.list_parts": Sample(
        [{"number": 0, "size": 5, "sha256": HELLO}], before=a_part, shape=lambda found, _: found["parts"]
    ),
    "files.finish_upload": Sample(
        {**FILE, "filename": "film_TAG.mp4", "path": "film_TAG.mp4", "category": "media_TAG"},
        before=a_part,
        shape=a_file_as,
    ),
    "files.abort_upload": Sample(expected=True, read=of("aborted"), before=an_upload),
    "sessions.token": Sample(
        expected=True, read=of("access_token"), shape=lambda token, _: token.count(".") == 2
    ),
    "gateway.resolve": Sample(
        {
            "dns": "127.0.0.1",
            "gateway_host": "127.0.0.1",
            "port": True,
            "tls": False,
            "target": "postgres",
            "endpoints": 1,
        },
        shape=lambda found, _: found | {"port": 0 < found["port"] < 65_536},
        sdk=with_session("resolve"),
    ),
    "gateway.credentials": Sample(
        {"password": 43, "host": "127.0.0.1", "database": "dominus", "expires_in": 900},
        shape=lambda found, _: {
            name: len(value) if name == "password" else value
            for name, value in found.items()
            if name not in {"username", "port"}
        },
        sdk=with_session("credentials"),
    ),
    "gateway.release": Sample({"released": False}, sdk=with_session("release")),
    **{
        f"logs.{level}": Sample(expected=True, read=of("stored"))
        for level in ("debug", "info", "notice", "warn", "error", "critical")
    },
    "logs.batch": Sample({"total": 2, "stored": 2, "failed": 0}),
    "logs.query": Sample(
        expected=True,
        read=of("logs"),
        before=a_refused_payment,
        shape=lambda found, _: (
            found[0]["message"].endswith("payment refused") and found[0]["level"] == "error"
        ),
    ),
    "logs.arrivals": Sample(
        {"logs": 0, "cursor": True},
        shape=lambda found, _: {"logs": len(found["logs"]), "cursor": found["cursor"].count(":") == 2},
    ),
    "health.check": Sample({"status": "ok", "version": __version__, "engines": ENGINES}),
    "admin.reseed_admin_category": Sample(shape=lambda result, _tag: sorted(result["seeded_entities"])),
    "admin.reset_admin_category": Sample(
        "done", shape=lambda result, _tag: "done" if result["success"] else ""
    ),
    "health.ping": Sample({"status": "ok"}),
    "health.warmup": Sample({"status": "ok", "engines": ENGINES}),
}
