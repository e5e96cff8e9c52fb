"""Bytes through the gateway: whole, in order, never mixed, no faster than they are read, and to their end."""

from __future__ import annotations

import hashlib
import random
import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from gateway_support import LOOPS, Peer, Running, everything, exactly, open_descriptors, reset, running, until

from dominus.contract.handshake import encode_hello
from dominus.orchestrator.gateway.limits import Limits
from dominus.orchestrator.gateway.tunnel import HIGH_WATER
from dominus.orchestrator.gateway.upstream.targets import parse_targets

LARGEST_READ = 256 * 1024


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.close()


@pytest.fixture(params=LOOPS)
def gateway(request: pytest.FixtureRequest, peer: Peer) -> Iterator[Running]:
    limits = Limits(idle=100, half_closed=20, linger=10, max_lifetime=1000)
    with running(request.param, parse_targets(f"peer=tcp://127.0.0.1:{peer.port}"), limits=limits) as found:
        yield found


@pytest.fixture
def pair(gateway: Running, peer: Peer) -> tuple[socket.socket, socket.socket]:
    """A client and the database's end of its connection."""
    client = gateway.session(gateway.verifier.grant("peer"))
    return client, peer.accept()


def test_a_half_closed_client_still_gets_its_answer(pair: tuple[socket.socket, socket.socket]) -> None:
    client, database = pair
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert everything(database) == b"question"
    answer = random.Random(1).randbytes(3_000_000)
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(lambda: (database.sendall(answer), database.close()))
        assert everything(client) == answer
        sent.result(10)


def test_a_half_closed_database_still_hears(pair: tuple[socket.socket, socket.socket]) -> None:
    client, database = pair
    database.sendall(b"last words")
    database.shutdown(socket.SHUT_WR)
    assert everything(client) == b"last words"
    client.sendall(b"still here")
    client.close()
    assert everything(database) == b"still here"


def test_a_database_killed_in_the_middle_ends_its_client_after_what_was_said(
    gateway: Running, pair: tuple[socket.socket, socket.socket]
) -> None:
    client, database = pair
    database.sendall(b"half of an ans")
    assert exactly(client, 14) == b"half of an ans"
    client.sendall(b"more")
    exactly(database, 4)
    reset(database)
    assert everything(client) == b""
    until(lambda: gateway.stats.active == 0)
    assert gateway.stats.ended == {"upstream": 1}


def test_a_client_that_crashes_ends_its_database_connection(
    gateway: Running, pair: tuple[socket.socket, socket.socket]
) -> None:
    client, database = pair
    client.sendall(b"abc")
    exactly(database, 3)
    reset(client)
    assert everything(database) == b""
    until(lambda: gateway.stats.active == 0)
    assert gateway.stats.ended == {"client": 1}


def _fill(sender: socket.socket) -> int:
    """Send until nothing more is taken; return how much was."""
    sender.settimeout(0)
    sent = 0
    # Half a second without room is the end: all between is on this machine, and runs.
    while select.select([], [sender], [], 0.5)[1]:
        try:
            sent += sender.send(bytes([sent // 65_536 % 251]) * (65_536 - sent % 65_536))
        except BlockingIOError:
            continue
    sender.settimeout(10)
    return sent


@pytest.mark.parametrize("direction", ["to the client", "to the database"])
def test_a_slow_reader_stops_its_peer_and_not_the_memory(
    gateway: Running, pair: tuple[socket.socket, socket.socket], direction: str
) -> None:
    reader, sender = pair if direction == "to the client" else pair[::-1]
    sent = _fill(sender)
    (tunnel,) = gateway.gateway._tunnels
    side = tunnel.client if direction == "to the client" else tunnel.upstream
    held = gateway.ask(side.transport.get_write_buffer_size)
    assert 0 < held <= HIGH_WATER + LARGEST_READ
    assert sent < 64 * 1024 * 1024
    # The other connections go on, and nothing was lost.
    received = exactly_many(reader, sent)
    assert received == b"".join(bytes([place % 251]) * 65_536 for place in range(-(-sent // 65_536)))[:sent]
    reader.sendall(b"awake")
    assert exactly(sender, 5) == b"awake"


def exactly_many(reader: socket.socket, count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        parts.append(reader.recv(min(count, 1 << 20)))
        assert parts[-1]
        count -= len(parts[-1])
    return b"".join(parts)


def test_a_stuck_connection_holds_up_no_other(gateway: Running, peer: Peer) -> None:
    token = gateway.verifier.grant("peer")
    gateway.session(token)
    _fill(peer.accept())
    client = gateway.session(token)
    database = peer.accept()
    client.sendall(b"ping")
    assert exactly(database, 4) == b"ping"


def test_64_connections_never_mix_their_bytes(gateway: Running, peer: Peer) -> None:
    count, size = 64, 512 * 1024
    token = gateway.verifier.grant("peer")

    def echo() -> None:
        database = peer.accept()
        while chunk := database.recv(65_536):
            database.sendall(chunk)
        database.close()

    def talk(number: int) -> bool:
        chance = random.Random(number)
        pattern = chance.randbytes(size)
        client = gateway.session(token)
        answers: list[bytes] = []
        reader = threading.Thread(target=lambda: answers.append(everything(client)))
        reader.start()
        place = 0
        while place < size:
            step = chance.randrange(1, 40_000)
            client.sendall(pattern[place : place + step])
            place += step
        client.shutdown(socket.SHUT_WR)
        reader.join(30)
        return hashlib.sha256(answers[0]).digest() == hashlib.sha256(pattern).digest()

    with ThreadPoolExecutor(2 * count) as pool:
        echoes = [pool.submit(echo) for _ in range(count)]
        assert all(pool.map(talk, range(count)))
        for work in echoes:
            work.result(10)
    until(lambda: gateway.stats.active == 0)
    stats = gateway.stats
    assert (stats.opened_count, stats.received_bytes, stats.sent_bytes) == (count, count * size, count * size)


def test_200_connections_at_once_leave_no_descriptor_behind(gateway: Running, peer: Peer) -> None:
    token = gateway.verifier.grant("peer")
    before = open_descriptors()
    pairs = [(gateway.session(token), peer.accept()) for _ in range(200)]
    for number, (client, database) in enumerate(pairs):
        client.sendall(number.to_bytes(4))
        assert exactly(database, 4) == number.to_bytes(4)
    assert gateway.stats.active == 200
    for number, (client, database) in enumerate(pairs):
        # Each end is the first to leave, in an orderly way or not.
        leaver, other = (client, database) if number % 2 else (database, client)
        (reset if number % 4 < 2 else socket.socket.close)(leaver)
        assert everything(other) == b""
        other.close()
    until(lambda: gateway.stats.active == 0)
    until(lambda: open_descriptors() == before, "descriptors are left open")


# --- what time brings


def test_an_idle_connection_is_closed_and_a_busy_one_is_not(gateway: Running, peer: Peer) -> None:
    token = gateway.verifier.grant("peer")
    idle, busy = gateway.session(token), gateway.session(token)
    databases = [peer.accept(), peer.accept()]
    gateway.sweep()
    gateway.sweep(99)
    busy.sendall(b"x")
    until(lambda: gateway.stats.received_bytes == 1)
    gateway.sweep(1)
    assert everything(idle) == b""
    assert everything(databases[0]) == b""
    assert exactly(databases[1], 1) == b"x"
    assert gateway.stats.active == 1
    gateway.sweep(100)
    assert everything(busy) == b""
    assert gateway.stats.ended == {"idle": 2}


def test_no_connection_outlives_the_longest_lifetime(
    gateway: Running, pair: tuple[socket.socket, socket.socket]
) -> None:
    client, database = pair
    for number in range(1, 12):
        client.sendall(b"x")
        exactly(database, 1)
        until(lambda number=number: gateway.stats.received_bytes == number)
        if number < 11:
            gateway.sweep(90)
    gateway.sweep(100)
    assert everything(client) == b""
    assert gateway.stats.ended == {"lifetime": 1}


def test_a_half_open_peer_is_not_waited_for_as_long_as_an_idle_one(
    gateway: Running, pair: tuple[socket.socket, socket.socket]
) -> None:
    client, database = pair
    client.shutdown(socket.SHUT_WR)
    assert everything(database) == b""
    gateway.sweep()
    gateway.sweep(19)
    assert gateway.stats.active == 1
    gateway.sweep(1)
    assert everything(client) == b""
    assert gateway.stats.ended == {"half_closed": 1}


def test_a_reader_that_takes_nothing_is_cut_off_when_its_peer_is_gone(
    gateway: Running, pair: tuple[socket.socket, socket.socket]
) -> None:
    _, database = pair
    _fill(database)
    gateway.sweep()
    gateway.sweep(101)
    gateway.sweep()
    gateway.sweep(9)
    assert gateway.stats.active == 1
    gateway.sweep(1)
    until(lambda: gateway.stats.active == 0)


# --- draining


def test_draining_closes_who_waits_for_nothing_and_lets_the_others_finish(
    gateway: Running, peer: Peer
) -> None:
    token = gateway.verifier.grant("peer")
    answered, waiting, silent = gateway.session(token), gateway.session(token), gateway.connect()
    first, second = peer.accept(), peer.accept()
    answered.sendall(b"ask")
    waiting.sendall(b"ask")
    exactly(first, 3)
    exactly(second, 3)
    first.sendall(b"answer")
    assert exactly(answered, 6) == b"answer"

    def advance() -> None:
        while not drained.done():
            gateway.clock.now += 0.01
            time.sleep(0.001)

    with ThreadPoolExecutor(2) as pool:
        drained = pool.submit(gateway.run, gateway.gateway.drain(1000.0))
        pool.submit(advance)
        assert everything(answered) == b""
        assert everything(silent) == b""
        with pytest.raises(OSError):
            socket.create_connection(gateway.address, timeout=1).recv(1)
        assert not drained.done()
        second.sendall(b"answer")
        assert everything(waiting) == b"answer"
        drained.result(10)
    assert gateway.stats.ended == {"draining": 2}


def test_draining_ends_with_its_grace(gateway: Running, pair: tuple[socket.socket, socket.socket]) -> None:
    client, database = pair
    client.sendall(b"ask")
    exactly(database, 3)
    gateway.run(gateway.gateway.drain(0.0))
    assert everything(client) == b""
    assert everything(database) == b""


def test_who_is_at_the_door_is_told_that_the_gateway_ends(gateway: Running) -> None:
    hello = encode_hello(gateway.verifier.grant("peer"))
    client = gateway.connect(hello[:-1])
    until(lambda: gateway.stats.pending == 1)
    until(lambda: gateway.ask(lambda: all(found._received for found in gateway.gateway._greetings)))
    with ThreadPoolExecutor(1) as pool:
        drained = pool.submit(gateway.run, gateway.gateway.drain(5.0))
        assert gateway.reply(client) == "draining"
        client.close()
        drained.result(10)
