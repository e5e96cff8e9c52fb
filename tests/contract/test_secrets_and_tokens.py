"""auth and secrets on a real PostgreSQL: tokens, secrets, and no plaintext anywhere."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from pydantic_core import from_json

from dominus.contract import auth, operations
from dominus.contract import secrets as w
from dominus.contract.operation import Operation
from dominus.crypto import generate_token
from dominus.errors import (
    AuthorizationError,
    ConflictError,
    DominusError,
    NotFoundError,
    ServiceError,
    ValidationError,
)
from dominus.orchestrator.engines.postgres.embedded import EmbeddedPostgres
from dominus.orchestrator.engines.postgres.migrate import migrate
from dominus.orchestrator.engines.postgres.pools import Postgres, connect
from dominus.orchestrator.handlers.context import Context, Idempotency, RawJson
from dominus.orchestrator.handlers.resources import Resources
from dominus.orchestrator.identity import signing_keys
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.identity.psks import Psks
from dominus.orchestrator.identity.tokens import Tokens
from dominus.orchestrator.identity.vault import Vault
from dominus.orchestrator.services import handlers_by_operation
from dominus.orchestrator.services import secrets as secrets_service
from dominus.orchestrator.settings import ServerSettings

ROOT = Principal("service:root", "service", frozenset({"*"}))
ROOT_TOKEN = generate_token()
MASTER = secrets.token_bytes(32)
OUR_KEYS = [generate_private_key(public_exponent=65537, key_size=2048) for _ in range(3)]
TABLES = "data_keys, secrets, secret_versions, signing_keys, psks, outcomes"


@dataclass
class World:
    """What handlers are given, without Redis, which they do not use."""

    postgres: Postgres
    vault: Vault
    tokens: Tokens
    psks: Psks
    settings: ServerSettings = field(default_factory=ServerSettings)

    async def call(
        self, op: Operation[Any, Any], by: Principal = ROOT, once: str | None = None, **fields: Any
    ) -> Any:
        request = op.request(**fields)
        print_of = self.vault.fingerprint(op.name.encode(), str(fields).encode())
        known = None if once is None else Idempotency(once, print_of)
        ctx = Context(by, cast("Resources", self), "request-1", known)
        answer = await handlers_by_operation()[op.name](ctx, request)
        return from_json(answer) if isinstance(answer, RawJson) else answer

    async def put(self, key: str, value: Any, **more: Any) -> Any:
        return await self.call(w.UPSERT, key=key, value=value, **more)

    async def get(self, key: str, **more: Any) -> Any:
        return (await self.call(w.GET, key=key, **more))["secret"]["value"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets_service")


@pytest.fixture(scope="module")
def dsn(home: Path) -> Iterator[str]:
    with EmbeddedPostgres(home, is_durable=False) as server:
        yield server.start()


@pytest.fixture(autouse=True)
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key takes 0.1 s to make: these are ready."""
    ready = itertools.cycle(OUR_KEYS)
    monkeypatch.setattr(signing_keys, "generate_private_key", lambda **_: next(ready))


@pytest.fixture
async def postgres(dsn: str) -> AsyncIterator[Postgres]:
    # Empty before it is opened: a test before may have left keys under another master key.
    owner = await connect(dsn, application_name="test")
    await migrate(owner, ServerSettings().data_role)
    tables = ", ".join(f"dominus.{name}" for name in TABLES.split(", "))
    await owner.execute(f"TRUNCATE {tables}")
    await owner.close()
    postgres = await Postgres.open(dsn, ServerSettings(), Vault([MASTER]))
    await postgres.system.execute("TRUNCATE dominus.data_keys CASCADE")
    yield postgres
    await postgres.aclose()


async def replica(postgres: Postgres, *masters: bytes) -> World:
    vault = Vault(masters or [MASTER])
    await vault.start(postgres.system)
    await vault.rewrap(postgres.system)
    tokens = Tokens(postgres.system, vault)
    await tokens.start()
    return World(postgres, vault, tokens, Psks(postgres.system, root_token=ROOT_TOKEN))


@pytest.fixture
async def world(postgres: Postgres) -> World:
    return await replica(postgres)


def test_every_operation_of_warden_has_its_handler() -> None:
    assert secrets_service.MAX_SECRET_BYTES == 2**20
    names = {op.name for op in operations().values() if op.path.startswith("/api/warden/")}
    names.discard("sessions.token")  # of the gateway
    assert len(names) == 10
    assert names <= set(handlers_by_operation())


# Secrets


VALUES: list[Any] = [
    "postgres://u:p@h/db",
    "",
    None,
    True,
    0,
    2**80,
    -1.5,
    1e300,
    "\0\n\u2028 ✓ 😀",
    [],
    {"nested": [{"deep": None}], "": "empty key"},
]


async def test_any_json_value_comes_back(world: World) -> None:
    for value in VALUES:
        await world.put("K", value)
        back = await world.get("K")
        assert back == value
        assert type(back) is type(value)


async def test_an_upsert_creates_then_adds_versions(world: World) -> None:
    first = await world.put("K", "one", action="update", comment="of the shop")
    assert first == {"key": "K", "version": 1, "operation": "create"}
    second = await world.put("K", "two", action="create")
    assert second == {"key": "K", "version": 2, "operation": "update"}
    assert await world.get("K") == "two"
    assert await world.get("K", version=1) == "one"
    answer = await world.call(w.GET, key="K")
    # A comment stays until another one is given.
    assert answer["secret"].items() >= {"key": "K", "version": 2, "comment": "of the shop"}.items()
    assert "T" in answer["secret"]["updated_at"]


async def test_a_missing_secret_is_named_with_its_place(world: World) -> None:
    with pytest.raises(NotFoundError, match=r"'NOPE'.*'default'.*'development'") as caught:
        await world.get("NOPE")
    assert caught.value.code == "secret_not_found"
    await world.put("K", 1)
    for version in (2, 2**31, 10**30):
        with pytest.raises(NotFoundError, match=f"version {version} of secret 'K'"):
            await world.get("K", version=version)
    with pytest.raises(NotFoundError):
        await world.call(w.VERSIONS, key="NOPE")


async def test_several_are_read_at_once(world: World) -> None:
    for key in ("A", "B", "C"):
        await world.put(key, key.lower())
    await world.put("A", "new")
    answer = await world.call(w.GET_MANY, keys=["C", "X", "A", "C", "Y"])
    assert answer == {"values": {"C": "c", "A": "new"}, "missing": ["X", "Y"]}


async def test_a_list_takes_the_prefix_literally_and_shows_no_value(world: World) -> None:
    for key in ("a_b", "axb", "a%b", "B", "b"):
        await world.put(key, "S3CRET", comment="c")

    async def keys(prefix: str | None) -> list[str]:
        answer = await world.call(w.LIST, prefix=prefix)
        assert "S3CRET" not in str(answer)
        return [entry["key"] for entry in answer["secrets"]]

    assert await keys(None) == await keys("") == ["B", "a%b", "a_b", "axb", "b"]
    assert await keys("a_") == ["a_b"]
    assert await keys("a%") == ["a%b"]
    assert await keys("\\") == []
    [entry] = (await world.call(w.LIST, prefix="B"))["secrets"]
    assert set(entry) == {"key", "version", "comment", "created_at", "updated_at", "updated_by"}
    assert entry["updated_by"] == "service:root"


async def test_versions_come_newest_first_without_values(world: World) -> None:
    for number in range(3):
        await world.put("K", f"S3CRET{number}")
    answer = await world.call(w.VERSIONS, key="K")
    assert [entry["version"] for entry in answer["secrets"]] == [3, 2, 1]
    assert "S3CRET" not in str(answer)


async def test_a_delete_takes_all_versions(world: World) -> None:
    await world.put("K", 1)
    await world.put("K", 2)
    assert await world.call(w.DELETE, key="K") == {"key": "K", "deleted": True}
    assert await world.call(w.DELETE, key="K") == {"key": "K", "deleted": False}
    assert await world.postgres.system.fetchval("SELECT count(*) FROM dominus.secret_versions") == 0
    with pytest.raises(NotFoundError):
        await world.get("K", version=1)
    assert (await world.put("K", 3))["operation"] == "create"


async def test_projects_and_environments_do_not_see_each_other(world: World) -> None:
    staging, bank = replace(ROOT, environment="staging"), replace(ROOT, project="bank")
    for by, value in ((ROOT, "mine"), (staging, "staging's"), (bank, "the bank's")):
        await world.put("K", value, by=by)
    assert await world.get("K", by=staging) == "staging's"
    assert await world.call(w.GET_MANY, by=bank, keys=["K"]) == {"values": {"K": "the bank's"}, "missing": []}
    await world.call(w.DELETE, by=bank, key="K")
    assert len((await world.call(w.LIST))["secrets"]) == 1
    with pytest.raises(NotFoundError):
        await world.get("K", by=bank)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"value": float("nan")}, "value: a number"),
        ({"value": {"a": [float("inf")]}}, "value: a number"),
        ({"value": "S3CRET" * 200_000}, "1200002 bytes"),
        ({"value": "\ud800"}, "value"),
        ({"value": {"\ud800": 1}}, "value"),
        ({"value": 1, "comment": "S3CRET\0"}, "UTF8|NUL|null|0x00"),
        ({"value": 1, "key": "a\0b"}, "key"),
        ({"value": 1, "key": ""}, "key"),
        ({"value": 1, "key": "k" * 10_000}, "key"),
    ],
)
async def test_a_bad_value_is_refused_and_not_shown(world: World, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        await world.put(**({"key": "K"} | fields))
    assert "S3CRET" not in str(caught.value)
    assert (await world.call(w.LIST))["secrets"] == []


@pytest.mark.parametrize("depth", [101, 150, 300])
async def test_a_value_that_is_nested_too_deep_for_its_readers_is_refused(world: World, depth: int) -> None:
    def nested(levels: int) -> list[Any]:
        value: list[Any] = []
        for _ in range(levels - 1):
            value = [value]
        return value

    with pytest.raises(ValidationError, match=r"deep|not JSON"):
        await world.put("K", nested(depth))
    await world.put("K", nested(100))
    assert await world.get("K") == nested(100)


async def test_a_prefix_with_nul_is_bad_input(world: World) -> None:
    with pytest.raises(ValidationError):
        await world.call(w.LIST, prefix="\0")


# Several writers


async def test_writers_at_once_get_a_version_each(world: World) -> None:
    stored = await asyncio.gather(*(world.put("K", number) for number in range(20)))
    assert sorted(one["version"] for one in stored) == list(range(1, 21))
    assert [one["operation"] for one in stored].count("create") == 1
    for number, one in enumerate(stored):
        assert await world.get("K", version=one["version"]) == number
    # And the first ones made one data key between them, beside the system's own.
    assert await world.postgres.system.fetchval("SELECT count(*) FROM dominus.data_keys") == 2


async def test_deletes_and_writes_at_once_leave_what_can_be_read(world: World) -> None:
    for _ in range(5):
        await asyncio.gather(
            *(world.put("K", number) for number in range(5)),
            *(world.call(w.DELETE, key="K") for _ in range(3)),
        )
    await world.put("K", "last")
    assert await world.get("K") == "last"
    versions = (await world.call(w.VERSIONS, key="K"))["secrets"]
    assert [one["version"] for one in versions] == list(range(len(versions), 0, -1))


async def test_a_repeat_is_answered_as_the_first_time(world: World) -> None:
    key = str(uuid.uuid4())
    first = await world.put("K", "one", once=key)
    await world.put("K", "two")
    assert await world.put("K", "one", once=key) == first
    assert await world.get("K") == "two"
    with pytest.raises(ConflictError) as caught:
        await world.put("K", "three", once=key)
    assert caught.value.code == "idempotency_key_reused"
    assert await world.get("K") == "two"


async def test_repeats_at_once_write_once(world: World) -> None:
    key = str(uuid.uuid4())
    answers = await asyncio.gather(*(world.put("K", "one", once=key) for _ in range(8)))
    assert answers == [{"key": "K", "version": 1, "operation": "create"}] * 8


async def test_a_repeated_delete_says_again_that_it_deleted(world: World) -> None:
    await world.put("K", 1)
    for _ in range(2):
        assert (await world.call(w.DELETE, once="d", key="K"))["deleted"] is True


# What PostgreSQL knows


async def test_no_plaintext_is_in_any_table_or_file(world: World, home: Path) -> None:
    marker = "plaintext-" + secrets.token_hex(16)
    psk = generate_token()
    await world.put("KNOWN", marker)
    await world.put("K", {"inside": marker}, once="k1")
    await world.put("KNOWN", marker + "2")
    await add_psk(world, psk, [])
    await world.psks.principal_of(psk)
    with pytest.raises(ValidationError):
        await world.put("KNOWN", [marker, float("nan")])
    system = world.postgres.system
    for name in TABLES.split(", "):
        rows = await system.fetch(f"SELECT t::text AS all FROM dominus.{name} t")
        text = "\n".join(row["all"] for row in rows)
        assert marker not in text
        assert marker.encode().hex() not in text
        assert psk not in text
        assert "PRIVATE KEY" not in text
    found = {b"KNOWN": 0, marker.encode(): 0, psk.encode(): 0, MASTER: 0}
    for file in home.rglob("*"):
        if file.is_file():
            content = await asyncio.to_thread(file.read_bytes)
            for needle in found:
                found[needle] += content.count(needle)
    # Tables, WAL and logs: the name of the secret is there, so the search does look.
    assert found.pop(b"KNOWN") > 0
    assert set(found.values()) == {0}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE dominus.secret_versions SET ciphertext = set_byte(ciphertext, 0, get_byte(ciphertext, 0) # 1)",
        "UPDATE dominus.secret_versions SET nonce = decode(repeat('00', 12), 'hex')",
        """UPDATE dominus.secret_versions v SET nonce = o.nonce, ciphertext = o.ciphertext
           FROM dominus.secret_versions o WHERE v.key = 'K' AND o.key = 'OTHER'""",
        "UPDATE dominus.data_keys SET wrapped = set_byte(wrapped, 20, get_byte(wrapped, 20) # 1)",
        """UPDATE dominus.data_keys SET wrapped = o.wrapped
           FROM (SELECT wrapped FROM dominus.data_keys WHERE project = '') o""",
    ],
)
async def test_a_changed_row_is_an_error_that_says_so(world: World, change: str) -> None:
    await world.put("K", "S3CRET")
    await world.put("OTHER", "S3CRET2")
    await world.postgres.system.execute(change)
    for op, fields in ((w.GET, {"key": "K"}), (w.GET_MANY, {"keys": ["K"]})):
        with pytest.raises(ServiceError, match="does not open") as caught:
            await world.call(op, **fields)
        assert caught.value.code == "secret_corrupt"
        assert "S3CRET" not in str(caught.value)


async def test_the_master_key_is_replaced_under_two_replicas(postgres: Postgres, world: World) -> None:
    new = secrets.token_bytes(32)
    await world.put("K", "value")
    token = world.tokens.mint(ROOT)
    prepared = await replica(postgres, MASTER, new)
    one, two = await asyncio.gather(replica(postgres, new, MASTER), replica(postgres, new, MASTER))
    ids = await postgres.system.fetch("SELECT DISTINCT master_id FROM dominus.data_keys")
    assert len(ids) == 1
    assert await prepared.get("K") == await one.get("K") == await two.get("K") == "value"
    # A replica with the old order goes on writing, and is read by the others.
    await prepared.put("K2", 1, by=replace(ROOT, project="later"))
    assert await one.get("K2", by=replace(ROOT, project="later")) == 1
    await two.vault.rewrap(postgres.system)
    last = await replica(postgres, new)
    assert await last.get("K") == "value"
    assert await last.get("K2", by=replace(ROOT, project="later")) == 1
    assert await last.tokens.verify(token) == ROOT
    with pytest.raises(ServiceError) as caught:
        await replica(postgres, MASTER)
    assert caught.value.code == "wrong_master_key"


async def test_a_restored_backup_does_not_meet_yesterdays_keys(postgres: Postgres, world: World) -> None:
    await world.put("K", "before")
    await postgres.system.execute("TRUNCATE dominus.data_keys, dominus.secrets CASCADE")
    await world.put("K", "after")
    assert await (await replica_of_secrets(postgres)).get("K") == "after"


async def replica_of_secrets(postgres: Postgres) -> World:
    vault = Vault([MASTER])
    await vault.start(postgres.system)
    return World(postgres, vault, cast("Tokens", None), cast("Psks", None))


# Tokens


async def test_replicas_that_start_at_once_share_one_signing_key(postgres: Postgres) -> None:
    vaults = [Vault([MASTER]) for _ in range(4)]
    await asyncio.gather(*(vault.start(postgres.system) for vault in vaults))
    replicas = [Tokens(postgres.system, vault) for vault in vaults]
    await asyncio.gather(*(tokens.start() for tokens in replicas))
    assert await postgres.system.fetchval("SELECT count(*) FROM dominus.signing_keys") == 1
    token = replicas[0].mint(ROOT)
    for tokens in replicas:
        assert await tokens.verify(token) == ROOT
    made = await asyncio.gather(*(tokens.rotate_if_due(0.0) for tokens in replicas))
    assert any(made)
    await asyncio.gather(*(tokens.rotate_if_due(1) for tokens in replicas))
    assert len({tokens.public_pem() for tokens in replicas}) == 1
    assert await replicas[3].verify(token) == ROOT


async def test_of_replicas_that_rotate_at_once_one_makes_the_key(postgres: Postgres, world: World) -> None:
    await postgres.system.execute("UPDATE dominus.signing_keys SET created_at = now() - interval '31 days'")
    others = [(await replica(postgres)).tokens for _ in range(3)]
    made = await asyncio.gather(*(tokens.rotate_if_due(30) for tokens in others))
    assert sorted(made) == [False, False, True]
    rows = await postgres.system.fetch("SELECT expires_at FROM dominus.signing_keys ORDER BY created_at")
    assert [row["expires_at"] is None for row in rows] == [False, True]
    # The one that did not rotate meets the new key in a token, and finds it.
    world.tokens._keys._loaded_at = 0.0
    assert await world.tokens.verify(others[0].mint(ROOT)) == ROOT


async def test_the_psk_is_exchanged_for_a_token(world: World) -> None:
    by = await world.psks.principal_of(ROOT_TOKEN, "shop", "production")
    assert by is not None
    answer = await world.call(auth.MINT, by=by)
    assert answer["token_type"] == "Bearer"
    assert answer["expires_in"] == 900
    assert await world.tokens.verify(answer["access_token"]) == replace(
        ROOT, project="shop", environment="production"
    )


async def add_psk(world: World, psk: str, scopes: list[str]) -> None:
    await world.postgres.system.execute(
        """
        INSERT INTO dominus.psks (id, name, psk_sha256, scopes, project, environment)
        VALUES ('p1', 'worker', sha256($1::text::bytea), $2, 'shop', 'staging')
        """,
        psk,
        scopes,
    )


async def test_a_psk_of_the_table_gives_its_scopes_until_it_is_disabled(world: World) -> None:
    psk = generate_token()
    await add_psk(world, psk, ["db:read", "redis:read"])
    by = await world.psks.principal_of(psk)
    assert by == Principal("psk:p1", "service", frozenset({"db:read", "redis:read"}), "shop", "staging")
    await world.postgres.system.execute("UPDATE dominus.psks SET disabled_at = now()")
    world.psks._known.clear()
    assert await world.psks.principal_of(psk) is None
    assert await world.psks.principal_of(psk[:-1] + "!") is None


SHOP = Principal("psk:p1", "service", frozenset({"db:read", "redis:read"}), "shop", "staging")


async def test_a_user_gets_exactly_the_scopes_asked_for(world: World) -> None:
    async def minted(by: Principal = SHOP, **params: Any) -> Principal:
        answer = await world.call(auth.MINT_FOR, by=by, params={"user_id": "u1", "expires_in": 60} | params)
        assert answer["expires_in"] == 60
        return await world.tokens.verify(answer["access_token"])

    assert await minted() == Principal("u1", "user", frozenset(), "shop", "staging")
    assert (await minted(scope=["db:read"])).scopes == {"db:read"}
    assert (await minted(by=ROOT, scope=["anything:admin", "*"])).scopes == {"anything:admin", "*"}
    with pytest.raises(AuthorizationError, match=r"lacks \*, db:write"):
        await minted(scope=["db:read", "db:write", "*"])


@pytest.mark.parametrize(
    "params",
    [
        {"user_id": "service:root"},
        {"user_id": "psk:p1"},
        {"user_id": "a\0b"},
        {"user_id": "a\x85b"},
        {"user_id": "a\u202eb"},
        {"user_id": "a\u2028b"},
        {"user_id": "a\u200fb"},
        {"user_id": "\ud800"},
        {"user_id": ""},
        {"user_id": "u", "scope": ["a\nb"]},
        {"user_id": "u", "system": "client"},
        {"user_id": "u", "expires_in": 1},
        {"user_id": "u", "scope": [f"scope{n}" for n in range(2000)]},
    ],
)
async def test_a_token_for_a_bad_user_is_refused(world: World, params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        await world.call(auth.MINT_FOR, params=params)


async def test_both_forms_of_the_keys_verify_a_token(world: World) -> None:
    token = (await world.call(auth.MINT))["access_token"]
    told = await world.call(auth.PUBLIC_KEY)
    assert jwt.decode(token, told["public_key"], algorithms=["RS256"])["sub"] == "service:root"
    keys = await world.call(auth.KEY_SET)
    assert keys["keys"] == told["keys"]
    kid = jwt.get_unverified_header(token)["kid"]
    assert jwt.decode(token, jwt.PyJWKSet.from_dict(keys)[kid], algorithms=["RS256"])


async def test_a_lost_database_is_a_typed_error(world: World) -> None:
    await world.postgres.aclose()
    for op, fields in ((w.GET, {"key": "K"}), (w.UPSERT, {"key": "K", "value": 1}), (w.LIST, {})):
        with pytest.raises(DominusError) as caught:
            await world.call(op, **fields)
        assert caught.value.status_code == 503
