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

        Args:
            timeout: seconds for the whole call; the client's without it.

        Returns:
            `{"status": "ok" | "degraded", "version", "engines": {name: {"status", "latency_ms"}}}`; an engine that is
            not `ok` has an `error`, such as `disk_full`

        Raises:
            ServiceError: no engine answers.

        Example:
            ```python
            health = await dominus.health.check(timeout=2)
            print(health["status"], health["engines"]["postgres"]["latency_ms"])
            ```
        """
        return await self._call(contract.CHECK, Empty(), timeout=timeout)

    async def ping(self, *, timeout: float | None = None) -> contract.Pong:
        """Make one authenticated round trip. Returns `{"status": "ok"}`.

        Args:
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthenticationError: the token is not accepted.

        Example:
            ```python
            assert (await dominus.health.ping())["status"] == "ok"
            ```
        """
        return await self._call(contract.PING, Empty(), timeout=timeout)

    async def warmup(self, *, timeout: float | None = None) -> contract.Warmed:
        """Do now what the first calls would wait for: imports, connections, the token, and the server's engines.

        The imports alone take some 0.3 s in a new process, which is more than a short deadline.

        Args:
            timeout: seconds for the call to the server, after the imports; the client's without it.

        Example:
            ```python
            await dominus.health.warmup()  # at the start of a program, before it takes requests
            ```
        """
        await self._caller.core.warm_up()
        return await self._call(contract.WARMUP, Empty(), timeout=timeout)
