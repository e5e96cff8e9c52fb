"""whisperer: cache entries, counters, hashes and locks."""
# Over 350 lines of data: a request, an answer and an operation for each of seventeen calls.

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, Field, StringConstraints
from typing_extensions import TypedDict

from dominus.contract.operation import Omit, Operation, Request, Retry, plain_text

MIN_TTL_SECONDS = 60
MAX_TTL_SECONDS = 86_400
MAX_LIST = 500
MAX_MGET = 100

Key = Annotated[str, StringConstraints(min_length=1, max_length=1024), AfterValidator(plain_text)]
Category = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(plain_text)]
LogicalPath = Annotated[Key, Field(title="key")]
Ttl = Annotated[int, Field(ge=MIN_TTL_SECONDS, le=MAX_TTL_SECONDS, title="ttl")]
Count = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]


class Stored(TypedDict):
    """A stored entry; `ttl_seconds` is what is left of its life."""

    key: NotRequired[str]
    stored: bool
    ttl_seconds: NotRequired[int]


class Found(TypedDict):
    """`value` is present when `found`."""

    found: bool
    value: NotRequired[Any]


class Deleted(TypedDict):
    """`deleted` is true when there was something to delete."""

    deleted: bool


class KeyPage(TypedDict):
    """Keys in no particular order; an empty `cursor` ends the listing. A page may be short, or empty."""

    keys: list[str]
    cursor: NotRequired[str | None]
    count: NotRequired[int]


class FoundMany(TypedDict):
    """In the order asked for."""

    results: list[Found]


class Acquired(TypedDict):
    """`existing` is the value that was there when not acquired."""

    acquired: bool
    existing: NotRequired[Any]


class Counter(TypedDict):
    """The counter after the change."""

    value: int


class FieldSet(TypedDict):
    """True for a new field, false for an overwritten one."""

    set: bool


class Fields(TypedDict):
    """`fields` is present when `found`."""

    found: bool
    fields: NotRequired[dict[str, Any]]


class Expiring(TypedDict):
    """True when the entry exists and its life was changed."""

    updated: bool


class TimeToLive(TypedDict):
    """Seconds left, absent when there is no such entry."""

    found: bool
    ttl_seconds: NotRequired[int]


class Exists(TypedDict):
    """Whether there is such an entry."""

    exists: bool


class LockGrant(TypedDict):
    """`fence` grows with every acquisition of this lock; present when acquired."""

    acquired: bool
    fence: NotRequired[int]


class LockHeld(TypedDict):
    """False when the lock is no longer this owner's."""

    held: bool


class Entry(Request):
    """Names an entry: key and category together."""

    logical_path: LogicalPath
    category: Omit[Category]


class SetRequest(Entry):
    """Store a JSON value."""

    value: Any
    ttl_seconds: Ttl = 3600


class GetRequest(Entry):
    """Read; `nudge` gives the entry a new life of `ttl_seconds`."""

    nudge: bool = False
    ttl_seconds: Omit[Ttl]


class DeleteRequest(Entry):
    """Delete an entry of any kind."""


class ListRequest(Request):
    """List keys by their beginning."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIST)] = 100
    logical_prefix: Omit[Annotated[str, StringConstraints(max_length=1024)]]
    category: Omit[Category]
    cursor: Omit[Annotated[str, StringConstraints(max_length=64)]]


class MgetRequest(Request):
    """Read several entries."""

    keys: Annotated[list[Entry], Field(min_length=1, max_length=MAX_MGET)]


class SetnxRequest(Entry):
    """Store only where nothing is."""

    value: Any
    ttl_seconds: Ttl = 60


class IncrRequest(Entry):
    """Add to a counter; the life is set when the counter is made."""

    delta: Count = 1
    ttl_seconds: Ttl = 3600


class HsetRequest(Entry):
    """Set one field of a hash and give the hash a new life."""

    field: Key
    value: Any
    ttl_seconds: Ttl = 3600


class FieldRequest(Entry):
    """Name one field of a hash."""

    field: Key


class ExpireRequest(Entry):
    """Give an entry a new life."""

    ttl_seconds: Ttl


class LockRequest(Entry):
    """Take, or keep, a lock for `owner`."""

    owner: Annotated[str, StringConstraints(min_length=8, max_length=128), AfterValidator(plain_text)]
    ttl_seconds: Ttl = 60


class LockRelease(Entry):
    """Give a lock back."""

    owner: Annotated[str, StringConstraints(min_length=8, max_length=128), AfterValidator(plain_text)]


READ, WRITE = "redis:read", "redis:write"

SET = Operation(
    name="redis.set",
    method="POST",
    path="/api/whisperer/set",
    request=SetRequest,
    result=Stored,
    scope=WRITE,
    retry=Retry.KEYED,
    summary="Store a JSON value.",
)
GET = Operation(
    name="redis.get",
    method="POST",
    path="/api/whisperer/get",
    request=GetRequest,
    result=Found,
    scope=READ,
    retry=Retry.READ,
    summary="Read a value.",
)
DELETE = Operation(
    name="redis.delete",
    method="POST",
    path="/api/whisperer/delete",
    request=DeleteRequest,
    result=Deleted,
    scope=WRITE,
    retry=Retry.KEYED,
    summary="Delete an entry.",
)
LIST = Operation(
    name="redis.list",
    method="POST",
    path="/api/whisperer/list",
    request=ListRequest,
    result=KeyPage,
    scope=READ,
    retry=Retry.READ,
    list_key="keys",
    summary="List keys, a page at a time.",
)
MGET = Operation(
    name="redis.mget",
    method="POST",
    path="/api/whisperer/mget",
    request=MgetRequest,
    result=FoundMany,
    scope=READ,
    retry=Retry.READ,
    list_key="results",
    summary="Read up to 100 values.",
)
SETNX = Operation(
    name="redis.setnx",
    method="POST",
    path="/api/whisperer/setnx",
    request=SetnxRequest,
    result=Acquired,
    scope=WRITE,
    retry=Retry.KEYED,
    summary="Store a value where nothing is.",
)
INCR = Operation(
    name="redis.incr",
    method="POST",
    path="/api/whisperer/incr",
    request=IncrRequest,
    result=Counter,
    scope=WRITE,
    retry=Retry.KEYED,
    summary="Add to a counter.",
)
HSET = Operation(
    name="redis.hset",
    method="POST",
    path="/api/whisperer/hset",
    request=HsetRequest,
    result=FieldSet,
    scope=WRITE,
    retry=Retry.KEYED,
    summary="Set a field of a hash.",
)
HGET = Operation(
    name="redis.hget",
    method="POST",
    path="/api/whisperer/hget",
    request=FieldRequest,
    result=Found,
    scope=READ,
    retry=Retry.READ,
    summary="Read a field of a hash.",
)
HGETALL = Operation(
    name="redis.hgetall",
    method="POST",
    path="/api/whisperer/hgetall",
    request=Entry,
    result=Fields,
    scope=READ,
    retry=Retry.READ,
    summary="Read all fields of a hash.",
)
HDEL = Operation(
    name="redis.hdel",
    method="POST",
    path="/api/whisperer/hdel",
    request=FieldRequest,
    result=Deleted,
    scope=WRITE,
    retry=Retry.KEYED,
    summary="Delete a field of a hash.",
)
EXPIRE = Operation(
    name="redis.expire",
    method="POST",
    path="/api/whisperer/expire",
    request=ExpireRequest,
    result=Expiring,
    scope=WRITE,
    retry=Retry.KEYED,
    is_own=True,
    summary="Give an entry a new life.",
)
TTL = Operation(
    name="redis.ttl",
    method="POST",
    path="/api/whisperer/ttl",
    request=Entry,
    result=TimeToLive,
    scope=READ,
    retry=Retry.READ,
    is_own=True,
    summary="How long an entry still lives.",
)
EXISTS = Operation(
    name="redis.exists",
    method="POST",
    path="/api/whisperer/exists",
    request=Entry,
    result=Exists,
    scope=READ,
    retry=Retry.READ,
    is_own=True,
    summary="Whether there is such an entry.",
)
ACQUIRE_LOCK = Operation(
    name="redis.acquire_lock",
    method="POST",
    path="/api/whisperer/lock/acquire",
    request=LockRequest,
    result=LockGrant,
    scope=WRITE,
    retry=Retry.KEYED,
    is_own=True,
    summary="Take a lock for an owner.",
)
RENEW_LOCK = Operation(
    name="redis.renew_lock",
    method="POST",
    path="/api/whisperer/lock/renew",
    request=LockRequest,
    result=LockHeld,
    scope=WRITE,
    retry=Retry.KEYED,
    is_own=True,
    summary="Keep a lock, if it is still the owner's.",
)
RELEASE_LOCK = Operation(
    name="redis.release_lock",
    method="POST",
    path="/api/whisperer/lock/release",
    request=LockRelease,
    result=LockHeld,
    scope=WRITE,
    retry=Retry.KEYED,
    is_own=True,
    summary="Give a lock back, if it is still the owner's.",
)
