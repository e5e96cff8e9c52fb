"""TigerBeetle sessions: the native client by a local port of its own, which serves nobody else."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import tigerbeetle
from sessions_support import Rig, make_rig_of
from test_sessions import descriptors, eventually
from tigerbeetle_peer import Peer

from dominus import AuthenticationError, GatewayError
from dominus.sessions import tigerbeetle as tigerbeetle_session
from dominus.sessions.access import Access
from dominus.sessions.forward import Forwarder

__all__ = ["make_rig_of"]

MakeRig = Callable[..., Any]


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    made = Peer()
    await made.start()
    yield made
    assert made.server is not None
    made.server.close()
    assert made.broken == []


@pytest.fixture
async def rig(make_rig_of: MakeRig, peer: Peer) -> Rig:
    return await make_rig_of(("127.0.0.1", peer.port))


async def test_the_asynchronous_client_s_first_messages_arrive_whole(rig: Rig, peer: Peer):
    sessions = rig.client.sessions
    async with sessions.tigerbeetle(cluster_id=7) as tb:
        assert type(tb) is tigerbeetle.ClientAsync
        with pytest.raises(tigerbeetle.ClientEvictedError):
            await tb.create_accounts([sessions.tigerbeetle.Account(id=1, ledger=1, code=1)])
    assert peer.clusters[0] == 7
    assert [(hello.target, hello.endpoint) for hello in rig.gateway.hellos] == [("tigerbeetle", 0)]
    await eventually(lambda: rig.gateway.open_count == 0, "all connections closed")


async def test_the_synchronous_client_s_first_messages_arrive_whole(rig: Rig, peer: Peer):
    def work() -> None:
        with rig.client.sessions.tigerbeetle.sync(cluster_id=2**64 + 9) as tb:
            assert type(tb) is tigerbeetle.ClientSync
            with pytest.raises(tigerbeetle.ClientEvictedError):
                tb.create_transfers([tigerbeetle.Transfer(id=1)] * 1000)

    await asyncio.to_thread(work)
    assert peer.clusters[0] == 2**64 + 9
    await eventually(lambda: rig.gateway.open_count == 0, "all connections closed")


async def test_each_replica_has_an_endpoint(make_rig_of: MakeRig, peer: Peer):
    rig = await make_rig_of(("127.0.0.1", peer.port), endpoints=3)
    async with rig.client.sessions.tigerbeetle():
        await eventually(lambda: len(rig.gateway.hellos) == 3, "three connections")
    assert sorted(hello.endpoint for hello in rig.gateway.hellos) == [0, 1, 2]


async def test_a_client_whose_connection_breaks_gets_another(rig: Rig, peer: Peer):
    async with rig.client.sessions.tigerbeetle(cluster_id=7) as tb:
        await eventually(lambda: peer.connection_count >= 1, "a connection")
        rig.gateway.drop()
        with pytest.raises(tigerbeetle.ClientEvictedError):
            await tb.lookup_accounts([1])
    assert len(rig.gateway.hellos) >= 2


@pytest.mark.parametrize(
    ("code", "kind"), [("token_invalid", AuthenticationError), ("draining", GatewayError)]
)
async def test_a_refusal_is_raised_by_connect(make_rig_of: MakeRig, code: str, kind: type[Exception]):
    rig = await make_rig_of(judge=lambda _: (code, "not now"))
    with pytest.raises(kind, match="not now"):
        await rig.client.sessions.tigerbeetle().connect()
    with pytest.raises(kind, match="not now"):
        await asyncio.to_thread(rig.client.sessions.tigerbeetle.sync().connect)


def test_all_native_types_are_reachable_from_the_one_name():
    from dominus import dominus

    for name in tigerbeetle.__all__:
        assert getattr(dominus.sessions.tigerbeetle, name) is getattr(tigerbeetle, name)
        assert getattr(tigerbeetle_session, name) is getattr(tigerbeetle, name)
    assert set(tigerbeetle.__all__) <= set(dir(tigerbeetle_session))
    with pytest.raises(AttributeError):
        tigerbeetle_session.Nothing  # noqa: B018


async def test_sessions_leave_nothing_behind(rig: Rig, peer: Peer):
    async def use() -> None:
        async with rig.client.sessions.tigerbeetle() as tb:
            with pytest.raises(tigerbeetle.ClientEvictedError):
                await tb.lookup_accounts([1])

    await use()
    before, tasks = descriptors(), len(asyncio.all_tasks())
    for _ in range(5):
        await use()
    await eventually(lambda: rig.gateway.open_count == 0, "all connections closed")
    await eventually(
        lambda: descriptors() <= before and len(asyncio.all_tasks()) <= tasks,
        f"{before} descriptors, {tasks} tasks",
    )


# --- the local endpoint

CONNECT = """
import encodings.idna, os, socket, sys
if sys.argv[2] != "0":
    os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as opened:
    opened.settimeout(10)
    try:
        opened.sendall(b"hello")
        sys.stdout.write(opened.recv(5).decode())
    except ConnectionError:
        pass
"""


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def access(make_rig_of: MakeRig, echo: int) -> Access:
    rig = await make_rig_of(("127.0.0.1", echo))
    return await rig.client.sessions._routes.access("legacy")


async def other_process(port: int, user: int) -> str:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", CONNECT, str(port), str(user)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
async def test_a_connection_of_another_user_is_closed_and_logged(
    access: Access, caplog: pytest.LogCaptureFixture
):
    forwarder = Forwarder(access, "legacy")
    (port,) = await forwarder.start_tcp()
    with caplog.at_level(logging.WARNING, "dominus.sessions"):
        assert await other_process(port, 65534) == ""
    assert "closed a connection of another user to the legacy session" in caplog.text
    await forwarder.close()


async def test_another_process_of_the_same_user_is_served(access: Access):
    forwarder = Forwarder(access, "legacy")
    (port,) = await forwarder.start_tcp()
    assert await other_process(port, 0) == "hello"
    await forwarder.close()


async def test_a_half_closed_connection_still_brings_the_answer(access: Access):
    forwarder = Forwarder(access, "legacy")
    (port,) = await forwarder.start_tcp()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x" * 3_000_000)
    writer.write_eof()
    assert len(await reader.read()) == 3_000_000
    writer.close()
    await eventually(lambda: not forwarder.ends, "both ends closed")
    await forwarder.close()


async def test_a_reader_that_stops_stops_the_sender_and_not_our_memory(make_rig_of: MakeRig):
    sent = 0

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < 200_000_000:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    source = await asyncio.start_server(pour, "127.0.0.1", 0)
    rig = await make_rig_of(source.sockets[0].getsockname())
    forwarder = Forwarder(await rig.client.sessions._routes.access("legacy"), "legacy")
    (port,) = await forwarder.start_tcp()
    with socket.create_connection(("127.0.0.1", port)) as idle:
        idle.settimeout(0)
        last = -1
        while last != sent:
            last = sent
            await asyncio.sleep(0.3)
        assert 0 < sent < 40_000_000
        buffered = sum(
            end.transport.get_write_buffer_size() for end in forwarder.ends if end.transport is not None
        )
        assert buffered < 1_000_000
    await forwarder.close()
    source.close()


async def test_the_unix_socket_is_in_a_folder_of_this_user_alone(access: Access):
    forwarder = Forwarder(access, "legacy")
    folder, port = await forwarder.start_unix()
    assert Path(folder).stat().st_mode & 0o777 == 0o700
    reader, writer = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{port}")
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    await forwarder.close()
    assert await reader.read() == b""
    writer.close()
    assert not Path(folder).exists()
