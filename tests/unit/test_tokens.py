"""tokens: what is not ours, not now or not for this use is refused; what is, is known by its digest."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import itertools
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from dominus.crypto import generate_token
from dominus.errors import AuthenticationError, AuthorizationError, ServiceError, ValidationError
from dominus.orchestrator.identity import psks as psks_module
from dominus.orchestrator.identity import signing_keys
from dominus.orchestrator.identity import tokens as module
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.identity.psks import Psks
from dominus.orchestrator.identity.tokens import Tokens
from dominus.orchestrator.identity.vault import Vault

ROOT = generate_token()
DAY = 86_400
ALICE = Principal("alice", "user", frozenset({"portal"}), "shop", "production")
FOREIGN_KEY, *OUR_KEYS = (generate_private_key(public_exponent=65537, key_size=2048) for _ in range(4))


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.75

    def __call__(self) -> float:
        return self.now


class Database:
    """`signing_keys` and `psks`, for as long as a test; counts what is asked."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.psks: dict[bytes, dict[str, Any]] = {}
        self.loads = self.psk_reads = 0
        self.failure: Exception | None = None
        self._lock = asyncio.Lock()

    async def fetch(self, query: str, now: dt.datetime) -> list[dict[str, Any]]:
        assert query == signing_keys._LOAD_KEYS
        self.loads += 1
        await asyncio.sleep(0)
        if self.failure:
            raise self.failure
        living = [row for row in self.keys if row["expires_at"] is None or row["expires_at"] > now]
        return sorted(map(dict, living), key=lambda row: row["created_at"], reverse=True)

    async def fetchrow(self, query: str, digest: bytes) -> dict[str, Any] | None:
        assert query == psks_module._FIND
        self.psk_reads += 1
        return self.psks.get(digest)

    async def fetchval(self, query: str) -> dt.datetime | None:
        assert query == signing_keys._NEWEST_KEY
        return max((row["created_at"] for row in self.keys), default=None)

    async def execute(self, query: str, *args: Any) -> str:
        if query == signing_keys._ADD_KEY:
            names = ("kid", "private_encrypted", "public_pem", "created_at")
            self.keys.append({**dict(zip(names, args, strict=True)), "expires_at": None})
        elif query == signing_keys._RETIRE_OTHERS:
            for row in self.keys:
                if row["kid"] != args[0] and row["expires_at"] is None:
                    row["expires_at"] = args[1]
        elif query == signing_keys._DELETE_EXPIRED:
            self.keys = [
                row for row in self.keys if row["expires_at"] is None or row["expires_at"] >= args[0]
            ]
        else:
            assert query == signing_keys._LOCK
        return ""

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Database]:
        yield self

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self._lock:
            yield


class SystemKey:
    """The one data key that a vault needs to start."""

    def __init__(self) -> None:
        self.row: dict[str, Any] | None = None

    async def fetchrow(self, *_: Any) -> dict[str, Any] | None:
        return self.row

    async def fetch(self, *_: Any) -> list[dict[str, Any]]:
        return []

    async def execute(self, _: str, __: str, ___: str, wrapped: bytes, master_id: str) -> str:
        self.row = {"id": 1, "wrapped": wrapped, "master_id": master_id}
        return ""


@pytest.fixture(autouse=True)
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key takes 0.1 s to make: these are ready."""
    ready = itertools.cycle(OUR_KEYS)
    monkeypatch.setattr(signing_keys, "generate_private_key", lambda **_: next(ready))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
async def vault() -> Vault:
    vault = Vault([secrets.token_bytes(32)])
    await vault.start(SystemKey())
    return vault


@pytest.fixture
async def tokens(database: Database, vault: Vault, clock: Clock) -> Tokens:
    tokens = Tokens(database, vault, clock=clock)
    await tokens.start()
    return tokens


@pytest.fixture
def psks(database: Database, clock: Clock) -> Psks:
    return Psks(database, root_token=ROOT, clock=clock)


def claims_of(token: str) -> dict[str, Any]:
    return json.loads(unpadded(token.split(".")[1]))


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def private_of(tokens: Tokens) -> RSAPrivateKey:
    return tokens._keys.signing().private


def signed(tokens: Tokens, changes: dict[str, Any], *, without: str | None = None) -> str:
    """A token that our own key signed, with other claims."""
    claims = claims_of(tokens.mint(ALICE)) | changes
    claims.pop(without, None)
    kid = tokens._keys.signing().kid
    return jwt.PyJWS().encode(json.dumps(claims).encode(), private_of(tokens), "RS256", {"kid": kid})


async def refusal(tokens: Tokens, token: str) -> AuthenticationError:
    with pytest.raises(AuthenticationError) as caught:
        await tokens.verify(token)
    return caught.value


async def test_a_token_brings_its_principal_back(tokens: Tokens, clock: Clock) -> None:
    token = tokens.mint(ALICE, 120)
    assert await tokens.verify(token) == ALICE
    claims = claims_of(token)
    assert claims["iss"] == "dominus"
    assert claims["iat"] == 1_700_000_000
    assert claims["exp"] == 1_700_000_120
    assert "aud" not in claims
    assert claims["jti"] != claims_of(tokens.mint(ALICE))["jti"]
    assert claims_of(tokens.mint(ALICE))["exp"] == 1_700_000_900


async def test_other_implementations_verify_it_by_the_published_keys(tokens: Tokens, clock: Clock) -> None:
    clock.now = time.time()
    token = tokens.mint(ALICE)
    keys = jwt.PyJWKSet.from_dict(tokens.jwks())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, algorithms=["RS256"])["sub"] == "alice"
    assert jwt.decode(token, tokens.public_pem(), algorithms=["RS256"])["scopes"] == ["portal"]
    assert not {"d", "p", "q"} & set(tokens.jwks()["keys"][0])


async def test_alg_none_is_refused(tokens: Tokens) -> None:
    kid = tokens._keys.signing().kid
    claims = claims_of(tokens.mint(ALICE))
    for alg in ("none", "None", "nOnE", ""):
        await refusal(tokens, f"{part({'alg': alg, 'kid': kid})}.{part(claims)}.")
    header, body, _ = tokens.mint(ALICE).split(".")
    await refusal(tokens, f"{header}.{body}.")


async def test_hs256_with_the_public_key_is_refused(tokens: Tokens) -> None:
    kid = tokens._keys.signing().kid
    public = tokens._keys.signing().public
    ders = [
        public.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER)
    ]
    for secret in (tokens.public_pem().encode(), *ders):
        signed_part = f"{part({'alg': 'HS256', 'kid': kid})}.{part(claims_of(tokens.mint(ALICE)))}"
        mac = hmac.digest(secret, signed_part.encode(), "sha256")
        error = await refusal(tokens, f"{signed_part}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}")
        assert "RS256" in error.message


@pytest.mark.parametrize("alg", ["RS384", "PS256", "RS512"])
async def test_other_rsa_algorithms_are_refused(tokens: Tokens, alg: str) -> None:
    kid = tokens._keys.signing().kid
    await refusal(tokens, jwt.encode(claims_of(tokens.mint(ALICE)), private_of(tokens), alg, {"kid": kid}))


async def test_a_foreign_key_under_our_name_is_refused(tokens: Tokens) -> None:
    claims = claims_of(tokens.mint(ALICE))
    kid = tokens._keys.signing().kid
    jwk = {"jwk": jwt.algorithms.RSAAlgorithm.to_jwk(FOREIGN_KEY.public_key(), as_dict=True)}
    for headers in ({"kid": kid}, {"kid": kid, **jwk}, {"kid": "other"}, {}):
        await refusal(tokens, jwt.encode(claims, FOREIGN_KEY, "RS256", headers))


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_a_changed_token_is_refused(tokens: Tokens, at: int) -> None:
    parts = tokens.mint(ALICE).split(".")
    parts[at] = ("B" if parts[at][0] == "A" else "A") + parts[at][1:]
    await refusal(tokens, ".".join(parts))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"iss": "other"}, "issued elsewhere"),
        ({"iss": ["dominus"]}, "issued elsewhere"),
        ({"use": "gateway"}, "another use"),
        ({"use": ["user"]}, "another use"),
        ({"use": None}, "another use"),
        ({"aud": "gateway"}, "audience"),
        ({"aud": None}, "audience"),
        ({"exp": 1_700_000_000}, "expired"),
        ({"exp": "soon"}, "claim"),
        ({"exp": None}, "claim"),
        ({"iat": 1_700_000_900}, "future"),
        ({"scopes": None}, "claim"),
    ],
)
async def test_a_wrong_claim_is_refused_though_the_signature_is_right(
    tokens: Tokens, changes: dict[str, Any], said: str
) -> None:
    assert await tokens.verify(signed(tokens, {"sub": "bob"}))
    assert said in (await refusal(tokens, signed(tokens, changes))).message


@pytest.mark.parametrize("claim", ["iss", "sub", "iat", "exp", "use", "scopes", "project", "environment"])
async def test_every_claim_is_needed(tokens: Tokens, claim: str) -> None:
    await refusal(tokens, signed(tokens, {}, without=claim))


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "ü.ü.ü",
        "\ud800.a.b",
        "A" * 9000,
        "a." * 4000,
        "null.e30.e30",
        part([]) + ".e30.e30",
        part({"alg": "RS256", "kid": 7}) + ".e30.e30",
        part({"alg": "RS256", "kid": {"a": 1}}) + ".e30.e30",
        base64.urlsafe_b64encode(b"[" * 6000).decode() + ".e30.e30",
        base64.urlsafe_b64encode(b'{"a":' * 1500).decode() + ".e30.e30",
        pytest.param(generate_token(), id="psk"),
    ],
)
async def test_garbage_is_refused_without_asking_the_database(
    tokens: Tokens, database: Database, clock: Clock, garbage: str
) -> None:
    clock.now += 60
    before = database.loads
    error = await refusal(tokens, garbage)
    assert error.status_code == 401
    assert database.loads == before


async def test_a_signed_text_that_holds_no_claims_is_refused(tokens: Tokens) -> None:
    kid = tokens._keys.signing().kid
    for payload in (b"[]", b"null", b"text", b"", b"[" * 5000):
        await refusal(tokens, jwt.PyJWS().encode(payload, private_of(tokens), "RS256", {"kid": kid}))


async def test_a_token_ends_on_time_also_when_it_is_cached(tokens: Tokens, clock: Clock) -> None:
    token = tokens.mint(ALICE, 60)
    clock.now = 1_700_000_059.99
    assert await tokens.verify(token) == ALICE
    clock.now = 1_700_000_060.0
    assert (await refusal(tokens, token)).code == "token_expired"


async def test_a_known_token_is_not_verified_again(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tokens.mint(ALICE)
    first = await tokens.verify(token)
    monkeypatch.setattr(Tokens, "_claims", None)
    assert await tokens.verify(token) is first
    # The digest is kept, not the token.
    assert token not in repr(tokens._verified)


async def test_the_cache_drops_what_was_used_longest_ago(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_VERIFIED", 2)
    one, two, three = (tokens.mint(ALICE) for _ in range(3))
    for token in (one, two, one, three):
        await tokens.verify(token)
    digests = [hashlib.sha256(token.encode()).digest() for token in (one, three)]
    assert list(tokens._verified) == digests
    assert await tokens.verify(two) == ALICE


async def test_refused_tokens_are_not_kept(tokens: Tokens) -> None:
    await refusal(tokens, signed(tokens, {"iss": "other"}))
    assert not tokens._verified


async def test_an_unknown_key_is_looked_for_every_few_seconds(
    tokens: Tokens, database: Database, vault: Vault, clock: Clock
) -> None:
    clock.now += 10
    before = database.loads
    unknown = [jwt.encode({"n": n}, FOREIGN_KEY, "RS256", {"kid": f"kid{n}"}) for n in range(20)]
    await asyncio.gather(*(refusal(tokens, token) for token in unknown))
    assert database.loads == before + 1
    clock.now += 3
    await refusal(tokens, unknown[0])
    assert database.loads == before + 2


async def test_a_key_made_by_another_replica_is_found(
    tokens: Tokens, database: Database, vault: Vault, clock: Clock
) -> None:
    clock.now += 31 * DAY
    other = Tokens(database, vault, clock=clock)
    await other.start()
    assert await other.rotate_if_due(30)
    new = other.mint(ALICE)
    # All of those that wait at once get in.
    assert await asyncio.gather(*(tokens.verify(new) for _ in range(5))) == [ALICE] * 5
    assert jwt.get_unverified_header(tokens.mint(ALICE)) == jwt.get_unverified_header(new)


async def test_rotation_overlaps_by_a_day(tokens: Tokens, database: Database, clock: Clock) -> None:
    clock.now += 29 * DAY
    assert not await tokens.rotate_if_due(30)
    old = tokens.mint(ALICE, 2 * DAY)
    old_pem = tokens.public_pem()
    clock.now += DAY
    assert await tokens.rotate_if_due(30)
    assert not await tokens.rotate_if_due(30)
    assert tokens.public_pem() != old_pem
    assert len(tokens.jwks()["keys"]) == 2
    assert tokens.jwks()["keys"][0]["kid"] == jwt.get_unverified_header(tokens.mint(ALICE))["kid"]
    clock.now += DAY - 60
    assert await tokens.verify(old) == ALICE
    tokens._verified.clear()
    clock.now += 60
    assert "retired" in (await refusal(tokens, old)).message
    assert len(tokens.jwks()["keys"]) == 1
    clock.now += 30 * DAY
    assert await tokens.rotate_if_due(30)
    # The oldest private key is gone for good.
    assert len(database.keys) == 2


async def test_a_restart_keeps_the_key(
    tokens: Tokens, database: Database, vault: Vault, clock: Clock
) -> None:
    again = Tokens(database, vault, clock=clock)
    await again.start()
    assert await again.verify(tokens.mint(ALICE)) == ALICE
    assert len(database.keys) == 1


async def test_a_public_key_written_into_the_table_is_not_believed(
    tokens: Tokens, database: Database, vault: Vault, clock: Clock
) -> None:
    [row] = database.keys
    row["public_pem"] = (
        FOREIGN_KEY.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
    fresh = Tokens(database, vault, clock=clock)
    await fresh.start()
    await refusal(fresh, jwt.encode(claims_of(tokens.mint(ALICE)), FOREIGN_KEY, "RS256", {"kid": row["kid"]}))
    sealed = row["private_encrypted"]
    row["private_encrypted"] = sealed[:-1] + bytes([sealed[-1] ^ 1])
    with pytest.raises(ServiceError, match="does not open"):
        await Tokens(database, vault, clock=clock).start()


async def test_a_lost_database_is_a_service_error_not_a_refusal(
    tokens: Tokens, database: Database, clock: Clock
) -> None:
    clock.now += 10
    database.failure = ConnectionRefusedError("gone")
    with pytest.raises(ServiceError):
        await tokens.verify(jwt.encode({}, FOREIGN_KEY, "RS256", {"kid": "other"}))


async def test_a_token_that_no_header_could_carry_is_not_minted(tokens: Tokens) -> None:
    many = frozenset(f"service{n}:write" for n in range(1000))
    with pytest.raises(ValidationError, match="characters"):
        tokens.mint(Principal("x", "user", many))


async def test_tokens_show_no_key(tokens: Tokens, psks: Psks) -> None:
    assert ROOT not in f"{tokens!r} {psks!r} {vars(psks)}"
    assert "private" not in repr(tokens._keys.signing())


async def test_the_root_psk_may_everything_where_it_asks(psks: Psks, database: Database) -> None:
    here = await psks.principal_of(ROOT)
    assert here == Principal("service:root", "service", frozenset({"*"}), "default", "development")
    there = await psks.principal_of(ROOT, "shop", "production")
    assert there is not None
    assert (there.project, there.environment) == ("shop", "production")
    assert database.psk_reads == 0


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, "a\n", "ü", "a:b", "{a}"])
async def test_a_project_has_a_plain_name(psks: Psks, name: str) -> None:
    with pytest.raises(ValidationError, match="project"):
        await psks.principal_of(ROOT, name)
    with pytest.raises(ValidationError, match="environment"):
        await psks.principal_of(ROOT, "shop", name)


@pytest.mark.parametrize("psk", ["", "short", "x" * 42, "x" * 10_000])
async def test_what_cannot_be_a_psk_costs_no_query(psks: Psks, database: Database, psk: str) -> None:
    assert await psks.principal_of(psk) is None
    assert database.psk_reads == 0


async def test_a_psk_brings_its_scopes_and_its_place(psks: Psks, database: Database) -> None:
    psk, free = generate_token(), generate_token()
    scopes = ["db:read"]
    database.psks[hashlib.sha256(psk.encode()).digest()] = {
        "id": "p1", "scopes": scopes, "project": "shop", "environment": "production"
    }  # fmt: skip
    database.psks[hashlib.sha256(free.encode()).digest()] = {
        "id": "p2", "scopes": scopes, "project": None, "environment": None
    }  # fmt: skip
    shop = Principal("psk:p1", "service", frozenset(scopes), "shop", "production")
    assert await psks.principal_of(psk) == shop
    assert await psks.principal_of(psk, "shop", "production") == shop
    with pytest.raises(AuthorizationError, match="'shop', not 'bank'"):
        await psks.principal_of(psk, "bank")
    with pytest.raises(AuthorizationError, match="'production', not 'staging'"):
        await psks.principal_of(psk, None, "staging")
    other = await psks.principal_of(free, "bank")
    assert other is not None
    assert (other.subject, other.project, other.environment) == ("psk:p2", "bank", "development")


async def test_a_mint_storm_asks_once_in_five_seconds(
    psks: Psks, database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    psk = generate_token()
    assert await psks.principal_of(psk) is None
    database.psks[hashlib.sha256(psk.encode()).digest()] = {
        "id": "p1", "scopes": [], "project": None, "environment": None
    }  # fmt: skip
    for _ in range(10):
        assert await psks.principal_of(psk) is None
    assert database.psk_reads == 1
    clock.now += 5
    assert await psks.principal_of(psk)
    database.psks.clear()
    clock.now += 5
    assert await psks.principal_of(psk) is None
    monkeypatch.setattr(psks_module, "_MAX_KNOWN", 3)
    for _ in range(10):
        await psks.principal_of(generate_token())
    assert len(psks._known) <= 4


@pytest.mark.parametrize("root", ["", "short", "x" * 42, "x" * 513])
def test_a_short_root_token_is_refused_and_not_shown(database: Database, root: str) -> None:
    with pytest.raises(ValidationError, match="characters") as caught:
        Psks(database, root_token=root)
    assert not root or root not in str(caught.value)


async def test_a_known_token_costs_microseconds(tokens: Tokens) -> None:
    token = tokens.mint(ALICE)
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(200):
            await tokens.verify(token)
        best = min(best, (time.perf_counter() - start) / 200)
    # About 2 us here; the bound leaves room for a busy machine.
    assert best < 10e-6
