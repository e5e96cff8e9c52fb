"""Run by the Python of the published client's own environment: makes the calls, prints what came as one JSON document.

It imports that client's `dominus`, so nothing of this project can be imported here.
"""

import asyncio
import inspect
import json
import sys
import urllib.request
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


async def secure(said):
    """Every call of the namespace of secure tables, and of their records."""
    from dominus.namespaces.secure import SecureAccessContext

    a, d = dominus.auth, dominus.db_secure
    why, none = SecureAccessContext(reason="care", actor="dr"), SecureAccessContext(reason="", actor="")
    await dominus.ddl.create_table("public", "compat_secure", COLUMNS)
    made = said["create"] = await outcome(a.create_secure_table("compat_secure"))
    record_id = made["result"]["id"]
    said["again"] = await outcome(a.create_secure_table("compat_secure", "public"))
    said["get"] = await outcome(a.get_secure_table(record_id))
    said["list"] = await outcome(a.list_secure_tables(limit=10, offset=0))
    said["tables"] = await outcome(d.tables())
    said["columns"] = await outcome(d.columns("compat_secure"))
    said["insert"] = await outcome(d.insert("compat_secure", ROW, why))
    said["query"] = await outcome(d.query("compat_secure", why))
    said["query_none"] = await outcome(d.query("compat_secure", none))
    said["query_db"] = await outcome(dominus.db.query("compat_secure"))
    said["update"] = await outcome(d.update("compat_secure", {"big": 7}, {"email": ROW["email"]}, why))
    said["bulk_insert"] = await outcome(d.bulk_insert("compat_secure", [{"email": "more"}], why))
    said["delete"] = await outcome(d.delete("compat_secure", {"email": "more"}, why))
    scope = (await a.create_scope("compat:care", "Care"))["id"]
    said["add_scopes"] = await outcome(a.add_secure_table_scopes(record_id, [scope]))
    said["get_scopes"] = await outcome(a.get_secure_table_scopes(record_id))
    said["remove_scopes"] = await outcome(a.remove_secure_table_scopes(record_id, [scope]))
    said["delete_table"] = await outcome(a.delete_secure_table(record_id))
    said["after"] = await outcome(dominus.db.query("compat_secure"))
    await a.delete_scope(scope)


async def shapes(said):
    """Every call of ddl that this client can send: four raise TypeError before any request."""
    ddl, schema, table = dominus.ddl, "public", "shapes"
    columns = [{"name": "id", "type": "INT", "primary_key": True}, {"name": "name", "type": "TEXT"}]
    await dominus.auth.create_tenant_category(name="Shops", slug="shops")

    async def say(name, *args, **more):
        said[name] = await outcome(getattr(ddl, name)(*args, **more))
        return said[name].get("result")

    await say("create_table", schema, table, columns)
    await say("truncate_table", schema, table)
    await say("alter_column", schema, table, "name", new_type="VARCHAR(20)", default="'x'")
    await say("rename_column", schema, table, "name", "title")
    await say("create_index", schema, table, "shapes_title", ["title"], unique=True)
    await say("add_constraint", schema, table, "titled", "CHECK", "length(title) > 0")
    # It sends no body with DELETE.
    await say("drop_column", schema, table, "title")
    await say("drop_index", schema, "shapes_title")
    await say("drop_constraint", schema, table, "titled")
    await say("list_migrations", schema)
    version = (await say("get_current_version", schema))["version"]
    await say("get_migration_file", schema, version)
    await say("migration_history", schema)
    await say("rollback_migration", schema, version)
    await say("apply_migration", schema, version)
    await say("execute_raw", schema, "CREATE VIEW shapes_view AS SELECT 1 AS a")
    await say("list_public_migrations")
    await say("category_create_table", "shops", "goods", columns)
    await say("provision_tenant", "plain")
    await say("provision_from_category", "corner", "shops")
    await say("category_add_column", "shops", "goods", "price", "NUMERIC(10,2)")
    await say("category_create_index", "shops", "goods", "goods_name", ["name"])
    await say("category_drop_table", "shops", "goods")
    await say("category_drop_column", "shops", "goods", "price")
    for name in (
        "list_category_migrations",
        "category_sync_status",
        "category_status",
        "tenants_by_category",
        "get_category_structure",
        "get_category_migration_history",
        "get_tenant_sync_status",
        "sync_tenants_to_latest",
        "reset_category_schema",
    ):
        await say(name, "shops")
    version = said["list_category_migrations"]["result"]["current_version"]
    await say("get_category_migration_file", "shops", version)
    await say("get_builder_migration_file", "shops", version)
    fields = {"table": "goods", "column": "note", "type": "TEXT"}
    await say("preview_migration", "shops", "add_column", fields, "notes")
    await say("apply_builder_migration", "shops", "add_column", fields, "notes")
    await say("provision_status", "corner")
    await say("list_provisions")
    await say("list_categories")
    await say("compare_versions", ["tenant_corner", "tenant_plain"])
    await say("reset_tenant_schema", "shops", "corner")
    await say("deprovision_tenant", "plain")
    await say("delete_migration", "shops", version)


async def lines(said):
    logs = dominus.logs
    for level in ("debug", "info", "notice", "warn", "error", "critical"):
        said[level] = await outcome(
            getattr(logs, level)(f"compat {level}", {"n": 1, "deep": {"ü": [None]}}, "compat")
        )
    said["plain"] = await outcome(logs.info("compat without anything"))
    said["exception"] = await outcome(
        logs.error("compat failed", category="compat-e", exception=ValueError("bad"))
    )
    said["batch"] = await outcome(
        logs.batch(
            [
                {"level": "info", "message": "one", "category": "compat-b", "context": {"n": 1}},
                {"level": "warn", "message": "two", "category": "compat-b", "data": {"n": 2}},
                {"level": "loud", "message": "three"},
            ]
        )
    )
    said["batch_many"] = await outcome(logs.batch([{"level": "info", "message": "x"}] * 150))
    said["query"] = await outcome(logs.query(category="compat"))
    said["query_level"] = await outcome(logs.query(level="error", category="compat", limit=1))
    said["query_place"] = await outcome(
        logs.query(category="compat", file="published_client", function="lines")
    )
    said["query_exception"] = await outcome(logs.query(category="compat-e"))
    said["query_batch"] = await outcome(logs.query(category="compat-b"))
    said["query_search"] = await outcome(logs.query(search="compat anything"))
    said["query_time"] = await outcome(
        logs.query(category="compat", start_time="2020-01-01T00:00:00Z", end_time="2020-01-02T00:00:00Z")
    )
    said["query_limit"] = await outcome(logs.query(limit=5000))


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


async def files(said):
    """Every call of files."""
    f = dominus.files
    made = said["upload"] = await outcome(
        f.upload(b"\x00hello", "a.pdf", category="compat", path="in/a.pdf", tags={"k": "v"})
    )
    file_id = made["result"]["id"]
    said["upload_again"] = await outcome(
        f.upload(data=b"newer", filename="a.pdf", category="compat", path="in/a.pdf")
    )
    said["upload_wrong"] = await outcome(f.upload(b"x", "x", path="../x"))
    law = said["upload_law"] = await outcome(
        f.upload(b"law", "law.txt", category="compat", compliance=True, actor="ada", retention_days=30)
    )
    said["download"] = await outcome(f.download(file_id=file_id))
    with urllib.request.urlopen(said["download"]["result"]["download_url"]) as answer:
        said["got"] = {"result": answer.read().decode()}
    said["fetch"] = await outcome(f.fetch(category="compat", path="in/a.pdf"))
    said["fetch_law"] = await outcome(f.fetch(law["result"]["id"], actor="bert"))
    said["fetch_law_as_nobody"] = await outcome(f.fetch(law["result"]["id"]))
    said["fetch_none"] = await outcome(f.fetch(path="none"))
    said["list"] = await outcome(f.list(category="compat", prefix="in/"))
    said["move"] = await outcome(f.move(file_id, new_path="out/b.pdf"))
    said["update_meta"] = await outcome(f.update_meta(file_id, tags={"a": "b"}, description="why"))
    said["browse"] = await outcome(f.browse("/", category="compat"))
    said["stats"] = await outcome(f.get_storage_stats())
    said["categories"] = await outcome(f.list_categories())
    said["views"] = await outcome(f.list_views(include_reserved=True))
    said["view"] = await outcome(f.list_categories_in_view("documents"))
    said["create_folder"] = await outcome(f.create_folder("/made", category="compat"))
    said["delete_folder"] = await outcome(f.delete_folder("/made", category="compat"))
    said["delete_full_folder"] = await outcome(f.delete_folder("/out", category="compat"))
    said["delete_law"] = await outcome(f.delete(law["result"]["id"], actor="ada"))
    said["delete"] = await outcome(f.delete(file_id=file_id))
    said["reset_unconfirmed"] = await outcome(f.factory_reset())
    said["reset"] = await outcome(f.factory_reset(confirm=True, preserve_compliance=False))


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


async def admin(said):
    said["reseed"] = await outcome(dominus.admin.reseed_admin_category())
    said["again"] = await outcome(dominus.admin.reseed_admin_category())
    # It has no way to say that it is meant.
    said["reset"] = await outcome(dominus.admin.reset_admin_category())


RECORDS = {
    "scope": {"slug": "articles:write", "display_name": "Write articles", "description": "why"},
    "role": {"name": "editor", "description": "why"},
    "tenant_category": {"name": "Schools", "slug": "schools"},
    "tenant": {"name": "Hill", "slug": "hill", "display_name": "The Hill", "description": "why"},
    "subtype": {"name": "Teachers", "slug": "teachers", "description": "why"},
    "page": {"path": "/articles", "name": "Articles", "show_in_nav": False},
    "user": {"username": "ada", "email": "ada@example.com", "password": "correct horse"},
    "client": {"label": "import", "description": "why"},
    "nav_item": {"title": "Articles", "icon": "star", "sort_order": 3, "item_type": "header"},
}
CHANGES = {
    "scope": {"display_name": "Write"},
    "role": {"description": "because"},
    "tenant_category": {"color": "#000000"},
    "tenant": {"status": "inactive"},
    "subtype": {"name": "Staff"},
    "page": {"is_active": False},
    "user": {"status": "inactive"},
    "client": {"label": "export"},
    "nav_item": {"title": "Papers"},
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
    "user": {"roles": "role", "scopes": "scope", "tenants": "tenant", "subtypes": "subtype"},
    "client": {"tenants": "tenant", "roles": "role", "scopes": "scope", "subtypes": "subtype"},
    "nav": {
        "tenants": "tenant",
        "scopes": "scope",
        "roles": "role",
        "subtypes": "subtype",
        "categories": "tenant_category",
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
    ids["nav"] = ids["nav_item"]
    await accounts(said, ids)
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
    for name in (
        "user",
        "client",
        "nav_item",
        "page",
        "role",
        "subtype",
        "scope",
        "tenant",
        "tenant_category",
    ):
        said[f"delete_{name}"] = await outcome(getattr(a, f"delete_{name}")(ids[name]))


async def accounts(said, ids):
    """Passwords, keys, and the lists that take more than others."""
    a = dominus.auth
    said["verify_password"] = await outcome(a.verify_password(ids["user"], "correct horse"))
    said["update_password"] = await outcome(a.update_password(ids["user"], "battery staple"))
    said["verify_old_password"] = await outcome(a.verify_password(ids["user"], "correct horse"))
    said["verify_password_again"] = await outcome(a.verify_password(ids["user"], "battery staple"))
    said["long_password"] = await outcome(a.update_password(ids["user"], "x" * 73))
    first = said["create_client"]["result"]["psk"]
    said["verify_psk"] = await outcome(a.verify_psk(ids["client"], first))
    said["regenerate_psk"] = await outcome(a.regenerate_psk(ids["client"]))
    said["verify_new_psk"] = await outcome(
        a.verify_psk(ids["client"], said["regenerate_psk"]["result"]["psk"])
    )
    said["verify_wrong_psk"] = await outcome(a.verify_psk(ids["client"], "wrong"))
    said["list_inactive_users"] = await outcome(
        a.list_users(status="inactive", limit=5, order_by="username", order_desc=False)
    )
    said["list_top_nav_items"] = await outcome(
        a.list_nav_items(is_active=True, order_by="title", order_desc=True)
    )
    child = await outcome(a.create_nav_item("Below", parent_id=ids["nav_item"], page_id=ids["page"]))
    said["list_nav_below"] = await outcome(a.list_nav_items(parent_id=ids["nav_item"]))
    said["delete_nav_below"] = await outcome(a.delete_nav_item(child["result"]["id"]))


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


async def mailed(email):
    """The token of the newest mail to an address."""
    found = await dominus._request(f"/api/courier/outbox?to={email}&limit=1", method="GET")
    return found["items"][0]["model"]["action_url"].partition("token=")[2]


async def portal(said):
    p, a = dominus.portal, dominus.auth
    user = await a.create_user("portal-ada", "portal-ada@example.com", "correct horse")
    tenants = [await a.create_tenant(f"Portal {n}", f"portal-{n}") for n in (1, 2)]
    await a.add_user_tenants(user["id"], [tenant["id"] for tenant in tenants])
    # It knows no registration_open.
    await dominus._request(
        f"/api/guardian/tenants/{tenants[0]['id']}", method="PUT", body={"registration_open": True}
    )
    page = await a.create_page("/portal-page", "Portal page")
    await a.create_nav_item("Portal item", page_id=page["id"])
    client = await a.create_client("Portal import")

    said["login"] = await outcome(p.login("portal-ada", "correct horse"))
    said["login_in"] = await outcome(p.login("portal-ada@example.com", "correct horse", tenant_id="portal-2"))
    said["login_wrong"] = await outcome(p.login("portal-ada", "wrong"))
    said["login_client"] = await outcome(p.login_client(client["psk"]))
    said["login_client_wrong"] = await outcome(p.login_client("x" * 43))
    token = said["login"]["result"]["access_token"]
    other = said["login_in"]["result"]
    said["me"] = await outcome(p.me(user_token=token))
    said["me_service"] = await outcome(p.me())
    said["refresh"] = await outcome(p.refresh(user_token=token))
    said["switch_tenant"] = await outcome(p.switch_tenant(tenants[1]["id"], user_token=token))
    said["switch_wrong"] = await outcome(p.switch_tenant("none", user_token=token))
    said["list_sessions"] = await outcome(p.list_sessions(user_token=token))
    said["revoke_session"] = await outcome(p.revoke_session(other["session_id"], user_token=token))
    said["revoked"] = await outcome(p.me(user_token=other["access_token"]))
    said["revoke_all_sessions"] = await outcome(p.revoke_all_sessions(user_token=token))
    said["get_profile"] = await outcome(p.get_profile(user_token=token))
    said["update_profile"] = await outcome(
        p.update_profile(display_name="Ada", bio="Counts.", extra={"n": [1]}, user_token=token)
    )
    said["get_preferences"] = await outcome(p.get_preferences(user_token=token))
    said["update_preferences"] = await outcome(
        p.update_preferences(theme="dark", sidebar_collapsed=False, user_token=token)
    )
    said["get_navigation"] = await outcome(p.get_navigation(user_token=token))
    said["check_page_access"] = await outcome(p.check_page_access("/portal-page", user_token=token))
    said["check_none"] = await outcome(p.check_page_access("/portal-none", user_token=token))
    said["change_password"] = await outcome(p.change_password("correct horse", "second", user_token=token))
    said["logout"] = await outcome(p.logout(user_token=token))
    said["after_logout"] = await outcome(p.refresh(user_token=token))
    said["request_password_reset"] = await outcome(p.request_password_reset("portal-ada@example.com"))
    said["request_unknown"] = await outcome(p.request_password_reset("portal-none@example.com"))
    reset = await mailed("portal-ada@example.com")
    said["confirm_password_reset"] = await outcome(p.confirm_password_reset(reset, "third"))
    said["confirm_again"] = await outcome(p.confirm_password_reset(reset, "third"))
    given = ("portal-bea", "portal-bea@example.com", "correct horse")
    said["register"] = await outcome(p.register(*given, tenants[0]["id"]))
    said["register_closed"] = await outcome(p.register(*given, tenants[1]["id"]))
    said["resend_verification"] = await outcome(p.resend_verification("portal-bea@example.com"))
    said["verify_email"] = await outcome(p.verify_email(await mailed("portal-bea@example.com")))
    invitation = {"email": "portal-cleo@example.com", "tenant_id": tenants[0]["id"], "role_ids": []}
    await dominus._request("/api/guardian/invitations", body=invitation)
    said["accept_invitation"] = await outcome(
        p.accept_invitation(await mailed("portal-cleo@example.com"), "correct horse")
    )


async def open_sql(said):
    o = dominus.open
    said["dsn"] = await outcome(o.dsn())
    said["create"] = await outcome(o.execute("CREATE TABLE compat_open (id int PRIMARY KEY, name text)"))
    said["insert"] = await outcome(
        o.execute("INSERT INTO compat_open VALUES ($1, $2)", {"1": 7, "2": "wörd"})
    )
    said["select"] = await outcome(o.execute("SELECT name FROM compat_open WHERE id = $1", {"1": 7}))
    said["plain"] = await outcome(o.execute("SELECT count(*) AS n FROM compat_open"))
    said["wrong"] = await outcome(o.execute("SELECT $1::int", {"1": "INT); DROP TABLE compat_open;--"}))
    said["two"] = await outcome(o.execute("SELECT 1; DROP TABLE compat_open"))


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
