"""What `dominus.testing` gives users: the fixtures by their documented example, and the local orchestrator alone."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from pathlib import Path

import httpx
import pytest

from dominus import AuthenticationError, Dominus, NotFoundError, dominus
from dominus.errors import ServiceError
from dominus.testing import LocalOrchestrator, LocalServer, MovableClock, OrchestratorTemplate

GUIDE = Path(__file__).parents[2] / "docs" / "testing.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def write_example(folder: Path) -> None:
    for name, block in zip(("shop", "test_shop", "app", "test_app"), blocks(), strict=False):
        (folder / f"{name}.py").write_text(block)


def run_pytest(
    pytester: pytest.Pytester, *arguments: str, ini: str = "asyncio_default_fixture_loop_scope = function"
) -> pytest.RunResult:
    """Run pytest as a project does that has the package installed and configures nothing of ours."""
    # pytest-asyncio itself warns where its option is missing.
    pytester.makeini(f"[pytest]\nfilterwarnings = error\n{ini}\n")
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=100)


def test_the_documented_example_passes_in_strict_mode(pytester: pytest.Pytester):
    write_example(pytester.path)
    run_pytest(pytester, "-o", "asyncio_mode=strict").assert_outcomes(passed=7)


def test_it_passes_in_auto_mode_and_with_other_settings_in_the_environment(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
):
    write_example(pytester.path)
    monkeypatch.setenv("DOMINUS_DATABASE_URL", "postgresql://nobody:wrong@127.0.0.1:1/production")
    monkeypatch.setenv("DOMINUS_REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("DOMINUS_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("DOMINUS_TOKEN", "t" * 43)
    monkeypatch.setenv("DOMINUS_ROOT_TOKEN", "r" * 43)
    run_pytest(pytester, "-o", "asyncio_mode=auto").assert_outcomes(passed=7)


def test_without_pytest_asyncio_the_fixture_says_what_is_missing_and_the_rest_works(
    pytester: pytest.Pytester,
):
    (pytester.path / "pytest_asyncio.py").write_text("raise ModuleNotFoundError(name='pytest_asyncio')")
    pytester.makepyfile(
        """
        def test_client(dominus_client): ...
        def test_clock(movable_clock): assert movable_clock.monotonic() > 0
        """
    )
    result = run_pytest(
        pytester,
        "-p",
        "no:asyncio",
        "-p",
        "no:timeout",
        f"--rootdir={pytester.path}",
        "-o",
        f"pythonpath={pytester.path}",
        ini="",
    )
    result.stdout.fnmatch_lines(["*dominus_client needs pytest-asyncio: pip install pytest-asyncio*"])
    result.assert_outcomes(passed=1, errors=1)


def test_the_guide_names_every_fixture():
    from dominus.testing import plugin

    guide = GUIDE.read_text(encoding="utf-8")
    assert [name for name in plugin.__all__ if f"`{name}`" not in guide] == []


async def test_each_test_has_a_database_and_a_cache_of_its_own(dominus_orchestrator: OrchestratorTemplate):
    async with (
        LocalOrchestrator(dominus_orchestrator) as one,
        LocalOrchestrator(dominus_orchestrator) as other,
    ):
        first, second = one.client(), other.client()
        await first.ddl.add_table("t", [{"name": "id", "type": "INTEGER"}])
        await first.redis.set("k", 1)
        await first.upsert("SECRET", "v")
        assert await second.db.tables() == []
        assert await second.redis.get("k") is None
        with pytest.raises(NotFoundError):
            await second.get("SECRET")
        assert await one.client().redis.get("k") == 1


def crowding() -> float:
    """Return how many times longer work takes here now than on an idle machine: 1.0 or more."""
    wall, own = time.perf_counter(), time.process_time()
    while time.process_time() - own < 0.02:
        pass
    return max(1.0, (time.perf_counter() - wall) / (time.process_time() - own))


async def test_a_clean_database_takes_less_than_a_tenth_of_a_second(
    dominus_orchestrator: OrchestratorTemplate,
):
    took: list[float] = []
    ends = time.monotonic() + 10
    while not took or (min(took) >= 0.1 and time.monotonic() < ends):
        before = crowding()
        began = time.perf_counter()
        async with dominus_orchestrator.copy():
            took.append((time.perf_counter() - began) / max(before, crowding()))
    assert min(took) < 0.1, took


async def test_nothing_is_left_behind(dominus_orchestrator: OrchestratorTemplate):
    from dominus.orchestrator.engines.postgres.pools import connect

    async with LocalOrchestrator(dominus_orchestrator):
        pass
    connection = await connect(dominus_orchestrator._running().dsn, application_name="test")
    names = await connection.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'test\\_%'")
    await connection.close()
    assert len(names) <= 1, "only the session's server may have a database"


async def test_it_closes_in_order_when_the_test_fails(dominus_orchestrator: OrchestratorTemplate):
    local = LocalOrchestrator(dominus_orchestrator)

    async def failing() -> None:
        async with local:
            await local.client().redis.set("k", 1)
            raise LookupError

    with pytest.raises(LookupError):
        await failing()
    with pytest.raises(ServiceError, match="not running"):
        local.client()


async def test_clients_take_the_options_of_dominus(dominus_orchestrator: OrchestratorTemplate):
    async with LocalOrchestrator(dominus_orchestrator) as local:
        shop, other = local.client(project="shop"), local.client(project="other", clock=MovableClock())
        await shop.upsert("K", "v")
        with pytest.raises(NotFoundError):
            await other.get("K")
        with pytest.raises(AuthenticationError):
            await local.client(token="w" * 43).redis.get("k")


def test_the_server_answers_on_its_port_from_any_thread(
    dominus_server: LocalServer, dominus_url: str, dominus_token: str
):
    assert dominus_url == dominus_server.url
    assert httpx.get(f"{dominus_url}/api/health").json()["status"] == "ok"

    async def use() -> object:
        async with Dominus(dominus_url, dominus_token) as client:
            await client.redis.set("k", [1])
            return await client.redis.get("k")

    assert asyncio.run(use()) == [1]


async def test_the_singleton_is_this_test_s_and_is_given_back(
    dominus_client: Dominus, monkeypatch: pytest.MonkeyPatch
):
    core = dominus._caller.core
    with monkeypatch.context() as patch:
        patch.setattr(dominus._caller, "core", dominus_client._caller.core)
        await dominus.redis.set("k", 1)
    assert dominus._caller.core is core
    assert await dominus_client.redis.get("k") == 1


async def test_a_template_that_was_not_started_says_so():
    with pytest.raises(ServiceError, match="not started"):
        _ = OrchestratorTemplate().token


async def test_the_example_without_pytest_runs_and_removes_its_home(tmp_path: Path):
    body = "".join(f"    {line}\n" for line in blocks()[-1].partition("\n\n")[2].splitlines())
    program = f"import asyncio\nfrom dominus.testing import LocalOrchestrator\nasync def main():\n{body}asyncio.run(main())\n"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-c", program),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    async with asyncio.timeout(60):
        _, stderr = await process.communicate()
    assert stderr.decode() == ""
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []
