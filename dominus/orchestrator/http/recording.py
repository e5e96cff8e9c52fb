"""What is kept of a request when it has been answered: numbers for the metrics, a line for the access log."""

from __future__ import annotations

import logging

from pydantic_core import to_json

from dominus.orchestrator.http.exchange import Exchange
from dominus.orchestrator.http.metrics import Metrics

__all__ = ["Recorder"]

_access = logging.getLogger("dominus.access")


class Recorder:
    """Counts requests, and writes a line for each."""

    def __init__(self, metrics: Metrics, *, writes_lines: bool) -> None:
        self._metrics = metrics
        self._writes_lines = writes_lines

    def record(self, exchange: Exchange, status: int, seconds: float, size: int) -> None:
        """Keep what is worth knowing of one request. Bodies and tokens are not."""
        operation = exchange.operation
        name, service = (operation.name, operation.service) if operation else ("unknown", "unknown")
        self._metrics.observe(service, name, status, seconds)
        if self._writes_lines and _access.isEnabledFor(logging.INFO):
            line = {
                "request_id": exchange.request_id,
                "method": exchange.scope["method"],
                "path": exchange.path[:200],
                "operation": name,
                "status": status,
                "ms": round(seconds * 1000, 2),
                "bytes": size,
                "principal": exchange.principal.subject,
            }
            _access.info("%s", to_json(line).decode())
