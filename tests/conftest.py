"""What all tests share: a clean environment, and a client over a scripted server with a clock that jumps."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from dominus import Dominus
from dominus.testing import MovableClock, ScriptedTransport, ok
from dominus.transport.breaker import Breaker
from dominus.transport.preload import WIRE
from dominus.transport.shared import Shared

TOKEN = "psk-of-the-tests-" + "0123456789abcdef" * 2
URL = "https://dominus.test"

pytest_plugins = ["pytester"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One worker for each core, and three at least: many tests wait for other processes."""
    del config
    return max(3, os.cpu_count() or 1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how to repeat this order; the header that says it is not shown with -q."""
    seed = terminalreporter.config.getoption("randomly_seed", None)
    if isinstance(seed, int):
        terminalreporter.write_line(
            f"repeat this order with --randomly-seed={seed}, or keep that of the files with -p no:randomly"
        )


@pytest.fixture(autouse=True)
def _usual_log_level() -> Iterator[None]:
    """Take back what a test, or an example of the documents that it runs, set."""
    yield
    logging.getLogger("dominus.transport").setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("DOMINUS_", "CB_")):
            monkeypatch.delenv(name)


@dataclass
class Rig:
    """A client, the server it talks to, and the time they live in."""

    client: Dominus
    server: ScriptedTransport
    clock: MovableClock

    @property
    def shared(self) -> Shared:
        return self.client._caller.shared

    def breaker(self, service: str = "redis") -> str:
        return self.client.stats()["breakers"].get(service, "closed")

    async def warm_up(self) -> None:
        """Make the one success after which a server counts as warm, and forget the traces of it."""
        self.server._steps.insert(0, ok({"status": "ok"}))
        await self.client.health.ping()
        self.server.requests.clear()
        self.clock.slept.clear()

    async def open_breaker(self, service: str = "redis") -> Breaker:
        """Let nobody listen for a second, as the client sees it."""
        breaker = self.shared.breaker(service)
        breaker.failure(self.clock.monotonic(), is_away=True)
        await self.clock.advance(1.0)
        assert breaker.enter() is None
        breaker.failure(self.clock.monotonic())
        assert breaker.state == "open"
        return breaker


MakeRig = Callable[..., Rig]


@pytest_asyncio.fixture
async def make_rig() -> AsyncIterator[MakeRig]:
    """`make_rig(*steps, auto=True, client={...}, **options of ScriptedTransport)`."""
    made: list[Dominus] = []
    # The first call of a process imports in a thread, which takes time that no clock of tests moves.
    await WIRE.finish()

    def make(*steps: Any, auto: bool = True, client: dict[str, Any] | None = None, **options: Any) -> Rig:
        clock = MovableClock(auto=auto)
        server = ScriptedTransport(*steps, **options)
        given: dict[str, Any] = {
            "url": URL,
            "token": TOKEN,
            "transport": server,
            "clock": clock,
            **(client or {}),
        }
        made.append(Dominus(**given))
        return Rig(made[-1], server, clock)

    yield make
    for one in made:
        await one.aclose()
