"""dominus.redis: cache entries, counters, hashes and locks. Values come back, not dicts."""
# Over 350 lines for its documentation: each method is a request and a call.

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Sequence
from typing import Any

from dominus.contract import redis as contract
from dominus.contract.request import Empty
from dominus.contract.values import wire_value
from dominus.hints import iterator
from dominus.namespaces.base import Namespace, as_list, check_seconds, unwrap
from dominus.namespaces.lock import Lock

__all__ = ["Redis"]


class Redis(Namespace):
    """Cache entries, counters, hashes and locks. A key and its category together name an entry.

    Keys have 1 to 1,024 characters, categories 1 to 128; entries belong to the project and environment of the
    token. Values are JSON: text, numbers, bool, None, lists and dicts; `bytes` are refused, and a Decimal, UUID
    or datetime comes back as text. Every `ttl` is 60 to 86,400 seconds. A hash method on a plain value, or the
    reverse, is a ConflictError (`wrong_type`).
    """

    async def set(
        self,
        key: str,
        value: Any,
        ttl: int = 3600,
        category: str | None = None,
        *,
        timeout: float | None = None,
    ) -> bool:
        """Store a JSON value for `ttl` seconds, over what was there. Returns true.

        Args:
            key: its name, 1 to 1,024 characters.
            value: any JSON value of up to 1 MiB; Decimal, UUID and datetime come back as text.
            ttl: seconds, 60 to 86,400.
            category: a group of keys, 1 to 128 characters; names in other categories are other entries.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: the value is no JSON, or larger than 1 MiB (code `value_too_large`).

        Example:
            ```python
            await dominus.redis.set("greeting", {"text": "hello"}, ttl=600)
            ```
        """
        request = contract.SetRequest(
            logical_path=key, value=wire_value(value), ttl_seconds=ttl, category=category
        )
        return (await self._call(contract.SET, request, timeout=timeout))["stored"]

    async def get(
        self,
        key: str,
        category: str | None = None,
        nudge: bool = False,
        ttl: int | None = None,
        *,
        default: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Return the value, or `default` when there is none.

        Args:
            key: its name.
            category: its category.
            nudge: give the entry a new life of `ttl` seconds (3600 without it).
            ttl: seconds, 60 to 86,400; only with `nudge`.
            default: what a missing entry gives.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: the entry is a hash.

        Example:
            ```python
            greeting = await dominus.redis.get("greeting", default={"text": "hi"})
            ```
        """
        request = contract.GetRequest(
            logical_path=key, category=category, nudge=nudge, ttl_seconds=ttl if nudge else None
        )
        found = await self._call(contract.GET, request, timeout=timeout)
        return found.get("value") if found["found"] else default

    async def delete(self, key: str, category: str | None = None, *, timeout: float | None = None) -> bool:
        """Delete an entry of any kind; false when there was none.

        Args:
            key: its name.
            category: its category.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            await dominus.redis.delete("greeting")
            ```
        """
        request = contract.DeleteRequest(logical_path=key, category=category)
        return (await self._call(contract.DELETE, request, timeout=timeout))["deleted"]

    async def getdel(
        self,
        key: str,
        category: str | None = None,
        *,
        default: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Return a value and delete it, in one step: of several callers exactly one gets it.

        Args:
            key: its name.
            category: its category.
            default: what a missing entry gives.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: the entry is a hash (code `wrong_type`).

        Example:
            ```python
            code = await dominus.redis.getdel("login-code:ada")
            ```
        """
        request = contract.Entry(logical_path=key, category=category)
        found = await self._call(contract.GETDEL, request, timeout=timeout)
        return found.get("value") if found["found"] else default

    async def list(
        self,
        prefix: str | None = None,
        category: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.KeyPage:
        """Return one page of keys: `{"keys", "cursor", "count"}`; an empty cursor ends the listing.

        A page may be short or empty before the end; `scan_iter` walks all pages.

        Args:
            prefix: what the keys begin with; all keys without it.
            category: their category.
            limit: about how many keys, 1 to 500.
            cursor: that of the page before; the first page without it.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            page = await dominus.redis.list("cart:", limit=100)
            print(page["keys"], page["cursor"])
            ```
        """
        request = contract.ListRequest(
            limit=limit, logical_prefix=prefix or None, category=category, cursor=cursor
        )
        return await self._call(contract.LIST, request, timeout=timeout)

    @iterator
    async def scan_iter(
        self, prefix: str | None = None, category: str | None = None, *, timeout: float | None = None
    ) -> AsyncIterator[str]:
        """Iterate over all keys. A key may come twice while others write.

        Args:
            prefix: what the keys begin with; all keys without it.
            category: their category.
            timeout: seconds for each page; the client's without it.

        Example:
            ```python
            async for key in dominus.redis.scan_iter("cart:"):
                print(key)
            ```
        """
        cursor: str | None = None
        while True:
            page = await self.list(prefix, category, contract.MAX_LIST, cursor, timeout=timeout)
            for key in page["keys"]:
                yield key
            cursor = page.get("cursor")
            if not cursor or cursor == "0":
                return

    async def mget(
        self,
        keys: Sequence[str | dict[str, Any]],
        category: str | None = None,
        *,
        default: Any = None,
        timeout: float | None = None,
    ) -> builtins.list[Any]:
        """Return the values of several keys in their order, `default` for the missing.

        Args:
            keys: up to 100; each is text, or `{"key": ..., "category": ...}`.
            category: of the keys that name none.
            default: what a missing entry gives.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: more than 100 keys, or more than 16 MiB of values (code `answer_too_large`; a key that is
                named twice counts twice).

        Example:
            ```python
            hello, other = await dominus.redis.mget(["greeting", {"key": "greeting", "category": "fr"}])
            ```
        """
        entries = [_entry(key, category) for key in as_list(keys, "keys")]
        if not entries:
            return []
        request = contract.MgetRequest(keys=entries)
        answer = await self._call(contract.MGET, request, timeout=timeout)
        return unwrap(
            contract.MGET,
            answer,
            lambda data: [item.get("value") if item["found"] else default for item in data["results"]],
        )

    async def setnx(
        self,
        key: str,
        value: Any,
        ttl: int = 60,
        category: str | None = None,
        *,
        timeout: float | None = None,
    ) -> bool:
        """Store a value where nothing is; true exactly when it was stored. For locks prefer `lock()`.

        Args:
            key: its name, 1 to 1,024 characters.
            value: any JSON value.
            ttl: seconds, 60 to 86,400.
            category: its category.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            if await dominus.redis.setnx("job:report", "worker-1", ttl=60):
                print("only one worker does this")
            ```
        """
        request = contract.SetnxRequest(
            logical_path=key, value=wire_value(value), ttl_seconds=ttl, category=category
        )
        return (await self._call(contract.SETNX, request, timeout=timeout))["acquired"]

    async def incr(
        self,
        key: str,
        delta: int = 1,
        ttl: int = 3600,
        category: str | None = None,
        *,
        timeout: float | None = None,
    ) -> int:
        """Add to a counter and return it. `ttl` is set when the counter is made, and not touched later.

        Args:
            key: its name, 1 to 1,024 characters.
            delta: what is added, a 64-bit integer; may be negative.
            ttl: seconds, 60 to 86,400.
            category: its category.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: the entry is no whole number.
            ValidationError: the counter would leave the range of 64-bit integers.

        Example:
            ```python
            visits = await dominus.redis.incr("visits:ada", ttl=86_400)
            ```
        """
        request = contract.IncrRequest(logical_path=key, delta=delta, ttl_seconds=ttl, category=category)
        return (await self._call(contract.INCR, request, timeout=timeout))["value"]

    async def hset(
        self,
        key: str,
        field: str,
        value: Any,
        ttl: int = 3600,
        category: str | None = None,
        *,
        timeout: float | None = None,
    ) -> bool:
        """Set a field of a hash, which then lives `ttl` seconds more; true exactly when the field is new.

        Args:
            key: the name of the hash, 1 to 1,024 characters.
            field: the name of the field, 1 to 1,024 characters.
            value: any JSON value.
            ttl: seconds for the whole hash, 60 to 86,400.
            category: its category.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: the entry is no hash.
            ValidationError: the value is no JSON, or larger than 1 MiB (code `value_too_large`).

        Example:
            ```python
            await dominus.redis.hset("cart:ada", "apples", 3, ttl=3600)
            ```
        """
        request = contract.HsetRequest(
            logical_path=key, field=field, value=wire_value(value), ttl_seconds=ttl, category=category
        )
        return (await self._call(contract.HSET, request, timeout=timeout))["set"]

    async def hget(
        self,
        key: str,
        field: str,
        category: str | None = None,
        *,
        default: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Return a field of a hash, or `default`.

        Args:
            key: the name of the hash.
            field: the name of the field.
            category: its category.
            default: what a missing hash or field gives.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: the entry is no hash.

        Example:
            ```python
            apples = await dominus.redis.hget("cart:ada", "apples", default=0)
            ```
        """
        request = contract.FieldRequest(logical_path=key, field=field, category=category)
        found = await self._call(contract.HGET, request, timeout=timeout)
        return found.get("value") if found["found"] else default

    async def hgetall(
        self, key: str, category: str | None = None, *, timeout: float | None = None
    ) -> dict[str, Any]:
        """Return all fields of a hash; empty when there is no such hash.

        Args:
            key: the name of the hash.
            category: its category.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: the entry is no hash.
            ValidationError: more than 10,000 fields, or 16 MiB of them (code `answer_too_large`).

        Example:
            ```python
            for fruit, count in (await dominus.redis.hgetall("cart:ada")).items():
                print(fruit, count)
            ```
        """
        request = contract.Entry(logical_path=key, category=category)
        found = await self._call(contract.HGETALL, request, timeout=timeout)
        return found.get("fields") or {}

    async def hdel(
        self, key: str, field: str, category: str | None = None, *, timeout: float | None = None
    ) -> bool:
        """Delete a field of a hash; false when there was none.

        Args:
            key: the name of the hash.
            field: the name of the field.
            category: its category.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            await dominus.redis.hdel("cart:ada", "apples")
            ```
        """
        request = contract.FieldRequest(logical_path=key, field=field, category=category)
        return (await self._call(contract.HDEL, request, timeout=timeout))["deleted"]

    async def expire(
        self, key: str, ttl: int, category: str | None = None, *, timeout: float | None = None
    ) -> bool:
        """Give an entry a new life of `ttl` seconds; false when there is none.

        Args:
            key: its name.
            ttl: seconds, 60 to 86,400.
            category: its category.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            is_there = await dominus.redis.expire("greeting", 3600)
            ```
        """
        request = contract.ExpireRequest(logical_path=key, ttl_seconds=ttl, category=category)
        return (await self._call(contract.EXPIRE, request, timeout=timeout))["updated"]

    async def ttl(self, key: str, category: str | None = None, *, timeout: float | None = None) -> int | None:
        """Return the seconds that an entry still lives, None when there is none.

        Args:
            key: its name.
            category: its category.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            await dominus.redis.set("banner", "sale", ttl=600)
            assert 590 < await dominus.redis.ttl("banner") <= 600
            ```
        """
        request = contract.Entry(logical_path=key, category=category)
        return (await self._call(contract.TTL, request, timeout=timeout)).get("ttl_seconds")

    async def exists(self, key: str, category: str | None = None, *, timeout: float | None = None) -> bool:
        """Return whether there is such an entry.

        Args:
            key: its name.
            category: its category.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            if not await dominus.redis.exists("report:2026-01"):
                print("not made yet")
            ```
        """
        request = contract.Entry(logical_path=key, category=category)
        return (await self._call(contract.EXISTS, request, timeout=timeout))["exists"]

    def lock(
        self,
        name: str,
        ttl: int = 60,
        category: str | None = None,
        *,
        wait: float = 0.0,
        owner: str | None = None,
    ) -> Lock:
        """Return a lock to hold with `async with`; it is renewed while held and released by its owner only.

        Args:
            name: what is locked, 1 to 1,024 characters.
            ttl: seconds until it is free again after its holder died, 60 to 86,400.
            category: its category.
            wait: seconds to wait for another holder, and for a server that is away; 0 gives up at once.
            owner: a token of 8 to 128 characters; a random one for each entering without it.

        Raises:
            LockNotAcquiredError: on entering, when another holds it.
            DominusError: on entering, when the server did not answer. Where it may have granted the lock, that is
                given back in the background.

        Example:
            ```python
            async with dominus.redis.lock("nightly", ttl=60, wait=5) as lease:
                lease.check()  # before a step that must not happen twice
                print(lease.fence)
            ```
        """
        check_seconds(wait, "wait")
        return Lock(self._caller, name, ttl=ttl, category=category, wait=wait, owner=owner)

    async def acquire_lock(
        self,
        key: str,
        owner: str,
        ttl: int = 60,
        category: str | None = None,
        *,
        timeout: float | None = None,
    ) -> int | None:
        """Take a lock for `owner` and return its fence, a number that grows with every acquisition; None if held.

        The step below `lock()`, which renews and releases by itself.

        Args:
            key: what is locked, 1 to 1,024 characters.
            owner: 8 to 128 characters that no other holder has.
            ttl: seconds until it is free again, 60 to 86,400.
            category: its category.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            fence = await dominus.redis.acquire_lock("import", owner="worker-17", ttl=120)
            if fence is not None:
                await dominus.redis.release_lock("import", owner="worker-17")
            ```
        """
        request = contract.LockRequest(logical_path=key, owner=owner, ttl_seconds=ttl, category=category)
        grant = await self._call(contract.ACQUIRE_LOCK, request, timeout=timeout)
        return grant.get("fence") if grant["acquired"] else None

    async def renew_lock(
        self,
        key: str,
        owner: str,
        ttl: int = 60,
        category: str | None = None,
        *,
        timeout: float | None = None,
    ) -> bool:
        """Keep a lock for another `ttl` seconds; false when it is no longer the owner's.

        Args:
            key: what is locked.
            owner: who took it.
            ttl: seconds from now, 60 to 86,400.
            category: its category.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            if not await dominus.redis.renew_lock("import", owner="worker-17", ttl=120):
                print("stop: another may hold it")
            ```
        """
        request = contract.LockRequest(logical_path=key, owner=owner, ttl_seconds=ttl, category=category)
        return (await self._call(contract.RENEW_LOCK, request, timeout=timeout))["held"]

    async def release_lock(
        self, key: str, owner: str, category: str | None = None, *, timeout: float | None = None
    ) -> bool:
        """Give a lock back; false when it was no longer the owner's, and then nothing is changed.

        Args:
            key: what is locked.
            owner: who took it.
            category: its category.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            was_ours = await dominus.redis.release_lock("import", owner="worker-17")
            ```
        """
        request = contract.LockRelease(logical_path=key, owner=owner, category=category)
        return (await self._call(contract.RELEASE_LOCK, request, timeout=timeout))["held"]

    async def lock_epoch(self, *, timeout: float | None = None) -> str:
        """Return which store the locks are in: another text when locks may have been lost, empty where it is not known.

        It changes when Redis was restarted or emptied, or another server took over. `lock()` looks at it by itself;
        this is for who holds locks by `acquire_lock`: when it changed, `renew_lock` tells whether they are still held.

        Args:
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            epoch = await dominus.redis.lock_epoch()
            fence = await dominus.redis.acquire_lock("import", owner="worker-17", ttl=3600)
            if fence is not None and await dominus.redis.lock_epoch() != epoch:
                print(await dominus.redis.renew_lock("import", owner="worker-17", ttl=3600))
            ```
        """
        return (await self._call(contract.LOCK_EPOCH, Empty(), timeout=timeout))["epoch"]


def _entry(key: str | dict[str, Any], category: str | None) -> contract.Entry:
    if isinstance(key, str):
        return contract.Entry(logical_path=key, category=category)
    name = key.get("key", key.get("logical_path"))
    return contract.Entry(logical_path=name, category=key.get("category", category))  # pyright: ignore[reportArgumentType]
