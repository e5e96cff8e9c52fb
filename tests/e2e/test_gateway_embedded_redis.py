"""Native sessions of the Redis inside this process: redis-py through the gateway, on the orchestrator's own data."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from gateway_support import LOOPS, Running, everything, exactly, running, until
from redis.connection import Connection

from dominus.contract.handshake import encode_hello
from dominus.orchestrator.engines.redis.client import RedisEngine
from dominus.orchestrator.gateway.upstream.targets import builtin_targets


@pytest.fixture(params=LOOPS)
def gateway(request: pytest.FixtureRequest) -> Iterator[Running]:
    async def open_engine() -> RedisEngine:
        return await RedisEngine.open(None, server_key=request.node.name)

    engine = asyncio.run(open_engine())
    with running(request.param, builtin_targets("postgresql://h/d", None, engine)) as found:
        found.engine = engine  # type: ignore[attr-defined]
        yield found


@pytest.fixture
def client(gateway: Running) -> Iterator[redis.Redis]:
    with native(gateway) as found:
        yield found


def native(gateway: Running, **options: Any) -> redis.Redis:
    token = gateway.verifier.grant("redis")

    class Greeted(Connection):
        def _connect(self) -> socket.socket:
            return gateway.session(token)

    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=Greeted, **options))


def is_someone_blocked(gateway: Running) -> bool:
    engine: Any = gateway.engine  # type: ignore[attr-defined]
    server = engine.client.connection_pool.connection_kwargs["server"]
    return any(client._blocked for client in list(server.sockets))


def test_values_pipelines_and_errors_are_redis_own(client: redis.Redis) -> None:
    value = bytes(range(256)) * 4000
    assert client.set("k", value)
    assert client.get("k") == value
    with client.pipeline() as pipe:
        for number in range(500):
            pipe.incrby("n", number)
        assert pipe.execute()[-1] == sum(range(500))
    assert client.hset("h", mapping={"a": 1, "b": "two"}) == 2
    assert client.hgetall("h") == {b"a": b"1", b"b": b"two"}
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.incr("h")
    assert client.get("missing") is None


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols_are_spoken(gateway: Running, protocol: int) -> None:
    with native(gateway, protocol=protocol, decode_responses=True) as client:
        client.zadd("z", {"a": 1.5, "b": 2})
        assert client.zscore("z", "a") == 1.5
        assert client.smembers("nothing") == set()


def test_published_messages_arrive_from_other_connections(gateway: Running, client: redis.Redis) -> None:
    with native(gateway) as listener, listener.pubsub() as channel:
        channel.subscribe("news")
        assert channel.get_message(timeout=5)["type"] == "subscribe"  # type: ignore[index]
        assert client.publish("news", "hello") == 1
        assert channel.get_message(timeout=5)["data"] == b"hello"  # type: ignore[index]


def test_a_blocking_pop_waits_and_holds_up_nobody(gateway: Running, client: redis.Redis) -> None:
    found: list[Any] = []
    with native(gateway) as waiting:
        thread = threading.Thread(target=lambda: found.append(waiting.blpop(["queue"], timeout=9)))
        thread.start()
        until(lambda: is_someone_blocked(gateway))
        assert client.ping()
        client.rpush("queue", "job")
        thread.join(9)
    assert found == [(b"queue", b"job")]


def test_a_client_gone_from_a_blocking_pop_takes_nothing(gateway: Running, client: redis.Redis) -> None:
    token = gateway.verifier.grant("redis")
    gone = gateway.session(
        token, b"*2\r\n$4\r\nPING\r\n$1\r\nx\r\n*3\r\n$5\r\nBLPOP\r\n$1\r\nq\r\n$1\r\n0\r\n"
    )
    assert exactly(gone, 4) == b"+x\r\n"
    until(lambda: is_someone_blocked(gateway))
    active = gateway.stats.active
    gone.close()
    until(lambda: gateway.stats.active == active - 1)
    until(lambda: not is_someone_blocked(gateway))
    client.rpush("q", "job")
    assert client.lpop("q") == b"job"


def test_clients_of_other_loops_see_the_same_data(gateway: Running, client: redis.Redis) -> None:
    client.set("shared", "yes")
    engine: RedisEngine = gateway.engine  # type: ignore[attr-defined]

    async def read() -> Any:
        mine = await RedisEngine.open(None, server_key="unused")
        mine.client.connection_pool.connection_kwargs["server"] = (
            engine.client.connection_pool.connection_kwargs["server"]
        )  # type: ignore[union-attr]
        return await mine.execute("GET", "shared")

    assert asyncio.run(read()) == b"yes"


def test_what_is_no_redis_is_told_so_and_hung_up(gateway: Running) -> None:
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"*1\r\n:5\r\n", b"*x\r\n"):
        client = gateway.connect(encode_hello(gateway.verifier.grant("redis")) + garbage)
        assert gateway.reply(client) == ""
        assert everything(client).startswith(b"-ERR")
