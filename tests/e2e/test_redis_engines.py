"""The Redis engine against servers that go away, refuse, and are a cluster; and health over them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from pydantic_core import from_json

from dominus.contract import health as h
from dominus.contract import redis as w
from dominus.contract.operation import Operation
from dominus.contract.request import Empty
from dominus.errors import ConflictError, DominusError, ServiceError, ValidationError
from dominus.orchestrator.engines.redis import client as redis_engine
from dominus.orchestrator.engines.redis import embedded
from dominus.orchestrator.engines.redis import epoch as redis_epoch
from dominus.orchestrator.engines.redis.client import RedisEngine
from dominus.orchestrator.handlers.context import Context, Idempotency
from dominus.orchestrator.handlers.refused_writes import RefusedWrites
from dominus.orchestrator.handlers.resources import Resources
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.services import handlers_by_operation, health
from dominus.orchestrator.settings import ServerSettings

PASSWORD = "correct-horse-battery"


def _free_port() -> int:
    # A cluster node listens at its port + 10,000 as well.
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 55_000:
            return port


@dataclass
class RedisServer:
    """A redis-server of this test; `kill` leaves no time to say goodbye."""

    folder: Path
    options: list[str] = field(default_factory=list)
    port: int = field(default_factory=_free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            pytest.skip("redis-server is not installed")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        self.process = subprocess.Popen([binary, *options, *self.options], stdout=subprocess.DEVNULL)
        _until(self._answers, "redis-server did not start")

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def admin(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, **options)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"


def _until(condition: Callable[[], bool], message: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, message


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    servers: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        server = RedisServer(tmp_path, list(options))
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()


@asynccontextmanager
async def opened(url: str | None, **options: Any) -> AsyncIterator[RedisEngine]:
    engine = await RedisEngine.open(url, **options)
    try:
        yield engine
    finally:
        await engine.aclose()


@dataclass
class _EnginesStub:
    redis: Any
    postgres: Any = None
    settings: ServerSettings = field(default_factory=ServerSettings)
    refused_writes: RefusedWrites = field(default_factory=RefusedWrites)


async def call(
    engine: RedisEngine, operation: Operation[Any, Any], once: str | None = None, **fields: Any
) -> Any:
    engines = cast("Resources", _EnginesStub(engine))
    idempotency = Idempotency(once, "f1") if once else None
    context = Context(Principal("svc", "service", frozenset()), engines, "r", idempotency)
    answer = await handlers_by_operation()[operation.name](context, operation.request(**fields))
    return from_json(answer) if isinstance(answer, bytes) else answer


# --- servers that go away


async def test_a_killed_server_is_a_service_error_until_it_is_back(
    start_server: Callable[..., RedisServer],
) -> None:
    server = start_server()
    async with opened(server.url) as engine:
        await asyncio.gather(*(call(engine, w.SET, logical_path=f"k{n}", value=n) for n in range(20)))
        server.kill()
        started = time.monotonic()
        for operation, fields in (
            (w.GET, {}),
            (w.SET, {"value": 1}),
            (w.MGET, None),
            (w.LIST, None),
            (w.INCR, {}),
        ):
            body = {"logical_path": "k"} | fields if fields is not None else {}
            if operation is w.MGET:
                body = {"keys": [{"logical_path": "k"}]}
            with pytest.raises(ServiceError) as caught:
                await call(engine, operation, **body)
            assert (caught.value.status_code, caught.value.retryable) == (503, True)
            assert str(server.port) not in str(caught.value)
        assert time.monotonic() - started < 2 * redis_engine.CONNECT_TIMEOUT_SECONDS
        server.start()
        answers = await asyncio.gather(
            *(call(engine, w.INCR, logical_path="n", once=f"k{n}") for n in range(100))
        )
        assert sorted(answer["value"] for answer in answers) == list(range(1, 101))


@asynccontextmanager
async def _listening(answer: Callable[[bytes], bytes | None]) -> AsyncIterator[str]:
    """Listen, and write what `answer` returns for what arrives; None hangs up."""
    finished: list[asyncio.Future[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done = asyncio.get_running_loop().create_future()
        finished.append(done)
        while (chunk := await reader.read(65_536)) and (said := answer(chunk)) is not None:
            writer.write(said)
        writer.close()
        done.set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await asyncio.gather(*finished)


async def test_a_write_is_sent_once_however_it_ends() -> None:
    received: list[bytes] = []

    def answer(chunk: bytes) -> bytes | None:
        received.append(chunk)
        if b"EVALSHA" in chunk:
            return None
        return b"+PONG\r\n" if b"PING" in chunk else b"+OK\r\n" * chunk.count(b"*")

    async with _listening(answer) as url, opened(url) as engine:
        with pytest.raises(ServiceError):
            await call(engine, w.INCR, logical_path="n")
    assert sum(b"EVALSHA" in chunk for chunk in received) == 1


async def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_engine, "ANSWER_TIMEOUT_SECONDS", 0.1)
    async with _listening(lambda _chunk: b"") as url:
        with pytest.raises(ServiceError, match="in time"):
            await RedisEngine.open(url)


async def test_scripts_are_sent_again_when_the_server_forgot_them(
    start_server: Callable[..., RedisServer],
) -> None:
    server = start_server()
    async with opened(server.url) as engine:
        await call(engine, w.INCR, logical_path="n")
        server.admin().script_flush()
        assert await call(engine, w.INCR, logical_path="n") == {"value": 2}


async def test_more_callers_than_connections_wait_for_their_turn(
    start_server: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_engine, "MAX_CONNECTIONS", 4)
    server = start_server()
    async with opened(server.url) as engine:
        await asyncio.gather(*(call(engine, w.INCR, logical_path="n") for _ in range(300)))
        assert await call(engine, w.GET, logical_path="n") == {"found": True, "value": 300}
        names = [client["name"] for client in server.admin().client_list()]
        assert 1 <= names.count("dominus") <= 4


# --- servers that refuse


@pytest.mark.parametrize("url", [f"redis://user:{PASSWORD}@127.0.0.1:{{port}}", "redis://127.0.0.1:{port}"])
async def test_nothing_about_the_server_stands_in_the_error_of_opening(
    start_server: Callable[..., RedisServer], url: str
) -> None:
    server = start_server("--requirepass", "another")
    for port in (server.port, _free_port()):
        with pytest.raises(ServiceError) as caught:
            await RedisEngine.open(url.format(port=port))
        assert caught.value.status_code == 503
        for secret in (PASSWORD, str(port)):
            assert secret not in f"{caught.value} {caught.value!r} {caught.value.details}"


@pytest.mark.parametrize(
    "url", [f"http://x:{PASSWORD}@h", "redis+cluster://h/3", "nonsense", "redis://h:port", ""]
)
async def test_what_is_no_redis_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValidationError, match="DOMINUS_REDIS_URL") as caught:
        await RedisEngine.open(url)
    assert PASSWORD not in str(caught.value)


async def test_a_full_or_read_only_server_is_a_service_error(
    start_server: Callable[..., RedisServer],
) -> None:
    server = start_server()
    async with opened(server.url) as engine:
        await call(engine, w.SET, logical_path="k", value=1)
        server.admin().config_set("maxmemory", "1")
        with pytest.raises(ServiceError, match="out of memory"):
            await call(engine, w.SET, logical_path="k", value=2)
        assert await call(engine, w.GET, logical_path="k") == {"found": True, "value": 1}
        server.admin().config_set("maxmemory", "0")
        server.admin().replicaof("127.0.0.1", _free_port())
        with pytest.raises(ServiceError, match="read-only") as caught:
            await call(engine, w.SET, logical_path="k", value=2)
        assert caught.value.retryable


async def test_missing_rights_are_no_reason_to_retry(start_server: Callable[..., RedisServer]) -> None:
    server = start_server()
    server.admin().acl_setuser(
        "limited", enabled=True, passwords=["+pw"], keys=["*"], commands=["+ping", "+hello", "+client"]
    )
    async with opened(server.url.replace("//", "//limited:pw@")) as engine:
        with pytest.raises(ServiceError) as caught:
            await call(engine, w.GET, logical_path="k")
        assert (caught.value.status_code, caught.value.retryable) == (503, False)


async def test_the_epoch_leaves_out_what_redis_refuses_to_tell(
    start_server: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_epoch, "CACHE_SECONDS", 0.0)
    server = start_server()
    server.admin().acl_setuser(
        "limited", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all"], commands=["-info"]
    )
    server.admin().acl_setuser("blind", enabled=True, passwords=["+pw"], keys=["none"], categories=["+@all"])
    server.admin().acl_setuser(
        "nothing", enabled=True, passwords=["+pw"], keys=["none"], categories=["+@all"], commands=["-info"]
    )
    told: dict[str, str] = {}
    for user in ("limited", "blind", "nothing"):
        async with opened(server.url.replace("//", f"//{user}:pw@")) as engine:
            told[user] = await engine.epoch()
            assert await engine.epoch() == told[user]
    assert told["nothing"] == ""
    assert len(set(told.values())) == 3


async def test_a_full_server_keeps_its_locks_and_tells_its_epoch(
    start_server: Callable[..., RedisServer],
) -> None:
    server = start_server()
    async with opened(server.url) as engine:
        await call(engine, w.ACQUIRE_LOCK, logical_path="job", owner="owner-one")
        server.admin().config_set("maxmemory", "1")
        kept = await call(engine, w.RENEW_LOCK, once="r", logical_path="job", owner="owner-one")
        assert kept["held"]
        assert (await call(engine, w.LOCK_EPOCH))["epoch"]


async def test_the_epoch_of_a_server_that_is_away_is_not_known(
    start_server: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_epoch, "CACHE_SECONDS", 0.0)
    server = start_server()
    async with opened(server.url) as engine:
        before = (await call(engine, w.LOCK_EPOCH))["epoch"]
        server.kill()
        with pytest.raises(ServiceError) as caught:
            await call(engine, w.LOCK_EPOCH)
        assert (caught.value.status_code, caught.value.code) == (503, "redis_unavailable")
        server.start()
        assert (await call(engine, w.LOCK_EPOCH))["epoch"] not in {before, ""}


# --- a cluster


async def test_every_operation_works_on_a_cluster(
    start_server: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = [
        start_server("--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{n}.conf") for n in range(2)
    ]
    _join(servers)
    monkeypatch.setattr(redis_epoch, "CACHE_SECONDS", 0.0)
    async with opened(servers[0].url.replace("redis:", "redis+cluster:")) as engine:
        names = [f"k{n}" for n in range(40)]
        for name in names:
            await call(engine, w.SET, once=name, logical_path=name, value=name)
        assert all(server.admin().dbsize() for server in servers), "keys lie on both nodes"
        found = await call(engine, w.MGET, keys=[{"logical_path": name} for name in names])
        assert [result["value"] for result in found["results"]] == names
        assert sorted(await _listed(engine, limit=7)) == sorted(names)
        assert await call(engine, w.INCR, once="i", logical_path="n") == {"value": 1}
        assert await call(engine, w.INCR, once="i", logical_path="n") == {"value": 1}
        assert await call(engine, w.SETNX, once="s", logical_path="n", value=9) == {
            "acquired": False,
            "existing": 1,
        }
        assert await call(engine, w.HSET, once="h", logical_path="h", field="f", value=[1]) == {"set": True}
        assert await call(engine, w.HGETALL, logical_path="h") == {"found": True, "fields": {"f": [1]}}
        with pytest.raises(ConflictError, match="entry 'h'"):
            await call(engine, w.MGET, keys=[{"logical_path": "n"}, {"logical_path": "h"}])
        grant = await call(engine, w.ACQUIRE_LOCK, once="l", logical_path="job", owner="owner-one")
        assert grant["acquired"]
        assert (await call(engine, w.RENEW_LOCK, logical_path="job", owner="owner-one"))["held"]
        assert await call(engine, w.RELEASE_LOCK, once="r", logical_path="job", owner="owner-one") == {
            "held": True
        }
        for name in names:
            assert await call(engine, w.DELETE, logical_path=name) == {"deleted": True}
        epochs = {await engine.epoch() for _ in range(3)}
        assert len(epochs) == 1
        for server in servers:
            server.admin().flushall()
            epochs.add(await engine.epoch())
        assert len(epochs) == 3, "the data of either node are noticed to be gone"


def _join(servers: list[RedisServer]) -> None:
    half = 16_384 // len(servers)
    for number, server in enumerate(servers):
        slots = range(number * half, (number + 1) * half)
        server.admin().execute_command("CLUSTER ADDSLOTS", *slots)
        server.admin().execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
    servers[0].admin().execute_command("CLUSTER MEET", "127.0.0.1", servers[1].port)

    def is_whole() -> bool:
        infos = [server.admin().execute_command("CLUSTER INFO") for server in servers]
        return all(
            info["cluster_state"] == "ok" and info["cluster_size"] == str(len(servers)) for info in infos
        )

    _until(is_whole, "the cluster did not form", seconds=30)


async def _listed(engine: RedisEngine, limit: int) -> list[str]:
    keys: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await call(engine, w.LIST, limit=limit, cursor=cursor)
        assert len(page["keys"]) <= limit
        keys += page["keys"]
        cursor = page["cursor"]
    return keys


# --- many keys, and the engine inside the process


async def test_large_keyspaces_are_listed_whole_while_they_change(
    start_server: Callable[..., RedisServer],
) -> None:
    server = start_server()
    admin = server.admin()
    stable = {f"item:{number}" for number in range(6000)}
    with admin.pipeline(transaction=False) as pipeline:
        for key in stable:
            pipeline.set(f"dominus:{{default:development::{key.replace(':', '%3A')}}}", 1)
        for number in range(6000):
            pipeline.set(f"dominus:{{other:development::{number}}}", 1)
        pipeline.execute()
    seen: set[str] = set()
    cursor: str | None = ""
    page_count = 0
    async with opened(server.url) as engine:
        while cursor is not None:
            page = await call(engine, w.LIST, limit=250, cursor=cursor, logical_prefix="item:")
            assert len(page["keys"]) <= 250
            seen.update(page["keys"])
            cursor = page["cursor"]
            page_count += 1
            assert page_count < 200, "the listing does not end"
            if page_count == 5:
                # The table grows, then shrinks: cursors now mean other buckets.
                admin.mset({f"filler:{number}": 1 for number in range(40_000)})
            if page_count == 10:
                admin.delete(*(f"filler:{number}" for number in range(40_000)))
    assert seen == stable


def test_event_loops_of_one_process_share_the_embedded_data() -> None:
    async def add(times: int) -> None:
        async with opened(None, server_key="shared") as engine:
            for _ in range(times):
                await call(engine, w.INCR, logical_path="n")

    async def read(server_key: str) -> Any:
        async with opened(None, server_key=server_key) as engine:
            return await call(engine, w.GET, logical_path="n")

    threads = [threading.Thread(target=lambda: asyncio.run(add(100))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asyncio.run(read("shared")) == {"found": True, "value": 400}
    assert asyncio.run(read("another home")) == {"found": False}


async def test_expired_entries_leave_the_memory_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_engine, "SWEEP_EVERY", 1)
    async with opened(None, server_key="swept") as engine:
        await call(engine, w.SET, logical_path="old", value=1)
        (old,) = await engine.client.keys()
        await engine.client.pexpire(old, 1)
        held = embedded._servers["swept"].dbs[0]._dict
        deadline = time.monotonic() + 5
        while old in held:
            assert time.monotonic() < deadline
            await call(engine, w.SET, logical_path="new", value=1)


# --- health


class _Pool:
    """What health asks of PostgreSQL."""

    def __init__(self, failure: Exception | None = None, *, is_stuck: bool = False) -> None:
        self._failure, self._is_stuck = failure, is_stuck

    async def check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._is_stuck:
            await asyncio.Event().wait()

    async def check_writes(self) -> None:
        """Take them."""


async def _health(operation: Operation[Any, Any], pool: _Pool, engine: Any) -> Any:
    engines = cast("Resources", _EnginesStub(engine, pool))
    context = Context(Principal("svc", "service", frozenset()), engines, "r")
    return await handlers_by_operation()[operation.name](context, Empty())


@pytest.mark.parametrize("operation", [h.CHECK, h.WARMUP], ids=lambda operation: operation.name)
async def test_health_tells_each_engine_with_its_latency(operation: Operation[Any, Any]) -> None:
    async with opened(None, server_key="health") as engine:
        answer = await _health(operation, _Pool(), engine)
    assert answer["status"] == "ok"
    assert set(answer["engines"]) == {"postgres", "redis"}
    assert all(found["status"] == "ok" and found["latency_ms"] >= 0 for found in answer["engines"].values())


async def test_health_degrades_and_fails_without_naming_hosts(
    start_server: Callable[..., RedisServer],
) -> None:
    server = start_server()
    failure = ConnectionRefusedError("connect to postgresql://admin:pw@db.internal:5432 failed")
    async with opened(server.url) as engine:
        degraded = await _health(h.CHECK, _Pool(failure), engine)
        assert degraded["status"] == "degraded"
        assert degraded["engines"]["postgres"] == {"status": "failed", "error": "ConnectionRefusedError"}
        server.kill()
        with pytest.raises(ServiceError) as caught:
            await _health(h.CHECK, _Pool(failure), engine)
        assert caught.value.status_code == 503
        assert caught.value.details["engines"]["redis"] == {"status": "failed", "error": "ServiceError"}
        assert "internal" not in f"{caught.value} {caught.value.details}"


async def test_a_stuck_engine_does_not_hold_health_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.05)
    async with opened(None, server_key="health") as engine:
        answer = await _health(h.CHECK, _Pool(is_stuck=True), engine)
    assert answer["status"] == "degraded"
    assert answer["engines"]["postgres"] == {"status": "failed", "error": "timeout"}
    assert answer["engines"]["redis"]["status"] == "ok"


async def test_ping_answers_without_asking_an_engine() -> None:
    assert await _health(h.PING, _Pool(DominusError("never asked")), None) == {"status": "ok"}


@pytest.mark.parametrize("is_function", [False, True])
async def test_a_script_that_loops_is_ended_and_who_calls_meanwhile_may_try_again(
    start_server: Callable[..., RedisServer], is_function: bool
) -> None:
    server = start_server("--requirepass", PASSWORD, "--busy-reply-threshold", "50")
    admin = server.admin(password=PASSWORD)
    if is_function:
        admin.function_load("#!lua name=x\nredis.register_function('f', function() while true do end end)")
    command = ("FCALL", "f", 0) if is_function else ("EVAL", "while true do end", 0)
    ended: list[str] = []

    def loop() -> None:
        try:
            admin.execute_command(*command)
        except redis.ResponseError as error:
            ended.append(str(error))

    async with opened(f"redis://:{PASSWORD}@127.0.0.1:{server.port}/3") as engine:
        thread = threading.Thread(target=loop)
        thread.start()
        # A client without an open connection gets no further than to be told that Redis is busy.
        async with opened_when_busy(server) as fresh:
            with pytest.raises(ServiceError) as caught:
                await fresh.execute("GET", "k")
            assert (caught.value.code, caught.value.status_code, caught.value.retryable) == (
                "redis_busy",
                503,
                True,
            )
        await asyncio.to_thread(thread.join, 10)
        assert "killed" in ended[0].lower()
        assert await engine.execute("GET", "k") is None
    admin.close()


@asynccontextmanager
async def opened_when_busy(server: RedisServer) -> AsyncIterator[RedisEngine]:
    def is_busy() -> bool:
        with server.admin(password=PASSWORD) as probe:
            try:
                probe.ping()
            except redis.ResponseError as error:
                return str(error).startswith("BUSY")
        return False

    await asyncio.to_thread(_until, is_busy, "the script does not run")
    engine = RedisEngine(redis_engine._remote_client(f"redis://:{PASSWORD}@127.0.0.1:{server.port}/3"))
    yield engine
    await engine.aclose()


async def test_a_script_that_has_written_is_said_not_to_end(
    start_server: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server("--requirepass", PASSWORD, "--busy-reply-threshold", "50")
    admin = server.admin(password=PASSWORD)

    def loop() -> None:
        with contextlib.suppress(redis.RedisError):
            admin.eval("redis.call('SET', 'k', 1) while true do end", 0)

    thread = threading.Thread(target=loop)
    thread.start()
    async with opened_when_busy(server) as engine:
        with pytest.raises(ServiceError) as caught:
            await engine.execute("GET", "k")
        assert caught.value.code == "redis_busy"
        assert "UNKILLABLE" in caplog.text
    server.kill()
    await asyncio.to_thread(thread.join, 10)
    admin.close()
