"""The pytest plugin: fixtures with a clean orchestrator for each test. See docs/testing.md.

Everything heavy is imported by the fixture that needs it: pytest loads this module in every project that has the
package installed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from dominus.client import Dominus
    from dominus.testing.clock import MovableClock
    from dominus.testing.live import LocalServer
    from dominus.testing.local import OrchestratorTemplate

__all__ = [
    "dominus_client",
    "dominus_orchestrator",
    "dominus_server",
    "dominus_singleton",
    "dominus_token",
    "dominus_url",
    "movable_clock",
]


def _async_fixture(function: Callable[..., Any]) -> Any:
    """Mark a fixture as pytest-asyncio's, in its strict mode too; without it the fixture says what is missing."""
    try:
        import pytest_asyncio
    except ModuleNotFoundError:

        def missing() -> None:
            pytest.fail(
                f"{function.__name__} needs pytest-asyncio: pip install pytest-asyncio", pytrace=False
            )

        missing.__doc__ = function.__doc__
        return pytest.fixture(name=function.__name__)(missing)
    return cast("Any", pytest_asyncio).fixture(function)


@pytest.fixture(scope="session")
def dominus_orchestrator() -> Generator[OrchestratorTemplate]:
    """What the orchestrators of this run are copied from: an embedded PostgreSQL in a temporary home."""
    try:
        from dominus.testing.local import OrchestratorTemplate
    except ModuleNotFoundError as error:
        from dominus.hints import install_command

        pytest.fail(f"{error.name} is not installed: {install_command('orchestrator')}", pytrace=False)
    with OrchestratorTemplate() as template:
        yield template


@pytest.fixture(scope="session")
def dominus_token(dominus_orchestrator: OrchestratorTemplate) -> str:
    """The PSK, with every scope, of the orchestrators of this run."""
    return dominus_orchestrator.token


@pytest.fixture(scope="session")
def dominus_server(dominus_orchestrator: OrchestratorTemplate) -> Generator[LocalServer]:
    """An orchestrator on a port, one for the whole run: what tests leave there stays."""
    from dominus.testing.live import LocalServer

    with LocalServer(dominus_orchestrator) as server:
        yield server


@pytest.fixture(scope="session")
def dominus_url(dominus_server: LocalServer) -> str:
    """The URL of `dominus_server`."""
    return dominus_server.url


@_async_fixture
async def dominus_client(dominus_orchestrator: OrchestratorTemplate) -> AsyncGenerator[Dominus]:
    """A client of an orchestrator in this process that belongs to this test alone, with nothing in it."""
    from dominus.testing.local import LocalOrchestrator

    async with LocalOrchestrator(dominus_orchestrator) as local:
        yield local.client()


@pytest.fixture
def dominus_singleton(dominus_client: Dominus, monkeypatch: pytest.MonkeyPatch) -> Dominus:
    """Let `from dominus import dominus`, wherever the tested code does that, be the client of this test."""
    from dominus.client import dominus

    monkeypatch.setattr(dominus._caller, "core", dominus_client._caller.core)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return dominus


@pytest.fixture
def movable_clock() -> MovableClock:
    """A clock that the test moves."""
    from dominus.testing.clock import MovableClock

    return MovableClock()
