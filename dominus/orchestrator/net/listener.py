"""Where a server listens: address, port and certificate, checked before anything is started."""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
from pathlib import Path

from dominus.errors import ConflictError, ValidationError

__all__ = ["BACKLOG", "bind", "check_certificate", "is_loopback", "url_of"]

BACKLOG = 2048


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address to listen on."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int, *, is_shared: bool = False, is_held: bool = False) -> socket.socket:
    """Return a socket that listens; who connects before the server runs waits for it.

    Args:
        host: the address.
        port: 0: any free one.
        is_shared: other processes of this user may listen on the port too, and each gets its part.
        is_held: only hold the port, and do not listen.

    Raises:
        ConflictError: the port is taken.
        ValidationError: the address is not one of this machine, or the port is not ours to use.
    """
    listener: socket.socket | None = None
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        if not is_held:
            listener.listen(BACKLOG)
    except (OSError, UnicodeError) as error:
        if listener is not None:
            listener.close()
        raise _not_bound(host, port, error) from error
    listener.set_inheritable(True)
    return listener


def _not_bound(host: str, port: int, error: Exception) -> ConflictError | ValidationError:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return ConflictError(
            f"port {port} on {host} is in use by another program",
            code="port_taken",
            hint=f"choose another with --port {port + 1}, or let --port 0 find a free one",
        )
    if number == errno.EACCES:
        return ValidationError(
            f"port {port} needs more rights than this user has", hint="choose one from 1024 on with --port"
        )
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return ValidationError(
        f"{host} is no address of this machine to listen on: {reason}", hint="choose another with --host"
    )


def url_of(host: str, listener: socket.socket, scheme: str) -> str:
    """Return where this machine reaches the listener."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - read, not bound
    return f"{scheme}://{f'[{name}]' if ':' in name else name}:{listener.getsockname()[1]}"


def check_certificate(certfile: Path, keyfile: Path | None) -> None:
    """Load a certificate once, so that what is wrong with it is said before a server starts.

    Raises:
        ValidationError: it cannot be used; the message says why.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without an answer OpenSSL would ask for the key's password at the terminal.
        context.load_cert_chain(certfile, keyfile, password=lambda: "")
    except (OSError, ValueError) as error:
        raise ValidationError(
            f"the certificate {certfile} cannot be used: {error}",
            hint="--ssl-certfile and --ssl-keyfile are PEM files that belong together, the key without a password",
        ) from error
