"""Redis sessions through a gateway: the native clients, a real server, and what they say when something is wrong."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from sessions_support import RESOLVE, SESSION, Rig, http_of, make_rig_of, plain
from test_redis_engines import RedisServer, start_server

from dominus import AuthenticationError, DominusConnectionError, DominusError, GatewayError
from dominus.errors import GatewayResolutionError
from dominus.sessions import AuthError, ConnectionError  # noqa: A004
from dominus.sessions import redis as redis_session
from dominus.testing import failure

__all__ = ["make_rig_of", "start_server"]

MakeRig = Callable[..., Any]


@pytest.fixture
def server(start_server: Callable[..., RedisServer]) -> RedisServer:
    return start_server()


@pytest.fixture
async def rig(make_rig_of: MakeRig, server: RedisServer) -> Rig:
    return await make_rig_of(("127.0.0.1", server.port))


async def eventually(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"still not: {what}") from None


def descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


# --- the native clients


async def test_an_asynchronous_session_is_the_native_client(rig: Rig):
    async with rig.client.sessions.redis() as rd:
        assert type(rd) is redis.asyncio.Redis
        await rd.set("key", "value")
        assert await rd.get("key") == "value"
        async with rd.pipeline(transaction=True) as pipe:
            assert await pipe.incr("n").incr("n").get("key").execute() == [1, 2, "value"]
    assert [(hello.target, hello.is_published) for hello in rig.gateway.hellos] == [("redis", False)]
    await eventually(lambda: rig.gateway.open_count == 0, "all connections closed")


async def test_a_synchronous_session_is_the_native_client(rig: Rig):
    def work() -> None:
        with rig.client.sessions.redis.sync(db=3) as rd:
            assert type(rd) is redis.Redis
            rd.set("key", "value")
            assert rd.get("key") == "value"
            assert rd.pipeline().incr("n").incr("n").execute() == [1, 2]
            assert rd.client_info()["db"] == 3

    await asyncio.to_thread(work)
    await eventually(lambda: rig.gateway.open_count == 0, "all connections closed")


async def test_options_are_those_of_the_native_client(rig: Rig):
    async with rig.client.sessions.redis(db=2, decode_responses=False, client_name="me") as rd:
        await rd.set("key", b"\xff")
        assert await rd.get("key") == b"\xff"
        info = await rd.client_info()
        assert (info["db"], info["name"]) == (2, "me")


async def test_publishing_and_blocking_pops_use_a_connection_each(rig: Rig):
    async with rig.client.sessions.redis() as rd, rd.pubsub() as listening:
        await listening.subscribe("news")
        assert (await listening.get_message(timeout=5))["type"] == "subscribe"
        waiting = asyncio.create_task(rd.blpop(["queue"], timeout=10))
        await eventually(lambda: rig.gateway.open_count >= 2, "a connection that waits")
        assert await rd.publish("news", "hello") == 1
        assert (await listening.get_message(timeout=5))["data"] == "hello"
        await rd.rpush("queue", "job")
        assert await waiting == ["queue", "job"] or await waiting == ("queue", "job")
    assert len(rig.gateway.hellos) == 3


async def test_large_values_and_64_concurrent_callers_do_not_mix(rig: Rig):
    async with rig.client.sessions.redis() as rd:

        async def own(number: int) -> None:
            pattern = f"{number:04d}" * (10_000 + number)
            await rd.set(f"k{number}", pattern)
            assert await rd.get(f"k{number}") == pattern

        await asyncio.gather(*(own(number) for number in range(64)))


async def test_nothing_is_sent_before_connect_and_connect_and_close_may_be_repeated(rig: Rig):
    session = rig.client.sessions.redis()
    assert rig.server.requests == []
    first, second = await asyncio.gather(session.connect(), session.connect())
    assert first is second is await session.connect()
    await asyncio.gather(session.close(), session.close())
    await session.close()
    with pytest.raises(ConnectionError, match="was closed") as caught:
        await session.connect()
    assert caught.value.code == "session_closed"
    assert len(rig.gateway.hellos) == 1


async def test_a_synchronous_session_may_be_connected_and_closed_from_many_threads(rig: Rig):
    session = rig.client.sessions.redis.sync()
    found: list[Any] = []

    def work() -> None:
        threads = [threading.Thread(target=lambda: found.append(session.connect())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        closing = [threading.Thread(target=session.close) for _ in range(8)]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        with pytest.raises(DominusConnectionError, match="was closed"):
            session.connect()

    await asyncio.to_thread(work)
    assert len(found) == 8
    assert len({id(one) for one in found}) == 1
    assert len(rig.gateway.hellos) == 1


async def test_a_session_closed_without_a_connection_asked_nobody(rig: Rig):
    await rig.client.sessions.redis().close()
    rig.client.sessions.redis.sync().close()
    assert rig.server.requests == []


# --- tokens


async def test_sessions_share_one_token_and_one_resolution(rig: Rig):
    async def use() -> None:
        async with rig.client.sessions.redis() as rd:
            await rd.ping()

    await asyncio.gather(*(use() for _ in range(20)))
    assert (len(rig.asked(SESSION)), len(rig.asked(RESOLVE))) == (1, 1)
    assert len(rig.gateway.hellos) == 20


async def test_a_refused_token_is_replaced_once(make_rig_of: MakeRig, server: RedisServer):
    old: set[str] = set()
    rig = await make_rig_of(
        ("127.0.0.1", server.port),
        judge=lambda hello: ("token_invalid", "it is expired") if hello.token in old else None,
    )
    async with rig.client.sessions.redis() as rd:
        await rd.ping()
        old.add(rig.gateway.hellos[0].token)
        # The connection lives on; only a new one needs another token.
        await rd.ping()
        await rd.connection_pool.disconnect()
        await rd.ping()
    assert [hello.token for hello in rig.gateway.hellos] == [
        "session-redis-1",
        "session-redis-1",
        "session-redis-2",
    ]


@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])
async def test_a_driver_that_reconnects_gets_its_connection_and_a_fresh_token(
    make_rig_of: MakeRig, server: RedisServer, is_sync: bool
):
    rig = await make_rig_of(("127.0.0.1", server.port))
    old: set[str] = set()
    rig.gateway.judge = lambda hello: ("token_invalid", "revoked") if hello.token in old else None

    def cut() -> None:
        old.update(hello.token for hello in rig.gateway.hellos)
        rig.gateway.drop()

    if is_sync:

        def work() -> None:
            loop_of_gateway = loop
            with rig.client.sessions.redis.sync() as rd:
                rd.set("key", 1)
                asyncio.run_coroutine_threadsafe(as_coroutine(cut), loop_of_gateway).result()
                assert rd.get("key") == "1"

        loop = asyncio.get_running_loop()
        await asyncio.to_thread(work)
    else:
        async with rig.client.sessions.redis() as rd:
            await rd.set("key", 1)
            cut()
            assert await rd.get("key") == "1"
    assert rig.gateway.hellos[-1].token not in old


async def as_coroutine(work: Callable[[], None]) -> None:
    work()


async def test_a_gateway_that_moved_is_looked_for_anew(rig: Rig):
    async with rig.client.sessions.redis() as rd:
        await rd.ping()
        await rig.gateway.stop()
        rig.gateway.port = 0
        await rig.gateway.start()
        await rd.connection_pool.disconnect()
        assert await rd.ping()
    assert len(rig.asked(RESOLVE)) == 2


async def test_a_user_s_view_asks_for_the_user_s_own_token(rig: Rig):
    async with rig.client.as_user("jwt-of-a-user").sessions.redis() as rd:
        await rd.ping()
    assert [one.bearer for one in rig.asked(SESSION)] == ["jwt-of-a-user"]


async def test_a_client_that_was_closed_begins_anew(rig: Rig):
    def use() -> None:
        with rig.client.sessions.redis.sync() as rd:
            rd.ping()

    for _ in range(2):
        async with rig.client.sessions.redis() as rd:
            await rd.ping()
        await asyncio.to_thread(use)
        await rig.client.aclose()
    # One for each loop, and again after the end.
    assert (len(rig.asked(SESSION)), len(rig.asked(RESOLVE))) == (4, 4)


async def test_a_token_for_other_clients(rig: Rig):
    assert await rig.client.sessions.token("redis") == "session-redis-1"
    assert rig.asked(SESSION)[0].body == {"target": "redis", "expires_in": 900}


# --- with a token in hand


async def test_a_token_in_hand_is_enough(rig: Rig, server: RedisServer):
    async with http_of(rig) as url:
        session = redis_session(jwt_token="given-1", db=1, api_base_url=url)
        assert rig.server.requests == []

        def work() -> None:
            with session as rd:
                rd.set("key", "value")
                assert rd.get("key") == "value"
            session.close()
            with pytest.raises(DominusConnectionError):
                session.connect()

        await asyncio.to_thread(work)
    assert [(hello.token, hello.target) for hello in rig.gateway.hellos] == [("given-1", None)]
    assert [one.path for one in rig.server.requests] == [RESOLVE]
    assert rig.asked(RESOLVE)[0].headers["content-type"] == "application/json"
    with server.admin(db=1) as admin:
        assert admin.get("key") == b"value"


async def test_the_address_of_the_orchestrator_may_be_in_the_environment(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    async with http_of(rig) as url:
        monkeypatch.setenv("DOMINUS_URL", url)
        session = redis_session("given-1")
        assert await asyncio.to_thread(lambda: session.connect().ping())
        await asyncio.to_thread(session.close)


@pytest.mark.parametrize("is_refused_by", ["orchestrator", "gateway"])
async def test_a_token_in_hand_that_is_refused_is_an_auth_error(make_rig_of: MakeRig, is_refused_by: str):
    rig = await make_rig_of(judge=lambda _: ("token_invalid", "it is expired"))
    if is_refused_by == "orchestrator":
        rig.answers[RESOLVE] = failure(401, "expired")
    async with http_of(rig) as url:
        with pytest.raises(AuthError) as caught:
            await asyncio.to_thread(redis_session("given-1", api_base_url=url).connect)
    assert isinstance(caught.value, AuthenticationError)
    assert "given-1" not in f"{caught.value!r}{caught.value}"


async def test_an_orchestrator_that_is_not_there_is_a_resolution_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOMINUS_COLD_START_TIMEOUT", "0")
    monkeypatch.setenv("DOMINUS_MAX_ATTEMPTS", "1")
    with pytest.raises(GatewayResolutionError, match="was not reached"):
        await asyncio.to_thread(redis_session("given-1", api_base_url="http://127.0.0.1:1").connect)


@pytest.mark.parametrize("token", ["", "with blank", "line\nend", "ü" * 40, "x" * 8193])
def test_what_cannot_be_a_token_is_refused_before_anything_is_sent(token: str):
    with pytest.raises(AuthError, match="not a token"):
        redis_session(token, api_base_url="http://127.0.0.1:1")


# --- what is wrong is said


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("token_invalid", AuthenticationError),
        ("authentication", AuthenticationError),
        ("authorization", DominusError),
        ("too_many_connections", GatewayError),
        ("upstream_unavailable", GatewayError),
    ],
)
@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])
async def test_a_refusal_is_raised_by_connect_with_code_and_message(
    make_rig_of: MakeRig, code: str, kind: type[DominusError], is_sync: bool
):
    rig = await make_rig_of(judge=lambda hello: (code, f"because of {hello.token}"))
    sessions = rig.client.sessions
    with pytest.raises(kind, match="because of") as caught:
        await (asyncio.to_thread(sessions.redis.sync().connect) if is_sync else sessions.redis().connect())
    assert caught.value.code == code
    assert "session-redis" not in str(caught.value)
    await eventually(lambda: rig.gateway.open_count == 0, "all connections closed")


@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])
async def test_a_gateway_that_is_not_there_is_a_gateway_error(rig: Rig, is_sync: bool):
    await rig.gateway.stop()
    sessions = rig.client.sessions
    with pytest.raises(GatewayError, match="was not reached") as caught:
        await (asyncio.to_thread(sessions.redis.sync().connect) if is_sync else sessions.redis().connect())
    assert not isinstance(caught.value, GatewayResolutionError)
    assert str(rig.gateway.port) in str(caught.value)


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"DMG1\x00\x00", b"DMG1\x00\x02[]", b"DMG1\x00\x05{"]
)
@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])
async def test_a_peer_that_is_no_gateway_is_a_gateway_error(make_rig_of: MakeRig, said: bytes, is_sync: bool):
    rig = await make_rig_of()
    await rig.gateway.stop()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4)
        writer.write(said)
        writer.write_eof()
        await reader.read()
        writer.close()

    other = await asyncio.start_server(answer, "127.0.0.1", 0)
    rig.gateway.port = other.sockets[0].getsockname()[1]
    sessions = rig.client.sessions
    with pytest.raises(GatewayError) as caught:
        await (asyncio.to_thread(sessions.redis.sync().connect) if is_sync else sessions.redis().connect())
    assert caught.value.code == "gateway_handshake"
    other.close()


@pytest.mark.parametrize(
    "answer",
    [
        failure(500),
        failure(404),
        plain({"dns": "", "port": 1}),
        plain({"dns": "h", "gateway_host": "h", "port": 0}),
        plain({"dns": "h", "gateway_host": "h", "port": "x"}),
    ],
    ids=["500", "404", "no host", "port 0", "text as port"],
)
async def test_an_orchestrator_that_does_not_say_where_is_a_resolution_error(
    make_rig_of: MakeRig, answer: Any
):
    rig = await make_rig_of(answers={RESOLVE: answer})
    with pytest.raises(GatewayResolutionError):
        await rig.client.sessions.redis().connect()


async def test_a_database_that_hangs_up_is_a_connection_error(make_rig_of: MakeRig):
    quiet = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    rig = await make_rig_of(quiet.sockets[0].getsockname())
    with pytest.raises(ConnectionError, match="Redis does not answer"):
        await rig.client.sessions.redis(retry=None).connect()
    quiet.close()


async def test_a_connect_that_failed_may_be_tried_again(make_rig_of: MakeRig, server: RedisServer):
    refusals = [("draining", "the gateway is about to end")]
    rig = await make_rig_of(("127.0.0.1", server.port), judge=lambda _: refusals.pop() if refusals else None)
    session = rig.client.sessions.redis()
    with pytest.raises(GatewayError, match="about to end"):
        await session.connect()
    assert await (await session.connect()).ping()
    await session.close()


async def test_a_block_that_fails_or_is_cancelled_closes_its_session(rig: Rig, server: RedisServer):
    with pytest.raises(redis.ResponseError):
        async with rig.client.sessions.redis() as rd:
            await rd.execute_command("NO-SUCH-COMMAND")

    async def blocked() -> None:
        async with rig.client.sessions.redis() as rd:
            await rd.blpop(["nothing"], timeout=0)

    task = asyncio.create_task(blocked())
    with server.admin() as admin:
        await eventually(lambda: admin.info("clients")["blocked_clients"] == 1, "a client that waits")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: rig.gateway.open_count == 0, "all connections closed")


# --- nothing is left behind


async def test_200_connections_opened_and_closed_leave_nothing_behind(rig: Rig):
    async def use() -> None:
        async with rig.client.sessions.redis() as rd:
            await rd.ping()

    await use()
    await eventually(lambda: rig.gateway.open_count == 0, "all connections closed")
    before, tasks = descriptors(), len(asyncio.all_tasks())
    for _ in range(4):
        await asyncio.gather(*(use() for _ in range(50)))
    await eventually(lambda: rig.gateway.open_count == 0, "all connections closed")
    await eventually(
        lambda: descriptors() <= before and len(asyncio.all_tasks()) <= tasks,
        f"{before} descriptors, {tasks} tasks",
    )
    assert len(rig.gateway.hellos) == 201


async def test_100_synchronous_sessions_leave_nothing_behind(rig: Rig):
    def use(count: int) -> None:
        for _ in range(count):
            with rig.client.sessions.redis.sync() as rd:
                rd.ping()

    await asyncio.to_thread(use, 2)
    await eventually(lambda: rig.gateway.open_count == 0, "all connections closed")
    before, threads = descriptors(), threading.active_count()
    await asyncio.gather(*(asyncio.to_thread(use, 25) for _ in range(4)))
    await eventually(lambda: rig.gateway.open_count == 0, "all connections closed")
    await eventually(lambda: descriptors() <= before, f"{before} descriptors")
    assert threading.active_count() <= threads + 8  # the executor's
