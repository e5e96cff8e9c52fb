"""Sessions with a gateway elsewhere: nothing leaves this machine unencrypted, nor to whom the certificate does not name."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sessions_support import make_rig_of
from test_redis_engines import RedisServer, start_server
from test_sessions import eventually

from dominus import GatewayError

__all__ = ["make_rig_of", "start_server"]

MakeRig = Callable[..., Any]
NAME = "gateway.example"


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine's name, for this one."""
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *more, **options: real(
            "127.0.0.1" if host in {NAME, "other.example"} else host, *more, **options
        ),
    )


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "certificate.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(file)
    return made


@pytest.mark.parametrize("host", [NAME, "127.0.0.1"], ids=["elsewhere", "here, asked for"])
async def test_native_clients_work_over_tls(
    make_rig_of: MakeRig, start_server: Callable[..., RedisServer], context: ssl.SSLContext, host: str
):
    rig = await make_rig_of(("127.0.0.1", start_server().port), tls=context, host=host)
    value = "x" * 5_000_000
    async with rig.client.sessions.redis() as rd:
        await rd.set("key", value)
        assert await rd.get("key") == value

    def work() -> None:
        with rig.client.sessions.redis.sync() as rd:
            assert rd.get("key") == value

    await asyncio.to_thread(work)
    await eventually(lambda: rig.gateway.open_count == 0, "all connections closed")


@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])
async def test_a_gateway_elsewhere_without_tls_never_sees_the_token(make_rig_of: MakeRig, is_sync: bool):
    rig = await make_rig_of(host=NAME)
    seen = b""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += await reader.read(4096)
        writer.write(b"DMG1\x00\x0b" + b'{"ok":true}')
        writer.close()

    plain = await asyncio.start_server(listen, "127.0.0.1", 0)
    await rig.gateway.stop()
    rig.gateway.port = plain.sockets[0].getsockname()[1]
    sessions = rig.client.sessions
    with pytest.raises(GatewayError) as caught:
        await (asyncio.to_thread(sessions.redis.sync().connect) if is_sync else sessions.redis().connect())
    assert caught.value.code == "gateway_tls"
    assert not caught.value.retryable
    assert seen
    assert b"session-redis" not in seen
    plain.close()


@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("what", ["another name", "unknown issuer"])
async def test_a_certificate_that_does_not_fit_is_refused(
    make_rig_of: MakeRig, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, is_sync: bool, what: str
):
    if what == "unknown issuer":
        monkeypatch.delenv("SSL_CERT_FILE")
    rig = await make_rig_of(tls=context, host="other.example" if what == "another name" else NAME)
    sessions = rig.client.sessions
    with pytest.raises(GatewayError, match="certificate") as caught:
        await (asyncio.to_thread(sessions.redis.sync().connect) if is_sync else sessions.redis().connect())
    assert caught.value.code == "gateway_tls"
    assert rig.gateway.hellos == []
