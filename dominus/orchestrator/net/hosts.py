"""Under which names a server may be called.

A page in the browser of whoever runs `dominus dev` can let its own name point to 127.0.0.1 and then read what the
server answers (DNS rebinding). The name in the Host header is the page's, so the server answers to its own names only.
"""

from __future__ import annotations

import ipaddress
import socket

__all__ = ["AllowedHosts"]


class AllowedHosts:
    """Tells whether a Host header names this server. Addresses always do: no page has another's name for them."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._is_all = "*" in names
        self._names = frozenset(name.strip().lower().rstrip(".") for name in names if name.strip())

    @classmethod
    def of(cls, bound: str, more: str) -> AllowedHosts:
        """Allow loopback, the name that the server listens on, this machine's own, and `more`, comma separated."""
        return cls(("localhost", bound, socket.gethostname(), *more.split(",")))

    def __call__(self, header: str) -> bool:
        """Return whether a Host header names this server; no browser leaves it out."""
        if self._is_all or not header:
            return True
        host = header.strip().lower()
        if host.startswith("["):
            host = host[1:].partition("]")[0]
        elif host.count(":") <= 1:
            host = host.partition(":")[0]
        host = host.rstrip(".")
        return host in self._names or host.endswith(".localhost") or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
