"""Mails, settings and certificates for the tests of courier."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from server_support import Server

MAIL: dict[str, Any] = {
    "template_alias": "welcome",
    "to": "Ada <ada@example.com>",
    "from": "Engine <hello@example.org>",
    "model": {"name": "Ada", "product_name": "Engine"},
}
QUICK = {
    "courier_retry_base": 0.05,
    "courier_retry_cap": 0.1,
    "courier_timeout": 5.0,
    "courier_smtp_tls": "none",
}


async def send(server: Server, project: str = "default", **changed: Any) -> str:
    reply = await server(
        "POST", "/api/courier/send", {**MAIL, **changed}, token=server.token(project=project)
    )
    return reply.data["message_id"]


async def mail_of(server: Server, message_id: str) -> Any:
    return (await server("GET", f"/api/courier/outbox/{message_id}")).data


async def ended(server: Server, message_id: str, *statuses: str) -> Any:
    async with asyncio.timeout(10):
        while (mail := await mail_of(server, message_id))["status"] not in statuses:
            await asyncio.sleep(0.02)
    return mail


def smtp(port: int, **more: Any) -> dict[str, Any]:
    return {
        **QUICK,
        "courier_backend": "smtp",
        "courier_smtp_host": "127.0.0.1",
        "courier_smtp_port": port,
        **more,
    }


async def first_error(server: Server, message_id: str) -> str:
    async with asyncio.timeout(10):
        while not (mail := await mail_of(server, message_id))["error"]:
            await asyncio.sleep(0.02)
    # No other server of these tests is to send it.
    await server.resources.postgres.system.execute(
        "UPDATE dominus.mails SET status = 'dead' WHERE id = $1", message_id
    )
    return mail["error"]


def certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "certificate.pem"
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    return file
