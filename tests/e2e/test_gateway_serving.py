"""The gateway of `dominus dev` and `dominus serve`: real processes, ports, workers, certificates and signals."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from test_cli import (
    REDIS_PASSWORD,
    Running,
    dev,
    is_closed,
    made_home,
    make_certificate,
    remote,
    run,
    serve,
    until,
)
from test_redis_engines import RedisServer

from dominus.contract.handshake import encode_hello, encode_published_hello, read_reply

__all__ = ["made_home", "remote"]

PING = b"*1\r\n$4\r\nPING\r\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def post(
    running: Running, path: str, token: str, body: Any = None, context: ssl.SSLContext | None = None
) -> Any:
    data = b"" if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{running.url}{path}", data, headers, method="POST")
    with urllib.request.urlopen(request, timeout=10, context=context) as response:
        return json.load(response)


def session(
    running: Running, target: str = "redis", context: ssl.SSLContext | None = None
) -> tuple[str, Any]:
    """Return a session token, and where the gateway is."""
    minted = post(running, "/api/warden/mint", running.token, {"method": "auth.self"}, context)["data"]
    body = {"target": target}
    token = post(running, "/api/warden/session", minted["access_token"], body, context)["data"][
        "access_token"
    ]
    return token, post(running, "/api/v1/gateway/resolve", token, None, context)


@contextlib.contextmanager
def connected(token: str, port: int, *, own: bool = False) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(encode_hello(token) if own else encode_published_hello(token))
        if own:
            reply = read_reply(connection.recv(4096))
            assert reply is not None
            assert reply.code == ""
        yield connection


def pings(connection: socket.socket) -> bool:
    connection.sendall(PING)
    return connection.recv(100) == b"+PONG\r\n"


def test_dev_has_a_gateway_on_the_usual_port_or_another_and_ends_its_connections(made_home: Path) -> None:
    with dev(made_home) as running:
        token, place = session(running)
        assert place["dns"] == "127.0.0.1"
        with connected(token, place["port"]) as first, connected(token, place["port"], own=True) as other:
            assert pings(first)
            assert pings(other)
            # Idle native connections do not hold the end up.
            assert running.end() == 0
            assert first.recv(100) == b""
        assert is_closed(place["port"])


def test_dev_listens_on_the_port_it_is_told_and_says_when_that_is_taken(
    made_home: Path, tmp_path: Path
) -> None:
    port = free_port()
    with dev(made_home, DOMINUS_GATEWAY_PORT=str(port)) as running:
        assert session(running)[1]["port"] == port
        done = run("dev", "--home", str(tmp_path / "other"), "--port", "0", DOMINUS_GATEWAY_PORT=str(port))
        assert done.returncode == 1
        assert f"port {port}" in done.stderr
        assert "DOMINUS_GATEWAY_PORT" in done.stderr
        assert not (tmp_path / "other").exists()
        assert running.end() == 0


def test_a_target_that_is_wrong_is_named_and_nothing_is_left(made_home: Path) -> None:
    done = run(
        "dev", "--home", str(made_home), "--port", "0", DOMINUS_GATEWAY_TARGETS="db=http://u:pa55word@host:1"
    )
    assert (done.returncode, "Traceback" in done.stderr, "pa55word" in done.stderr) == (1, False, False)
    assert "DOMINUS_GATEWAY_TARGETS" in done.stderr


def test_a_session_of_redis_may_not_administer_it_and_works_after_redis_forgot_its_users(
    remote: dict[str, str], tmp_path: Path
) -> None:
    with (
        serve(tmp_path, **remote, DOMINUS_GATEWAY_PORT="0") as running,
        contextlib.closing(redis.Redis.from_url(remote["DOMINUS_REDIS_URL"], decode_responses=True)) as admin,
    ):
        token, place = session(running)
        with connected(token, place["port"]) as connection:
            assert pings(connection)
            connection.sendall(b"*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$3\r\ndir\r\n")
            assert connection.recv(100).startswith(b"-NOPERM")
            made = [name for name in admin.acl_users() if name.startswith("dominus_sessions_")]
            assert admin.acl_deluser(*made) == 1
            assert connection.recv(100) == b""
        with connected(token, place["port"]) as connection:
            assert pings(connection)
        assert admin.acl_deluser(*made) == 1
        assert running.end() == 0


def test_a_redis_without_a_password_has_no_sessions_and_says_so_until_it_has_one(
    remote: dict[str, str], tmp_path: Path
) -> None:
    open_redis = RedisServer(tmp_path)
    open_redis.start()
    try:
        env = {**remote, "DOMINUS_REDIS_URL": open_redis.url, "DOMINUS_GATEWAY_PORT": "0"}
        with serve(tmp_path, **env) as running:
            assert "requirepass" in running.errors.read_text()
            with pytest.raises(urllib.error.HTTPError) as caught:
                session(running)
            with caught.value as answer:
                said = json.load(answer)
                assert (answer.code, said["code"]) == (503, "redis_unprotected")
                assert "requirepass" in said["hint"]
            # The others have theirs, and the cache works.
            assert session(running, "postgres")[0]
            minted = post(running, "/api/warden/mint", running.token, {"method": "auth.self"})["data"]
            assert post(
                running,
                "/api/whisperer/set",
                minted["access_token"],
                {"logical_path": "k", "value": 1, "ttl_seconds": 60},
            )["data"]["stored"]
            with contextlib.closing(open_redis.admin()) as admin:
                admin.execute_command("ACL SETUSER", "default", f">{REDIS_PASSWORD}")
                # Connections from before keep their user; new ones of the orchestrator would need the password.
                token, place = session(running)
                with connected(token, place["port"]) as connection:
                    assert pings(connection)
            assert running.end() == 0
    finally:
        open_redis.kill()


def test_serve_has_no_gateway_unless_a_port_is_named(remote: dict[str, str], tmp_path: Path) -> None:
    with serve(tmp_path, **remote) as running:
        with pytest.raises(urllib.error.HTTPError) as caught:
            session(running)
        with caught.value as answer:
            assert (answer.code, json.load(answer)["code"]) == (503, "no_gateway")
        assert running.end() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_workers_of_serve_share_the_gateways_port(
    remote: dict[str, str], tmp_path: Path, workers: str
) -> None:
    env = {**remote, "DOMINUS_GATEWAY_PORT": "0", "DOMINUS_GATEWAY_HOST": "db.example.com"}
    with serve(tmp_path, "--workers", workers, TMPDIR=str(tmp_path), **env) as running:
        token, place = session(running)
        assert place["dns"] == "db.example.com"
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(connected(token, place["port"])) for _ in range(16)]
            assert all(pings(connection) for connection in opened)
            request = urllib.request.Request(
                f"{running.url}/metrics", headers={"Authorization": f"Bearer {running.token}"}
            )
            with urllib.request.urlopen(request, timeout=10) as response:
                assert b'dominus_gateway_connections_total{target="redis"} 16.0' in response.read()
            assert running.end() == 0
        until(lambda: is_closed(place["port"]))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_says_that_the_gateways_port_is_taken(remote: dict[str, str], workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        options = ("--host", "127.0.0.1", "--port", "0", "--workers", workers)
        done = run("serve", *options, **remote, DOMINUS_GATEWAY_PORT=str(port))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert f"port {port} on 127.0.0.1, for the gateway" in done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_gateway_of_serve_speaks_the_tls_of_http(
    remote: dict[str, str], tmp_path: Path, workers: str
) -> None:
    certificate, key = make_certificate(tmp_path)
    options = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key), "--workers", workers)
    env = {**remote, "DOMINUS_GATEWAY_PORT": "0", "TMPDIR": str(tmp_path)}
    with serve(tmp_path, *options, scheme="https", **env) as running:
        context = ssl.create_default_context(cafile=str(certificate))
        token, place = session(running, context=context)
        assert place["tls"] is True
        with (
            socket.create_connection(("127.0.0.1", place["port"]), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            connection.sendall(encode_published_hello(token))
            assert pings(connection)
        assert running.end() == 0
