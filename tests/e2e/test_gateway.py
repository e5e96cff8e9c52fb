"""The gateway's door: who gets in, who does not and why, and what it costs to knock."""

from __future__ import annotations

import random
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gateway_support import LOOPS, Peer, Running, everything, exactly, open_descriptors, running, until
from prometheus_client import generate_latest
from test_redis_engines import RedisServer, start_server

from dominus.contract.handshake import MAGIC, encode_hello, encode_published_hello
from dominus.orchestrator.gateway.limits import Limits
from dominus.orchestrator.gateway.upstream.connection import TcpAddress, UnixAddress
from dominus.orchestrator.gateway.upstream.targets import Target, builtin_targets, parse_targets

__all__ = ["start_server"]

PASSWORD = "correct-horse-battery"
PING, PONG = b"PING\r\n", b"+PONG\r\n"


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.close()


@pytest.fixture(params=LOOPS)
def gateway(request: pytest.FixtureRequest, redis_server: RedisServer, peer: Peer) -> Iterator[Running]:
    targets = parse_targets(
        f"redis=tcp://127.0.0.1:{redis_server.port} peer=tcp://127.0.0.1:{peer.port}"
        f" two=tcp://127.0.0.1:{peer.port},127.0.0.1:{redis_server.port} gone=tcp://127.0.0.1:1"
    )
    limits = Limits(handshake=0.4, pending=64, per_principal=5, connections=8)
    with running(request.param, targets, limits=limits) as found:
        yield found


# --- who gets in


def test_bytes_behind_a_handshake_reach_the_database(gateway: Running) -> None:
    token = gateway.verifier.grant("redis")
    published = gateway.published(token, PING)
    assert exactly(published, len(PONG)) == PONG
    ours = gateway.session(token, PING, target="redis")
    assert exactly(ours, len(PONG)) == PONG


def test_a_handshake_may_come_in_pieces(gateway: Running) -> None:
    token = gateway.verifier.grant("redis")
    for hello, answer in ((encode_published_hello(token), b""), (encode_hello(token), MAGIC)):
        client = gateway.connect()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(hello)):
            client.sendall(hello[place : place + 1])
        client.sendall(PING)
        if answer:
            assert gateway.reply(client) == ""
        assert exactly(client, len(PONG)) == PONG


def test_a_database_that_speaks_first_is_heard_after_the_reply(gateway: Running, peer: Peer) -> None:
    client = gateway.connect(encode_hello(gateway.verifier.grant("peer")))
    peer.accept().sendall(b"welcome")
    assert gateway.reply(client) == ""
    assert exactly(client, 7) == b"welcome"


def test_each_address_of_a_target_is_an_endpoint(gateway: Running, peer: Peer) -> None:
    token = gateway.verifier.grant("two")
    first = gateway.session(token)
    peer.accept().sendall(b"first")
    assert exactly(first, 5) == b"first"
    assert exactly(gateway.session(token, PING, endpoint=1), len(PONG)) == PONG


def test_a_unix_socket_is_a_target(tmp_path: Path) -> None:
    path = str(tmp_path / "db.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        for loop_name in LOOPS:
            with running(loop_name, {"db": Target("db", (UnixAddress(path),))}) as gateway:
                client = gateway.session(gateway.verifier.grant("db"), b"hello")
                with listener.accept()[0] as database:
                    assert exactly(database, 5) == b"hello"
                    database.sendall(b"world")
                    assert exactly(client, 5) == b"world"


def test_the_gateway_logs_in_to_redis_for_who_has_no_credentials(
    start_server: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server("--requirepass", PASSWORD)

    def targets(password: str) -> dict[str, Target]:
        url = f"redis://:{password}@127.0.0.1:{server.port}/3"
        found = builtin_targets("postgresql://u:p@h/d", url, None)  # type: ignore[arg-type]
        assert password not in repr(found)
        return found

    for loop_name in LOOPS:
        with running(loop_name, targets(PASSWORD)) as gateway:
            client = gateway.published(gateway.verifier.grant("redis"), b"SET k v\r\nCLIENT INFO\r\n")
            assert exactly(client, 5) == b"+OK\r\n"
            assert b" db=3 " in client.recv(4096)
        with running(loop_name, targets("another-password")) as gateway:
            assert (
                gateway.reply(gateway.connect(encode_hello(gateway.verifier.grant("redis"))))
                == "upstream_refused"
            )
    assert PASSWORD not in caplog.text
    assert "another-password" not in caplog.text


def test_tls_carries_both_handshakes(redis_server: RedisServer, tmp_path: Path) -> None:
    targets = parse_targets(f"redis=tcp://127.0.0.1:{redis_server.port}")
    for loop_name in LOOPS:
        with running(loop_name, targets, tls=_certificate(tmp_path)) as gateway:
            token = gateway.verifier.grant("redis")
            value = b"x" * 300_000
            client = gateway.session(
                token, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$300000\r\n" + value + b"\r\nGET k\r\n"
            )
            assert exactly(client, 5 + 9 + len(value) + 2) == b"+OK\r\n$300000\r\n" + value + b"\r\n"
            assert exactly(gateway.published(token, PING), len(PONG)) == PONG
            assert gateway.reply(gateway.connect(encode_hello("no token"))) == "token_invalid"
            client.sendall(b"QUIT\r\n")
            assert everything(client) == b"+OK\r\n"


# --- who does not


def _refusals(gateway: Running) -> dict[str, bytes]:
    verifier = gateway.verifier
    expired, redis = verifier.grant("redis"), verifier.grant("redis")
    verifier.expired.add(expired)
    return {
        "token_expired": encode_hello(expired),
        "token_invalid": encode_hello("foreign"),
        "wrong_target": encode_hello(redis, "peer"),
        "forbidden": encode_hello(verifier.grant("redis", scope="gateway:peer")),
        "unknown_target": encode_hello(verifier.grant("nowhere")),
        "upstream_unavailable": encode_hello(verifier.grant("gone")),
        "bad_handshake": MAGIC + struct.pack(">H", 4) + b"{..}",
    }


def test_our_handshake_is_told_why_it_is_refused(gateway: Running) -> None:
    for code, hello in _refusals(gateway).items():
        client = gateway.connect(hello + b"bytes for the database")
        assert gateway.reply(client) == code
        assert everything(client) == b""
    endpoint = gateway.connect(encode_hello(gateway.verifier.grant("redis"), endpoint=1))
    assert gateway.reply(endpoint) == "unknown_target"
    refused = gateway.stats.refused
    assert refused == dict.fromkeys(_refusals(gateway), 1) | {"unknown_target": 2}


def test_the_published_handshake_is_refused_by_closing(gateway: Running) -> None:
    expired = gateway.verifier.grant("redis")
    gateway.verifier.expired.add(expired)
    for token in (expired, "foreign", gateway.verifier.grant("nowhere"), gateway.verifier.grant("gone")):
        assert everything(gateway.published(token, PING)) == b""
    assert sum(gateway.stats.refused.values()) == 4


def test_garbage_is_closed_and_reaches_no_database(gateway: Running, redis_server: RedisServer) -> None:
    before = redis_server.admin().info("stats")["total_connections_received"]
    chance = random.Random(3)
    for number in range(1000):
        head = (b"", MAGIC, struct.pack(">I", chance.randrange(64)), b"GET / HTTP/1.1\r\n")[number % 4]
        client = gateway.connect(head + chance.randbytes(chance.randrange(8, 200)))
        client.shutdown(socket.SHUT_WR)
        answer = everything(client)
        assert answer[:4] in (b"", MAGIC)
        assert b'"ok":true' not in answer
        client.close()
    assert gateway.stats.opened_count == 0
    admin = redis_server.admin()
    assert admin.info("stats")["total_connections_received"] - before <= 2
    assert exactly(gateway.published(gateway.verifier.grant("redis"), PING), len(PONG)) == PONG


def test_an_oversized_length_is_refused_at_once(gateway: Running) -> None:
    started = time.monotonic()
    for head in (struct.pack(">I", 8193), struct.pack(">I", 2**32 - 1), struct.pack(">I", 0)):
        assert everything(gateway.connect(head)) == b""
    client = gateway.connect(MAGIC + struct.pack(">H", 16_385))
    assert gateway.reply(client) == "bad_handshake"
    assert time.monotonic() - started < 0.4
    assert gateway.stats.refused == {"bad_handshake": 4}


def test_a_slow_handshake_is_ended_in_time(gateway: Running) -> None:
    started = time.monotonic()
    silent, slow = gateway.connect(), gateway.connect()
    slow.settimeout(0.02)
    received = b""
    for byte in encode_hello("x" * 8000):
        slow.sendall(bytes([byte]))
        try:
            received += slow.recv(4096)
            break
        except TimeoutError:
            assert time.monotonic() - started < 5
    assert b"handshake_timeout" in received
    assert everything(silent) == b""
    assert gateway.stats.refused == {"handshake_timeout": 2}


def test_the_oldest_silent_connection_makes_room(gateway: Running) -> None:
    silent = [gateway.connect() for _ in range(65)]
    assert everything(silent[0]) == b""
    assert gateway.stats.pending == 64
    assert exactly(gateway.published(gateway.verifier.grant("redis"), PING), len(PONG)) == PONG


def test_one_principal_has_a_limit_and_all_together_another(gateway: Running) -> None:
    first, second = gateway.verifier.grant("redis", "one"), gateway.verifier.grant("redis", "two")
    mine = [gateway.session(first) for _ in range(5)]
    assert gateway.reply(gateway.connect(encode_hello(first))) == "too_many_connections"
    theirs = [gateway.session(second) for _ in range(3)]
    assert gateway.reply(gateway.connect(encode_hello(second))) == "gateway_full"
    for client in (mine.pop(), theirs.pop()):
        client.close()
    until(lambda: gateway.stats.active == 6)
    gateway.session(first)
    gateway.session(second)


def test_a_refusal_takes_no_room(gateway: Running) -> None:
    token = gateway.verifier.grant("gone")
    for _ in range(20):
        assert gateway.reply(gateway.connect(encode_hello(token))) == "upstream_unavailable"


def test_an_expired_token_opens_nothing_new_and_closes_nothing(gateway: Running) -> None:
    token = gateway.verifier.grant("redis")
    living = gateway.session(token)
    gateway.verifier.expired.add(token)
    assert gateway.reply(gateway.connect(encode_hello(token))) == "token_expired"
    gateway.sweep()
    living.sendall(PING)
    assert exactly(living, len(PONG)) == PONG


def test_a_client_that_leaves_while_its_way_is_opened_leaves_nothing(redis_server: RedisServer) -> None:
    for loop_name in LOOPS:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
            # Nobody accepts: the login waits for an answer until the time is over.
            address = TcpAddress("127.0.0.1", listener.getsockname()[1])
            target = builtin_targets("postgresql://h/d", f"redis://:p@127.0.0.1:{address.port}", None)  # type: ignore[arg-type]
            with running(loop_name, target, limits=Limits(connect=0.2)) as gateway:
                token = gateway.verifier.grant("redis")
                gateway.connect(encode_hello(token)).close()
                client = gateway.connect(encode_hello(token))
                assert gateway.reply(client) == "upstream_unavailable"
                client.close()
                until(lambda: gateway.stats.pending == 0)
                assert gateway.ask(lambda: gateway.gateway._admission.count) == 0


def test_200_connections_leave_no_descriptor_behind(gateway: Running) -> None:
    token = gateway.verifier.grant("redis")
    exactly(gateway.published(token, PING), len(PONG))
    before = open_descriptors()
    for number in range(200):
        client = gateway.published(token, PING) if number % 2 else gateway.session(token, PING)
        assert exactly(client, len(PONG)) == PONG
        client.close()
        gateway.sockets.remove(client)
        until(lambda: gateway.stats.active <= 1)
    until(lambda: open_descriptors() <= before, "descriptors are left open")
    assert gateway.stats.opened_count == 201


def test_prometheus_sees_targets_and_reasons(gateway: Running) -> None:
    client = gateway.session(gateway.verifier.grant("redis"), PING)
    exactly(client, len(PONG))
    gateway.reply(gateway.connect(encode_hello("foreign", "made-up-by-a-client")))
    gateway.sweep()
    text = generate_latest(gateway.metrics.registry).decode()
    for line in (
        'dominus_gateway_connections_total{target="redis"} 1.0',
        'dominus_gateway_active_connections{target="redis"} 1.0',
        'dominus_gateway_bytes_total{direction="in",target="redis"} 6.0',
        'dominus_gateway_bytes_total{direction="out",target="redis"} 7.0',
        'dominus_gateway_refused_total{reason="token_invalid",target=""} 1.0',
    ):
        assert line in text
    assert "made-up" not in text


def _certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder: Any = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "both.pem").write_bytes(plain + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "both.pem")
    return server, ssl.create_default_context(cadata=pem.decode())
