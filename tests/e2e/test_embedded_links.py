"""Download links of the embedded orchestrator: a port for them alone, from the first link to the client's end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, logging, os, socket, sys, urllib.error, urllib.request
from urllib.parse import urlsplit
from dominus import Dominus

logging.basicConfig(level=logging.DEBUG)
opened = []
access = logging.getLogger("uvicorn.access")
access.addHandler(logging.StreamHandler())

async def counted(*given, **options):
    opened.append(given)
    return await open_server(*given, **options)

def is_open(host, port):
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True

def get(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()

async def main():
    global open_server
    loop = asyncio.get_running_loop()
    open_server, loop.create_server = loop.create_server, counted
    data = os.urandom(9 << 20)
    async with Dominus() as client:
        made = await client.files.upload(data, "report.pdf")
        before = len(opened)
        links = await asyncio.gather(*(client.files.download(made["id"]) for _ in range(5)))
        url = links[0]["download_url"]
        parts = urlsplit(url)
        assert (parts.scheme, parts.hostname) == ("http", "127.0.0.1"), parts.netloc
        assert {urlsplit(link["download_url"]).netloc for link in links} == {parts.netloc}
        assert len(opened) == before + 1
        assert await asyncio.to_thread(get, url) == (200, data)
        assert await asyncio.to_thread(get, url, range="bytes=3-5") == (206, data[3:6])
        base = f"http://{parts.netloc}"
        for path in ("/", "/docs", "/metrics", "/openapi.json", "/api/health", "/api/archivist/stats"):
            assert (await asyncio.to_thread(get, base + path))[0] == 404, path
        ticket = parts.path.split("/")[2]
        assert (await asyncio.to_thread(get, base + "/files/x/report.pdf"))[0] == 403
        # A browser that keeps its connection does not hold up the end.
        held = socket.create_connection((parts.hostname, parts.port))
        await asyncio.sleep(0)
    assert not is_open(parts.hostname, parts.port)
    held.close()
    assert (access.handlers, access.propagate) != ([], False)
    async with Dominus() as client:
        again = await client.files.download(made["id"])
        assert await asyncio.to_thread(get, again["download_url"]) == (200, data)
        # A download that nobody reads does not, either.
        held = socket.create_connection((urlsplit(again["download_url"]).hostname, urlsplit(again["download_url"]).port))
        held.sendall(f"GET {urlsplit(again['download_url']).path} HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n".encode())
        await asyncio.to_thread(held.recv, 10)
    held.close()
    print(ticket)

asyncio.run(main())
"""


def test_links_of_the_embedded_orchestrator_open_their_file_and_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", PROGRAM],
        env={**os.environ, "DOMINUS_URL": "embedded", "DOMINUS_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ticket = done.stdout.strip()
    assert ticket not in done.stderr
    assert "ResourceWarning" not in done.stderr
    assert "Traceback" not in done.stderr, done.stderr
