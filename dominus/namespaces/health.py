"""dominus.health: is it there, and does what it stands on answer."""

from __future__ import annotations

from dominus.contract import health as contract
from dominus.contract.request import Empty
from dominus.namespaces.base import Namespace

__all__ = ["Health"]


class Health(Namespace):
    """`check` is open; `ping` and `warmup` need a token, and so prove that it works."""

    async def check(self, *, timeout: float | None = None) -> contract.Health:
        """Ask the orchestrator for itself and every engine.

        Returns:
            `{"status": "ok" | "degraded", "version", "engines": {name: {"status", "latency_ms"}}}`

        Raises:
            ServiceError: no engine answers.
        """
        return await self._call(contract.CHECK, Empty(), timeout=timeout)

    async def ping(self, *, timeout: float | None = None) -> contract.Pong:
        """Make one authenticated round trip. Returns `{"status": "ok"}`."""
        return await self._call(contract.PING, Empty(), timeout=timeout)

    async def warmup(self, *, timeout: float | None = None) -> contract.Warmed:
        """Connect every engine now, so that the first real call need not wait for it."""
        return await self._call(contract.WARMUP, Empty(), timeout=timeout)
