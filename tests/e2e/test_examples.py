"""What the documents show runs: every example, every python block, every curl line, against `dominus dev`."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from dominus import dominus

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
# testing.md shows files of pytest, which a test of its own runs.
DOCUMENTS = sorted(
    {ROOT / "README.md", ROOT / "LLM-GUIDE.md", *(ROOT / "docs").glob("*.md")}
    - {ROOT / "docs" / "testing.md"}
)
_PYTHON = re.compile(r"^(?:```python|<!-- setup)\n(.*?)^(?:```|-->)$", re.MULTILINE | re.DOTALL)
_BASH = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Served:
    """Where `dominus dev` answers."""

    url: str
    token: str
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("DOMINUS_", "CB_"))
        }
        return {**clean, "DOMINUS_URL": self.url, "DOMINUS_TOKEN": self.token, "DOMINUS_HOME": str(self.home)}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One orchestrator for all documents; each uses tables of its own."""
    home = tmp_path_factory.mktemp("examples") / "home"
    command = [sys.executable, "-m", "dominus.cli", "dev", "--port", "0", "--home", str(home)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DOMINUS_", "CB_"))}
    process = subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        # It prints when it answers; the test's own timeout ends a server that never does.
        said = next((line for line in process.stdout if "export DOMINUS_URL=" in line), "")
        assert said, "dominus dev ended without an address"
        yield Served(said.split("=", 1)[1].strip(), (home / "token").read_text().strip(), home)
    finally:
        process.send_signal(signal.SIGTERM)
        with process:
            process.communicate(timeout=30)


@pytest.fixture
def environment(served: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    """Point this process at the orchestrator."""
    monkeypatch.setenv("DOMINUS_URL", served.url)
    monkeypatch.setenv("DOMINUS_TOKEN", served.token)
    return served


def _blocks(document: Path) -> list[tuple[int, str]]:
    text = document.read_text(encoding="utf-8")
    return [(text.count("\n", 0, found.start(1)), found.group(1)) for found in _PYTHON.finditer(text)]


def _run(runner: asyncio.Runner, code: str, line: int, document: Path, names: dict[str, Any]) -> None:
    # The empty lines make a traceback show the line of the document.
    compiled = compile("\n" * line + code, str(document), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(compiled, names)
    if inspect.iscoroutine(result):
        runner.run(result)


def _python_examples() -> list[str]:
    return sorted(path.name for path in EXAMPLES.glob("*.py") if "fastapi_app" not in path.name)


@pytest.mark.parametrize("name", _python_examples())
def test_an_example_runs_to_its_end_and_leaves_nothing_open(served: Served, name: str) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    done = subprocess.run(
        command, env=served.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if _blocks(path)], ids=lambda path: path.name
)
def test_the_python_of_a_document_runs(environment: Served, document: Path) -> None:
    names: dict[str, Any] = {"__name__": "document"}
    with asyncio.Runner() as runner:
        runner.run(dominus.aclose())
        try:
            for line, code in _blocks(document):
                _run(runner, code, line, document, names)
        finally:
            runner.run(dominus.aclose())


def test_the_shell_of_the_wire_document_runs(served: Served) -> None:
    text = (ROOT / "docs" / "wire.md").read_text(encoding="utf-8")
    script = "\n".join(found.group(1) for found in _BASH.finditer(text))
    assert script.count("curl") > 5
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(
        command, env=served.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = re.findall(r'"success":\s?(true|false)', done.stdout)
    assert answers, done.stdout
    assert answers.count("false") == text.count("# refused"), done.stdout


def test_the_quick_start_of_the_readme_is_the_example() -> None:
    example = (EXAMPLES / "quickstart.py").read_text(encoding="utf-8")
    body = example.split('"""', 2)[2].strip()
    assert body in (ROOT / "README.md").read_text(encoding="utf-8")


async def test_the_web_example_answers_with_the_statuses_of_its_errors(environment: Served) -> None:
    spec = importlib.util.spec_from_file_location("fastapi_app", EXAMPLES / "fastapi_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fastapi_app"] = module
    await dominus.aclose()
    try:
        spec.loader.exec_module(module)
        app = module.app
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://web") as web,
        ):
            await _use(web)
    finally:
        del sys.modules["fastapi_app"]
        await dominus.aclose()


async def _use(web: httpx.AsyncClient) -> None:
    async def bearer(*scopes: str) -> dict[str, str]:
        minted = await dominus.auth.mint_jwt("ada", scope=list(scopes))
        return {"authorization": f"Bearer {minted.get('access_token')}"}

    order = {"customer": "ada", "total": "19.90"}
    writer, reader = await bearer("orders:write"), await bearer("db:read")
    placed = await web.post("/orders", json=order, headers=writer)
    assert placed.status_code == 201
    order = placed.json()
    assert (order["total"], order["placed_by"]) == ("19.90", "ada")
    assert (await web.get(f"/orders/{order['id']}", headers=reader)).json() == order
    unknown = "/orders/8fcd2800-4d2f-4c47-bb54-9bae7188471c"
    assert (await web.get(unknown, headers=reader)).status_code == 404
    too_much = await web.post("/orders", json={"customer": "ada", "total": "1e12"}, headers=writer)
    assert too_much.status_code == 400
    assert too_much.headers["content-type"] == "application/problem+json"

    assert (await web.get("/orders", headers=reader)).json()["orders"] == [order]
    assert (await web.get("/orders", headers=reader, params={"cursor": "x"})).status_code == 400
    assert (await web.get("/tables/web_orders", headers=reader)).json()[0] == "id"
    assert (await web.get("/tables/nothing", headers=reader)).status_code == 404
    assert (await web.get("/me", headers=reader)).json() == {"id": "ada", "scopes": ["db:read"]}
    assert (await web.get("/reports", headers=writer)).json() == "reports for ada"

    for path in ("/orders", "/me", "/reports", "/tables/web_orders", unknown):
        assert (await web.get(path)).status_code == 401
        assert (await web.get(path, headers={"authorization": "Bearer a.b.c"})).status_code == 401
    assert (await web.get("/orders", headers=await bearer())).status_code == 403
    assert (await web.get("/reports", headers=reader)).status_code == 403
    assert (
        await web.post("/orders", json={"customer": "a", "total": "1"}, headers=reader)
    ).status_code == 403
    assert (await web.post("/imports", json=[])).status_code == 401


def test_the_tests_of_the_web_example_run(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-W",
        "error",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
        "-c",
        os.devnull,
        "--rootdir",
        str(tmp_path),
    ]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", str(EXAMPLES / "test_fastapi_app.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


async def test_the_web_example_answers_503_when_the_orchestrator_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOMINUS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("DOMINUS_TOKEN", "x" * 43)
    monkeypatch.setenv("DOMINUS_COLD_START_TIMEOUT", "0")
    monkeypatch.setenv("DOMINUS_MAX_ATTEMPTS", "1")
    spec = importlib.util.spec_from_file_location("fastapi_app", EXAMPLES / "fastapi_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fastapi_app", module)
    spec.loader.exec_module(module)
    await dominus.aclose()
    try:
        transport = httpx.ASGITransport(module.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://web") as web:
            answer = await web.get("/me", headers={"authorization": f"Bearer {_SOMEBODYS}"})
        assert (answer.status_code, answer.json()["status"]) == (503, 503)
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        await dominus.aclose()


# Of the right form; who signed it cannot be known without the server.
_SOMEBODYS = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.e30.AA"
OTHERS = [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]


@pytest.mark.parametrize("document", [*OTHERS, *DOCUMENTS], ids=lambda path: path.name)
def test_the_links_of_a_document_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\(([^):]+)\)", document.read_text(encoding="utf-8"))
    targets = [
        (document.parent / file if file else document, anchor) for file, _, anchor in map(_split, links)
    ]
    assert [str(target) for target, _ in targets if not target.exists()] == []
    assert [anchor for target, anchor in targets if anchor and anchor not in _anchors(target)] == []


def _split(link: str) -> tuple[str, str, str]:
    return link.partition("#")


def _anchors(document: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_read_in_five_minutes() -> None:
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") < 150
