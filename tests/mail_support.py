"""Real relays on this machine: an SMTP server and an HTTP server that speaks as Postmark does."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import gc
import json
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from aiosmtpd.controller import Controller


@dataclass
class Sink:
    """What arrived, and what is answered: `answers` maps a step (RCPT, DATA) to a function of what came."""

    messages: list[EmailMessage] = field(default_factory=list)
    envelopes: list[list[str]] = field(default_factory=list)
    on_rcpt: Callable[[str], str] = lambda _address: "250 OK"
    on_data: Callable[[EmailMessage], str] = lambda _message: "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        said = self.on_rcpt(address)
        if said.startswith("250"):
            envelope.rcpt_tos.append(address)
        return said

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        message = cast(
            "EmailMessage", email.message_from_bytes(envelope.original_content, policy=email.policy.default)
        )
        said = self.on_data(message)
        if said.startswith("250"):
            self.messages.append(message)
            self.envelopes.append(list(envelope.rcpt_tos))
        return said


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class _Controller(Controller):
    """Ends its connections before its loop: what is closed later is closed by the collector, at any time."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sessions: list[Any] = []

    def factory(self) -> Any:
        self._sessions.append(super().factory())
        return self._sessions[-1]

    def end_sessions(self) -> None:
        ended = threading.Event()

        def end() -> None:
            for session in self._sessions:
                if session.transport is not None:
                    session.transport.abort()
            # The transports close their sockets at the loop's next turn.
            self.loop.call_later(0.02, ended.set)

        self.loop.call_soon_threadsafe(end)
        ended.wait(5)


@contextlib.contextmanager
def smtp_server(sink: Sink, **options: Any) -> Iterator[int]:
    """Run an SMTP server; options are aiosmtpd's."""
    port = options.pop("port", None) or free_port()
    controller = _Controller(sink, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield port
    finally:
        controller.end_sessions()
        controller.stop()
        # aiosmtpd leaves connections to the collector whose TLS failed, or that were open when it stopped.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@dataclass
class Postmark:
    """What came in, and what is answered: (status, document, headers)."""

    requests: list[tuple[dict[str, str], Any]] = field(default_factory=list)
    answer: tuple[int, Any, dict[str, str]] = (200, {"ErrorCode": 0, "Message": "OK"}, {})


@contextlib.contextmanager
def postmark_server(postmark: Postmark) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            postmark.requests.append((dict(self.headers.items()), body))
            status, document, headers = postmark.answer
            content = json.dumps(document).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for what another thread or task brings about."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)
