"""health: is it there, and does what it stands on answer."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from dominus.contract.operation import Auth, Operation, Retry
from dominus.contract.warden import Empty


class EngineHealth(TypedDict):
    """`status` is `ok` or `failed`."""

    status: str
    latency_ms: NotRequired[float]
    error: NotRequired[str]


class Health(TypedDict):
    """`status` is `ok`, or `degraded` when some engine failed; when all did, the answer is a 503."""

    status: str
    version: NotRequired[str]
    engines: NotRequired[dict[str, EngineHealth]]


class Pong(TypedDict):
    """`status` is `ok`."""

    status: str


class Warmed(TypedDict, total=False):
    """Every engine was connected."""

    status: str
    engines: dict[str, EngineHealth]


CHECK = Operation(
    name="health.check",
    method="GET",
    path="/api/health",
    request=Empty,
    result=Health,
    scope=None,
    retry=Retry.READ,
    auth=Auth.NONE,
    is_plain=True,
    summary="Ask every engine, with its latency.",
)
PING = Operation(
    name="health.ping",
    method="GET",
    path="/api/health/ping",
    request=Empty,
    result=Pong,
    scope=None,
    retry=Retry.READ,
    summary="Ask whether the orchestrator answers authenticated calls.",
)
WARMUP = Operation(
    name="health.warmup",
    method="GET",
    path="/api/health/warmup",
    request=Empty,
    result=Warmed,
    scope=None,
    retry=Retry.READ,
    summary="Connect every engine now, so that the first call need not.",
)
