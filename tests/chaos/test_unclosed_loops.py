"""Loops that are closed and never shut down: nothing of the client is left open, and nobody warns."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from pathlib import Path
from textwrap import dedent

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from raw_server import raw_server
from test_lifecycle import HIT, run

from dominus.settings import Settings
from dominus.transport.carriers.aiohttp import AiohttpCarrier

PRELUDE = """
    import asyncio, gc, os
    from dominus import Dominus, dominus

    async def calls(client=dominus):
        assert await asyncio.gather(*(client.redis.get("k") for _ in range(3))) == [7] * 3

    def once(client=dominus):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(calls(client))
        loop.close()

    def made():
        return Dominus(os.environ["DOMINUS_URL"], os.environ["DOMINUS_TOKEN"])

    def open_count():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))
"""
PROGRAMS = {
    "one loop": """
        once()
        print("done")
    """,
    "twenty loops": """
        for _ in range(20):
            once()
        print("done")
    """,
    "loops and runs in turn": """
        for _ in range(3):
            once()
            asyncio.run(calls())
        print("done")
    """,
    "a client that is collected after its loop was closed": """
        client, before = made(), open_count()
        once(client)
        del client
        assert open_count() == before
        print("done")
    """,
    "a client that is collected before its loop is closed": """
        client, before = made(), open_count()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(calls(client))
        del client
        gc.collect()
        loop.close()
        assert open_count() == before
        print("done")
    """,
    "a client that is collected while its loop runs": """
        async def main():
            await calls(made())
            before = open_count()
            await asyncio.sleep(0.01)
            assert open_count() == before - 3
        asyncio.run(main())
        print("done")
    """,
    "a loop that goes on after its client was collected": """
        loop = asyncio.new_event_loop()
        for _ in range(3):
            loop.run_until_complete(calls(made()))
            gc.collect()
        before = open_count()
        for _ in range(3):
            loop.run_until_complete(calls(made()))
            assert open_count() == before
        loop.close()
        print("done")
    """,
    "a loop of another thread": """
        import threading
        for _ in range(3):
            thread = threading.Thread(target=once)
            thread.start()
            thread.join()
        print("done")
    """,
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
async def test_a_loop_that_is_closed_by_hand_leaves_nothing_open(program: str) -> None:
    async with raw_server(HIT) as server:
        await run(server, dedent(PRELUDE) + dedent(program))


async def test_the_same_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    async with raw_server(HIT, tls=context) as server:
        for name in ("twenty loops", "a client that is collected before its loop is closed"):
            await run(server, dedent(PRELUDE) + dedent(PROGRAMS[name]))


async def test_fifty_loops_take_no_more_descriptors_than_one() -> None:
    program = """
    once()
    before = open_count()
    for _ in range(50):
        once()
    assert open_count() <= before
    print("done")
    """
    async with raw_server(HIT) as server:
        await run(server, dedent(PRELUDE) + dedent(program))
        assert server.mint_count == 1


async def test_the_end_of_a_forked_child_leaves_the_connections_of_its_parent() -> None:
    program = """
    loop = asyncio.new_event_loop()
    loop.run_until_complete(calls())
    if (pid := os.fork()) == 0:
        # The whole way out, by which all that is left is closed.
        raise SystemExit(0)
    assert os.waitpid(pid, 0)[1] == 0
    loop.run_until_complete(calls())
    loop.close()
    print("done")
    """
    async with raw_server(HIT) as server:
        await run(server, dedent(PRELUDE) + dedent(program), flags=())
        assert server.connection_count == 3


async def test_an_aiohttp_with_other_insides_is_let_go_without_an_error() -> None:
    carrier = await AiohttpCarrier.open(Settings(), "http://127.0.0.1:1")
    del carrier.session.connector._acquired  # type: ignore[union-attr]
    carrier.abandon()
    assert carrier.session.closed
    carrier.abandon()


def certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "certificate.pem"
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    return file
