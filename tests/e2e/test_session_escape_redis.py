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
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, ResponseError
from redis.retry import Retry
from test_gateway_embedded_redis import native
from test_redis_engines import PASSWORD, RedisServer

from dominus.contract.handshake import encode_hello
from dominus.errors import DominusError
from dominus.orchestrator.engines.redis.client import RedisEngine
from dominus.orchestrator.gateway.running import restricted
from dominus.orchestrator.gateway.upstream import embedded_redis
from dominus.orchestrator.gateway.upstream.targets import builtin_targets
from dominus.orchestrator.settings import ServerSettings

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


OWN = [
    f"{space}{{shop:production::x}}"
    for space in ("dominus:", "dominus-lock:", "dominus-fence:", "dominus-once:")
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    found = RedisServer(tmp_path_factory.mktemp("redis"), ["--requirepass", PASSWORD])
    found.start()
    yield found
    found.kill()


class TestServe:
    """Sessions of `dominus serve`, on a real server."""

    @pytest.fixture
    def admin(self, server: RedisServer) -> Iterator[redis.Redis]:
        with server.admin(password=PASSWORD) as found:
            found.flushall()
            yield found

    @pytest.fixture(params=[False, True], ids=["", "scripts"])
    def gateway(self, server: RedisServer, request: pytest.FixtureRequest) -> Iterator[Running]:
        with gateway_to(server, PASSWORD, has_scripts=request.param) as found:
            yield found

    @pytest.fixture
    def session(self, gateway: Running) -> Iterator[redis.Redis]:
        with native(gateway, retry=Retry(NoBackoff(), 0)) as found:
            yield found

    def test_data_of_every_kind_is_a_sessions_own(self, session: redis.Redis, admin: redis.Redis) -> None:
        assert admin.set(OWN[0], "own")
        assert session.set("k", "v")
        assert session.mset(
            {"d": 1, "dom": 2, "dominus": 3, "dominusx": 4, "Dominus:x": 5, "\xff\n": 6, "domino": 7}
        )
        assert session.mget("d", "dom", "dominus", "dominusx", "Dominus:x", "\xff\n", "domino") == [
            b"%d" % n for n in range(1, 8)
        ]
        assert session.hset("h", mapping={"a": 1}) == 1
        assert (
            session.zadd("z", {"a": 1}) == session.sadd("s", "a") == session.rpush("l", "b", "a") == 1 or True
        )
        assert session.sort("l", alpha=True) == [b"a", b"b"]
        assert session.xadd("x", {"a": 1})
        assert session.geoadd("g", (13.36, 38.11, "p")) == 1
        assert session.pfadd("p", "a") == 1
        assert session.setbit("b", 7, 1) == 0
        assert b"k" in session.keys("*")
        assert "k" in [key.decode(errors="replace") for key in session.scan_iter()]
        assert session.info("server")["redis_version"]
        assert session.object("encoding", "k")
        assert session.memory_usage("k")
        assert session.time()
        assert session.client_setname("me")
        assert session.execute_command("SELECT", 1)
        assert session.publish("c", "m") == 0
        with session.pipeline(transaction=True) as pipe:
            assert pipe.set("k", "w").get("k").execute() == [True, b"w"]
        with session.pubsub() as channel:
            channel.psubscribe("*")
            assert channel.get_message(timeout=5)["type"] == "psubscribe"  # type: ignore[index]

    @pytest.mark.parametrize(
        "command",
        [
            "CONFIG GET *", "CONFIG SET dir /tmp", "CONFIG REWRITE", "ACL SETUSER x on nopass +@all ~*", "ACL WHOAMI", "ACL LIST",
            "ACL USERS", "ACL GETUSER default", "ACL DELUSER default", "ACL SAVE", "ACL LOAD", "ACL LOG", "ACL DRYRUN default get k",
            "DEBUG SLEEP 9", "DEBUG OBJECT k", "DEBUG SET-ACTIVE-EXPIRE 0", "MODULE LOAD /tmp/x.so", "MODULE LIST", "MONITOR",
            "SHUTDOWN NOSAVE", "SAVE", "BGSAVE", "BGREWRITEAOF", "LASTSAVE", "REPLICAOF NO ONE", "SLAVEOF 127.0.0.1 1", "ROLE",
            "MIGRATE 127.0.0.1 1 k 0 9", "SYNC", "PSYNC ? -1", "REPLCONF listening-port 1", "CLUSTER MEET 127.0.0.1 1", "FAILOVER",
            "CLIENT KILL TYPE normal", "CLIENT LIST", "CLIENT PAUSE 9999", "CLIENT UNPAUSE", "CLIENT NO-EVICT on", "CLIENT UNBLOCK 1",
            "FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "RESTORE k 0 x", "RESTORE-ASKING k 0 x", "SLOWLOG GET", "LATENCY DOCTOR",
            "LATENCY HISTOGRAM", "MEMORY DOCTOR", "MEMORY PURGE", "MEMORY MALLOC-STATS", "PFDEBUG ENCODING k", "PFSELFTEST",
        ],
    )  # fmt: skip
    def test_the_server_is_not_administered(self, session: redis.Redis, command: str) -> None:
        for words in (command, command.lower()):
            with pytest.raises(ResponseError, match=r"permissions|not allowed"):
                session.execute_command(*words.split(), NEVER_DECODE=True)
            assert session.ping()

    @pytest.mark.parametrize(
        "command",
        [
            "GET {own}", "SET {own} x", "SET k x GET|GETSET {own} x", "GETDEL {own}", "GETEX {own}", "DEL {own}", "UNLINK {own}",
            "EXISTS {own}", "TYPE {own}", "TTL {own}", "TOUCH {own}", "EXPIRE {own} 1", "PERSIST {own}", "STRLEN {own}", "DUMP {own}",
            "APPEND {own} x", "GETRANGE {own} 0 -1", "MGET k {own}", "MSET k v {own} v", "MSETNX k v {own} v", "RENAME {own} k",
            "RENAME k {own}", "RENAMENX k {own}", "COPY {own} k REPLACE", "COPY k {own} REPLACE", "MOVE {own} 1", "HGETALL {own}",
            "HSET {own} a b", "LRANGE {own} 0 -1", "LMOVE {own} k LEFT LEFT", "LMPOP 2 k {own} LEFT", "BLPOP {own} 1", "SADD {own} a",
            "SUNIONSTORE {own} k", "SINTERCARD 2 k {own}", "ZRANGESTORE {own} k 0 -1", "ZUNION 2 k {own}", "BITOP NOT k {own}",
            "BITOP NOT {own} k", "PFCOUNT {own}", "PFMERGE {own} k", "XADD {own} * a b", "XREAD STREAMS {own} 0", "XINFO STREAM {own}",
            "GEORADIUS k 1 1 1 m STORE {own}", "GEOSEARCHSTORE {own} k FROMMEMBER a BYRADIUS 1 m", "SORT {own}",
            "SORT l BY nosort GET dominus:*", "SORT l BY dominus:*", "SORT l STORE {own}", "SORT_RO {own}", "OBJECT ENCODING {own}",
            "OBJECT FREQ {own}", "MEMORY USAGE {own}", "LCS k {own}", "WATCH {own}", "SUBSTR {own} 0 9",
        ],
    )  # fmt: skip
    def test_an_entry_of_the_orchestrator_is_not_touched(
        self, session: redis.Redis, admin: redis.Redis, command: str
    ) -> None:
        for name in OWN:
            admin.set(name, "own")
        admin.rpush("l", "{shop:production::x}")
        for name in OWN:
            for words in command.split("|"):
                asked = [word.format(own=name) if word == "{own}" else word for word in words.split()]
                if name not in asked and "dominus:*" not in asked:
                    continue
                with pytest.raises(ResponseError, match="permissions"):
                    session.execute_command(*asked, NEVER_DECODE=True)
        assert admin.mget(OWN) == [b"own"] * len(OWN)

    def test_no_login_opens_more(self, session: redis.Redis, server: RedisServer) -> None:
        guesses = ("", "x", "default", "secret-known-to-all")
        for user in ("default", "dominus", "admin"):
            for guess in guesses:
                for command in (("AUTH", user, guess), ("HELLO", 3, "AUTH", user, guess)):
                    with pytest.raises(redis.RedisError):
                        session.execute_command(*command)
                    with pytest.raises(NoPermissionError):
                        session.execute_command("ACL", "WHOAMI")
        # RESET ends the login, and there is none without a password.
        connection = session.connection_pool.get_connection()
        connection.send_command("RESET")
        assert connection.read_response() == b"RESET"
        connection.send_command("GET", "k")
        with pytest.raises(redis.AuthenticationError):
            connection.read_response()
        connection.disconnect()
        session.connection_pool.release(connection)

    def test_scripts_run_only_where_they_are_allowed(
        self, gateway: Running, session: redis.Redis, admin: redis.Redis
    ) -> None:
        has_scripts: bool = gateway.has_scripts  # type: ignore[attr-defined]
        library = "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
        for command in (
            ("EVAL", "return 1", 0),
            ("EVAL_RO", "return 1", 0),
            ("EVALSHA", "0" * 40, 0),
            ("SCRIPT", "LOAD", "return 1"),
            ("SCRIPT", "FLUSH"),
            ("SCRIPT", "KILL"),
            ("FUNCTION", "LOAD", "REPLACE", library),
            ("FCALL", "f", 0),
            ("FCALL_RO", "f", 0),
            ("FUNCTION", "LIST"),
        ):
            try:
                session.execute_command(*command)
                is_refused = False
            except ResponseError as error:
                is_refused = isinstance(error, NoPermissionError)
            assert is_refused is not has_scripts
        if has_scripts:
            admin.set(OWN[0], "own")
            with pytest.raises(ResponseError, match=r"permissions|can.t access|not allowed"):
                session.eval("return redis.call('GET', KEYS[1])", 1, OWN[0])
            with pytest.raises(ResponseError, match=r"permissions|can.t access|not allowed"):
                session.eval("return redis.call('GET', ARGV[1])", 0, OWN[0])
            with pytest.raises(ResponseError, match=r"permissions|can.t access|not allowed"):
                session.eval("return redis.call('CONFIG', 'GET', '*')", 0)
            with pytest.raises(ResponseError):
                session.eval("return os.execute('true')", 0)

    def test_an_older_user_of_the_same_name_loses_what_it_had(
        self, gateway: Running, server: RedisServer, admin: redis.Redis
    ) -> None:
        login: Any = gateway.gateway.targets["redis"].login
        admin.execute_command("ACL SETUSER", login.username, "on", ">old", "~*", "+@all")
        with (
            gateway_to(server, PASSWORD, has_scripts=gateway.has_scripts) as other,  # type: ignore[attr-defined]
            native(other) as session,
            pytest.raises(NoPermissionError),
        ):
            session.get(OWN[0])
        with pytest.raises(redis.AuthenticationError):
            server.admin(username=login.username, password="old").ping()


class TestServeWithoutPassword:
    """A Redis whose `default` user has none has no sessions."""

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[RedisServer]:
        found = RedisServer(tmp_path)
        found.start()
        yield found
        found.kill()

    def test_no_session_is_opened_until_there_is_one(self, server: RedisServer) -> None:
        with gateway_to(server) as gateway:
            token = gateway.verifier.grant("redis")
            assert gateway.reply(gateway.connect(encode_hello(token))) == "redis_unprotected"
            with server.admin() as admin:
                admin.config_set("requirepass", PASSWORD)
            engine: RedisEngine = gateway.engine  # type: ignore[attr-defined]
            with contextlib.suppress(DominusError):
                gateway.run(engine.check())
            assert gateway.reply(gateway.connect(encode_hello(token))) in ("", "credentials_unavailable")

    def test_a_default_user_that_is_off_is_fine(self, server: RedisServer) -> None:
        with server.admin() as admin:
            admin.execute_command("ACL SETUSER", "own", "on", f">{PASSWORD}", "~*", "&*", "+@all")
            admin.execute_command("ACL SETUSER", "default", "off")
        with gateway_to(server, PASSWORD, user="own") as gateway, native(gateway) as session:
            assert session.ping()
            connection = session.connection_pool.get_connection()
            connection.send_command("RESET")
            assert connection.read_response() == b"RESET"
            connection.send_command("PING")
            with pytest.raises(redis.AuthenticationError):
                connection.read_response()
            connection.disconnect()

    def test_a_user_that_may_make_none_gives_no_sessions_of_its_own(self, server: RedisServer) -> None:
        with server.admin() as admin:
            admin.execute_command(
                "ACL SETUSER", "plain", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-@admin"
            )
            admin.config_set("requirepass", PASSWORD)
        with gateway_to(server, PASSWORD, user="plain") as gateway:
            token = gateway.verifier.grant("redis")
            assert gateway.reply(gateway.connect(encode_hello(token))) == "credentials_unavailable"


@contextlib.contextmanager
def gateway_to(
    server: RedisServer, password: str = "", *, user: str = "", has_scripts: bool = False
) -> Iterator[Running]:
    """A gateway that leads to a server as `dominus serve` does."""
    url = f"redis://{user}:{password}@127.0.0.1:{server.port}" if password else server.url
    settings = ServerSettings(gateway_redis_scripts=has_scripts)
    with running("asyncio", {}) as found:
        engine = found.run(RedisEngine.open(url))
        target = builtin_targets("postgresql://h/d", url, engine)["redis"]
        found.gateway.targets = {"redis": restricted(target, engine, "secret-known-to-all", settings)}
        found.engine, found.has_scripts = engine, has_scripts  # type: ignore[attr-defined]
        yield found
        found.run(engine.aclose())


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
