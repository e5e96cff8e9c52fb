"""What the client and the orchestrator agree on: one module per service."""

from __future__ import annotations

from functools import cache
from typing import Any

from dominus.contract.operation import Operation

__all__ = ["operations"]


@cache
def operations() -> dict[str, Operation[Any, Any]]:
    """Return every operation by its name, in the order of the services."""
    from dominus.contract import gateway, health, scribe, smith, warden, whisperer

    found: dict[str, Operation[Any, Any]] = {}
    for module in (warden, scribe, smith, whisperer, gateway, health):
        for value in vars(module).values():
            if isinstance(value, Operation):
                if value.name in found:
                    raise RuntimeError(f"operation {value.name} is declared twice")
                found[value.name] = value
    return found
