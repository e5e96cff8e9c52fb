"""One connection to the gateway: TLS where it leaves this machine, our handshake, and then the database's own bytes."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from dominus.contract.handshake import BadHandshakeError, Reply, encode_hello, read_reply
from dominus.errors import AuthenticationError, AuthorizationError, DominusError, GatewayError, NotFoundError

__all__ = ["CONNECT_SECONDS", "UNREACHABLE", "Endpoint", "Route", "is_loopback", "open_socket", "open_tunnel"]

CONNECT_SECONDS = 10.0
"""For TCP, TLS and the handshake together."""
UNREACHABLE = "gateway_unreachable"
_HANDSHAKE = "gateway_handshake"

P = TypeVar("P", bound=asyncio.Protocol)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the gateway listens."""

    host: str
    port: int
    has_tls: bool
    count: int = 1
    """How many addresses the target has behind it."""


@dataclass(frozen=True, slots=True)
class Route:
    """All that one connection needs."""

    endpoint: Endpoint
    token: str = field(repr=False)
    target: str | None
    """None: the token's own."""
    tls: ssl.SSLContext | None
    index: int = 0
    """Which of the target's addresses."""

    def hello(self) -> bytes:
        """Return the first bytes to send."""
        return encode_hello(self.token, self.target, self.index)

    @property
    def server_name(self) -> str | None:
        """The name that the gateway's certificate has to carry."""
        return self.endpoint.host if self.tls is not None else None


def is_loopback(host: str) -> bool:
    """Tell whether bytes for this host stay on this machine. Any other name may lead anywhere."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Greeting(asyncio.Protocol, Generic[P]):
    """Shakes hands, and gives the transport to the driver's own protocol in the very call that ends the handshake.

    Later would lose what arrives between: an end of the stream, or a database that speaks first.
    """

    def __init__(self, route: Route, factory: Callable[[], P]) -> None:
        self._route = route
        self._factory = factory
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[P] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        keep_alive(transport.get_extra_info("socket"))
        self._transport.write(self._route.hello())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            reply = read_reply(self._buffer)
        except BadHandshakeError as error:
            self._fail(_no_gateway(error, self._route))
            return
        if reply is None or self.done.done():
            return
        if (refused := refusal(reply, self._route)) is not None:
            self._fail(refused)
            return
        transport = self._transport
        if transport is None:
            return
        protocol = self._factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        self.done.set_result(protocol)
        if len(self._buffer) > reply.size:
            protocol.data_received(self._buffer[reply.size :])

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._fail(_hung_up(self._route))

    def _fail(self, error: DominusError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def open_tunnel(route: Route, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
    """Open a connection to the target for a protocol of the running loop.

    Raises:
        AuthenticationError: the gateway does not take the token.
        GatewayError: it was not reached, or refused for another reason.
    """
    loop = asyncio.get_running_loop()
    endpoint = route.endpoint
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            transport, greeting = await loop.create_connection(
                lambda: _Greeting(route, factory),
                endpoint.host,
                endpoint.port,
                ssl=route.tls,
                server_hostname=route.server_name,
            )
            try:
                return transport, await greeting.done
            except BaseException:
                transport.abort()
                raise
    except TimeoutError as error:
        raise _timed_out(route) from error
    except (OSError, UnicodeError) as error:
        raise _unreachable(error, route) from error


def open_socket(route: Route) -> socket.socket:
    """Open a connection to the target as a blocking socket, without a timeout set. Raises as `open_tunnel`."""
    endpoint = route.endpoint
    try:
        plain = socket.create_connection((endpoint.host, endpoint.port), CONNECT_SECONDS)
    except TimeoutError as error:
        raise _timed_out(route) from error
    except (OSError, UnicodeError) as error:
        raise _unreachable(error, route) from error
    opened = plain
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(plain)
        if route.tls is not None:
            opened = route.tls.wrap_socket(plain, server_hostname=route.server_name)
        _shake_hands(opened, route)
        opened.settimeout(None)
    except BaseException as error:
        opened.close()
        if isinstance(error, TimeoutError):
            raise _timed_out(route) from error
        if isinstance(error, OSError):
            raise _unreachable(error, route) from error
        raise
    return opened


def _shake_hands(opened: socket.socket, route: Route) -> None:
    opened.sendall(route.hello())
    head = _receive(opened, 6, route)
    try:
        read_reply(head)  # its length is checked before the rest is waited for
        reply = read_reply(head + _receive(opened, int.from_bytes(head[4:6], "big"), route))
    except BadHandshakeError as error:
        raise _no_gateway(error, route) from None
    refused = _hung_up(route) if reply is None else refusal(reply, route)
    if refused is not None:
        raise refused


def _receive(opened: socket.socket, size: int, route: Route) -> bytes:
    """Receive exactly so much: what follows the handshake is the driver's."""
    received = b""
    while len(received) < size:
        chunk = opened.recv(size - len(received))
        if not chunk:
            raise _hung_up(route)
        received += chunk
    return received


def keep_alive(opened: socket.socket | None) -> None:
    """Let the system find out when the other side is gone: a session may be idle for hours."""
    if opened is not None:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def refusal(reply: Reply, route: Route) -> DominusError | None:
    """Turn the gateway's answer into an error; None when the way is open."""
    if not reply.code:
        return None
    kind: type[DominusError] = GatewayError
    if reply.code == "authentication" or reply.code.startswith("token"):
        kind = AuthenticationError
    elif reply.code in {"authorization", "forbidden"}:
        kind = AuthorizationError
    elif reply.code == "unknown_target":
        kind = NotFoundError
    # A gateway may repeat the token in its complaint.
    message = reply.message.replace(route.token, "***")
    return kind(f"the gateway refused: {message}", code=reply.code, endpoint=_name(route))


def _name(route: Route) -> str:
    return f"gateway:{route.target}" if route.target else "gateway"


def _hung_up(route: Route) -> GatewayError:
    return GatewayError(
        "the gateway closed the connection during the handshake", code=_HANDSHAKE, endpoint=_name(route)
    )


def _no_gateway(error: BadHandshakeError, route: Route) -> GatewayError:
    return GatewayError(
        f"{route.endpoint.host}:{route.endpoint.port} does not answer as a gateway does: {error}",
        code=_HANDSHAKE,
        endpoint=_name(route),
        retryable=False,
    )


def _timed_out(route: Route) -> GatewayError:
    endpoint = route.endpoint
    return GatewayError(
        f"no answer from the gateway at {endpoint.host}:{endpoint.port} within {CONNECT_SECONDS:g} s",
        code=UNREACHABLE,
        endpoint=_name(route),
    )


def _unreachable(error: Exception, route: Route) -> GatewayError:
    endpoint = route.endpoint
    is_tls = isinstance(error, ssl.SSLError)
    return GatewayError(
        f"the gateway at {endpoint.host}:{endpoint.port} was not reached: {error}",
        code="gateway_tls" if is_tls else UNREACHABLE,
        endpoint=_name(route),
        retryable=not is_tls,
        hint="a gateway that is not on this machine needs TLS, with a certificate for that name"
        if is_tls
        else None,
    )
