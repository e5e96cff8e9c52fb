"""redis: cache entries, counters, hashes and locks."""
# Over 350 lines of data: a request, an answer and an operation for each of nineteen calls.

from __future__ import annotations

from typing import Annotated, Any, ClassVar, NotRequired

from pydantic import AfterValidator, Field, StringConstraints
from typing_extensions import TypedDict

from dominus.contract.codes import CACHED, FILLING
from dominus.contract.operation import Service
from dominus.contract.request import Empty, Example, Omit, Request, plain_text

MIN_TTL_SECONDS = 60
MAX_TTL_SECONDS = 86_400
MAX_LIST = 500
MAX_MGET = 100
MAX_VALUE_BYTES = 1024 * 1024
"""Of the JSON of one value."""
MAX_ANSWER_BYTES = 16 * MAX_VALUE_BYTES
"""Of all values that one call reads."""
MAX_FIELDS = 10_000
"""Of a hash that is read whole."""

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
    """`fence` grows with every acquisition of this lock; present when acquired, as is `epoch` (see LockEpoch)."""

    acquired: bool
    fence: NotRequired[int]
    epoch: NotRequired[str]


class LockHeld(TypedDict):
    """False when the lock is no longer this owner's."""

    held: bool


class LockKept(LockHeld):
    """False when the lock is no longer this owner's; `epoch` is present when it is (see LockEpoch)."""

    epoch: NotRequired[str]


class LockEpoch(TypedDict):
    """Another one when the store of all locks is another: a lock of an earlier epoch may be lost. Empty: not known."""

    epoch: str


class Entry(Request):
    """Names an entry: key and category together."""

    example: ClassVar[Example] = {"logical_path": "user:42", "category": "profiles"}

    logical_path: LogicalPath
    category: Omit[Category]


class SetRequest(Entry):
    """Store a JSON value."""

    example: ClassVar[Example] = {
        **Entry.example,
        "value": {"name": "Ada", "visits": [1, None]},
        "ttl_seconds": 600,
    }

    value: Any
    ttl_seconds: Ttl = 3600


class GetRequest(Entry):
    """Read; `nudge` gives the entry a new life of `ttl_seconds`."""

    nudge: bool = False
    ttl_seconds: Annotated[Omit[Ttl], Field(title="ttl")]


class DeleteRequest(Entry):
    """Delete an entry of any kind."""


class ListRequest(Request):
    """List keys by their beginning."""

    example: ClassVar[Example] = {"logical_prefix": "user:", "category": "profiles", "limit": 100}

    limit: Annotated[int, Field(ge=1, le=MAX_LIST)] = 100
    logical_prefix: Annotated[Omit[Annotated[str, StringConstraints(max_length=1024)]], Field(title="prefix")]
    category: Omit[Category]
    cursor: Omit[Annotated[str, StringConstraints(max_length=64)]]


class MgetRequest(Request):
    """Read several entries."""

    example: ClassVar[Example] = {
        "keys": [Entry.example, {"logical_path": "user:43", "category": "profiles"}]
    }

    keys: Annotated[list[Entry], Field(min_length=1, max_length=MAX_MGET)]


class SetnxRequest(Entry):
    """Store only where nothing is."""

    example: ClassVar[Example] = {**Entry.example, "value": "worker-1", "ttl_seconds": 60}

    value: Any
    ttl_seconds: Ttl = 60


class IncrRequest(Entry):
    """Add to a counter; the life is set when the counter is made."""

    example: ClassVar[Example] = {**Entry.example, "delta": 5}

    delta: Count = 1
    ttl_seconds: Ttl = 3600


class HsetRequest(Entry):
    """Set one field of a hash and give the hash a new life."""

    example: ClassVar[Example] = {**Entry.example, "field": "city", "value": "Turin"}

    field: Key
    value: Any
    ttl_seconds: Ttl = 3600


class FieldRequest(Entry):
    """Name one field of a hash."""

    example: ClassVar[Example] = {**Entry.example, "field": "city"}

    field: Key


class ExpireRequest(Entry):
    """Give an entry a new life."""

    example: ClassVar[Example] = {**Entry.example, "ttl_seconds": 600}

    ttl_seconds: Ttl


class LockRequest(Entry):
    """Take, or keep, a lock for `owner`."""

    example: ClassVar[Example] = {**Entry.example, "owner": "worker-1-of-4", "ttl_seconds": 60}

    owner: Annotated[str, StringConstraints(min_length=8, max_length=128), AfterValidator(plain_text)]
    ttl_seconds: Ttl = 60


class LockRelease(Entry):
    """Give a lock back."""

    example: ClassVar[Example] = {**Entry.example, "owner": "worker-1-of-4"}

    owner: Annotated[str, StringConstraints(min_length=8, max_length=128), AfterValidator(plain_text)]


redis = Service("redis", "/api/whisperer")
SET = redis.write("set", SetRequest, Stored, "Store a JSON value.", errors=(*FILLING, "value_too_large"))
GET = redis.read("get", GetRequest, Found, "Read a value.", errors=CACHED)
DELETE = redis.write("delete", DeleteRequest, Deleted, "Delete an entry.")
GETDEL = redis.write("getdel", Entry, Found, "Read a value and delete it.", errors=CACHED)
LIST = redis.read("list", ListRequest, KeyPage, "List keys, a page at a time.", list_key="keys")
MGET = redis.read(
    "mget",
    MgetRequest,
    FoundMany,
    "Read up to 100 values.",
    list_key="results",
    errors=(*CACHED, "answer_too_large"),
)
SETNX = redis.write(
    "setnx",
    SetnxRequest,
    Acquired,
    "Store a value where nothing is.",
    errors=(*CACHED, *FILLING, "value_too_large"),
)
INCR = redis.write(
    "incr",
    IncrRequest,
    Counter,
    "Add to a counter.",
    errors=(*CACHED, *FILLING, "not_an_integer", "out_of_range"),
)
HSET = redis.write(
    "hset", HsetRequest, FieldSet, "Set a field of a hash.", errors=(*CACHED, *FILLING, "value_too_large")
)
HGET = redis.read("hget", FieldRequest, Found, "Read a field of a hash.", errors=CACHED)
HGETALL = redis.read(
    "hgetall", Entry, Fields, "Read all fields of a hash.", errors=(*CACHED, "answer_too_large")
)
HDEL = redis.write("hdel", FieldRequest, Deleted, "Delete a field of a hash.", errors=CACHED)
EXPIRE = redis.write("expire", ExpireRequest, Expiring, "Give an entry a new life.")
TTL = redis.read("ttl", Entry, TimeToLive, "How long an entry still lives.")
EXISTS = redis.read("exists", Entry, Exists, "Whether there is such an entry.")
ACQUIRE_LOCK = redis.write(
    "acquire_lock", LockRequest, LockGrant, "Take a lock for an owner.", path="lock/acquire", errors=FILLING
)
# It takes no idempotency key: a repeat only makes the life longer, and has to say what is true by then.
RENEW_LOCK = redis.read(
    "renew_lock",
    LockRequest,
    LockKept,
    "Keep a lock, if it is still the owner's.",
    path="lock/renew",
    scope="redis:write",
)
RELEASE_LOCK = redis.write(
    "release_lock",
    LockRelease,
    LockHeld,
    "Give a lock back, if it is still the owner's.",
    path="lock/release",
)
LOCK_EPOCH = redis.read(
    "lock_epoch",
    Empty,
    LockEpoch,
    "Which store the locks are in: another answer when locks may have been lost.",
    path="lock/epoch",
    scope="redis:write",
)
