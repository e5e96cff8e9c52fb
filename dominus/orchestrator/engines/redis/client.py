"""Cache, counters and locks: a Redis (or Valkey, or a cluster) by its URL, or one inside this process."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from dominus.errors import ConflictError, DominusError, ServiceError, ValidationError
from dominus.orchestrator.engines.redis.epoch import StoreEpoch

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection
    from redis.commands.core import AsyncScript

__all__ = ["RedisEngine"]

_log = logging.getLogger("dominus.redis")

MAX_CONNECTIONS = 64
CONNECTION_WAIT_SECONDS = 5.0
CONNECT_TIMEOUT_SECONDS = 2.0
ANSWER_TIMEOUT_SECONDS = 5.0
SCAN_COUNT = 1000
SWEEP_EVERY = 1000
_WHOLE_KEYSPACE = 2**31 - 1
_NODE_BITS = 10

_PRELUDE = "once"
_KINDS_HINT = "hset, hget, hgetall and hdel are for hashes, the other operations for plain values"
_CALLER_ERRORS: dict[str, Callable[[str], DominusError]] = {
    "WRONGTYPE": lambda where: ConflictError(
        f"{where} holds another kind of value", code="wrong_type", hint=_KINDS_HINT
    ),
    "would overflow": lambda where: ValidationError(
        f"{where} would leave the range of 64-bit integers", code="out_of_range"
    ),
    "not an integer": lambda where: ConflictError(
        f"{where} is no 64-bit integer and cannot be counted", code="not_an_integer"
    ),
}
_REFUSALS: dict[str, Callable[[], DominusError]] = {
    "maxmemory": lambda: ServiceError(
        "Redis is out of memory and stores nothing more",
        code="redis_full",
        status_code=503,
        hint="reads and deletes go on: delete entries, wait until some expire, or raise maxmemory",
    ),
    "MISCONF": lambda: ServiceError(
        "Redis cannot write to its disk and takes no changes",
        code="disk_full",
        status_code=507,
        details={"engine": "redis"},
        retryable=False,
        hint="reads go on: make space on the disk of Redis; its log says what failed",
    ),
    "read only replica": lambda: _unavailable("Redis is a read-only replica at the moment"),
}
_PROBE_KEY = "dominus-health"
_BUSY = "BUSY "
_FAILURES = (RedisError, RedisClusterException, OSError)


class RedisEngine:
    """One client of one event loop. Its failures are DominusErrors that name no host and no password."""

    def __init__(self, client: Redis | RedisCluster, *, server_key: str | None = None) -> None:
        self.client = client
        self.server_key = server_key
        """The name of the data inside this process; None: on a server."""
        is_embedded = server_key is not None
        self.is_cluster = isinstance(client, RedisCluster)
        self._command: Callable[..., Awaitable[Any]] = cast("Any", client).execute_command
        # The embedded one sorts all keys at each SCAN anyway, and forgets its cursors: one step has them all.
        self.scan_counts = (_WHOLE_KEYSPACE, _WHOLE_KEYSPACE) if is_embedded else (1, SCAN_COUNT)
        """The least and the most keys to ask `scan` for."""
        self.is_embedded = is_embedded
        self._write_count = 0
        self._scripts: dict[str, AsyncScript] = {}
        self._is_ending_script = False
        self._epoch = StoreEpoch(client, has_run_id=not is_embedded)

    @classmethod
    async def open(cls, url: str | None, *, server_key: str = "default") -> RedisEngine:
        """Connect, and return when it answers.

        Args:
            url: `redis://`, `rediss://`, `unix://`, `redis+cluster://` or `rediss+cluster://`; None: inside
                this process.
            server_key: which data inside this process; the same key shares them between event loops.

        Raises:
            ValidationError: the URL is no Redis URL.
            ServiceError: it does not answer.
        """
        if url is None:
            return cls(_embedded_client(server_key), server_key=server_key)
        engine = cls(_remote_client(url))
        try:
            await engine.check()
        except ServiceError:
            await engine.aclose()
            raise
        return engine

    def of_sessions(self) -> RedisEngine:
        """Return the data that native sessions see: on a server the same, inside this process data of their own."""
        if self.server_key is None:
            return self
        key = f"{self.server_key}/sessions"
        return RedisEngine(_embedded_client(key), server_key=key)

    async def check(self) -> None:
        """Ask whether it answers. Raises ServiceError when it does not."""
        try:
            await self.execute("PING")
        except ServiceError as error:
            # While Redis cannot write to its disk it refuses PING as it refuses changes. It reads all the same.
            if error.code != "disk_full":
                raise

    async def check_writes(self) -> None:
        """Store something for a moment. Raises ServiceError when it is refused, with what stands against it."""
        if not self.is_embedded:
            await self.execute("SET", _PROBE_KEY, "1", "EX", 1)

    async def aclose(self) -> None:
        """Close the connections; what lies in this process stays until the process ends."""
        await self._epoch.aclose()
        await self.client.aclose()

    async def epoch(self) -> str:
        """Return the name of the data that it holds: another one after a restart, a failover or a FLUSHALL.

        Raises:
            ServiceError: it does not answer.
        """
        try:
            return await self._epoch.current()
        except _FAILURES as error:
            raise await self._failure(error) from error

    async def execute(self, *command: Any, about: str | None = None) -> Any:
        """Run one command; `about` names the entry in errors."""
        try:
            return await self._command(*command)
        except _FAILURES as error:
            raise await self._failure(error, about) from error

    def script(self, name: str) -> AsyncScript:
        """Return a script of `scripts/`; it runs by its digest and is sent only once."""
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = self.client.register_script(_source(name))
        return script

    async def run(self, name: str, keys: Sequence[str], args: Sequence[Any], about: str | None = None) -> Any:
        """Run a script, which is atomic; all `keys` must lie in one slot."""
        self._write_count += 1
        if self.is_embedded and self._write_count % SWEEP_EVERY == 0:
            # The embedded one drops an expired entry only when it is touched, or when all are counted.
            await self.execute("DBSIZE")
        try:
            return await self.script(name)(keys, args)
        except _FAILURES as error:
            raise await self._failure(error, about) from error

    async def each(self, command: str, abouts: Mapping[str, str]) -> dict[str, Any]:
        """Run a command on each key in one round trip (one a node in a cluster).

        Args:
            command: of one key, which only reads.
            abouts: the keys, with their names in errors.
        """
        pipeline: Any = self.client.pipeline(transaction=False)
        for key in abouts:
            pipeline.execute_command(command, key)
        try:
            results: list[Any] = await pipeline.execute(raise_on_error=False)
        except _FAILURES as error:
            raise await self._failure(error) from error
        for name, result in zip(abouts.values(), results, strict=True):
            if isinstance(result, Exception):
                raise await self._failure(result, name) from result
        return dict(zip(abouts, results, strict=True))

    async def scan(self, pattern: str, position: int, count: int) -> tuple[int, list[bytes]]:
        """Visit about `count` keys; position 0 starts, and a returned 0 ends.

        A position is SCAN's cursor with the number of the cluster's node in its lowest bits.
        """
        cursor, index = position >> _NODE_BITS, position & (1 << _NODE_BITS) - 1
        command = ("SCAN", cursor, "MATCH", pattern, "COUNT", count)
        if not isinstance(self.client, RedisCluster):
            cursor, keys = await self.execute(*command)
            return cursor << _NODE_BITS, keys
        nodes = sorted(self.client.get_primaries(), key=lambda node: node.name)
        if index >= len(nodes):
            return 0, []
        try:
            cursors, keys = await self._command(*command, target_nodes=nodes[index])
        except _FAILURES as error:
            raise await self._failure(error) from error
        cursor = cursors[nodes[index].name]
        if cursor:
            return cursor << _NODE_BITS | index, keys
        return (index + 1 if index + 1 < len(nodes) else 0), keys

    async def _failure(self, error: Exception, about: str | None = None) -> DominusError:
        """Return (not raise) what a failure of Redis means to the caller, and end a script that is its reason."""
        if str(error).startswith(_BUSY):
            await self._end_script()
        return _as_dominus_error(error, about)

    async def _end_script(self) -> None:
        """End the script that keeps Redis from answering anyone. It is nobody's of ours: those take microseconds."""
        if self._is_ending_script:
            return
        self._is_ending_script = True
        try:
            for kind, options in self._places():
                await _send_kills(kind(**options))
        except _FAILURES as error:
            _log.warning("Redis is busy with a script that was not ended: %s", error)
        finally:
            self._is_ending_script = False

    def _places(self) -> list[tuple[Callable[..., AbstractConnection], dict[str, Any]]]:
        """Return how to connect to each server; a busy one takes no name of a client and no database."""
        bare = {"client_name": None, "db": 0}
        if isinstance(self.client, RedisCluster):
            nodes: list[Any] = self.client.get_primaries()
            return [(node.connection_class, {**node.connection_kwargs, **bare}) for node in nodes]
        pool: Any = self.client.connection_pool
        return [(pool.connection_class, {**pool.connection_kwargs, **bare})]


async def _send_kills(connection: AbstractConnection) -> None:
    client: Any = connection
    try:
        await client.connect()
        for command in ("SCRIPT", "FUNCTION"):
            await client.send_command(command, "KILL")
            try:
                await client.read_response()
            except ResponseError as error:
                # It is the other of both, or has ended; or it has written, and Redis ends it only with itself.
                if str(error).startswith("UNKILLABLE"):
                    _log.warning("Redis is busy with a script that cannot be ended: %s", error)
    finally:
        await client.disconnect()


def _embedded_client(server_key: str) -> Redis:
    from fakeredis import FakeAsyncRedis

    from dominus.orchestrator.engines.redis.embedded import embedded_server

    return FakeAsyncRedis(server=embedded_server(server_key))


def _remote_client(url: str) -> Redis | RedisCluster:
    # Retrying is the caller's alone: it has the budget, and it knows what is safe to repeat.
    options: dict[str, Any] = {
        "client_name": "dominus",
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": ANSWER_TIMEOUT_SECONDS,
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        # Not checked by PING after a pause: Redis refuses that while it cannot write to its disk, and reads with it.
        "health_check_interval": 0,
        "max_connections": MAX_CONNECTIONS,
        "retry": Retry(NoBackoff(), 0),
    }
    try:
        scheme = urlsplit(url).scheme
        if scheme.endswith("+cluster"):
            return RedisCluster.from_url(url.replace("+cluster", "", 1), **options)
        pool: BlockingConnectionPool = cast("Any", BlockingConnectionPool).from_url(
            url, timeout=CONNECTION_WAIT_SECONDS, **options
        )
        return Redis.from_pool(pool)
    except (ValueError, RedisClusterException):
        raise ValidationError(
            "DOMINUS_REDIS_URL is no Redis URL",
            hint="redis://[user:password@]host:port[/database], rediss:// or redis+cluster://",
        ) from None


@cache
def _source(name: str) -> bytes:
    folder = files("dominus.orchestrator.engines.redis") / "scripts"
    return b"\n".join((folder / f"{part}.lua").read_bytes() for part in (_PRELUDE, name))


def _unavailable(message: str, code: str = "redis_unavailable") -> ServiceError:
    return ServiceError(message, code=code, status_code=503)


def _as_dominus_error(error: Exception, about: str | None) -> DominusError:
    """Return (not raise) what a failure of Redis means to the caller.

    The text of errors is compared because a script hands on the errors of its commands as plain text.
    """
    said = str(error)
    where = f"entry {about!r}" if about is not None else "the entry"
    for word, answer in _CALLER_ERRORS.items():
        if word in said:
            return answer(where)
    if said.startswith(_BUSY):
        return _unavailable("Redis is busy with a script, which is being ended", code="redis_busy")
    for word, refusal in _REFUSALS.items():
        if word in said:
            return refusal()
    if isinstance(error, (AuthenticationError, AuthorizationError, NoPermissionError)):
        message, hint = "Redis refuses the orchestrator's credentials", "check DOMINUS_REDIS_URL"
        return ServiceError(message, code="redis_refused", status_code=503, retryable=False, hint=hint)
    if type(error) is ResponseError:
        return ServiceError("Redis refused a command", code="redis_refused", retryable=False)
    is_slow = isinstance(error, (RedisTimeoutError, TimeoutError))
    return _unavailable("Redis did not answer in time" if is_slow else "Redis is not available")
