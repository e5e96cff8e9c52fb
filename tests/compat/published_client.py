"""Run by the Python of the published client's own environment: makes the calls, prints what came as one JSON document.

It imports that client's `dominus`, so nothing of this project can be imported here.
"""

import asyncio
import inspect
import json
import sys
from importlib.metadata import version

from dominus.helpers import core

from dominus import dominus


async def outcome(call):
    """What a call gives: its result, or the error that got out of it."""
    try:
        return {"result": await call}
    except Exception as error:
        found = {"error": type(error).__name__, "message": str(error)}
        response = getattr(error, "response", None)
        if response is not None:
            found["status"] = response.status_code
            found["content_type"] = response.headers.get("content-type", "")
            found["body"] = response.text
        return found


async def secrets(said):
    s = dominus.secrets
    said["create"] = await outcome(s.upsert("COMPAT_A", "first", comment="why"))
    said["update"] = await outcome(s.upsert("COMPAT_A", "zweiter Wört"))
    said["get"] = await outcome(s.get("COMPAT_A"))
    await s.upsert("COMPAT_JSON", {"nested": [1, None, 2.5]})
    said["get_json"] = await outcome(s.get("COMPAT_JSON"))
    said["list"] = await outcome(s.list())
    said["list_prefix"] = await outcome(s.list(prefix="COMPAT_J"))
    said["delete"] = await outcome(s.delete("COMPAT_A"))
    said["get_deleted"] = await outcome(s.get("COMPAT_A"))


COLUMNS = [
    {"name": "id", "type": "UUID", "constraints": ["PRIMARY KEY"], "default": "gen_random_uuid()"},
    {"name": "email", "type": "VARCHAR(255)", "nullable": False},
    {"name": "price", "type": "NUMERIC(20,4)"},
    {"name": "big", "type": "BIGINT"},
    {"name": "doc", "type": "JSONB"},
    {"name": "raw", "type": "BYTEA"},
    {"name": "day", "type": "DATE"},
    {"name": "tags", "type": "TEXT[]"},
    {"name": "created_at", "type": "TIMESTAMPTZ", "default": "NOW()"},
]
ROW = {
    "id": "6f1ed002-ab5a-4d4f-9d1c-0d2a3b4c5d6e",
    "email": "anna@example.org",
    "price": "12345678901234.5678",
    "big": 9007199254740993,
    "doc": {"a": [1, {"b": None}]},
    "raw": "\\x00ff",
    "day": "2026-02-03",
    "tags": ["x", "y"],
    "created_at": "2026-02-03T04:05:06.789012+00:00",
}


async def tables(said):
    ddl, db = dominus.ddl, dominus.db
    said["create_table"] = await outcome(ddl.create_table("public", "compat", COLUMNS))
    said["create_again"] = await outcome(ddl.create_table("public", "compat", COLUMNS))
    said["primary_key_form"] = await outcome(
        ddl.create_table(
            "public", "compat_pk", [{"name": "id", "type": "INT", "primary_key": True, "nullable": False}]
        )
    )
    said["add_column"] = await outcome(
        ddl.add_column("public", "compat", "status", "VARCHAR(50)", nullable=False, default="'pending'")
    )
    said["schemas"] = await outcome(db.schemas())
    said["tables"] = await outcome(db.tables())
    said["columns"] = await outcome(db.columns("compat"))
    said["columns_of_none"] = await outcome(db.columns("none"))
    said["insert"] = await outcome(db.insert("compat", ROW))
    said["insert_defaults"] = await outcome(
        db.insert("compat", {"email": "bert@example.org"}, reason="", actor="me")
    )
    said["insert_again"] = await outcome(db.insert("compat", ROW))
    said["insert_wrong"] = await outcome(db.insert("compat", {"email": "x", "none": 1}))
    more = [{"email": f"u{n}@example.org", "big": n} for n in range(5)]
    said["bulk_insert"] = await outcome(db.bulk_insert("compat", more, reason="load", actor="me"))
    said["bulk_insert_wrong"] = await outcome(db.bulk_insert("compat", [{"email": "y"}, {"email": None}]))
    said["query_all"] = await outcome(db.query("compat"))
    said["query_filter"] = await outcome(db.query("compat", filters={"email": "anna@example.org"}))
    said["query_page"] = await outcome(
        db.query("compat", filters={"big": [1, 2, 3]}, sort_by="big", sort_order="DESC", limit=2, offset=1)
    )
    said["query_null"] = await outcome(
        db.query("compat", filters={"doc": None, "status": "pending"}, limit=1)
    )
    said["query_wrong_column"] = await outcome(db.query("compat", filters={"none": 1}))
    said["query_wrong_table"] = await outcome(db.query("compat; DROP TABLE compat"))
    said["query_system"] = await outcome(db.query("secrets", schema="dominus"))
    said["update"] = await outcome(db.update("compat", {"status": "done"}, {"big": [0, 1, 2]}))
    said["update_all"] = await outcome(db.update("compat", {"status": "done"}, {}))
    said["delete"] = await outcome(db.delete("compat", {"status": "done"}))
    said["delete_all"] = await outcome(db.delete("compat", {}))
    said["drop_table"] = await outcome(ddl.drop_table("public", "compat"))
    said["after_drop"] = await outcome(db.query("compat", limit=1))


async def cache(said):
    r = dominus.redis
    said["set"] = await outcome(r.set("compat:1", {"name": "Jörg"}, ttl=120))
    said["set_category"] = await outcome(r.set("compat:1", "other", category="c"))
    said["get"] = await outcome(r.get("compat:1"))
    said["get_category"] = await outcome(r.get("compat:1", category="c"))
    said["get_missing"] = await outcome(r.get("compat:none"))
    said["nudge"] = await outcome(r.get("compat:1", nudge=True, ttl=600))
    said["nudge_default"] = await outcome(r.get("compat:1", nudge=True))
    said["set_null"] = await outcome(r.set("compat:null", None))
    said["get_null"] = await outcome(r.get("compat:null"))
    said["list"] = await outcome(r.list(prefix="compat:", limit=9999))
    asked = [
        {"logical_path": "compat:1"},
        {"logical_path": "compat:none"},
        {"logical_path": "compat:1", "category": "c"},
    ]
    said["mget"] = await outcome(r.mget(asked))
    said["mget_many"] = await outcome(r.mget([{"logical_path": f"m{n}"} for n in range(150)]))
    said["setnx"] = await outcome(r.setnx("compat:lock", "me"))
    said["setnx_held"] = await outcome(r.setnx("compat:lock", "you", ttl=60))
    said["incr"] = await outcome(r.incr("compat:n", delta=5))
    said["incr_down"] = await outcome(r.incr("compat:n", delta=-2))
    said["incr_text"] = await outcome(r.incr("compat:1"))
    said["hset"] = await outcome(r.hset("compat:h", "email", "a@b"))
    said["hset_again"] = await outcome(r.hset("compat:h", "email", {"n": 1}))
    said["hget"] = await outcome(r.hget("compat:h", "email"))
    said["hget_missing"] = await outcome(r.hget("compat:h", "none"))
    said["hgetall"] = await outcome(r.hgetall("compat:h"))
    said["hgetall_missing"] = await outcome(r.hgetall("compat:none"))
    said["hdel"] = await outcome(r.hdel("compat:h", "email"))
    said["hdel_again"] = await outcome(r.hdel("compat:h", "email"))
    said["delete"] = await outcome(r.delete("compat:1"))
    said["delete_again"] = await outcome(r.delete("compat:1"))
    said["ttl_short"] = await outcome(r.set("compat:short", 1, ttl=30))
    said["ttl_long"] = await outcome(r.set("compat:long", 1, ttl=86_401))
    pages, cursor = [], None
    for n in range(7):
        await r.set(f"page:{n}", n, category="pages")
    while True:
        page = await r.list(prefix="page:", category="pages", limit=3, cursor=cursor)
        pages.append(page)
        cursor = page["cursor"]
        if not cursor:
            break
    said["pages"] = {"result": pages}


async def health(said):
    said["ping"] = await outcome(dominus.health.ping())
    said["warmup"] = await outcome(dominus.health.warmup())
    said["string_form"] = await outcome(dominus("health.check"))


async def auth(said):
    from dominus.helpers.cache import dominus_cache

    said["jwks"] = await outcome(dominus.auth.get_jwks())
    said["validate"] = await outcome(dominus.auth.validate_jwt(dominus_cache.get("jwt:self:service") or ""))
    said["self"] = await outcome(dominus("auth.self"))
    said["mint"] = await outcome(dominus("auth.mint", user_id="u1", scope=["db:read"], system="user"))
    said["public_key"] = await outcome(dominus("auth.jwks"))


RECORDS = {
    "scope": {"slug": "articles:write", "display_name": "Write articles", "description": "why"},
    "role": {"name": "editor", "description": "why"},
    "tenant_category": {"name": "Schools", "slug": "schools"},
    "tenant": {"name": "Hill", "slug": "hill", "display_name": "The Hill", "description": "why"},
    "subtype": {"name": "Teachers", "slug": "teachers", "description": "why"},
    "page": {"path": "/articles", "name": "Articles", "show_in_nav": False},
}
CHANGES = {
    "scope": {"display_name": "Write"},
    "role": {"description": "because"},
    "tenant_category": {"color": "#000000"},
    "tenant": {"status": "inactive"},
    "subtype": {"name": "Staff"},
    "page": {"is_active": False},
}
LINKS = {
    "role": {"scopes": "scope", "tenants": "tenant", "categories": "tenant_category", "subtypes": "subtype"},
    "scope": {"tenants": "tenant", "categories": "tenant_category"},
    "subtype": {"tenants": "tenant", "categories": "tenant_category", "scopes": "scope"},
    "page": {
        "tenants": "tenant",
        "scopes": "scope",
        "categories": "tenant_category",
        "excluded_scopes": "scope",
        "excluded_roles": "role",
    },
}


async def records(said):
    """Every call of the records and links that this server has."""
    a, ids = dominus.auth, {}
    plural = {name: name.replace("category", "categorie") + "s" for name in RECORDS}
    for name, fields in RECORDS.items():
        call = said[f"create_{name}"] = await outcome(getattr(a, f"create_{name}")(**fields))
        ids[name] = call["result"]["id"]
        said[f"again_{name}"] = await outcome(getattr(a, f"create_{name}")(**fields))
        said[f"get_{name}"] = await outcome(getattr(a, f"get_{name}")(ids[name]))
        said[f"list_{plural[name]}"] = await outcome(getattr(a, f"list_{plural[name]}")(limit=10, offset=0))
        said[f"update_{name}"] = await outcome(getattr(a, f"update_{name}")(ids[name], **CHANGES[name]))
    said["get_none"] = await outcome(a.get_role("00000000-0000-0000-0000-000000000000"))
    said["list_filtered"] = await outcome(a.list_pages(is_active=True))
    for owner, links in LINKS.items():
        for link, target in links.items():
            of, given = f"{owner}_{link}", (ids[owner], [ids[target]])
            said[f"add_{of}"] = await outcome(getattr(a, f"add_{of}")(*given))
            said[f"get_{of}"] = await outcome(getattr(a, f"get_{of}")(ids[owner]))
            # It sends no body with DELETE.
            said[f"remove_{of}"] = await outcome(getattr(a, f"remove_{of}")(*given))
            if owner == "page":
                said[f"set_{of}"] = await outcome(getattr(a, f"set_{of}")(*given))
    said["delete_in_use"] = await outcome(a.delete_scope(ids["scope"]))
    for name in ("page", "role", "subtype", "scope", "tenant", "tenant_category"):
        said[f"delete_{name}"] = await outcome(getattr(a, f"delete_{name}")(ids[name]))


async def courier(said):
    c = dominus.courier
    given = ("ada@example.com", "hello@example.org")
    model = {"name": "Ada", "product_name": "Engine"}
    said["send"] = await outcome(c.send("welcome", *given, model, tag="t", reply_to="r@example.org"))
    said["welcome"] = await outcome(c.send_welcome(*given, "Ada", "Engine", action_url="https://x/1", more=1))
    said["password_reset"] = await outcome(c.send_password_reset(*given, "Ada", "https://x/2", "Engine"))
    said["email_verification"] = await outcome(
        c.send_email_verification(*given, "Ada", "https://x/3", "Engine")
    )
    said["invitation"] = await outcome(c.send_invitation(*given, "Ada", "https://x/4", "Charles", "Engine"))
    said["unknown"] = await outcome(c.send("none", *given, model))
    said["missing"] = await outcome(c.send("welcome", *given, {"name": "Ada"}))
    said["injected"] = await outcome(c.send("welcome", "a@b.c\r\nBcc: x@y.z", given[1], model))
    said["outbox"] = await outcome(dominus._request("/api/courier/outbox", method="GET"))


async def signatures(said):
    """What its methods take: (name, default) of each parameter."""
    for name, method in inspect.getmembers(dominus.auth, inspect.ismethod):
        parameters = inspect.signature(method).parameters.values()
        said[name] = [[item.name, repr(item.default)] for item in parameters]


async def first_calls(said):
    """Ten callers at once in a process that has no token yet."""
    said["ten"] = {"result": await asyncio.gather(*(dominus.redis.get("none") for _ in range(10)))}


async def three_calls(said):
    said["three"] = {"result": [await dominus.redis.get("none") for _ in range(3)]}


async def refused(said):
    # It waits 3 to 9 s between its tries of the mint: so long is nobody here.
    core.exponential_backoff_with_jitter = lambda *_, **__: 0.0
    said["call"] = await outcome(dominus.redis.get("none"))


async def unknown(said):
    """What this server does not have (yet)."""
    said["get"] = await outcome(dominus._request("/api/none/at/all", method="GET"))
    said["put"] = await outcome(dominus._request("/api/whisperer/set", method="PUT", body={"a": 1}))
    said["user_token"] = await outcome(dominus._request("/api/whisperer/get", body={}, user_token="a.b.c"))


async def main(parts):
    said = {"version": version("dominus-sdk-python"), "file": core.__file__}
    for name in parts:
        said[name] = {}
        await globals()[name](said[name])
    print("RESULT " + json.dumps(said))


asyncio.run(main(sys.argv[1:]))
