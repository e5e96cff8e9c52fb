"""redis: cache entries, counters, hashes and locks, in Redis.

Names in Redis, where a tag is `{project:environment:category:key}` (the braces make it one cluster slot):

    dominus:<tag>         an entry: a string that is JSON, or a hash whose fields are JSON
    dominus-lock:<tag>    a lock that is held: its fence and its owner
    dominus-fence:<tag>   the last fence of a lock
    dominus-once:...      the outcome of a write that carried an idempotency key
    dominus-epoch         a random value, which is gone when the data are (engines/redis/epoch.py)

Values are stored as the JSON that is sent to readers, so a read decodes nothing.

Longer than most: each operation of the service is one short handler, and they share the few helpers below.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote

from pydantic_core import from_json, to_json

from dominus.contract import redis as contract
from dominus.contract.request import Empty
from dominus.errors import ConflictError, ServiceError, ValidationError
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import record_life
from dominus.orchestrator.handlers.registry import Handlers
from dominus.orchestrator.identity.principal import Principal

__all__ = ["handlers"]

handlers = Handlers(contract.redis)

NUDGE_TTL_SECONDS = 3600
FENCE_LIFE_SECONDS = 30 * 86_400
EPOCH_SECONDS = 1.0
"""How long a lock waits for what it is told beside the grant."""
SCAN_STEPS = 20
"""A page looks at so many steps of SCAN at most, and may be short: other tenants' keys are visited too."""

_ENTRY, _LOCK, _FENCE, _ONCE = "dominus:", "dominus-lock:", "dominus-fence:", "dominus-once:"
_MISSING = RawJson.of(b'{"found":false}')
_QUOTES = {ord(character): f"%{ord(character):02X}" for character in "%:{}"}
_GLOB = {ord(character): f"\\{character}" for character in "*?[]^-\\"}


# --- names


def _quoted(text: str) -> str:
    # Two names never become one: the separators of a tag occur in its parts only as %XX.
    return text.translate(_QUOTES)


def _place(principal: Principal) -> str:
    return f"{_quoted(principal.project)}:{_quoted(principal.environment)}"


def _tag(principal: Principal, entry: contract.Entry) -> str:
    return f"{{{_place(principal)}:{_quoted(entry.category or '')}:{_quoted(entry.logical_path)}}}"


def _name(ctx: Context, entry: contract.Entry) -> str:
    return _ENTRY + _tag(ctx.principal, entry)


def _record(ctx: Context, key: str, tag: str) -> str:
    # In a cluster the record must lie beside what is written; elsewhere there is one for each key, which also
    # notices a key that is used again for another entry.
    slot = tag if ctx.resources.redis.is_cluster else f"{{{_place(ctx.principal)}}}"
    return f"{_ONCE}{slot}{_quoted(ctx.principal.subject)}:{_quoted(key)}"


# --- values and writes


def _json(value: Any) -> bytes:
    text = to_json(value)
    # A number such as 1e999 passes every JSON parser and is infinite afterwards, which no JSON can say.
    if b"Infinity" in text:
        try:
            from_json(text, allow_inf_nan=False)
        except ValueError:
            raise ValidationError("value: a number is too large for a JSON number") from None
    if len(text) > contract.MAX_VALUE_BYTES:
        raise ValidationError(
            f"value: has {len(text)} bytes of JSON, an entry has at most {contract.MAX_VALUE_BYTES}",
            code="value_too_large",
            hint="split it over several keys, or keep it in a table and its id here",
        )
    return text


def _refuse_too_large(byte_count: int) -> None:
    if byte_count > contract.MAX_ANSWER_BYTES:
        raise ValidationError(
            f"the values are more than {contract.MAX_ANSWER_BYTES >> 20} MiB together",
            code="answer_too_large",
            hint="ask for fewer keys at once",
        )


def _found(stored: bytes | None) -> RawJson:
    return _MISSING if stored is None else RawJson.of(b'{"found":true,"value":%b}' % stored)


async def _once(
    ctx: Context, script: str, entry: contract.Entry, *args: Any, spaces: Iterable[str] = (_ENTRY,)
) -> bytes:
    """Run a write, once for each idempotency key, and return its outcome."""
    tag = _tag(ctx.principal, entry)
    keys = [space + tag for space in spaces]
    fingerprint, life_seconds = "", 0
    if ctx.idempotency is not None:
        fingerprint, life_seconds = ctx.idempotency.fingerprint, record_life(ctx, ctx.idempotency)
        keys.append(_record(ctx, ctx.idempotency.key, tag))
    outcome = await ctx.resources.redis.run(
        script, keys, (fingerprint, life_seconds, *args), about=entry.logical_path
    )
    if outcome is None:
        raise ConflictError(
            "this idempotency key was used for another request",
            code="idempotency_key_reused",
            hint="take a new key for each write, and the same one only to repeat it",
        )
    return outcome


# --- entries


@handlers(contract.SET)
async def set_value(ctx: Context, request: contract.SetRequest) -> contract.Stored:
    """Store a value."""
    await _once(ctx, "set", request, _json(request.value), request.ttl_seconds)
    return {"key": request.logical_path, "stored": True, "ttl_seconds": request.ttl_seconds}


@handlers(contract.GET)
async def get_value(ctx: Context, request: contract.GetRequest) -> RawJson:
    """Read a value, and with `nudge` give it a new life."""
    command: tuple[Any, ...] = ("GET", _name(ctx, request))
    if request.nudge:
        command = ("GETEX", command[1], "EX", request.ttl_seconds or NUDGE_TTL_SECONDS)
    return _found(await ctx.resources.redis.execute(*command, about=request.logical_path))


@handlers(contract.MGET)
async def get_many(ctx: Context, request: contract.MgetRequest) -> RawJson:
    """Read several values, in the order asked for."""
    names = [_name(ctx, entry) for entry in request.keys]
    abouts = {name: entry.logical_path for name, entry in zip(names, request.keys, strict=True)}
    redis = ctx.resources.redis
    # So few are within the limit, whatever is in them. A key that is asked for twice is read once and answered twice.
    if len(names) * contract.MAX_VALUE_BYTES > contract.MAX_ANSWER_BYTES:
        sizes = await redis.each("STRLEN", abouts)
        _refuse_too_large(sum(sizes[name] for name in names))
    stored = await redis.each("GET", abouts)
    return RawJson.of(b'{"results":[%b]}' % b",".join(_found(stored[name]) for name in names))


@handlers(contract.DELETE)
async def delete_entry(ctx: Context, request: contract.Entry) -> contract.Deleted:
    """Delete an entry of any kind."""
    return {"deleted": await _once(ctx, "delete", request) == b"1"}


@handlers(contract.GETDEL)
async def take_value(ctx: Context, request: contract.Entry) -> RawJson:
    """Read a value and delete it: of several callers one gets it."""
    outcome = await _once(ctx, "getdel", request)
    return _found(outcome[1:] if outcome[:1] == b"1" else None)


@handlers(contract.SETNX)
async def set_if_absent(ctx: Context, request: contract.SetnxRequest) -> RawJson:
    """Store a value where nothing is."""
    outcome = await _once(ctx, "setnx", request, _json(request.value), request.ttl_seconds)
    if outcome == b"1":
        return RawJson.of(b'{"acquired":true}')
    existing = b',"existing":%b' % outcome[1:] if len(outcome) > 1 else b""
    return RawJson.of(b'{"acquired":false%b}' % existing)


@handlers(contract.INCR)
async def increment(ctx: Context, request: contract.IncrRequest) -> RawJson:
    """Add to a counter."""
    return RawJson.of(b'{"value":%b}' % await _once(ctx, "incr", request, request.delta, request.ttl_seconds))


@handlers(contract.EXPIRE)
async def expire_entry(ctx: Context, request: contract.ExpireRequest) -> contract.Expiring:
    """Give an entry a new life."""
    return {"updated": await _once(ctx, "expire", request, request.ttl_seconds) == b"1"}


@handlers(contract.TTL)
async def time_to_live(ctx: Context, request: contract.Entry) -> contract.TimeToLive:
    """Return how long an entry still lives."""
    seconds: int = await ctx.resources.redis.execute("TTL", _name(ctx, request))
    if seconds == -2:
        return {"found": False}
    return {"found": True, "ttl_seconds": seconds} if seconds >= 0 else {"found": True}


@handlers(contract.EXISTS)
async def entry_exists(ctx: Context, request: contract.Entry) -> contract.Exists:
    """Return whether there is such an entry."""
    return {"exists": bool(await ctx.resources.redis.execute("EXISTS", _name(ctx, request)))}


# --- hashes


@handlers(contract.HSET)
async def set_field(ctx: Context, request: contract.HsetRequest) -> contract.FieldSet:
    """Set a field of a hash."""
    outcome = await _once(ctx, "hset", request, request.field, _json(request.value), request.ttl_seconds)
    return {"set": outcome == b"1"}


@handlers(contract.HGET)
async def get_field(ctx: Context, request: contract.FieldRequest) -> RawJson:
    """Read a field of a hash."""
    name = _name(ctx, request)
    return _found(await ctx.resources.redis.execute("HGET", name, request.field, about=request.logical_path))


@handlers(contract.HGETALL)
async def get_fields(ctx: Context, request: contract.Entry) -> RawJson:
    """Read all fields of a hash."""
    limits = (contract.MAX_FIELDS, contract.MAX_ANSWER_BYTES)
    stored: list[bytes] | int = await ctx.resources.redis.run(
        "hgetall", [_name(ctx, request)], limits, about=request.logical_path
    )
    if isinstance(stored, int):
        raise ValidationError(
            f"entry {request.logical_path!r} has more than {limits[0]} fields, or {limits[1] >> 20} MiB of them",
            code="answer_too_large",
            hint="read single fields with hget, and spread large hashes over several keys",
        )
    if not stored:
        return _MISSING
    pairs = zip(stored[::2], stored[1::2], strict=True)
    fields = b",".join(b"%b:%b" % (to_json(field.decode()), value) for field, value in pairs)
    return RawJson.of(b'{"found":true,"fields":{%b}}' % fields)


@handlers(contract.HDEL)
async def delete_field(ctx: Context, request: contract.FieldRequest) -> contract.Deleted:
    """Delete a field of a hash."""
    return {"deleted": await _once(ctx, "hdel", request, request.field) == b"1"}


# --- locks


async def _epoch_so_far(ctx: Context) -> str:
    """Return the epoch for an answer about a lock, empty when it is not known.

    It is asked before the lock is: an epoch told after a grant might be that of a store which came after it, and has it
    not. An older one than the lock's only makes its holder ask once more.
    """
    try:
        async with asyncio.timeout(EPOCH_SECONDS):
            return await ctx.resources.redis.epoch()
    except (ServiceError, TimeoutError):
        return ""


@handlers(contract.ACQUIRE_LOCK)
async def acquire_lock(ctx: Context, request: contract.LockRequest) -> contract.LockGrant:
    """Take a lock; an owner that asks again gets the fence that it has."""
    epoch = await _epoch_so_far(ctx)
    args = (request.owner, request.ttl_seconds, FENCE_LIFE_SECONDS)
    fence = int(await _once(ctx, "acquire", request, *args, spaces=(_LOCK, _FENCE)))
    return {"acquired": True, "fence": fence, "epoch": epoch} if fence else {"acquired": False}


@handlers(contract.RENEW_LOCK)
async def renew_lock(ctx: Context, request: contract.LockRequest) -> contract.LockKept:
    """Keep a lock that is still the owner's."""
    epoch = await _epoch_so_far(ctx)
    outcome = await ctx.resources.redis.run(
        "renew",
        [_LOCK + _tag(ctx.principal, request)],
        (request.owner, request.ttl_seconds),
        about=request.logical_path,
    )
    return {"held": True, "epoch": epoch} if outcome == b"1" else {"held": False}


@handlers(contract.RELEASE_LOCK)
async def release_lock(ctx: Context, request: contract.LockRelease) -> contract.LockHeld:
    """Give back a lock that is still the owner's."""
    return {"held": await _once(ctx, "release", request, request.owner, spaces=(_LOCK,)) == b"1"}


@handlers(contract.LOCK_EPOCH)
async def lock_epoch(ctx: Context, _: Empty) -> contract.LockEpoch:
    """Return which store the locks are in."""
    return {"epoch": await ctx.resources.redis.epoch()}


# --- listing


@dataclass(frozen=True, slots=True)
class _Cursor:
    """Where the next page starts.

    SCAN returns about as many keys as it is asked for, so a step that does not fit into the page is made again
    and smaller. The smallest one visits a single bucket of the keyspace. When even that does not fit, the page
    ends within it, and the next page skips its keys with a digest up to `after`: if that step ends at the same
    `end`, that is, else the keyspace was resized, and seeing a key twice beats missing one.
    """

    start: int = 0
    end: int = -1
    after: str = ""

    def text(self) -> str:
        return f"{self.start:x}.{self.end:x}.{self.after}" if self.after else f"{self.start:x}"

    @classmethod
    def parse(cls, text: str | None) -> _Cursor:
        if not text:
            return cls()
        try:
            start, *cut = text.split(".")
            end, after = cut or ("-1", "")
            found = cls(int(start, 16), int(end, 16), after)
        except ValueError:
            found = cls(start=-1)
        if not 0 <= found.start < 2**74 or not text.isascii():
            raise ValidationError("cursor: it is none that a listing returned")
        return found


def _digest(key: bytes) -> str:
    return blake2b(key, digest_size=8).hexdigest()


def _remaining(batch: Iterable[bytes], cursor: _Cursor, end: int) -> list[bytes]:
    keys = sorted(set(batch), key=_digest)
    return [key for key in keys if _digest(key) > cursor.after] if end == cursor.end else keys


@handlers(contract.LIST)
async def list_keys(ctx: Context, request: contract.ListRequest) -> contract.KeyPage:
    """List keys of one category by their beginning."""
    head = f"{_ENTRY}{{{_place(ctx.principal)}:{_quoted(request.category or '')}:"
    pattern = (head + _quoted(request.logical_prefix or "")).translate(_GLOB) + "*"
    least, most = ctx.resources.redis.scan_counts
    found: dict[bytes, None] = {}
    cursor: _Cursor | None = _Cursor.parse(request.cursor)
    count = least if cursor.after else most
    for _ in range(SCAN_STEPS):
        end, batch = await ctx.resources.redis.scan(pattern, cursor.start, count)
        keys = [key for key in _remaining(batch, cursor, end) if key not in found]
        room = request.limit - len(found)
        if len(keys) > room:
            if count > least:
                count = max(least, min(count // 2, count * room // len(keys)))
                continue
            if not found:
                found = dict.fromkeys(keys[:room])
                cursor = _Cursor(cursor.start, end, _digest(keys[room - 1]))
            break
        found.update(dict.fromkeys(keys))
        cursor = _Cursor(end) if end else None
        if cursor is None or count < most or len(found) == request.limit:
            break
    names = [unquote(key.decode()[len(head) : -1]) for key in found]
    return {"keys": names, "cursor": cursor.text() if cursor else None, "count": len(names)}
