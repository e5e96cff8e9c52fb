"""The gateway's own way to a PostgreSQL that speaks TLS, does not, or must."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dominus.orchestrator.gateway.upstream.postgres_tls import PostgresAddress, tls_of

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
Serve = Callable[..., "asyncio.Server"]


def certificate(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate for `localhost` that nobody signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@asynccontextmanager
async def postgres(tls: ssl.SSLContext | None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A peer that answers an SSLRequest as PostgreSQL does, then echoes; yields its port and what asked for TLS."""
    asked: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked.append(await reader.readexactly(8))
            writer.write(b"N" if tls is None else b"S")
            if tls is not None:
                await writer.start_tls(tls)
            writer.write(await reader.readexactly(5))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            asked.append(b"gone")
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


class Client(asyncio.Protocol):
    """Collects what comes."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.is_whole = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.received += data
        if len(self.received) >= 5:
            self.is_whole.set()


async def echo(port: int, mode: str, host: str = "localhost", **query: str) -> bool:
    """Send five bytes there and back; return whether they went over TLS."""
    tls, is_required = tls_of({"sslmode": [mode]} | {name: [value] for name, value in query.items()})
    address = PostgresAddress(host, port, tls, is_required)
    async with asyncio.timeout(10):
        transport, client = await address.connect(Client)  # type: ignore[arg-type]
        transport.write(b"hello")
        await client.is_whole.wait()  # type: ignore[attr-defined]
    assert client.received == b"hello"  # type: ignore[attr-defined]
    is_tls = transport.get_extra_info("ssl_object") is not None
    transport.close()
    return is_tls


@pytest.mark.parametrize("mode", ["prefer", "require"])
async def test_a_server_with_tls_is_spoken_to_in_tls(tmp_path: Path, mode: str):
    async with postgres(certificate(tmp_path)) as (port, asked):
        assert await echo(port, mode)
    assert asked[0] == SSL_REQUEST


async def test_a_server_without_tls_is_used_only_where_the_url_allows_it():
    async with postgres(None) as (port, _):
        assert not await echo(port, "prefer")
        with pytest.raises(ConnectionRefusedError, match="TLS"):
            await echo(port, "require")


async def test_a_certificate_is_verified_where_the_url_says_so(tmp_path: Path):
    context = certificate(tmp_path)
    async with postgres(context) as (port, _):
        assert await echo(port, "verify-full", sslrootcert=str(tmp_path / "server.pem"))
        with pytest.raises(ssl.SSLCertVerificationError):
            await echo(port, "verify-full")
        with pytest.raises(ssl.SSLCertVerificationError):
            await echo(port, "verify-full", host="127.0.0.1", sslrootcert=str(tmp_path / "server.pem"))
        assert await echo(port, "verify-ca", host="127.0.0.1", sslrootcert=str(tmp_path / "server.pem"))
