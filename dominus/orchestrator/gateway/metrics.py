"""What Prometheus sees of the gateway."""

from __future__ import annotations

from collections import Counter as Tally
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["GatewayMetrics", "GatewayStats"]


@dataclass(frozen=True, slots=True)
class GatewayStats:
    """The gateway of one worker, now and since its start."""

    active: int
    """Open tunnels."""
    pending: int
    """Connections whose handshake has not ended."""
    opened_count: int
    refused: dict[str, int] = field(default_factory=dict[str, int])
    """By reason."""
    ended: dict[str, int] = field(default_factory=dict[str, int])
    """By who ended a tunnel: `client`, `upstream`, or the limit that did."""
    received_bytes: int = 0
    """From clients."""
    sent_bytes: int = 0
    """To clients."""


class GatewayMetrics:
    """Counts by target. Names come from the settings, never from clients: their number is bounded."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Register with `registry`, or with one of its own."""
        self.registry = registry or CollectorRegistry()
        self.opened_count = 0
        self.refused: Tally[str] = Tally()
        self.ended: Tally[str] = Tally()
        self.received_bytes = self.sent_bytes = 0
        self._connections = self._counter("connections", "Native connections opened.", "target")
        self._refused = self._counter("refused", "Native connections refused.", "target", "reason")
        self._ended = self._counter("ended", "Native connections ended.", "target", "reason")
        self._bytes = self._counter(
            "bytes", "Bytes passed on; `in` comes from clients.", "target", "direction"
        )
        self._active = Gauge(
            "dominus_gateway_active_connections",
            "Native connections open now.",
            ["target"],
            registry=self.registry,
            multiprocess_mode="livesum",
        )

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"dominus_gateway_{name}", about, labels, registry=self.registry)

    def opened(self, target: str) -> None:
        """Count a tunnel."""
        self.opened_count += 1
        self._connections.labels(target).inc()
        self._active.labels(target).inc()

    def closed(self, target: str, reason: str) -> None:
        """Count its end."""
        self.ended[reason] += 1
        self._ended.labels(target, reason).inc()
        self._active.labels(target).dec()

    def was_refused(self, target: str, reason: str) -> None:
        """Count a refusal; an empty target: none that exists was named."""
        self.refused[reason] += 1
        self._refused.labels(target, reason).inc()

    def passed(self, target: str, received: int, sent: int) -> None:
        """Count bytes from and to clients."""
        self.received_bytes += received
        self.sent_bytes += sent
        if received:
            self._bytes.labels(target, "in").inc(received)
        if sent:
            self._bytes.labels(target, "out").inc(sent)
