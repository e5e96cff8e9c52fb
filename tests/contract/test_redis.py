"""One suite over every Redis that the orchestrator stands on: the one in the process, and a real server."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from pydantic_core import from_json

from dominus.contract import redis as w
from dominus.contract.operation import Operation
from dominus.errors import ConflictError, DominusError, ValidationError
from dominus.orchestrator.engines.redis import epoch as epoch_module
from dominus.orchestrator.engines.redis.client import RedisEngine
from dominus.orchestrator.handlers.context import Context, Idempotency
from dominus.orchestrator.handlers.resources import Resources
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.services import handlers_by_operation
from dominus.orchestrator.services import redis as service
from dominus.orchestrator.settings import ServerSettings, read_settings

OWNER, OTHER = "owner-one", "owner-two"


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    socket = tmp_path_factory.mktemp("redis") / "s"
    options = ["--port", "0", "--save", "", "--unixsocket", str(socket), "--dir", str(socket.parent)]
    with subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL) as process:
        _wait_for(socket)
        yield f"unix://{socket}"
        process.terminate()


def _wait_for(socket: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            with redis.Redis(unix_socket_path=str(socket)) as client:
                client.ping()
        except redis.ConnectionError:
            assert time.monotonic() < deadline, "redis-server did not start"
        else:
            return


@dataclass
class _EnginesStub:
    redis: RedisEngine
    settings: ServerSettings = field(default_factory=ServerSettings)


@dataclass
class Caller:
    """Calls handlers as the app does: a request model in, JSON out."""

    engine: RedisEngine
    principal: Principal
    idempotency: Idempotency | None = None
    settings: ServerSettings = field(default_factory=ServerSettings)

    async def __call__(self, operation: Operation[Any, Any], key: str | None = None, **fields: Any) -> Any:
        if key is not None:
            fields["logical_path"] = key
        engines = cast("Resources", _EnginesStub(self.engine, self.settings))
        context = Context(self.principal, engines, "request-1", self.idempotency)
        answer = await handlers_by_operation()[operation.name](context, operation.request(**fields))
        data = from_json(answer) if isinstance(answer, bytes) else answer
        assert operation.required_keys <= set(data)
        return data

    def once(self, key: str, fingerprint: str = "f1", deadline_seconds: float = 30.0) -> Caller:
        return replace(self, idempotency=Idempotency(key, fingerprint, deadline_seconds))

    def as_principal(self, **changes: Any) -> Caller:
        return replace(self, principal=replace(self.principal, **changes))

    async def physical(self, start: str) -> bytes:
        pattern = f"{start}{{{self.principal.project}:*"
        (found,) = await self.engine.client.keys(pattern)
        return found


@pytest.fixture(params=["embedded", "server"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[RedisEngine]:
    url = request.getfixturevalue("redis_url") if request.param == "server" else None
    opened = await RedisEngine.open(url, server_key="test_whisperer")
    yield opened
    await opened.aclose()


@pytest.fixture
def call(engine: RedisEngine) -> Caller:
    principal = Principal("svc-1", "service", frozenset({"*"}), project=uuid.uuid4().hex)
    return Caller(engine, principal)


# --- entries


VALUES = [
    None,
    True,
    0,
    -5,
    2**70,
    1.5,
    "",
    'quote " and \u2603',
    [1, [2]],
    {"a": {"b": None}},
    "NaN",
    "Infinity",
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_a_value_comes_back_as_it_was_stored(call: Caller, value: Any) -> None:
    stored = await call(w.SET, "k", value=value, ttl_seconds=120)
    assert stored == {"key": "k", "stored": True, "ttl_seconds": 120}
    assert await call(w.GET, "k") == {"found": True, "value": value}


async def test_a_missing_entry_is_not_found_anywhere(call: Caller) -> None:
    assert await call(w.GET, "k") == {"found": False}
    assert await call(w.GET, "k", nudge=True) == {"found": False}
    assert await call(w.HGET, "k", field="f") == {"found": False}
    assert await call(w.HGETALL, "k") == {"found": False}
    assert await call(w.TTL, "k") == {"found": False}
    assert await call(w.EXISTS, "k") == {"exists": False}
    assert await call(w.DELETE, "k") == {"deleted": False}
    assert await call(w.HDEL, "k", field="f") == {"deleted": False}
    assert await call(w.EXPIRE, "k", ttl_seconds=60) == {"updated": False}
    assert await call(w.RENEW_LOCK, "k", owner=OWNER) == {"held": False}
    assert await call(w.RELEASE_LOCK, "k", owner=OWNER) == {"held": False}


async def test_a_number_beyond_json_is_refused_before_it_is_stored(call: Caller) -> None:
    for operation, fields in ((w.SET, {}), (w.SETNX, {}), (w.HSET, {"field": "f"})):
        with pytest.raises(ValidationError, match="too large"):
            await call(operation, "k", value=from_json(b'["Infinity", 1e999]'), **fields)
    assert await call(w.EXISTS, "k") == {"exists": False}


async def test_the_life_of_an_entry_is_set_nudged_and_changed(call: Caller) -> None:
    async def ttl() -> int:
        return (await call(w.TTL, "k"))["ttl_seconds"]

    await call(w.SET, "k", value=1, ttl_seconds=100)
    assert 98 <= await ttl() <= 100
    await call(w.GET, "k", ttl_seconds=5000)
    assert await ttl() <= 100, "only nudge gives a new life"
    await call(w.GET, "k", nudge=True)
    assert 3598 <= await ttl() <= 3600
    await call(w.GET, "k", nudge=True, ttl_seconds=500)
    assert 498 <= await ttl() <= 500
    assert await call(w.EXPIRE, "k", ttl_seconds=86_400) == {"updated": True}
    assert 86_398 <= await ttl() <= 86_400
    assert await call(w.EXISTS, "k") == {"exists": True}


@pytest.mark.parametrize("ttl", [59, 86_401, 0, -1])
def test_a_life_out_of_bounds_is_refused(ttl: int) -> None:
    for operation in (w.SET, w.SETNX, w.INCR, w.HSET, w.EXPIRE, w.GET, w.ACQUIRE_LOCK):
        fields = {"logical_path": "k", "value": 1, "field": "f", "owner": OWNER, "ttl_seconds": ttl}
        known = operation.request.model_fields
        with pytest.raises(ValidationError, match="ttl"):
            operation.request(**{name: value for name, value in fields.items() if name in known})


async def test_delete_removes_an_entry_of_any_kind(call: Caller) -> None:
    await call(w.SET, "k", value=1)
    assert await call(w.DELETE, "k") == {"deleted": True}
    assert await call(w.GET, "k") == {"found": False}
    await call(w.HSET, "k", field="f", value=1)
    assert await call(w.DELETE, "k") == {"deleted": True}
    assert await call(w.HGETALL, "k") == {"found": False}


async def test_mget_answers_in_the_order_asked_for(call: Caller) -> None:
    await call(w.SET, "a", value=1)
    await call(w.SET, "b", value=None, category="c")
    keys = [
        {"logical_path": name, "category": category}
        for name, category in (("b", "c"), ("b", None), ("a", None))
    ]
    found = await call(w.MGET, keys=[*keys, keys[0]])
    assert found == {
        "results": [
            {"found": True, "value": None},
            {"found": False},
            {"found": True, "value": 1},
            {"found": True, "value": None},
        ]
    }


async def test_setnx_stores_once_and_shows_what_is_there(call: Caller) -> None:
    assert await call(w.SETNX, "k", value={"a": 1}, ttl_seconds=90) == {"acquired": True}
    assert 88 <= (await call(w.TTL, "k"))["ttl_seconds"] <= 90
    assert await call(w.SETNX, "k", value=2) == {"acquired": False, "existing": {"a": 1}}
    await call(w.HSET, "hash", field="f", value=1)
    assert await call(w.SETNX, "hash", value=2) == {"acquired": False}


# --- counters


async def test_a_counter_counts_and_lives_from_its_first_count(call: Caller) -> None:
    assert await call(w.INCR, "n", ttl_seconds=1000) == {"value": 1}
    assert await call(w.INCR, "n", delta=-5, ttl_seconds=60) == {"value": -4}
    assert (await call(w.TTL, "n"))["ttl_seconds"] > 900
    assert await call(w.GET, "n") == {"found": True, "value": -4}


async def test_counters_and_values_are_the_same_thing(call: Caller) -> None:
    await call(w.SET, "n", value=2**62)
    assert await call(w.INCR, "n", delta=3) == {"value": 2**62 + 3}
    assert await call(w.GET, "n") == {"found": True, "value": 2**62 + 3}


@pytest.mark.parametrize(("start", "delta"), [(2**63 - 1, 1), (-(2**63), -1), (1, 2**63 - 1), (-1, -(2**63))])
async def test_a_counter_never_leaves_64_bits(call: Caller, start: int, delta: int) -> None:
    await call(w.SET, "n", value=start)
    with pytest.raises(ValidationError, match=r"entry 'n'.*64-bit"):
        await call(w.INCR, "n", delta=delta)
    assert await call(w.GET, "n") == {"found": True, "value": start}


@pytest.mark.parametrize("value", ["text", "5", 1.0, True, None, [1], 2**64])
async def test_what_is_no_integer_cannot_be_counted(call: Caller, value: Any) -> None:
    await call(w.SET, "n", value=value)
    with pytest.raises(ConflictError, match="entry 'n'") as caught:
        await call(w.INCR, "n")
    assert caught.value.code == "not_an_integer"
    assert await call(w.GET, "n") == {"found": True, "value": value}


# --- hashes


async def test_fields_of_a_hash_are_set_read_and_deleted(call: Caller) -> None:
    assert await call(w.HSET, "h", field='a"', value=[1], ttl_seconds=60) == {"set": True}
    assert await call(w.HSET, "h", field='a"', value=[2], ttl_seconds=60) == {"set": False}
    assert await call(w.HSET, "h", field="b:\u2603", value=None, ttl_seconds=700) == {"set": True}
    assert 698 <= (await call(w.TTL, "h"))["ttl_seconds"] <= 700
    assert await call(w.HGET, "h", field='a"') == {"found": True, "value": [2]}
    assert await call(w.HGET, "h", field="c") == {"found": False}
    assert await call(w.HGETALL, "h") == {"found": True, "fields": {'a"': [2], "b:\u2603": None}}
    assert await call(w.HDEL, "h", field='a"') == {"deleted": True}
    assert await call(w.HDEL, "h", field='a"') == {"deleted": False}
    assert await call(w.HDEL, "h", field="b:\u2603") == {"deleted": True}
    assert await call(w.EXISTS, "h") == {"exists": False}


async def test_the_wrong_kind_of_entry_is_a_conflict_that_names_it(call: Caller) -> None:
    await call(w.HSET, "hash", field="f", value=1)
    await call(w.SET, "plain", value=1)
    wrong = [
        call(w.GET, "hash"),
        call(w.GET, "hash", nudge=True),
        call(w.INCR, "hash"),
        call(w.MGET, keys=[{"logical_path": "plain"}, {"logical_path": "hash"}]),
    ]
    for attempt in wrong:
        with pytest.raises(ConflictError, match="entry 'hash'") as caught:
            await attempt
        assert caught.value.code == "wrong_type"
    for attempt in (
        call(w.HGET, "plain", field="f"),
        call(w.HGETALL, "plain"),
        call(w.HSET, "plain", field="f", value=1),
        call(w.HDEL, "plain", field="f"),
    ):
        with pytest.raises(ConflictError, match="entry 'plain'") as caught:
            await attempt
        assert caught.value.code == "wrong_type"
    await call(w.SET, "hash", value=2)
    assert await call(w.GET, "hash") == {"found": True, "value": 2}, "set replaces what was there"


# --- names


async def test_different_names_never_meet(call: Caller) -> None:
    callers = [
        call,
        call.as_principal(project=f"{call.principal.project}:x"),
        call.as_principal(environment="production"),
        call.as_principal(environment="development:a"),
        call.as_principal(environment="development%3Aa"),
    ]
    names = [
        ("b:c", "a"),
        ("c", "a:b"),
        ("c", "a%3Ab"),
        ("a:b:c", None),
        ("c}", "a{b"),
        ("b:c}", "a"),
        ("b:c", None),
    ]
    places = [(caller, *name) for caller in callers for name in names]
    for number, (caller, key, category) in enumerate(places):
        await caller(w.SET, key, category=category, value=number)
    for number, (caller, key, category) in enumerate(places):
        assert await caller(w.GET, key, category=category) == {"found": True, "value": number}


async def test_keys_of_any_text_work(call: Caller) -> None:
    for key in ("\u2603 snow", "*?[a]^-\\", "{}", "%7D", "x" * 1024, " "):
        await call(w.SET, key, value=key)
        assert await call(w.GET, key) == {"found": True, "value": key}
        assert (await call(w.LIST, logical_prefix=key))["keys"] == [key]


# --- listing


async def _pages(call: Caller, limit: int, **fields: Any) -> list[list[str]]:
    pages: list[list[str]] = []
    cursor = None
    while True:
        page = await call(w.LIST, limit=limit, cursor=cursor, **fields)
        assert page["count"] == len(page["keys"]) == len(set(page["keys"])) <= limit
        pages.append(page["keys"])
        assert len(pages) < 200, "the listing does not end"
        cursor = page["cursor"]
        if not cursor:
            return pages


@pytest.mark.parametrize("limit", [1, 7, 100, 500])
async def test_every_key_is_listed_once_in_pages_of_the_limit(call: Caller, limit: int) -> None:
    expected = {f"item:{number}" for number in range(60)}
    for key in expected:
        await call(w.SET, key, value=1)
        await call.once(key)(w.SET, "elsewhere", value=1, category="c")
    found = [key for page in await _pages(call, limit) for key in page]
    assert sorted(found) == sorted(expected)


async def test_pages_survive_the_deletion_of_what_was_listed(call: Caller) -> None:
    expected = {f"item:{number}" for number in range(1500)}
    pipeline = call.engine.client.pipeline(transaction=False)
    for key in expected:
        pipeline.set(
            f"dominus:{{{call.principal.project}:development::{key.replace(':', '%3A')}}}", "1", ex=60
        )
    await pipeline.execute()
    seen: list[str] = []
    cursor = None
    while True:
        page = await call(w.LIST, limit=400, cursor=cursor)
        seen += page["keys"]
        assert len(seen) < 10_000, "the listing does not end"
        for key in page["keys"][:20]:
            await call(w.DELETE, key)
        cursor = page["cursor"]
        if not cursor:
            break
    assert set(seen) == expected


@pytest.mark.parametrize("prefix", ["a*", "a?", "a[bc]", "a\\", "a^", "a:", "a%", "{a", "a\0", "\u2603"])
async def test_a_prefix_is_plain_text(call: Caller, prefix: str) -> None:
    keys = [
        f"{start}{end}"
        for start in ("a*", "a?", "a[bc]", "a\\", "a^", "a:", "a%", "{a", "\u2603", "ab")
        for end in ("", "x")
    ]
    for key in keys:
        await call(w.SET, key, value=1)
    (page,) = await _pages(call, 100, logical_prefix=prefix)
    assert sorted(page) == sorted(key for key in keys if key.startswith(prefix))


async def test_a_listing_shows_one_category_and_no_helpers(call: Caller) -> None:
    await call.once("idem")(w.SET, "plain", value=1)
    await call(w.SET, "in-c", value=1, category="c")
    await call(w.SET, "in-c2", value=1, category="c*")
    await call(w.HSET, "hash", field="f", value=1, category="c")
    await call(w.ACQUIRE_LOCK, "job", owner=OWNER)
    await call.as_principal(environment="other")(w.SET, "foreign", value=1)
    assert await _pages(call, 100) == [["plain"]]
    assert [sorted(page) for page in await _pages(call, 100, category="c")] == [["hash", "in-c"]]
    assert await _pages(call, 100, category="c*") == [["in-c2"]]


@pytest.mark.parametrize("cursor", ["x", "-1", "1.2", "1.2.3.4", "f" * 64, "\u0663", "..", "0.0"])
async def test_a_cursor_that_no_listing_returned_is_refused(call: Caller, cursor: str) -> None:
    with pytest.raises(ValidationError, match="cursor"):
        await call(w.LIST, cursor=cursor)


# --- idempotency


async def test_repeats_of_a_write_under_one_key_happen_once(call: Caller) -> None:
    once = call.once("key-1")
    answers = await asyncio.gather(*(once(w.INCR, "n", delta=5) for _ in range(50)))
    assert answers == [{"value": 5}] * 50
    assert await call(w.GET, "n") == {"found": True, "value": 5}
    await call(w.INCR, "n")
    assert await once(w.INCR, "n", delta=5) == {"value": 5}, "the outcome of then, not of now"


WRITES: list[tuple[Operation[Any, Any], dict[str, Any], Any]] = [
    (w.SET, {"value": 2}, {"key": "k", "stored": True, "ttl_seconds": 3600}),
    (w.DELETE, {}, {"deleted": True}),
    (w.EXPIRE, {"ttl_seconds": 60}, {"updated": True}),
    (w.RELEASE_LOCK, {"owner": OWNER}, {"held": True}),
]


@pytest.mark.parametrize(
    ("operation", "fields", "outcome"), WRITES, ids=lambda value: getattr(value, "name", "")
)
async def test_a_repeat_gets_the_stored_outcome(
    call: Caller, operation: Operation[Any, Any], fields: dict[str, Any], outcome: Any
) -> None:
    await call(w.SET, "k", value=1)
    await call(w.ACQUIRE_LOCK, "k", owner=OWNER)
    once = call.once("key-1")
    assert await once(operation, "k", **fields) == outcome
    await call(w.DELETE, "k")
    await call(w.RELEASE_LOCK, "k", owner=OWNER)
    assert await once(operation, "k", **fields) == outcome
    assert await call(w.EXISTS, "k") == {"exists": False}, "the repeat wrote nothing"


async def test_a_repeat_of_setnx_hset_hdel_and_acquire_tells_who_won(call: Caller) -> None:
    for _ in range(2):
        assert await call.once("nx-1")(w.SETNX, "k", value="mine") == {"acquired": True}
        assert await call.once("nx-2")(w.SETNX, "k", value="yours") == {"acquired": False, "existing": "mine"}
        assert await call.once("hs-1")(w.HSET, "h", field="f", value=1) == {"set": True}
        assert await call.once("hs-2")(w.HSET, "h", field="f", value=1) == {"set": False}
    for _ in range(2):
        assert await call.once("hd-1")(w.HDEL, "h", field="f") == {"deleted": True}
    first = await call.once("lk-1")(w.ACQUIRE_LOCK, "job", owner=OWNER)
    assert first["acquired"]
    assert await call.once("lk-1")(w.ACQUIRE_LOCK, "job", owner=OWNER) == first
    for _ in range(2):
        assert await call.once("lk-2")(w.ACQUIRE_LOCK, "job", owner=OTHER) == {"acquired": False}


async def test_a_repeat_tells_that_the_lock_was_lost_since(call: Caller) -> None:
    assert (await call.once("lk-1")(w.ACQUIRE_LOCK, "job", owner=OWNER))["acquired"]
    for _ in range(2):
        assert (await call.once("lk-2")(w.RENEW_LOCK, "job", owner=OWNER))["held"]
    for next_owner in (None, OTHER):
        await call(w.RELEASE_LOCK, "job", owner=OWNER)
        if next_owner:
            assert (await call(w.ACQUIRE_LOCK, "job", owner=next_owner))["acquired"]
        assert await call.once("lk-1")(w.ACQUIRE_LOCK, "job", owner=OWNER) == {"acquired": False}
        assert await call.once("lk-2")(w.RENEW_LOCK, "job", owner=OWNER) == {"held": False}
    assert (await call(w.RENEW_LOCK, "job", owner=OTHER))["held"]


async def test_a_key_used_for_another_request_is_a_conflict(call: Caller) -> None:
    await call.once("key-1", "f1")(w.SET, "k", value=1)
    for operation, key, fields in (
        (w.SET, "k", {"value": 2}),
        (w.SETNX, "k", {"value": 2}),
        (w.DELETE, "k", {}),
        (w.SET, "another entry", {"value": 2}),
        (w.ACQUIRE_LOCK, "k", {"owner": OWNER}),
    ):
        with pytest.raises(ConflictError) as caught:
            await call.once("key-1", "f2")(operation, key, **fields)
        assert caught.value.code == "idempotency_key_reused"
    assert await call(w.GET, "k") == {"found": True, "value": 1}


async def test_keys_belong_to_a_principal_and_a_place(call: Caller) -> None:
    await call.once("key-1")(w.INCR, "n")
    assert await call.as_principal(subject="svc-2").once("key-1", "f2")(w.INCR, "n") == {"value": 2}
    assert await call.as_principal(environment="other").once("key-1")(w.INCR, "n") == {"value": 1}


@pytest.mark.parametrize(
    ("minutes", "deadline_seconds", "life"),
    [(None, 30.0, 930), (None, 0.001, 901), (None, 86_400.0, 87_300), (2, 30.0, 150), (2, 3600.0, 3720)],
)
async def test_a_record_outlives_the_callers_deadline_by_what_the_settings_say(
    call: Caller, minutes: int | None, deadline_seconds: float, life: int
) -> None:
    if minutes is not None:
        call = replace(call, settings=ServerSettings(redis_idempotency_minutes=minutes))
    once = call.once("key-1", deadline_seconds=deadline_seconds)
    assert await once(w.INCR, "n") == {"value": 1}
    record = await call.physical("dominus-once:")
    assert life - 5 <= await call.engine.client.ttl(record) <= life
    # The last moment of its life.
    await call.engine.client.pexpire(record, 60_000)
    assert await once(w.INCR, "n") == {"value": 1}
    assert await call.engine.client.ttl(record) <= 60, "a repeat does not prolong it"
    await call.engine.client.delete(record)
    assert await once(w.INCR, "n") == {"value": 2}


@pytest.mark.parametrize("given", ["0", "-1", "1441", "2.5", "soon", ""])
def test_minutes_that_are_none_are_refused_by_the_name_of_the_setting(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("DOMINUS_REDIS_IDEMPOTENCY_MINUTES", given)
    with pytest.raises(ValidationError, match="DOMINUS_REDIS_IDEMPOTENCY_MINUTES"):
        read_settings()
    monkeypatch.setenv("DOMINUS_REDIS_IDEMPOTENCY_MINUTES", "5")
    assert read_settings().redis_idempotency_minutes == 5


async def test_a_failed_write_leaves_no_record(call: Caller) -> None:
    await call(w.SET, "n", value="text")
    with pytest.raises(ConflictError):
        await call.once("key-1")(w.INCR, "n")
    await call(w.DELETE, "n")
    assert await call.once("key-1")(w.INCR, "n") == {"value": 1}


# --- locks


async def test_one_owner_holds_a_lock_and_fences_grow(call: Caller) -> None:
    fences: list[int] = []
    for _ in range(20):
        grant = await call(w.ACQUIRE_LOCK, "job", owner=OWNER)
        assert await call(w.ACQUIRE_LOCK, "job", owner=OTHER) == {"acquired": False}
        assert await call(w.ACQUIRE_LOCK, "job", owner=OWNER) == grant, "asked again: the same acquisition"
        fences.append(grant["fence"])
        assert await call(w.RELEASE_LOCK, "job", owner=OWNER) == {"held": True}
    assert fences == sorted(set(fences))


async def test_getdel_gives_a_value_to_one_caller_and_a_repeat_gets_it_again(call: Caller) -> None:
    await call(w.SET, "k", value={"n": 1})
    answers = await asyncio.gather(*(call.once(f"g-{n}")(w.GETDEL, "k") for n in range(5)))
    assert sorted(answers, key=str) == [{"found": False}] * 4 + [{"found": True, "value": {"n": 1}}]
    winner = answers.index({"found": True, "value": {"n": 1}})
    await call(w.SET, "k", value=2)
    assert await call.once(f"g-{winner}")(w.GETDEL, "k") == {"found": True, "value": {"n": 1}}
    assert await call(w.GETDEL, "k") == {"found": True, "value": 2}
    await call(w.HSET, "h", field="f", value=1)
    with pytest.raises(ConflictError) as caught:
        await call(w.GETDEL, "h")
    assert caught.value.code == "wrong_type"


async def test_of_many_that_ask_at_once_one_gets_the_lock(call: Caller) -> None:
    grants = await asyncio.gather(*(call(w.ACQUIRE_LOCK, "job", owner=f"owner-{n:03}") for n in range(40)))
    assert sum(grant["acquired"] for grant in grants) == 1


async def test_only_the_owner_renews_and_releases(call: Caller) -> None:
    await call(w.ACQUIRE_LOCK, "job", owner=OWNER, ttl_seconds=60)
    for owner in (OTHER, "one", OWNER + "x", f"x {OWNER}"):
        if len(owner) >= 8:
            assert await call(w.RENEW_LOCK, "job", owner=owner) == {"held": False}
            assert await call(w.RELEASE_LOCK, "job", owner=owner) == {"held": False}
    assert (await call(w.RENEW_LOCK, "job", owner=OWNER, ttl_seconds=900))["held"]
    assert 898 <= await call.engine.client.ttl(await call.physical("dominus-lock:")) <= 900
    assert await call(w.RELEASE_LOCK, "job", owner=OWNER) == {"held": True}
    assert await call(w.RELEASE_LOCK, "job", owner=OWNER) == {"held": False}


async def test_after_a_lock_expired_the_next_owner_has_a_higher_fence(call: Caller) -> None:
    first = await call(w.ACQUIRE_LOCK, "job", owner=OWNER)
    await call.engine.client.pexpire(await call.physical("dominus-lock:"), 1)
    second = {"acquired": False}
    deadline = time.monotonic() + 5
    while not second["acquired"]:
        assert time.monotonic() < deadline
        second = await call(w.ACQUIRE_LOCK, "job", owner=OTHER)
    assert second["fence"] > first["fence"]
    assert await call(w.RENEW_LOCK, "job", owner=OWNER) == {"held": False}
    assert await call(w.RELEASE_LOCK, "job", owner=OWNER) == {"held": False}
    assert await call(w.ACQUIRE_LOCK, "job", owner=OWNER) == {"acquired": False}


async def test_fences_grow_when_the_last_one_was_lost_and_when_the_clock_is_set_back(call: Caller) -> None:
    first = await call(w.ACQUIRE_LOCK, "job", owner=OWNER)
    await call(w.RELEASE_LOCK, "job", owner=OWNER)
    await call.engine.client.delete(await call.physical("dominus-fence:"))
    started = time.monotonic_ns()
    while time.monotonic_ns() - started < 2_000_000:
        await asyncio.sleep(0)
    second = await call(w.ACQUIRE_LOCK, "job", owner=OWNER)
    assert second["fence"] > first["fence"]
    await call(w.RELEASE_LOCK, "job", owner=OWNER)
    ahead = second["fence"] + 10**9
    await call.engine.client.set(await call.physical("dominus-fence:"), ahead)
    assert (await call(w.ACQUIRE_LOCK, "job", owner=OWNER))["fence"] == ahead + 1


async def test_locks_and_entries_of_one_name_are_apart(call: Caller) -> None:
    await call(w.SET, "job", value="data")
    await call(w.ACQUIRE_LOCK, "job", owner=OWNER)
    assert await call(w.GET, "job") == {"found": True, "value": "data"}
    await call(w.DELETE, "job")
    assert await call(w.ACQUIRE_LOCK, "job", owner=OTHER) == {"acquired": False}
    assert (await call(w.ACQUIRE_LOCK, "job", owner=OTHER, category="c"))["acquired"]


async def test_a_renewal_leaves_no_record(call: Caller) -> None:
    await call(w.ACQUIRE_LOCK, "job", owner=OWNER)
    for _ in range(2):
        assert (await call.once("rn-1")(w.RENEW_LOCK, "job", owner=OWNER))["held"]
    assert await call.engine.client.keys(f"dominus-once:{{{call.principal.project}:*") == []


async def test_grants_and_renewals_tell_the_epoch_of_the_store(call: Caller) -> None:
    epoch = (await call(w.LOCK_EPOCH))["epoch"]
    assert len(epoch) == 32
    assert (await call(w.ACQUIRE_LOCK, "job", owner=OWNER))["epoch"] == epoch
    assert (await call(w.RENEW_LOCK, "job", owner=OWNER))["epoch"] == epoch
    assert await call(w.ACQUIRE_LOCK, "job", owner=OTHER) == {"acquired": False}


async def test_the_epoch_is_another_when_the_data_are_gone(
    call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch_module, "CACHE_SECONDS", 0.0)
    before = await call(w.LOCK_EPOCH)
    assert await call(w.LOCK_EPOCH) == before
    await call.engine.client.flushall()
    after = await call(w.LOCK_EPOCH)
    assert after != before
    assert await call(w.LOCK_EPOCH) == after


async def test_many_that_ask_for_the_epoch_cost_one_look(
    call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Any] = []
    look = epoch_module.StoreEpoch._look

    async def counted(self: Any) -> str:
        looks.append(self)
        return await look(self)

    monkeypatch.setattr(epoch_module.StoreEpoch, "_look", counted)
    monkeypatch.setattr(epoch_module, "CACHE_SECONDS", 60.0)
    answers = await asyncio.gather(*(call(w.LOCK_EPOCH) for _ in range(50)))
    assert all(answer == answers[0] for answer in answers)
    assert await call(w.LOCK_EPOCH) == answers[0]
    assert len(looks) == 1


# --- the whole


def test_every_operation_has_its_handler() -> None:
    names = {value.name for value in vars(w).values() if isinstance(value, Operation)}
    handled = {
        name for name, handler in handlers_by_operation().items() if handler.__module__ == service.__name__
    }
    assert handled == names


async def test_bad_requests_are_typed_errors_of_the_caller(call: Caller) -> None:
    for fields in (
        {"key": ""},
        {"key": "x" * 10_000},
        {"key": "a\0b"},
        {"key": "k", "category": "\n"},
        {"key": "\ud800"},
    ):
        with pytest.raises(DominusError) as caught:
            await call(w.SET, **fields, value=1)
        assert caught.value.status_code == 400


# --- bounds

MIB = 1024 * 1024


async def test_a_value_of_a_mebibyte_is_the_largest(call: Caller) -> None:
    largest, larger = "x" * (MIB - 2), "x" * (MIB - 1)
    assert (await call(w.SET, "k", value=largest))["stored"]
    assert await call(w.GET, "k") == {"found": True, "value": largest}
    for operation, fields in ((w.SET, {}), (w.SETNX, {}), (w.HSET, {"field": "f"})):
        with pytest.raises(ValidationError, match=str(MIB)) as caught:
            await call(operation, "other", value=larger, **fields)
        assert (caught.value.code, caught.value.status_code) == ("value_too_large", 400)
        assert caught.value.hint
    assert await call(w.EXISTS, "other") == {"exists": False}


async def test_one_key_a_hundred_times_is_read_once_and_answered_a_hundred_times(
    call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await call(w.SET, "k", value="x" * 100)
    asked: list[int] = []
    each = call.engine.each

    async def counted(command: str, abouts: Any) -> Any:
        asked.append(len(abouts))
        return await each(command, abouts)

    monkeypatch.setattr(call.engine, "each", counted)
    answer = await call(w.MGET, keys=[{"logical_path": "k"}, {"logical_path": "none"}] * 50)
    assert answer["results"] == [{"found": True, "value": "x" * 100}, {"found": False}] * 50
    assert set(asked) == {2}


async def test_values_that_are_too_much_together_are_refused_before_they_are_read(
    call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await call(w.SET, "k", value="x" * (MIB - 2))
    keys = [{"logical_path": "k"}] * 16
    assert len((await call(w.MGET, keys=keys))["results"]) == 16
    each, asked = call.engine.each, []

    async def noted(command: str, abouts: Any) -> Any:
        asked.append(command)
        return await each(command, abouts)

    monkeypatch.setattr(call.engine, "each", noted)
    with pytest.raises(ValidationError, match="16 MiB") as caught:
        await call(w.MGET, keys=[*keys, {"logical_path": "k"}])
    assert (caught.value.code, caught.value.status_code) == ("answer_too_large", 400)
    assert "fewer" in (caught.value.hint or "")
    assert asked == ["STRLEN"]
    few = [*keys[:8], *({"logical_path": f"none-{n}"} for n in range(92))]
    assert sum(found["found"] for found in (await call(w.MGET, keys=few))["results"]) == 8


async def test_a_hash_is_read_whole_up_to_its_bounds(call: Caller) -> None:
    for number in range(16):
        await call(w.HSET, "h", field=f"f{number}", value="x" * (MIB - 100))
    assert len((await call(w.HGETALL, "h"))["fields"]) == 16
    await call(w.HSET, "h", field="f16", value="x" * (MIB - 100))
    with pytest.raises(ValidationError) as caught:
        await call(w.HGETALL, "h")
    assert (caught.value.code, caught.value.status_code) == ("answer_too_large", 400)
    assert "hget" in (caught.value.hint or "")
    assert (await call(w.HGET, "h", field="f16"))["found"]


async def test_a_hash_of_ten_thousand_fields_is_the_largest_that_is_read_whole(call: Caller) -> None:
    await call(w.HSET, "h", field="f0", value=0)
    name = await call.physical("dominus:")
    await call.engine.execute("HSET", name, *(part for n in range(10_000) for part in (f"f{n}", n)))
    assert len((await call(w.HGETALL, "h"))["fields"]) == 10_000
    await call(w.HSET, "h", field="one more", value=0)
    with pytest.raises(ValidationError, match="10000"):
        await call(w.HGETALL, "h")


async def test_a_hash_is_none_of_the_values_of_mget_however_many(call: Caller) -> None:
    await call(w.HSET, "h", field="f", value=1)
    for count in (1, 20):
        with pytest.raises(ConflictError, match="'h'"):
            await call(
                w.MGET, keys=[{"logical_path": "h"}, *({"logical_path": f"k{n}"} for n in range(count))]
            )
