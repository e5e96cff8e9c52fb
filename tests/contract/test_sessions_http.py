"""The HTTP side of the gateway: who gets a session token and what it opens, both of the gateway and of nothing else."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import jwt
import pytest
import pytest_asyncio
from server_support import BASE64, JSON, Server, make_server, process_resources, server

from dominus.contract import operations
from dominus.contract import sessions as contract
from dominus.contract.handshake import encode_hello, encode_published_hello
from dominus.contract.kinds import Auth
from dominus.errors import AuthenticationError, ValidationError
from dominus.orchestrator.gateway import running as hosting
from dominus.orchestrator.gateway.running import public_name
from dominus.orchestrator.http.app import Orchestrator
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.serving.assembly import ProcessResources, open_resources

__all__ = ["make_server", "process_resources", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN, RESOLVE = contract.SESSION_TOKEN.path, contract.RESOLVE.path
CREDENTIALS, RELEASE = contract.CREDENTIALS.path, contract.RELEASE.path
PING = b"*1\r\n$4\r\nPING\r\n"
SESSION_ROUTES = [RESOLVE, CREDENTIALS, RELEASE]
MakeServer = Callable[..., Awaitable[Server]]


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


async def answer_of(port: int, sent: bytes, wanted: bytes) -> bytes:
    """Send to the gateway, and return all up to what is wanted or up to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(10):
            writer.write(sent)
            got = b""
            while wanted not in got:
                chunk = await reader.read(4096)
                if not chunk:
                    return got
                got += chunk
            return got
    finally:
        writer.close()


@pytest_asyncio.fixture(loop_scope="module")
async def port(server: Server) -> AsyncIterator[int]:
    reply = await server("POST", RESOLVE, token=server.session_token("redis"))
    yield reply.document["port"]


# --- the token


@pytest.mark.parametrize("scopes", [("gateway:redis",), ("*",), ("db:read", "gateway:redis")])
async def test_who_has_the_scope_gets_a_token_for_that_target_alone(
    server: Server, scopes: tuple[str, ...]
) -> None:
    token = server.token(*scopes, subject="psk:7", project="shop")
    data = (await server("POST", TOKEN, {"target": "redis", "expires_in": 60}, token=token)).data
    assert data | {"access_token": ""} == {
        "access_token": "",
        "token_type": "Bearer",
        "expires_in": 60,
        "target": "redis",
    }
    claims = claims_of(data["access_token"])
    assert claims["exp"] - claims["iat"] == 60
    assert {name: claims[name] for name in ("aud", "use", "target", "scopes", "sub", "project")} == {
        "aud": "gateway",
        "use": "session",
        "target": "redis",
        "scopes": ["gateway:redis"],
        "sub": "psk:7",
        "project": "shop",
    }
    grant = await server.resources.tokens.verify_session(data["access_token"])
    assert (grant.target, grant.expires_at) == ("redis", claims["exp"])
    assert grant.principal == Principal(
        "psk:7", "session", frozenset({"gateway:redis"}), "shop", "development", target="redis"
    )


@pytest.mark.parametrize("target", ["redis", "postgres", "unknown"])
async def test_who_lacks_the_scope_is_refused_and_learns_of_no_target(server: Server, target: str) -> None:
    weak = server.token("gateway:legacy", "redis:write", "gateway:", "gateway:*")
    reply = await server("POST", TOKEN, {"target": target}, token=weak)
    assert (reply.status, reply.code) == (403, "authorization")
    assert reply.document["details"] == {"scope": f"gateway:{target}"}
    assert "legacy" not in reply.document["error"]


async def test_an_unknown_target_names_the_known_ones(server: Server) -> None:
    reply = await server("POST", TOKEN, {"target": "oracle"})
    assert (reply.status, reply.code) == (404, "unknown_target")
    assert "postgres, redis" in reply.document["error"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"target": 7},
        {"target": ""},
        {"target": "Redis"},
        {"target": "re\ndis"},
        {"target": "../redis"},
        {"target": "r" * 64},
        {"target": "redis", "expires_in": 59},
        {"target": "redis", "expires_in": 3601},
        {"target": "redis", "expires_in": 1e9},
        {"target": "redis", "scopes": ["*"]},
    ],
)
async def test_a_wrong_request_for_a_token_is_a_400(server: Server, body: dict[str, Any]) -> None:
    assert (await server("POST", TOKEN, body)).status == 400


async def test_a_user_with_the_scope_gets_one_too(server: Server) -> None:
    asked = {"method": "auth.mint", "params": {"user_id": "u1", "scope": ["gateway:redis"]}}
    user = (await server("POST", "/api/warden/mint", asked, token=server.psk)).data["access_token"]
    data = (await server("POST", TOKEN, {"target": "redis"}, token=user)).data
    assert claims_of(data["access_token"])["sub"] == "u1"


# --- what it opens, and what it does not


@pytest.mark.parametrize(
    "name", [op.name for op in operations().values() if op.auth in (Auth.TOKEN, Auth.PSK)]
)
async def test_no_other_operation_takes_a_session_token(server: Server, name: str) -> None:
    op = operations()[name]
    path = op.path.replace("{", "").replace("}", "")
    reply = await server(op.method, path, {}, token=server.session_token("redis"), address=name)
    assert reply.status == 401
    reply = await server("GET", "/metrics", token=server.session_token("redis"), address=f"{name} metrics")
    assert reply.status in {401, 403}


@pytest.mark.parametrize("path", SESSION_ROUTES)
async def test_the_gateways_calls_take_session_tokens_only(server: Server, path: str) -> None:
    good = server.session_token("redis")
    header, body, signature = good.split(".")
    key = server.resources.tokens._keys.signing()
    claims = claims_of(good)

    def signed(changed: dict[str, Any]) -> str:
        return jwt.encode({**claims, **changed}, key.private, "RS256", headers={"kid": key.kid})

    wrong = {
        "an http token": server.token(),
        "a psk": server.psk,
        "changed": f"{header}.{body}.{signature[:-8]}AAAAAAA{signature[-1]}",
        "not a token": "x" * 50,
        "expired": signed({"exp": claims["iat"]}),
        "another audience": signed({"aud": "portal"}),
        "several audiences": signed({"aud": ["gateway", "portal"]}),
        "another use": signed({"use": "service"}),
        "no target": signed({"target": None}),
        "elsewhere": signed({"iss": "other"}),
        "too long": "x." * 5000 + "x",
    }
    for name, token in wrong.items():
        reply = await server("POST", path, b"{}", token=token, address=f"{path} {name}")
        assert (reply.status, reply.document["success"]) == (401, False), name
    # The published client reads the status alone; nothing of the token is in the answer.
    assert good not in reply.body.decode()


async def test_the_gateway_takes_session_tokens_only(server: Server, port: int) -> None:
    ping = PING
    good = server.session_token("redis")
    assert (await answer_of(port, encode_published_hello(good) + ping, b"PONG")).endswith(b"+PONG\r\n")
    said = await answer_of(port, encode_hello(server.token(), "redis") + ping, b"}")
    assert b'"code":"token_invalid"' in said
    assert b"PONG" not in said
    assert await answer_of(port, encode_published_hello(server.token()) + ping, b"PONG") == b""
    said = await answer_of(port, encode_hello(good, "postgres"), b"}")
    assert b'"code":"wrong_target"' in said


async def test_a_token_is_not_known_for_one_use_because_it_was_for_the_other(server: Server) -> None:
    tokens, http, session = server.resources.tokens, server.token(), server.session_token("redis")
    for _ in range(2):
        await tokens.verify(http)
        await tokens.verify_session(session)
        with pytest.raises(AuthenticationError):
            await tokens.verify(session)
        with pytest.raises(AuthenticationError):
            await tokens.verify_session(http)


# --- resolve


async def test_resolve_answers_the_published_client(server: Server) -> None:
    """No body, no content type; the bare JSON of host and port, where a connection really goes."""
    token = server.session_token("redis")
    reply = await server("POST", RESOLVE, b"", token=token, kind=None)
    assert reply.status == 200
    assert reply.headers["content-type"] == JSON
    found = json.loads(reply.body)
    assert found["dns"] == found["gateway_host"] == "127.0.0.1"
    socket.create_connection((found["dns"], found["port"]), timeout=5).close()
    again = await server("POST", RESOLVE, token=token, kind=BASE64, body={})
    assert json.loads(again.body) == found


async def test_resolve_names_the_public_host_and_says_that_tls_is_spoken(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await make_server(gateway_host="db.example.com")
    found = (await other("POST", RESOLVE, token=other.session_token("redis"))).document
    assert (found["dns"], found["tls"]) == ("db.example.com", False)
    with monkeypatch.context() as patched:
        patched.setattr(hosting, "_tls", lambda _: None)
        secured = await make_server(gateway_certfile="cert.pem")
        found = (await secured("POST", RESOLVE, token=secured.session_token("redis"))).document
    assert found["tls"] is True


@pytest.mark.parametrize(
    ("address", "called", "name"),
    [
        ("127.0.0.1", "evil.example", "127.0.0.1"),
        ("10.1.2.3", "api.example.com", "10.1.2.3"),
        ("0.0.0.0", "api.example.com", "api.example.com"),
        ("0.0.0.0", "api.example.com:8700", "api.example.com"),
        ("::", "[2001:db8::1]:8700", "2001:db8::1"),
        ("::", "", "127.0.0.1"),
        ("0.0.0.0", "[", "127.0.0.1"),
    ],
)
async def test_a_gateway_that_listens_everywhere_has_the_name_that_http_was_called_by(
    address: str, called: str, name: str
) -> None:
    assert public_name(address, called) == name


async def test_more_targets_are_resolved_with_their_endpoints(make_server: MakeServer) -> None:
    other = await make_server(gateway_targets="tb=tcp://10.0.0.1:3000,10.0.0.2:3000 legacy=tcp://db:1521")
    for target, count in (("tb", 2), ("legacy", 1), ("redis", 1)):
        token = (await other("POST", TOKEN, {"target": target})).data["access_token"]
        found = (await other("POST", RESOLVE, token=token)).document
        assert (found["target"], found["endpoints"]) == (target, count)
    refused = await other("POST", CREDENTIALS, {}, token=other.session_token("legacy"))
    assert (refused.status, refused.code) == (400, "credentials_unavailable")
    gone = await other("POST", RESOLVE, token=other.session_token("gone"))
    assert (gone.status, gone.code) == (404, "unknown_target")


async def test_a_target_cannot_take_the_name_of_an_engine(make_server: MakeServer) -> None:
    with pytest.raises(ValidationError, match="DOMINUS_GATEWAY_TARGETS: redis"):
        await make_server(gateway_targets="redis=tcp://elsewhere:6379")


async def test_a_server_without_a_gateway_says_so(process_resources: ProcessResources) -> None:
    app = Orchestrator(lambda: open_resources(replace(process_resources, gateway=None)))
    await app.start()
    lone = Server(app, process_resources.root_token)
    for path, token in ((TOKEN, ""), (RESOLVE, lone.session_token("redis"))):
        reply = await lone("POST", path, {"target": "redis"} if path == TOKEN else {}, token=token)
        assert (reply.status, reply.code) == (503, "no_gateway")
        assert "DOMINUS_GATEWAY_PORT" in reply.document["hint"]
    await app.stop()


# --- logins


async def test_a_login_is_made_for_the_tokens_target_and_released_by_its_owner_only(server: Server) -> None:
    token = server.session_token("postgres", subject="psk:1")
    found = (await server("POST", CREDENTIALS, {"db_type": "postgres"}, token=token)).document
    assert found.keys() == {"username", "password", "host", "port", "database", "expires_in"}
    assert "success" not in found

    exists = "SELECT count(*) FROM pg_roles WHERE rolname = $1"
    name = {"username": found["username"]}
    for subject in ("psk:2", "service:root"):
        other = server.session_token("postgres", subject=subject)
        assert (await server("POST", RELEASE, name, token=other)).document == {"released": False}
    assert await server.resources.postgres.system.fetchval(exists, found["username"]) == 1
    # A fresh token of the same caller, as after hours.
    fresh = server.session_token("postgres", subject="psk:1", seconds=70)
    assert (await server("POST", RELEASE, name, token=fresh)).document == {"released": True}
    assert (await server("POST", RELEASE, name, token=fresh)).document == {"released": False}
    assert await server.resources.postgres.system.fetchval(exists, found["username"]) == 0


@pytest.mark.parametrize(
    ("target", "body", "status", "code"),
    [
        ("redis", {"db_type": "postgres"}, 400, "validation"),
        ("postgres", {"db_type": "redis"}, 400, "validation"),
        ("postgres", {"database": "template1"}, 404, "unknown_database"),
        ("redis", {"database": "0"}, 404, "unknown_database"),
        ("postgres", {"database": ["dominus"]}, 400, "validation"),
    ],
)
async def test_a_login_for_something_else_is_refused(
    server: Server, target: str, body: dict[str, Any], status: int, code: str
) -> None:
    reply = await server("POST", CREDENTIALS, body, token=server.session_token(target))
    assert (reply.status, reply.code) == (status, code)


@pytest.mark.parametrize(
    "name", ["dominus", "dominus_data", "pg_monitor", "x" * 128, '"; DROP ROLE dominus; --']
)
async def test_no_name_releases_a_role_that_is_no_login(server: Server, name: str) -> None:
    token = server.session_token("postgres")
    assert (await server("POST", RELEASE, {"username": name}, token=token)).document == {"released": False}


async def test_the_metrics_count_native_connections(make_server: MakeServer) -> None:
    other = await make_server(metrics_open=True)
    token = other.session_token("redis")
    where = (await other("POST", RESOLVE, token=token)).document
    assert await answer_of(where["port"], encode_published_hello(token) + PING, b"PONG")
    shown = (await other("GET", "/metrics", token=None)).body.decode()
    assert 'dominus_gateway_connections_total{target="redis"} 1.0' in shown
    assert "dominus_requests_total" in shown


# --- no longer than the token that asked for it


async def test_a_session_token_ends_with_the_token_that_made_it(server: Server) -> None:
    maker = server.resources.tokens.mint(Principal("brief", "service", frozenset({"*"})), 90)
    # Twice: the second time the maker's token is known already.
    for _ in range(2):
        made = (await server("POST", TOKEN, {"target": "redis", "expires_in": 3600}, token=maker)).data
        assert 85 <= made["expires_in"] <= 90
        claims = claims_of(made["access_token"])
        assert claims["exp"] <= claims_of(maker)["exp"]
        assert abs(claims["exp"] - claims["iat"] - made["expires_in"]) <= 1
    shorter = (await server("POST", TOKEN, {"target": "redis", "expires_in": 60}, token=maker)).data
    assert shorter["expires_in"] == 60


async def test_a_token_that_ends_now_makes_no_session(server: Server) -> None:
    ending = Principal("ending", "service", frozenset({"*"}), expires_at=0.0)
    with pytest.raises(AuthenticationError) as refused:
        server.resources.tokens.mint_session(ending, "redis", 60)
    assert refused.value.code == "token_expired"
