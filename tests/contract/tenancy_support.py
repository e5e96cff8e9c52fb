"""Project A with things of every kind, strangers of every kind, and a walk over all operations between them."""

from __future__ import annotations

import json
import re
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
import pytest_asyncio
from operation_samples import COLUMNS, SAMPLES, Fields, wire
from portal_support import PASSWORD, a_user, hash_of
from server_support import Reply, Server

from dominus import Dominus
from dominus.contract import operations
from dominus.contract.kinds import Auth, Retry
from dominus.contract.operation import Operation
from dominus.errors import AuthenticationError
from dominus.orchestrator.engines.postgres.quoting import quote_name
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.serving.in_process import EmbeddedTransport

Op = Operation[Any, Any]
A = ("alpha", "production")
"""Whose things nobody else may see."""
ADDRESSED = {"dominus-project": A[0], "dominus-environment": A[1]}
"""What callers say of where they belong counts for PSKs of all projects alone."""
EVERY = operations()

TOLD_APART: Mapping[str, str] = {
    "ddl.provision_tenant": "schemas are of the whole database: a name is taken once (docs/schema.md)",
}
"""What says `schema_exists` for a name that A has, and nothing more of it."""
SPENT = {"portal.logout", "portal.change_password"}
"""What a login does once."""

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_VERSION = re.compile(r"\b20\d{18}\b")
_CREDENTIALS = {"token", "psk", "refresh_token"}


@dataclass(frozen=True)
class Alpha:
    """Project A: for each operation what its sample prepared, and what tells A's things from all others."""

    fields: Mapping[str, Fields]
    tags: Mapping[str, str]
    tenant: str
    ids: frozenset[str]
    token: str


Stranger = Callable[[Op], Awaitable["str | None"]]
"""Somebody who asks for A's things: for each operation a credential of the kind that it takes."""


class Borrowed(httpx.AsyncBaseTransport):
    """A transport that a client may close, and the app goes on."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.handle_async_request = inner.handle_async_request


def client_of(server: Server, place: tuple[str, str]) -> Dominus:
    transport = Borrowed(EmbeddedTransport(server.app))
    return Dominus(
        url="http://dominus.test",
        token=server.psk,
        transport=transport,
        project=place[0],
        environment=place[1],
    )


def principal_of(place: tuple[str, str], *scopes: str) -> Principal:
    return Principal("service:root", "service", frozenset(scopes or ("*",)), *place)


async def ask(server: Server, op: Op, fields: Fields, token: str | None, **more: Any) -> Reply:
    values = {name: quote(str(fields[name]), safe="") for name in op.path_fields}
    path = op.path.format(**values)
    body = {name: value for name, value in fields.items() if name not in op.path_fields}
    if op.method == "GET" and body:
        path = f"{path}?{urlencode(body)}"
    sent = {} if op.auth is Auth.PSK else ADDRESSED
    address = f"{op.name} {uuid.uuid4()}"  # one address may show few refused tokens
    content: Any = b"" if op.method == "GET" else body
    return await server(op.method, path, content, token=token, address=address, headers=sent, **more)


# --- project A


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alpha(server: Server) -> AsyncIterator[Alpha]:
    client = client_of(server, A)
    token = server.resources.tokens.mint(principal_of(A), 3600)
    tenant = f"tenant_{await a_tenant(client)}"
    tags = {name: f"a{uuid.uuid4().hex[:11]}" for name in EVERY}
    fields = {
        name: await prepared(server, client, op, tags[name], tenant, token) for name, op in EVERY.items()
    }
    await more_of_a(client)
    login = await server.resources.credentials.create(principal_of(A), "postgres", None)
    fields["gateway.release"] = fields["open.revoke"] = {"username": login.username}
    ids = frozenset(_ID.findall(json.dumps(await everything_of_a(server, tenant))))
    yield Alpha(fields, tags, tenant, ids, token)


async def a_tenant(client: Dominus) -> str:
    """A tenant with a schema that has a table with rows, an index and a constraint, and a secure one."""
    slug = f"hill-{uuid.uuid4().hex[:12]}"
    schema = f"tenant_{slug}"
    await client.auth.tenant_categories.create("Schools", f"schools-{slug}")
    await client.ddl.provision_tenant(slug, category_slug=f"schools-{slug}")
    for table in ("orders", "patients"):
        await client.ddl.create_table(schema, table, COLUMNS)
        await client.db.insert(table, {"id": 1, "customer": f"anna {slug}"}, schema=schema)
    await client.ddl.create_index(schema, "orders", "orders_customer", ["customer"])
    await client.ddl.add_constraint(schema, "orders", "named", "CHECK", "length(customer) > 0")
    await client.auth.secure_tables.create("patients", schema_name=schema)
    await client.secure.query("patients", reason="a visit", actor="dr-house", schema=schema)
    return slug


async def more_of_a(client: Dominus) -> None:
    """What no sample leaves behind."""
    person = await a_user(client)
    user = client.as_user((await client.portal.login(person.username, PASSWORD))["access_token"]).portal
    await user.update_profile(display_name="Ada")
    await user.update_preferences(theme="dark")
    tenant = await client.auth.tenants.create("Open", f"open-{person.username}", registration_open=True)
    await client.portal.register(f"new-{person.username}", f"new-{person.email}", PASSWORD, tenant["slug"])
    with pytest.raises(AuthenticationError):
        await client.portal.login(person.username, "wrong")
    await client.files.create_folder("/letters/kept", "notes")


async def prepared(server: Server, client: Dominus, op: Op, tag: str, tenant: str, token: str) -> Fields:
    """Make what an operation's sample needs; return what would reach it."""
    sample, fields = SAMPLES[op.name], wire(op, tag)
    if fields.get("schema") == "public" or fields.get("schemas") == "public,public":
        own = sample.before if op.name in TENANT_SAMPLES else None
        more = await own(client, {"tag": tag, **fields}) if own else {}
        place = {"schema": tenant} if "schema" in fields else {}
        table = {"table": "orders"} if fields.get("table") and op.name != "ddl.create_table" else {}
        return {**fields, **place, **table, **(more or {})}
    if sample.before is not None:
        fields |= await sample.before(client, {"tag": tag, **fields}) or {}
    fields.pop("user_token", None)
    for name in ("password", "new_password"):
        if name in fields and f"{name}_hash" in op.request.model_fields:
            del fields[name]
            fields[f"{name}_hash"] = hash_of(PASSWORD)  # the server would take a quarter of a second
    if op.name == "auth.create_secure_table":
        fields |= {"schema_name": tenant, "table_name": "orders"}
    is_made_by_itself = (
        sample.before is None and op.retry is Retry.KEYED and not str(op.scope).endswith(":admin")
    )
    if (
        is_made_by_itself
        or op.name in TOLD_APART
        or (op.name.startswith("auth.create_") and op.name != "auth.create_secure_table")
    ):
        assert (await ask(server, op, fields, token)).status == 200, op.name
    return fields


TENANT_SAMPLES = {name for name, op in EVERY.items() if name.startswith("ddl.") and "/migrations/" in op.path}
"""Their samples make a tenant themselves."""
NONE_OF_A = {"ddl_tickets", "psks"}
"""What lives for the length of a change, and what no operation makes."""
_TABLES = """
SELECT c.relname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'dominus' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND 2 = (SELECT count(*) FROM pg_attribute WHERE attrelid = c.oid AND attname IN ('project', 'environment'))
ORDER BY c.relname
"""


async def everything_of_a(server: Server, tenant: str) -> dict[str, list[str]]:
    """Every record of A in PostgreSQL, the shapes and rows of its tenants, and its entries in Redis."""
    system, redis = server.resources.postgres.system, server.resources.redis
    found: dict[str, list[str]] = {}
    for row in await system.fetch(_TABLES):
        rows = await system.fetch(
            f"SELECT to_jsonb(t)::text AS r FROM dominus.{row['relname']} t WHERE project = $1 AND environment = $2",
            *A,
        )
        found[row["relname"]] = sorted(each["r"] for each in rows)
    assert {name for name, rows in found.items() if not rows} == NONE_OF_A
    for row in await system.fetch(
        "SELECT name FROM dominus.ddl_schemas WHERE project = $1 AND environment = $2 AND provisioned_at IS NOT NULL",
        *A,
    ):
        found[row["name"]] = await shape_of(system, row["name"])
    postgres = server.resources.postgres
    for table, pool in (("orders", postgres.data), ("patients", await postgres.secure())):
        rows = await pool.fetch(f"SELECT t::text AS r FROM {quote_name(tenant)}.{table} t")
        found[f"{tenant}.{table}"] = [each["r"] for each in rows]
        assert found[f"{tenant}.{table}"]
    keys = [key async for key in redis.client.scan_iter(match=f"dominus*{A[0]}:{A[1]}:*")]
    found["redis"] = sorted([f"{key!r} {await value_of(redis.client, key)}" for key in keys])
    assert found["redis"]
    return found


async def shape_of(system: Any, schema: str) -> list[str]:
    rows = await system.fetch(
        "SELECT c.relname, c.relkind::text, a.attname, format_type(a.atttypid, a.atttypmod), c.relowner::regrole::text"
        " FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " WHERE c.relnamespace = to_regnamespace(quote_ident($1)) ORDER BY 1, 3",
        schema,
    )
    return [str(tuple(row)) for row in rows]


async def value_of(client: Any, key: bytes) -> Any:
    kind = (await client.type(key)).decode()
    return await (client.hgetall(key) if kind == "hash" else client.get(key))


# --- strangers


def one_of(token: str | None, psk: str | None, session: str | None) -> Stranger:
    by_kind = {Auth.TOKEN: token, Auth.PSK: psk, Auth.SESSION: session, Auth.NONE: None}

    async def credential(op: Op) -> str | None:
        return by_kind[op.auth]

    return credential


async def a_psk(client: Dominus) -> str:
    return (await client.auth.clients.create("Import"))["psk"]


async def a_service_of(server: Server, place: tuple[str, str]) -> Stranger:
    """It may do everything there, and has the same name as the service of A."""
    tokens, principal = server.resources.tokens, principal_of(place)
    psk = await a_psk(client_of(server, place))
    return one_of(tokens.mint(principal, 3600), psk, tokens.mint_session(principal, "postgres", 900))


async def a_user_of(server: Server, place: tuple[str, str], *, is_administrator: bool) -> Stranger:
    """Logged in to a tenant of its own: with every scope that there is, or with none."""
    client = client_of(server, place)
    person = await a_user(client, tenants=1)
    if is_administrator:
        await client.admin.reseed_admin_category()
        await client.auth.scopes.create("gateway:postgres", "Sessions")
        await client.auth.users.scopes.add(
            person.id, [each["id"] async for each in client.auth.scopes.iterate()]
        )

    async def log_in(name: str) -> str:
        return (await client.portal.login(name, PASSWORD))["access_token"]

    token = await log_in(person.username)
    principal = await server.resources.tokens.verify(token)
    session = (
        server.resources.tokens.mint_session(principal, "postgres", 600) if is_administrator else "of.no.use"
    )
    usual = one_of(token, await a_psk(client), session)

    async def credential(op: Op) -> str | None:
        return await log_in((await a_user(client)).username) if op.name in SPENT else await usual(op)

    return credential


async def without_scope(server: Server) -> Stranger:
    """Services of A itself, each with the other scopes of what it calls."""
    tokens, psk = server.resources.tokens, await a_psk(client_of(server, A))
    session = tokens.mint_session(replace(principal_of(A), subject="service:other"), "postgres", 900)
    known: dict[str, str] = {}

    def weak(op: Op) -> str:
        scope = op.scope or "none:none"
        if scope not in known:
            others = {each.scope for each in EVERY.values() if each.scope not in (None, scope)}
            known[scope] = tokens.mint(principal_of(A, *others), 900)
        return known[scope]

    async def credential(op: Op) -> str | None:
        return weak(op) if op.auth is Auth.TOKEN else await one_of(None, psk, session)(op)

    return credential


async def expired(server: Server, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    """What was A's own until an hour ago."""
    tokens, client = server.resources.tokens, client_of(server, A)
    made = await client.auth.clients.create("Import")
    await client.auth.clients.regenerate_psk(made["id"], grace_seconds=0)
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "_clock", lambda: time.time() - 3600)
        return one_of(
            tokens.mint(principal_of(A), 600),
            made["psk"],
            tokens.mint_session(principal_of(A), "postgres", 600),
        )


# --- the walk


def elsewhere(value: Any, tag: str, other: str, name: str = "") -> Any:
    """The same request for things that do not exist."""
    if isinstance(value, dict):
        return {key: elsewhere(item, tag, other, key) for key, item in value.items()}
    if isinstance(value, list):
        return [elsewhere(item, tag, other, name) for item in value]
    if not isinstance(value, str):
        return value
    if name in _CREDENTIALS:
        return secrets.token_urlsafe(32)
    value = _ID.sub(lambda _: str(uuid.uuid4()), value.replace(tag, other))
    value = re.sub(r"(tenant_hill-)[0-9a-f]{12}(?!\w)", lambda found: found.group(1) + other, value)
    value = re.sub("dominus_s_[0-9a-f]+", lambda _: f"dominus_s_{secrets.token_hex(8)}", value)
    return _VERSION.sub(lambda _: f"20{secrets.randbelow(10**18):018}", value)


_MASKS = (
    (_ID, "ID"),
    (_VERSION, "VERSION"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(\+00:00|Z)?"), "TIME"),
    (re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+"), "TOKEN"),
    (re.compile(r"dominus_s_[0-9a-f]+"), "LOGIN"),
    (re.compile(r'"hint":"[^"]+"'), '"hint":null'),
    (
        re.compile(r'"(psk|password|dsn|cursor|checksum|request_id|refresh_token|download_url)":"[^"]+"'),
        r'"\1":"-"',
    ),
    (re.compile(r'"(latency_ms|port|expires_in|fence)":[\d.]+'), r'"\1":0'),
)


def told(reply: Reply, *names: str) -> str:
    """What an answer says, but for what differs from call to call."""
    text = reply.body.decode()
    for name in names:
        text = text.replace(name, "NAME")
    for mask, by in _MASKS:
        text = mask.sub(by, text)
    return f"{reply.status} {text}"


async def walk(
    server: Server,
    alpha: Alpha,
    stranger: Stranger,
    names: Iterable[str] = EVERY,
    *,
    statuses: dict[str, tuple[int, str]] | None = None,
) -> dict[str, str]:
    """Ask for everything of A; return what was told of it, by operation.

    Reads come first, while strangers have nothing of the same names themselves.
    """
    leaks: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (EVERY[name].retry is not Retry.READ, name)):
        op, fields, tag, other = (
            EVERY[name],
            alpha.fields[name],
            alpha.tags[name],
            f"b{uuid.uuid4().hex[:11]}",
        )
        missing = elsewhere(fields, tag, other)
        nothing, something = [await ask(server, op, each, await stranger(op)) for each in (missing, fields)]
        if statuses is not None:
            statuses[name] = (something.status, something.code if something.status >= 400 else "")
        told_of = (told(nothing, other), told(something, tag, alpha.tenant[-12:]))
        if shown := what_is_shown(alpha, op, something):
            leaks[name] = f"shows {shown[:3]}: {something.body[:300]!r}"
        elif something.status < 500 and name in TOLD_APART and "schema_exists" in told_of[1]:
            leaks[name] = TOLD_APART[name]
        elif something.status >= 500 or '"code":"validation"' in told_of[1]:
            leaks[name] = f"is refused before anything is looked for: {told_of[1][:400]}"
        elif missing != fields and told_of[0] != told_of[1]:
            leaks[name] = f"{told_of[1][:400]} is not {told_of[0][:400]}"
    return leaks


def what_is_shown(alpha: Alpha, op: Op, reply: Reply) -> list[str]:
    """Return what of A an answer has that its request had not: ids of A, and names unless the stranger has the same."""
    text, sent = reply.body.decode(), json.dumps(alpha.fields[op.name])
    known = {*alpha.ids.intersection(_ID.findall(text)), alpha.tenant}
    if op.retry is Retry.READ:
        known.update(alpha.tags.values())
    return sorted(each for each in known if each in text and each not in sent)


async def rows_of_a(server: Server) -> dict[str, int]:
    """How much there is of A: nobody elsewhere adds to it."""
    found: dict[str, int] = {}
    for row in await server.resources.postgres.system.fetch(_TABLES):
        sql = f"SELECT count(*) FROM dominus.{row['relname']} WHERE project = $1 AND environment = $2"
        found[row["relname"]] = await server.resources.postgres.system.fetchval(sql, *A)
    return found


@pytest_asyncio.fixture(loop_scope="module")
async def unchanged(server: Server, alpha: Alpha) -> AsyncIterator[None]:
    """Everything of A is afterwards as it was; what strangers in A's own project add is not A's."""
    before = await everything_of_a(server, alpha.tenant)
    yield
    after = await everything_of_a(server, alpha.tenant)
    lost = {name: sorted(set(rows) - set(after[name])) for name, rows in before.items()}
    assert {name: rows[:5] for name, rows in lost.items() if rows} == {}
