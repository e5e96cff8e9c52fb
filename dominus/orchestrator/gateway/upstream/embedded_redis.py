"""The Redis inside this process, for native connections: its commands and replies as bytes on a socket.

fakeredis has a TCP server of its own, but one that any user of the machine may connect to, with a thread for each
connection. Here each connection is a pair of sockets, of which the gateway alone holds the other end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import redis.asyncio
from fakeredis._clients._tcp_server import encode_reply
from fakeredis._helpers import SimpleError
from fakeredis._socket import AsyncFakeSocket
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from fakeredis import FakeServer

    from dominus.orchestrator.gateway.upstream.connection import Upstream

__all__ = ["FakeRedisAddress"]

_encode = cast("Callable[..., bytes]", encode_reply)
MAX_STATUS = 64

# What sessions may do: Redis's own types of data, and no more than the rules of a real server give them. fakeredis
# knows others that lead out of the data: EVAL and FCALL run Lua, RESTORE reads a pickle, ACL SAVE writes any file.
# A command of a later version is refused until it is named here.
_NAMES = """
append auth bitcount bitfield bitop bitpos blmove blmovem blmpop blpop brpop brpoplpush bzmpop
bzpopmax bzpopmin command copy dbsize decr decrby del delex digest discard echo exec exists expire
expireat expiretime geoadd geodist geohash geopos georadius georadius_ro georadiusbymember
georadiusbymember_ro geosearch geosearchstore get getbit getdel getex getrange getset hdel hello
hexists hexpire hexpireat hexpiretime hget hgetall hgetdel hgetex hincrby hincrbyfloat hkeys hlen
hmget hmset hpersist hpexpire hpexpireat hpexpiretime hpttl hrandfield hscan hset hsetex hsetnx
hstrlen httl hvals incr incrby incrbyfloat increx keys lcs lindex linsert llen lmove lmovem lmpop
lpop lpos lpush lpushx lrange lrem lset ltrim mget move mset msetex msetnx multi persist pexpire
pexpireat pexpiretime pfadd pfcount pfmerge ping psetex psubscribe pttl publish punsubscribe
randomkey rename renamenx reset rpop rpoplpush rpush rpushx sadd scan scard sdiff sdiffcard
sdiffstore select set setbit setex setnx setrange sinter sintercard sinterstore sismember smembers
smismember smove sort sort_ro spop spublish srandmember srem sscan ssubscribe strlen subscribe
substr sunion sunioncard sunionstore sunsubscribe time ttl type unlink unsubscribe unwatch watch
xack xackdel xadd xautoclaim xcfgset xclaim xdel xdelex xidmprecord xlen xnack xpending xrange xread
xreadgroup xrevrange xtrim zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard zinterstore
zlexcount zmpop zmscore zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore zrangestore
zrank zrem zremrangebylex zremrangebyrank zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore
zrevrank zscan zscore zunion zunionstore
client|getname client|id client|info client|no-touch client|reply client|setinfo client|setname
command|count command|info pubsub|channels pubsub|help pubsub|numpat pubsub|numsub
pubsub|shardchannels pubsub|shardnumsub xgroup|create xgroup|createconsumer xgroup|delconsumer
xgroup|destroy xgroup|setid xinfo|consumers xinfo|groups xinfo|stream
"""
COMMANDS = frozenset(name.replace("|", " ") for name in _NAMES.split())


@dataclass(frozen=True, slots=True)
class FakeRedisAddress:
    """The data of one embedded Redis."""

    server: FakeServer

    async def connect(self, factory: Callable[[], Upstream]) -> tuple[asyncio.Transport, Upstream]:
        """Open a connection."""
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        try:
            transport, _ = await loop.create_unix_connection(lambda: _Speaker(self.server), sock=far)
        except BaseException:
            near.close()
            far.close()
            raise
        try:
            return await loop.create_unix_connection(factory, sock=near)
        except BaseException:
            near.close()
            transport.abort()
            raise


class _Client(AsyncFakeSocket):
    """A client as fakeredis sees it; replies go to `reply` at once."""

    def __init__(self, server: FakeServer, reply: Callable[[Any], None]) -> None:
        super().__init__(server, 0, client_class=redis.asyncio.Redis, lua_modules=None)
        self._reply = reply
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._waiting: asyncio.Task[Any] | None = None

    @property
    def protocol(self) -> int:
        """2, or 3 after HELLO 3."""
        return int(self._client_info.protocol_version)

    def _name_to_func(self, cmd_name: str) -> Any:
        found = super()._name_to_func(cmd_name)
        if cmd_name not in COMMANDS:
            raise SimpleError(f"NOPERM sessions have no permissions to run the '{cmd_name}' command")
        return found

    def put_response(self, msg: Any) -> None:
        if threading.get_ident() == self._thread:
            self._reply(msg)
        else:
            # Published by a client of another event loop; that one may have outlived ours.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._reply, msg)

    async def _async_blocking(self, *args: Any, **kwargs: Any) -> None:
        self._waiting = asyncio.current_task()
        try:
            await super()._async_blocking(*args, **kwargs)
        finally:
            self._waiting = None

    def leave(self) -> None:
        """End it; a command that still waits must take nothing any more."""
        self._reply = _to_nobody
        if self._waiting is None:
            self.close()
        else:
            self._waiting.add_done_callback(lambda _: self.close())
            self._waiting.cancel()


def _legal(value: Any) -> Any:
    """Return a reply whose errors are of one line, as the protocol has it: a client would wait for more."""
    if isinstance(value, Exception):
        said = str(value.args[0]) if value.args else ""
        return type(value)(" ".join(said.splitlines())) if len(said.splitlines()) > 1 else value
    return [_legal(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


def _to_nobody(_: Any) -> None:
    pass


class _Speaker(asyncio.Protocol):
    """The server's end of a connection."""

    def __init__(self, server: FakeServer) -> None:
        self._client = _Client(server, self._write)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._client.sendall(data)
        except (SimpleError, RedisError, ValueError, OSError) as error:
            # No protocol of Redis: as the real one, say so and hang up.
            said = (
                error if isinstance(error, (SimpleError, RedisError)) else SimpleError("ERR Protocol error")
            )
            self._write(said)
            if self._transport is not None:
                self._transport.close()

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self._transport = None
        # A command that blocks begins to wait in a task of its own, in the next step of the loop.
        asyncio.get_running_loop().call_soon(self._client.leave)

    def _write(self, value: Any) -> None:
        if self._transport is not None:
            value = _legal(value)
            # What is too long for a status is a value: clients read a status only up to a limit.
            is_value = isinstance(value, (bytes, str)) and len(value) > MAX_STATUS
            self._transport.write(_encode(value, self._client.protocol, nested=is_value))
