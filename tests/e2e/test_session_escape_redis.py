"""What a holder of `gateway:redis` tries, and does not get: in the Redis inside this process, and on a real server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from fakeredis._commands import SUPPORTED_COMMANDS
from gateway_support import Running, running
from redis.exceptions import NoPermissionError, ResponseError
from test_gateway_embedded_redis import native

from dominus.errors import DominusError
from dominus.orchestrator.engines.redis.client import RedisEngine
from dominus.orchestrator.gateway.upstream import embedded_redis
from dominus.orchestrator.gateway.upstream.targets import builtin_targets

SCRIPTS = [
    "return os.execute('touch %s')",
    "return io.open('%s', 'w')",
    'return python.eval(\'open("%s", "w")\')',
    "return python.builtins.open('%s', 'w')",
    "return redis.call.__globals__['os'].system('touch %s')",
    "return package.loadlib('%s', '*')",
    "return require('os').execute('touch %s')",
    "return loadstring(\"os.execute('touch %s')\")()",
    "return dofile('%s')",
    "return debug.getregistry()",
    "while true do end",
    "return 1",
]


class TestEmbedded:
    """Sessions of `dominus dev` and of the embedded mode."""

    @pytest.fixture
    def engine(self, request: pytest.FixtureRequest) -> RedisEngine:
        async def open_engine() -> RedisEngine:
            return await RedisEngine.open(None, server_key=request.node.name)

        return asyncio.run(open_engine())

    @pytest.fixture
    def gateway(self, engine: RedisEngine) -> Iterator[Running]:
        async def of_sessions() -> RedisEngine:
            return engine.of_sessions()

        sessions = asyncio.run(of_sessions())
        with running("asyncio", builtin_targets("postgresql://h/d", None, sessions)) as found:
            yield found

    @pytest.fixture
    def session(self, gateway: Running) -> Iterator[redis.Redis]:
        with native(gateway) as found:
            yield found

    @pytest.mark.parametrize("script", SCRIPTS)
    def test_no_script_runs(self, session: redis.Redis, tmp_path: Path, script: str) -> None:
        mark = tmp_path / "mark"
        code = script.replace("%s", str(mark))
        for command in (
            ("EVAL", code, 0),
            ("eval", code, 0),
            ("EVAL_RO", code, 0),
            ("EVALSHA", "0" * 40, 0),
            ("SCRIPT LOAD", code),
            ("FUNCTION LOAD", f"#!lua name=x\nredis.register_function('x', function() {code} end)"),
            ("FCALL", "x", 0),
            ("FCALL_RO", "x", 0),
        ):
            with pytest.raises((NoPermissionError, ResponseError), match=r"permissions|unknown command"):
                session.execute_command(*command)
            assert session.ping()
        with pytest.raises(redis.ResponseError), session.pipeline(transaction=True) as pipe:
            pipe.execute_command("EVAL", code, 0).execute()
        assert not mark.exists()

    @pytest.mark.parametrize(
        "command",
        [
            "CONFIG SET aclfile {mark}", "CONFIG SET dir /tmp", "CONFIG GET *", "CONFIG REWRITE", "ACL SAVE", "ACL LOAD",
            "ACL SETUSER x on nopass +@all ~*", "ACL WHOAMI", "ACL LIST", "ACL USERS", "ACL GETUSER default", "ACL DELUSER x",
            "ACL LOG", "DEBUG SLEEP 9", "DEBUG JMAP", "MODULE LOAD {mark}", "MODULE LIST", "MONITOR", "SHUTDOWN NOSAVE", "SAVE",
            "BGSAVE", "BGREWRITEAOF", "LASTSAVE", "REPLICAOF NO ONE", "SLAVEOF 127.0.0.1 1", "MIGRATE 127.0.0.1 1 k 0 9", "SYNC",
            "PSYNC ? -1", "CLUSTER NODES", "FAILOVER", "CLIENT KILL TYPE normal", "CLIENT LIST", "CLIENT PAUSE 9999",
            "CLIENT NO-EVICT on", "CLIENT UNBLOCK 1", "FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "DUMP k", "SLOWLOG GET",
            "LATENCY DOCTOR", "MEMORY DOCTOR", "OBJECT HELP", "SCRIPT FLUSH", "SCRIPT KILL", "SCRIPT DEBUG YES",
            "FUNCTION FLUSH", "FUNCTION DUMP", "FUNCTION KILL", "CL.THROTTLE k 1 1 1", "JSON.GET k $", "TS.QUERYINDEX a=b",
        ],
    )  # fmt: skip
    def test_nothing_but_data_is_reached(self, session: redis.Redis, tmp_path: Path, command: str) -> None:
        mark = tmp_path / "mark"
        for words in (command.format(mark=mark), command.format(mark=mark).lower()):
            with pytest.raises(ResponseError, match=r"permissions|unknown"):
                session.execute_command(*words.split(), NEVER_DECODE=True)
            assert session.ping()
        assert not mark.exists()

    def test_a_pickle_is_not_restored(self, session: redis.Redis, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> Any:
                return os.mkdir, (str(tmp_path / "mark"),)

        import hashlib

        payload = pickle.dumps(Trap())
        with pytest.raises(NoPermissionError):
            session.execute_command("RESTORE", "k", 0, hashlib.sha1(payload).digest() + payload)
        assert not (tmp_path / "mark").exists()

    def test_what_is_not_listed_is_refused_whatever_fakeredis_knows(self, session: redis.Redis) -> None:
        refused = sorted(set(SUPPORTED_COMMANDS) - embedded_redis.COMMANDS)
        assert {"eval", "restore", "acl save", "config set"} <= set(refused)
        for name in refused:
            with pytest.raises(ResponseError, match=r"permissions|unknown command"):
                session.execute_command(*name.split(), NEVER_DECODE=True)
        # Every listed one exists: a list with names of nothing would hide a typing error.
        assert set(SUPPORTED_COMMANDS) >= embedded_redis.COMMANDS

    def test_data_of_the_orchestrator_is_not_there(self, engine: RedisEngine, session: redis.Redis) -> None:
        names = [
            f"{space}{{shop:production::x}}"
            for space in ("dominus:", "dominus-lock:", "dominus-fence:", "dominus-once:")
        ]
        asyncio.run(_set_all(engine, names))
        assert session.keys("*") == []
        assert list(session.scan_iter()) == []
        assert session.dbsize() == 0
        assert session.randomkey() is None
        for name in names:
            assert session.get(name) is None
            assert session.set(name, "forged")
            assert session.delete(name) == 1
        for database in range(1, 16):
            session.execute_command("SELECT", database)
            assert session.keys("*") == []
        assert asyncio.run(_get_all(engine, names)) == [b"own"] * len(names)

    def test_no_login_opens_more(self, session: redis.Redis) -> None:
        for command in (
            ("RESET",),
            ("AUTH", "default", ""),
            ("AUTH", ""),
            ("HELLO", 3, "AUTH", "default", ""),
        ):
            with contextlib.suppress(redis.RedisError):
                session.execute_command(*command)
            with pytest.raises(NoPermissionError):
                session.execute_command("EVAL", "return 1", 0)

    @pytest.mark.parametrize("protocol", [2, 3])
    def test_an_error_is_one_line(self, gateway: Running, protocol: int) -> None:
        said = ResponseError("one\r\ntwo\n+OK\r\n:3")
        for reply, expected in (
            (said, b"-ERR one two +OK :3\r\n"),
            ([b"a\nb", [said]], b"*2\r\n$3\r\na\nb\r\n*1\r\n-ERR one two +OK :3\r\n"),
        ):
            assert embedded_redis._encode(embedded_redis._legal(reply), protocol, nested=False) == expected
        with native(gateway, protocol=protocol, socket_timeout=5) as client:
            with pytest.raises(ResponseError):
                client.execute_command("NO\r\nSUCH\r\n:1")
            with pytest.raises(ResponseError), client.pipeline(transaction=True) as pipe:
                pipe.set("k", "v").execute_command("CLIENT", "X\r\n:1").execute()
            assert client.ping()


WALK = """
local seen, found = {}, {}
local function walk(path, value)
  found[#found + 1] = path .. ' ' .. type(value)
  if type(value) == 'table' and not seen[value] then
    seen[value] = true
    for name, inner in pairs(value) do
      walk(path .. '.' .. tostring(name), inner)
    end
  end
end
walk('_G', _G)
table.sort(found)
return found
"""
LUA_OWN = {
    "_G": "_G assert collectgarbage error ipairs next pairs pcall select tonumber tostring type unpack",
    "redis": "call pcall",
    "string": "byte char find format gfind gmatch gsub len lower match rep reverse sub upper",
    "table": "concat foreach foreachi getn insert maxn remove setn sort",
    "math": (
        "abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log log10 max min mod modf pi pow rad"
        " random randomseed sin sinh sqrt tan tanh"
    ),
}


class TestOwnScripts:
    """The Lua in which the orchestrator's scripts run: were another script to run there, it would find nothing."""

    @pytest.fixture
    async def engine(self, request: pytest.FixtureRequest) -> AsyncIterator[RedisEngine]:
        opened = await RedisEngine.open(None, server_key=request.node.name)
        yield opened
        await opened.aclose()

    async def test_its_globals_are_those_of_a_short_list(self, engine: RedisEngine) -> None:
        await engine.execute("EVAL", "return 1", 0)
        found = [entry.decode().rpartition(" ") for entry in await engine.execute("EVAL", WALK, 0)]
        known = {f"_G.{name}" for name in LUA_OWN["_G"].split()} | {"_G", "_G.KEYS", "_G.ARGV"}
        for table in LUA_OWN.keys() - {"_G"}:
            known |= {f"_G.{table}"} | {f"_G.{table}.{name}" for name in LUA_OWN[table].split()}
        assert {path for path, _, _ in found} <= known
        # Functions behind which Python stands are Lua's own, so that nothing of Python's is in sight.
        assert {kind for _, _, kind in found} <= {"table", "function", "number"}

    @pytest.mark.parametrize("script", SCRIPTS[:-2])
    async def test_a_script_finds_no_way_out(self, engine: RedisEngine, tmp_path: Path, script: str) -> None:
        mark = tmp_path / "mark"
        with pytest.raises(DominusError):
            await engine.execute("EVAL", script.replace("%s", str(mark)), 0)
        assert not mark.exists()

    @pytest.mark.parametrize(
        "expression",
        [
            "getmetatable('').__index", "('').dump(function() end)", "setfenv(1, {})", "getfenv(0)", "newproxy()", "coroutine.create",
            "rawget(_G, 'os')", "string.dump(function() end)", "module('x')", "load('return 1')", "redis.call.__globals__",
            "select(2, pcall(redis.call, 'NO')).__traceback__", "select(2, pcall(redis.call, 'NO')).args",
            "select(2, pcall(redis.call, 'NO')).__class__.__base__", "redis.pcall('NO').err.__class__",
            "redis.pcall('NO').err.format", "select(2, pcall(redis.call, {})).__reduce__", "select(2, pcall(error, redis)).call.x",
        ],
    )  # fmt: skip
    async def test_no_object_of_python_opens(self, engine: RedisEngine, expression: str) -> None:
        # An attribute that is denied ends the script as Python's own error.
        with pytest.raises((DominusError, AttributeError, TypeError)):
            await engine.execute("EVAL", f"local found = {expression} return tostring(found)", 0)

    async def test_no_script_changes_what_the_next_one_finds(self, engine: RedisEngine) -> None:
        with pytest.raises(DominusError):
            await engine.execute("EVAL", "stolen = 1 return redis.call('GET', 'x')", 0)

    async def test_the_version_that_it_was_made_for(self, engine: RedisEngine) -> None:
        """A fakeredis that looks for its runtime elsewhere would make one of its own, with Python in it."""
        server: Any = engine.client.connection_pool.connection_kwargs["server"]  # type: ignore[union-attr]
        ours = server._lua_runtime
        await engine.execute("EVAL", "return 1", 0)
        assert server._lua_runtime is ours
        with pytest.raises(AttributeError):
            ours.eval("function(x) return x.anything end")(object())


async def _set_all(engine: RedisEngine, names: list[str]) -> None:
    for name in names:
        await engine.execute("SET", name, "own")


async def _get_all(engine: RedisEngine, names: list[str]) -> list[Any]:
    return [await engine.execute("GET", name) for name in names]
