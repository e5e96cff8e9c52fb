"""What Prometheus scrapes. With several workers, set PROMETHEUS_MULTIPROC_DIR (`dominus serve` does)."""

from __future__ import annotations

import os
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counts and times requests by service, operation and status."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "dominus_requests_total",
            "Requests by operation and status.",
            ["service", "operation", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "dominus_request_seconds",
            "How long requests took.",
            ["service", "operation"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        # Looking up a labelled child costs more than counting in it.
        self._children: dict[tuple[str, int], tuple[Any, Any]] = {}

    def observe(self, service: str, operation: str, status: int, seconds: float) -> None:
        """Count one request."""
        child = self._children.get((operation, status))
        if child is None:
            child = (
                self._requests.labels(service, operation, str(status)),
                self._seconds.labels(service, operation),
            )
            self._children[operation, status] = child
        child[0].inc()
        child[1].observe(seconds)

    def render(self, *more: CollectorRegistry) -> bytes:
        """Return the exposition text, with what `more` registries hold."""
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
            return generate_latest(registry)
        return b"".join(generate_latest(registry) for registry in (self._registry, *more))
