"""A client's first bytes: who it is and what it wants, or why it is sent away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from dominus.contract.handshake import MAGIC, BadHandshakeError, Hello, encode_reply, read_hello
from dominus.orchestrator.gateway.sockets import half_close, keep_alive

__all__ = ["Doorkeeper", "Greeting"]

FAREWELL_SECONDS = 1.0
"""In which a refused client reads the reason. A connection closed with unread bytes would lose it."""
FAREWELL_BYTES = 1024 * 1024


class Doorkeeper(Protocol):
    """Who is told what happens at the door."""

    def came(self, greeting: Greeting) -> None:
        """Somebody has connected."""
        ...

    def asked(self, greeting: Greeting, hello: Hello) -> None:
        """The handshake is whole; nothing more is read until somebody takes the connection over."""
        ...

    def sent_away(self, greeting: Greeting, code: str, message: str) -> None:
        """It was refused."""
        ...

    def left(self, greeting: Greeting) -> None:
        """The connection is gone."""
        ...


class Greeting(asyncio.Protocol):
    """A connection until its tunnel takes over, or its end."""

    transport: asyncio.Transport

    def __init__(self, keeper: Doorkeeper, handshake_seconds: float) -> None:
        self.hello: Hello | None = None
        self.opening: asyncio.Task[None] | None = None
        """What the doorkeeper does about it; cancelled when the client leaves."""
        self.is_answered = False
        """The handshake was accepted."""
        self.has_ended = False
        self.is_lost = False
        self.peer = "?"
        self._keeper = keeper
        self._received = b""
        self._is_refused = False
        self._discarded_bytes = 0
        self._heard: asyncio.Future[None] | None = None
        self._skipped_bytes = 0
        self._goodbye: Callable[[str, str], bytes] | None = None
        self._timer = asyncio.get_running_loop().call_later(handshake_seconds, self._be_late)

    @property
    def rest(self) -> bytes:
        """What came after the handshake: the database's."""
        return self._received[self.hello.size + self._skipped_bytes :] if self.hello is not None else b""

    def answer(self, data: bytes, goodbye: Callable[[str, str], bytes] | None = None) -> None:
        """Send something; from now on a refusal is said as `goodbye(code, message)`, in the database's own language."""
        self.is_answered = True
        self._goodbye = goodbye or self._goodbye
        self.transport.write(data)

    async def more(self) -> None:
        """Wait until more of the database's bytes have come. Raises ConnectionError when none will."""
        if self.has_ended or self.is_lost:
            raise ConnectionAbortedError("the client hung up")
        self._heard = asyncio.get_running_loop().create_future()
        self.transport.resume_reading()
        try:
            await self._heard
        finally:
            self._heard = None

    def skip(self, count: int) -> None:
        """Keep so many of the database's bytes from it: they are answered."""
        self._skipped_bytes += count

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to listen."""
        self.transport = transport  # pyright: ignore[reportAttributeAccessIssue]
        address: Any = transport.get_extra_info("peername")
        self.peer = str(address[0]) if address else "?"
        keep_alive(transport)
        self._keeper.came(self)

    def data_received(self, data: bytes) -> None:
        """Read on until the handshake is whole."""
        if self._is_refused:
            self._discard(len(data))
            return
        self._received += data
        if self.hello is not None:
            if self._heard is not None and not self._heard.done():
                self.transport.pause_reading()
                self._heard.set_result(None)
            return
        try:
            self.hello = read_hello(self._received)
        except BadHandshakeError as error:
            self.refuse("bad_handshake", str(error))
            return
        if self.hello is not None:
            self._timer.cancel()
            self.transport.pause_reading()
            self._keeper.asked(self, self.hello)

    def eof_received(self) -> bool:
        """Go on if all has been said; else it never will be."""
        self.has_ended = True
        if self._heard is not None and not self._heard.done():
            self._heard.set_exception(ConnectionAbortedError("the client hung up"))
        if self.hello is None or self._is_refused:
            self.transport.close()
            return False
        return self.transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Stop what is done for it."""
        self.is_lost = True
        self._timer.cancel()
        if self.opening is not None:
            self.opening.cancel()
        self._keeper.left(self)

    def refuse(self, code: str, message: str) -> None:
        """Send it away: with the reason if it understands ours, else by closing."""
        if self._is_refused or self.is_lost:
            return
        self._is_refused = True
        self._timer.cancel()
        self._keeper.sent_away(self, code, message)
        if self._goodbye is not None:
            self.part_with(self._goodbye(code, message))
        elif self._received[:4] == MAGIC:
            self.part_with(encode_reply(code, message))
        else:
            self.transport.close()

    def part_with(self, last: bytes) -> None:
        """Send a last word, and close when it can have been read."""
        self._is_refused = True
        self._received = b""
        self.transport.write(last)
        self._timer = asyncio.get_running_loop().call_later(FAREWELL_SECONDS, self.transport.abort)
        if self.has_ended:
            self.transport.close()
            return
        half_close(self.transport)
        self.transport.resume_reading()

    def _discard(self, count: int) -> None:
        self._discarded_bytes += count
        if self._discarded_bytes > FAREWELL_BYTES:
            self.transport.abort()

    def _be_late(self) -> None:
        self.refuse("handshake_timeout", "the handshake took too long")
