"""What sessions decide before, and beside, any connection."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest
from conftest import MakeRig

import dominus as package
from dominus import (
    AuthenticationError,
    AuthorizationError,
    Dominus,
    DominusConnectionError,
    DominusError,
    ServiceError,
    ValidationError,
)
from dominus import sessions as module
from dominus.contract.handshake import Reply
from dominus.errors import CredentialError, GatewayError, GatewayResolutionError, ProxyError
from dominus.sessions import background, peers
from dominus.sessions.calls import endpoint_of
from dominus.sessions.session import AsyncSession, Session
from dominus.sessions.tunnel import Endpoint, Route, is_loopback, refusal
from dominus.testing import failure, ok, raw


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.8.9.1", "::1"])
def test_this_machine_is_loopback(host: str):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "127.evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "0.0.0.0",
        "::",
        "",
        "example",
    ],
)
def test_any_other_name_may_lead_anywhere(host: str):
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"dns": "127.0.0.1", "port": 5}, Endpoint("127.0.0.1", 5, has_tls=False)),
        (
            {"gateway_host": "localhost", "port": 5, "endpoints": 3},
            Endpoint("localhost", 5, has_tls=False, count=3),
        ),
        ({"dns": "127.0.0.1"}, Endpoint("127.0.0.1", 3001, has_tls=False)),
        ({"dns": "127.0.0.1", "port": 5, "tls": True}, Endpoint("127.0.0.1", 5, has_tls=True)),
        ({"dns": "db.example", "port": 5}, Endpoint("db.example", 5, has_tls=True)),
        ({"dns": "db.example", "port": 5, "tls": False}, Endpoint("db.example", 5, has_tls=True)),
    ],
)
def test_where_the_gateway_listens(answer: Any, expected: Endpoint):
    assert endpoint_of(answer) == expected


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"dns": ""},
        {"gateway_host": 5},
        {"dns": ["h"], "port": 1},
        {"dns": "h", "port": "1"},
        {"dns": "h", "port": 0},
        {"dns": "h", "port": 65_536},
        {"dns": "h", "port": True},
        {"dns": "h", "port": 1, "endpoints": 0},
    ],
)
def test_an_answer_that_does_not_say_where_is_an_error(answer: Any):
    with pytest.raises(GatewayResolutionError):
        endpoint_of(answer)


WAY = Route(Endpoint("h", 1, has_tls=False), "the-token", "redis", None)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("token_invalid", AuthenticationError),
        ("authentication", AuthenticationError),
        ("authorization", AuthorizationError),
        ("gateway_full", GatewayError),
    ],
)
def test_a_refusal_is_a_typed_error_without_the_token(code: str, kind: type[DominusError]):
    error = refusal(Reply(code, "no: the-token", 0), WAY)
    assert type(error) is kind
    assert (error.code, error.endpoint) == (code, "gateway:redis")
    assert "the-token" not in f"{error!s}{error!r}{error.args}{WAY!r}"


def test_an_open_way_is_no_error():
    assert refusal(Reply("", "", 0), WAY) is None


def test_the_errors_are_in_one_tree_and_have_the_published_names():
    assert module.AuthError is AuthenticationError
    assert issubclass(module.ConnectionError, DominusConnectionError)
    assert issubclass(module.ConnectionError, ConnectionError)
    assert issubclass(GatewayResolutionError, GatewayError)
    assert issubclass(CredentialError, GatewayError)
    assert issubclass(GatewayError, ServiceError)
    for kind in (
        module.AuthError,
        GatewayError,
        GatewayResolutionError,
        module.ConnectionError,
        ProxyError,
        CredentialError,
    ):
        assert issubclass(kind, DominusError)


# --- lazy


def test_making_sessions_loads_no_driver():
    code = """
import sys
from dominus import dominus
from dominus.sessions import redis, tigerbeetle
made = [dominus.sessions.redis(), dominus.sessions.redis.sync(), dominus.sessions.postgres(), dominus.sessions.postgres.pool(),
        dominus.sessions.postgres.sync(), dominus.sessions.tigerbeetle(), dominus.sessions.tigerbeetle.sync(),
        redis(jwt_token="x" * 40), tigerbeetle(jwt_token="x" * 40, cluster_id=1)]
repr(made)
print({name.partition(".")[0] for name in sys.modules} & {"redis", "asyncpg", "psycopg", "tigerbeetle", "aiohttp"})
import threading
print(threading.active_count())
"""
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["set()", "1"]


@pytest.mark.parametrize(
    ("driver", "make"),
    [
        ("redis", lambda s: s.redis()),
        ("redis", lambda s: s.redis.sync()),
        ("asyncpg", lambda s: s.postgres()),
        ("asyncpg", lambda s: s.postgres.pool()),
        ("psycopg", lambda s: s.postgres.sync()),
        ("tigerbeetle", lambda s: s.tigerbeetle()),
        ("tigerbeetle", lambda s: s.tigerbeetle.sync()),
    ],
)
async def test_a_missing_driver_says_which_extra_to_install(
    driver: str, make: Any, monkeypatch: pytest.MonkeyPatch, make_rig: MakeRig
):
    for name in list(sys.modules):
        if name == driver or name.startswith("dominus.sessions.drivers"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, driver, None)
    rig = make_rig()
    session = make(rig.client.sessions)
    with pytest.raises(ServiceError, match=re.escape("[sessions]")) as caught:
        await (session.connect() if isinstance(session, AsyncSession) else asyncio.to_thread(session.connect))
    assert caught.value.code == "extra_missing"
    assert driver in caught.value.message
    assert rig.server.requests == []


@pytest.mark.parametrize("target", ["", "Redis", "a b", "x" * 64, "redis\n"])
async def test_a_target_that_can_be_none_is_refused_before_anything_is_sent(target: str, make_rig: MakeRig):
    rig = make_rig()
    with pytest.raises(ValidationError, match="target"):
        await rig.client.sessions.token(target)
    assert rig.server.requests == []


@pytest.mark.parametrize("seconds", [0, 59, 3601])
async def test_a_token_s_life_has_bounds(seconds: int, make_rig: MakeRig):
    with pytest.raises(ValidationError, match="expires_in"):
        await make_rig().client.sessions.token("redis", expires_in=seconds)


async def test_the_calls_beside_sessions(make_rig: MakeRig):
    rig = make_rig(
        ok({"access_token": "t", "token_type": "Bearer", "expires_in": 60, "target": "redis"}),
        raw(b'{"dns": "127.0.0.1", "gateway_host": "127.0.0.1", "port": 1}'),
        raw(b'{"username": "u", "password": "p", "host": "h", "port": 1}'),
        raw(b'{"released": true}'),
    )
    sessions = rig.client.sessions
    assert await sessions.token("redis", expires_in=60) == "t"
    assert (await sessions.resolve("t"))["port"] == 1
    assert (await sessions.credentials("t", database="d"))["username"] == "u"
    assert await sessions.release("t", "u") == {"released": True}
    assert [call.bearer for call in rig.server.calls] == ["token-1", "t", "t", "t"]
    assert rig.server.calls[2].body == {"database": "d"}


@pytest.mark.parametrize("status", [400, 403, 404, 503])
async def test_a_failed_call_says_in_which_step(status: int, make_rig: MakeRig):
    rig = make_rig(default=failure(status, "not so"), client={"cold_start_timeout": 0.001})
    with pytest.raises(GatewayResolutionError, match="not so") as caught:
        await rig.client.sessions.resolve("a-token")
    assert caught.value.status_code == status
    assert caught.value.request_id == "req-1"
    with pytest.raises(CredentialError, match="not so"):
        await rig.client.sessions.credentials("a-token")


def test_what_is_shown_of_sessions_holds_no_token():
    token = "token-that-nobody-may-see-" + "x" * 40
    session = module.redis(token, api_base_url="http://127.0.0.1:1")
    assert token not in repr(session)
    assert repr(session) == "<redis session, not connected>"
    assert repr(Dominus().sessions) == "<dominus.sessions>"
    assert isinstance(package.dominus.sessions, module.Sessions)


# --- the life of a session


async def test_what_fails_at_closing_is_logged_and_the_rest_is_closed(caplog: pytest.LogCaptureFixture):
    closed: list[str] = []

    async def opening(stack: contextlib.AsyncExitStack) -> str:
        stack.callback(closed.append, "first")

        async def broken() -> None:
            raise RuntimeError("it broke")

        stack.push_async_callback(broken)
        stack.callback(closed.append, "last")
        return "native"

    async with AsyncSession("some", opening) as native:
        assert native == "native"
    assert closed == ["last", "first"]
    assert "closing the some session: RuntimeError('it broke')" in caplog.text


async def test_what_was_opened_before_a_failure_is_closed():
    closed: list[str] = []

    async def opening(stack: contextlib.AsyncExitStack) -> str:
        stack.callback(closed.append, "first")
        raise GatewayError("no")

    session = AsyncSession("some", opening)
    with pytest.raises(GatewayError):
        await session.connect()
    assert closed == ["first"]
    await session.close()
    assert closed == ["first"]


def test_a_synchronous_session_closes_once_and_tells_the_native_block_how_it_ended():
    seen: list[Any] = []

    def opening(stack: contextlib.ExitStack) -> tuple[str, Any]:
        stack.callback(seen.append, "closed")
        return "native", lambda *ended: seen.append(ended[0])

    with pytest.raises(KeyError), Session("some", opening):
        raise KeyError
    assert seen == [KeyError, "closed"]
    session = Session("some", opening)
    session.connect()
    session.close()
    session.close()
    assert seen[2:] == ["closed"]


# --- the thread behind synchronous sessions


def test_the_thread_runs_work_and_passes_errors_on():
    async def work(value: int) -> int:
        if value < 0:
            raise ValidationError("negative")
        return threading.get_ident()

    assert background.run(work(1)) == background.run(work(2)) != threading.get_ident()
    with pytest.raises(ValidationError, match="negative"):
        background.run(work(-1))


def test_a_fork_has_a_thread_of_its_own_and_programs_end_clean():
    code = """
import asyncio, os, sys, warnings
warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
from dominus.sessions import background
async def work():
    asyncio.create_task(asyncio.sleep(60))
    return os.getpid()
assert background.run(work()) == os.getpid()
pid = os.fork()
assert background.run(work()) == os.getpid()
if pid == 0:
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "done\n")


# --- who connects to a local port


@pytest.fixture
def pair():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as near,
    ):
        far, _ = server.accept()
        with far:
            yield near.getsockname(), far.getsockname()


@pytest.mark.parametrize("way", ["_is_of_this_process", "_is_of_this_user"])
def test_a_connection_of_this_process_is_found_and_another_is_not(pair: Any, way: str):
    peer, here = pair
    look = getattr(peers, way)
    assert look(peer, here)
    assert not look((peer[0], peer[1] ^ 1), here)
    assert not look(peer, (here[0], here[1] ^ 1))


def test_a_system_without_a_table_still_knows_its_own_process(
    pair: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
):
    monkeypatch.setattr(peers, "_TABLE", tmp_path / "none")
    assert peers.is_ours(*pair)
    assert not peers.is_ours((pair[0][0], pair[0][1] ^ 1), pair[1])


async def test_a_system_that_shows_nobody_opens_no_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Any):
    from dominus.sessions.forward import Forwarder

    monkeypatch.setattr(peers, "_DESCRIPTORS", tmp_path / "none")
    with pytest.raises(ProxyError, match="does not show who connects"):
        await Forwarder(None, "tigerbeetle").start_tcp()  # type: ignore[arg-type]
