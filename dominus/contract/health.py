"""health: is it there, and does what it stands on answer."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from dominus.contract.kinds import Auth
from dominus.contract.operation import Service
from dominus.contract.request import Empty


class EngineHealth(TypedDict):
    """`status` is `ok`, `failed`, or `degraded`: it reads, and takes no writes (`disk_full` or `redis_full`)."""

    status: str
    latency_ms: NotRequired[float]
    error: NotRequired[str]


class Health(TypedDict):
    """`status` is `ok`, or `degraded` when some engine is not; when all failed, the answer is a 503."""

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


health = Service("health", "/api/health")
CHECK = health.read(
    "check",
    Empty,
    Health,
    "Ask every engine, with its latency.",
    path="/api/health",
    method="GET",
    scope=None,
    auth=Auth.NONE,
    is_plain=True,
    errors=("unhealthy",),
)
PING = health.read(
    "ping", Empty, Pong, "Ask whether the orchestrator answers authenticated calls.", method="GET", scope=None
)
WARMUP = health.read(
    "warmup",
    Empty,
    Warmed,
    "Connect every engine now, so that the first call need not.",
    method="GET",
    scope=None,
)
