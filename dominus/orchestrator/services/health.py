"""health: is it there, and does what it stands on answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from dominus._version import __version__
from dominus.contract import health as contract
from dominus.contract.request import Empty
from dominus.errors import ServiceError
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.handlers.registry import Handlers
from dominus.orchestrator.handlers.resources import Resources

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.pools import Postgres
    from dominus.orchestrator.engines.redis.client import RedisEngine

__all__ = ["handlers"]

handlers = Handlers(contract.health)

PROBE_SECONDS = 2.0
_logger = logging.getLogger("dominus.health")


_ENGINES: Mapping[str, Callable[[Resources], Postgres | RedisEngine]] = {
    "postgres": lambda resources: resources.postgres,
    "redis": lambda resources: resources.redis,
}


async def _probe(name: str, resources: Resources) -> contract.EngineHealth:
    engine = _ENGINES[name](resources)
    started = time.perf_counter()
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await engine.check()
            latency_ms = round((time.perf_counter() - started) * 1000, 3)
            refused = await resources.refused_writes.code(name, engine.check_writes)
    except Exception as error:  # noqa: BLE001 - whatever an engine fails with is the answer
        # The route is open to anyone, and an error's text may name hosts and users: only its class is told.
        kind = "timeout" if isinstance(error, TimeoutError) else type(error).__name__
        # PostgreSQL may end itself when its disk is full.
        kind = resources.refused_writes.seen(name) or kind
        _logger.warning("engine %s does not answer: %s", name, kind)
        return {"status": "failed", "error": kind}
    if refused is not None:
        _logger.warning("engine %s takes no writes: %s", name, refused)
        return {"status": "degraded", "latency_ms": latency_ms, "error": refused}
    return {"status": "ok", "latency_ms": latency_ms}


async def _probe_all(resources: Resources) -> tuple[str, dict[str, contract.EngineHealth]]:
    answers = await asyncio.gather(*(_probe(name, resources) for name in _ENGINES))
    found = {answer["status"] for answer in answers}
    # One engine that answers is enough to serve those calls that need no other.
    status = found.pop() if len(found) == 1 else "degraded"
    return status, dict(zip(_ENGINES, answers, strict=True))


@handlers(contract.CHECK)
async def check(ctx: Context, _request: Empty) -> contract.Health:
    """Ask every engine at once."""
    status, engines = await _probe_all(ctx.resources)
    if status == "failed":
        # Load balancers look at the status code alone.
        raise ServiceError(
            "no engine answers", status_code=503, code="unhealthy", details={"engines": engines}
        )
    return {"status": status, "version": __version__, "engines": engines}


@handlers(contract.PING)
async def ping(_ctx: Context, _request: Empty) -> contract.Pong:
    """Answer."""
    return {"status": "ok"}


@handlers(contract.WARMUP)
async def warmup(ctx: Context, _request: Empty) -> contract.Warmed:
    """Connect every engine, and say whether they answered."""
    status, engines = await _probe_all(ctx.resources)
    return {"status": status, "engines": engines}
