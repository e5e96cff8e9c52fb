"""How many connections one address may have, and how many of them without a whole request; only counted here."""

from __future__ import annotations

import ipaddress
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["AddressLimits", "Addresses", "Trusted", "spare_descriptors"]

Connection = TypeVar("Connection")
RESERVED_DESCRIPTORS = 256
"""For the pools, files and the rest of the same process."""
GRACE_SECONDS = 1.0
"""Many may connect at once; only who is silent for longer is in the way."""


def spare_descriptors() -> int:
    """Return how many descriptors this process may have for its clients."""
    if sys.platform == "win32":
        return 8192
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2_000_000 if soft == resource.RLIM_INFINITY else max(32, soft - RESERVED_DESCRIPTORS)


@dataclass(frozen=True, slots=True)
class AddressLimits:
    """Of one worker, for each address; 0: no limit."""

    connections: int = 0
    unfinished: int = 0
    """Connections that have not sent the whole head of a request: one more ends the oldest."""
    trusted: tuple[str, ...] = ()
    """Addresses and networks of proxies, which speak for many; `*`: all."""


class Addresses(Generic[Connection]):
    """Counts what is open by address."""

    def __init__(self, limits: AddressLimits) -> None:
        self._limits = limits
        self._open: Counter[str] = Counter()
        self._unfinished: dict[str, dict[Connection, float]] = {}
        self._is_trusted = Trusted(limits.trusted)

    def enter(self, address: str, *, is_replacing: bool = False) -> bool:
        """Count one more connection, or one in place of another; False: there are too many from this address."""
        most = self._limits.connections
        if most and self._open[address] >= most and not is_replacing and not self._is_trusted(address):
            return False
        self._open[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Count one less."""
        self._open[address] -= 1
        if self._open[address] <= 0:
            del self._open[address]

    def begin(self, address: str, connection: Connection, now: float) -> Connection | None:
        """Note that a connection owes a head; returns one that is to be ended, since too many do."""
        waiting = self._unfinished.setdefault(address, {})
        waiting[connection] = now
        most = self._limits.unfinished
        return self.overdue(address, now) if most and len(waiting) > most else None

    def overdue(self, address: str, now: float) -> Connection | None:
        """Return the connection of an address that owes a head for longest, if it does so for longer than a moment."""
        waiting = self._unfinished.get(address)
        if not waiting or self._is_trusted(address):
            return None
        oldest = next(iter(waiting))
        return oldest if now - waiting[oldest] >= GRACE_SECONDS else None

    def finish(self, address: str, connection: Connection) -> None:
        """Note that it owes none."""
        waiting = self._unfinished.get(address)
        if waiting is not None:
            waiting.pop(connection, None)
            if not waiting:
                del self._unfinished[address]


class Trusted:
    """Tells whether an address is one of some addresses and networks."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._is_all = "*" in names
        self._networks = [network for network in map(_network, names) if network is not None]

    def __call__(self, address: str) -> bool:
        """Return whether it is."""
        if self._is_all or not self._networks:
            return self._is_all
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return any(found in network for network in self._networks)


def _network(name: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(name.strip(), strict=False)
    except ValueError:
        return None
