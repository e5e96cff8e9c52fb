"""A `dominus dev` of its own for a test module, and sockets that say exactly what a test wants said."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Live:
    """A running server."""

    url: str
    psk: str
    home: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=15)

    def send(self, raw: bytes) -> Answer:
        with self.connect() as connection:
            connection.sendall(raw)
            return read_answer(connection)

    def ask(
        self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str
    ) -> Answer:
        """Send a request in JSON; names of headers are written with underscores."""
        content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        sent = {"content_length": str(len(content)), "content_type": "application/json", **headers}
        return self.send(request_head(method, path, token, **sent) + content)

    def token(self) -> str:
        return self.ask("POST", "/api/warden/mint", {"method": "auth.self"}, self.psk).data["access_token"]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        if self.headers["content-type"].startswith("text/plain"):
            return json.loads(base64.b64decode(self.body))
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        assert self.status == 200, self.body
        return self.document["data"]


def request_head(method: str, path: str, token: str | None = None, **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: localhost"]
    if token is not None:
        lines.append(f"authorization: Bearer {token}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def read_answer(connection: socket.socket) -> Answer:
    """Read one answer, and leave the connection as it is."""
    got = b""
    while b"\r\n\r\n" not in got:
        chunk = connection.recv(65536)
        if not chunk:
            return Answer(0, {}, got)
        got += chunk
        if got.startswith(b"HTTP/1.1 100"):
            got = got.partition(b"\r\n\r\n")[2]
    head, _, body = got.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    while len(body) < int(headers.get("content-length", 0)):
        chunk = connection.recv(65536)
        assert chunk, "the answer was cut off"
        body += chunk
    return Answer(int(status.split()[1]), headers, body)


@contextlib.contextmanager
def running(home: Path, **settings: str) -> Iterator[Live]:
    """Run `dominus dev` for a block."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOMINUS_", "CB_"))}
    env = {
        **kept,
        "DOMINUS_IS_DURABLE": "false",
        **{f"DOMINUS_{name}": value for name, value in settings.items()},
    }
    errors = home.with_suffix(".stderr")
    command = [sys.executable, "-m", "dominus.cli", "dev", "--home", str(home), "--port", "0"]
    with errors.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=env)
    with process:
        try:
            assert process.stdout is not None
            url = None
            while url is None:
                line = process.stdout.readline()
                assert line, errors.read_text()
                url = re.search(r"DOMINUS_URL=(\S+)", line)
            yield Live(url[1], (home / "token").read_text().strip(), home)
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(tmp_path_factory.mktemp("live") / "home") as found:
        yield found
