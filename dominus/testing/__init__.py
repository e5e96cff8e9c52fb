"""For tests of programs that use Dominus: a local orchestrator, a movable clock, a scripted transport.

The pytest plugin (`dominus.testing.plugin`) is there as soon as the package is installed; docs/testing.md shows it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dominus.testing.clock import MovableClock
    from dominus.testing.live import LocalServer
    from dominus.testing.local import LocalOrchestrator, OrchestratorTemplate
    from dominus.testing.script import (
        Recorded,
        Reply,
        ScriptedTransport,
        bad_gateway,
        failure,
        hang,
        ok,
        raises,
        raw,
    )

__all__ = [
    "LocalOrchestrator",
    "LocalServer",
    "MovableClock",
    "OrchestratorTemplate",
    "Recorded",
    "Reply",
    "ScriptedTransport",
    "bad_gateway",
    "failure",
    "hang",
    "ok",
    "raises",
    "raw",
]

_HOME = {
    "LocalOrchestrator": "local",
    "LocalServer": "live",
    "MovableClock": "clock",
    "OrchestratorTemplate": "local",
}


def __getattr__(name: str) -> Any:
    # pytest imports this package with the plugin, in every run of every project: what is heavy comes when it is used.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'script')}"), name)
